//! Memory stays flat: ten times the data is captured, staged and restored with hardly more of it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::support::{program::run_measured, site::Site};

/// How much more the larger one may hold.
const TOLERANCE: f64 = 1.2;
/// Enough that every buffer of a run is in use at the smaller size too.
const SMALLER_MB: usize = 64;

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

fn assert_flat(what: &str, [small, large]: [f64; 2]) {
    eprintln!("{what}: {small:.0} MB, {large:.0} MB at ten times the size");
    assert!(large <= small * TOLERANCE, "{what}: {small:.0} MB, but {large:.0} MB at ten times the size");
}

/// Peaks of a backup, an export, a verification and a restore.
fn files(megabytes: usize) -> [f64; 4] {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    for n in 0..megabytes / 16 {
        noise(&tree.join(format!("{n}")), 16, n as u64 + 1);
    }
    let site = site.with_files("configs", &[&tree]).initialised();
    let text = |path: PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
    let (tar, target) = (text(site.path("configs.tar")), text(site.path("restored")));
    [
        peak(&site, &["backup"]),
        peak(&site, &["export", "configs", "--output", &tar]),
        peak(&site, &["verify", "configs", "--level", "parsed"]),
        peak(&site, &["restore", "configs", "--to", &target]),
    ]
}

#[test]
fn ten_times_the_files_take_hardly_more_memory() {
    let (small, large) = (files(SMALLER_MB), files(10 * SMALLER_MB));
    for (n, what) in ["backup", "export", "verify", "restore"].into_iter().enumerate() {
        assert_flat(what, [small[n], large[n]]);
    }
}
