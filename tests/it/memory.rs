//! Memory stays flat: much more data than could be held is captured, exported, verified and restored. How flat it is over ten times
//! the size is measured by `BENCH_ONLY=memory make bench`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::support::{program::run_measured, site::Site};

/// What is captured.
const DATA_MB: usize = 640;
/// What may be held of it: packs, ranges and blobs under way, and the index.
const HELD_MB: f64 = 220.0;

/// Bytes that neither compress nor repeat.
fn noise(path: &Path, megabytes: usize, seed: u64) {
    let mut file = fs::File::create(path).expect("a file can be made");
    let mut state = seed;
    for _ in 0..megabytes {
        let block: Vec<u8> = (0..1 << 17)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state ^ (state >> 29)).to_le_bytes()
            })
            .collect();
        file.write_all(&block).expect("a file can be written");
    }
}

fn peak(site: &Site, args: &[&str]) -> f64 {
    let (outcome, bytes) = run_measured(site.command().args(args));
    assert_eq!(outcome.code, Some(0), "{args:?}: {}{}", outcome.stdout, outcome.stderr);
    #[expect(clippy::cast_precision_loss, reason = "a ratio is wanted")]
    let megabytes = bytes as f64 / 1e6;
    megabytes
}

#[test]
fn files_of_which_memory_holds_a_part_only_go_out_and_come_back() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    for n in 0..DATA_MB / 16 {
        noise(&tree.join(format!("{n}")), 16, n as u64 + 1);
    }
    let site = site.with_files("configs", &[&tree]).initialised();
    let text = |path: PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
    let (tar, target) = (text(site.path("configs.tar")), text(site.path("restored")));
    for args in [
        &["backup"][..],
        &["export", "configs", "--output", &tar],
        &["verify", "configs"],
        &["verify", "configs", "--from", &tar],
        &["restore", "configs", "--to", &target],
    ] {
        let peak = peak(&site, args);
        assert!(peak <= HELD_MB, "{args:?} held {peak:.0} MB");
    }
}
