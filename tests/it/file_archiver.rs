//! The archiver of files: it cuts as restic does, fills several packs, and reuses what did not change.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{mirror::noise, site::Site, tree::Tree};

const SMALLEST: usize = 512 << 10;
const LARGEST: usize = 8 << 20;

fn write(directory: &Path, name: &str, content: &[u8]) {
    fs::write(directory.join(name), content).expect("a file can be written");
}

/// Sizes at the limits of a blob, noise that is cut anywhere, and zeros that are cut at the largest size only.
#[test]
fn files_are_cut_as_restic_cuts_them() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    let sizes =
        [0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1, SMALLEST + 63, 3 << 20, LARGEST, 21 << 20];
    for (n, size) in sizes.into_iter().enumerate() {
        write(&tree, &format!("noise-{n}"), &noise(size, n as u64));
        write(&tree, &format!("zeros-{n}"), &vec![0; size + n]);
    }
    let words: Vec<u8> =
        (0..900_000_u32).flat_map(|n| format!("{} ", n % 7919).into_bytes()).collect();
    write(&tree, "words", &words);
    // Our own repositories have smaller blobs than restic's.
    let site = site.with_files("configs", &[&tree]);
    site.restic().init(2);
    site.succeed(["backup"]);

    let restic = site.restic();
    let printed = restic.succeed(["backup", "--json", "--force", tree.to_str().expect("UTF-8")]);
    let summary: Value = printed
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .find(|line| line["message_type"] == "summary")
        .expect("restic ends with a summary");
    assert_eq!(summary["data_blobs"], 0, "restic found other blobs: {summary}");
    assert_eq!(summary["files_new"], 19, "{summary}");

    // The other way round: what restic cut is not stored again.
    let other = Site::new();
    let other = other.with_files("configs", &[&tree]);
    other.restic().init(2);
    other.restic().backup([&tree]);
    let before = packs(&other);
    other.succeed(["backup"]);
    let added = packs(&other) - before;
    assert!(added < 64 << 10, "{added} bytes were added");
    other.restic().check_read_data();
}

fn packs(site: &Site) -> u64 {
    let data = site.repository().join("data");
    let directories = fs::read_dir(data).expect("a repository").flatten();
    let files = directories.filter_map(|entry| fs::read_dir(entry.path()).ok()).flatten().flatten();
    files.map(|entry| entry.metadata().expect("a file").len()).sum()
}

/// More blobs than one pack takes.
#[test]
fn thousands_of_small_files_fill_several_packs_and_are_reused() {
    let site = Site::new();
    let tree = site.path("tree");
    for directory in 0..40 {
        let directory = tree.join(format!("d{directory:02}"));
        fs::create_dir_all(&directory).expect("a directory can be made");
        for file in 0..280 {
            let path = directory.join(format!("f{file}"));
            // Every seventh has the same content.
            let name = if file % 7 == 0 { "the same".into() } else { path.display().to_string() };
            fs::write(path, name).expect("a file can be written");
        }
    }
    let site = site.with_files("configs", &[&tree]).initialised();
    let (_, first) = site.json(["backup"]);
    let counts = |lines: &[Value]| {
        let source = &lines.last().expect("a report")["sources"][0];
        ["files_new", "files_changed", "files_unmodified"]
            .map(|key| source[key].as_u64().unwrap_or_else(|| panic!("{key} in {source}")))
    };
    assert_eq!(counts(&first), [11_200, 0, 0]);
    site.restic().check_read_data();

    fs::write(tree.join("d07/f8"), "changed since").expect("a file can be written");
    fs::write(tree.join("d39/new"), "new").expect("a file can be written");
    fs::remove_file(tree.join("d00/f0")).expect("a file can be removed");
    let (_, second) = site.json(["backup"]);
    assert_eq!(counts(&second), [1, 1, 11_198]);
    let target = tempfile::tempdir().expect("a temporary directory can be made");
    let to = target.path().to_str().expect("UTF-8");
    site.restic().succeed(["restore", "--target", to, "latest"]);
    Tree::of(&target.path().join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
    site.restic().check_read_data();
}
