//! Proofs: damage is found at the level that can detect it, and no higher level is reported.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{seed, site::Site};

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site.with_files("configs", &[&tree]).with_rabbitmq("rabbitmq").initialised();
    site.succeed(["backup"]);
    site
}

/// The packs of a repository, largest first.
fn packs(site: &Site) -> Vec<PathBuf> {
    let mut packs = Vec::new();
    for directory in fs::read_dir(site.repository().join("data")).expect("a repository has packs") {
        for pack in fs::read_dir(directory.expect("an entry").path()).expect("a directory") {
            packs.push(pack.expect("an entry").path());
        }
    }
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).expect("a file").len()));
    packs
}

fn flip(path: &Path, at: usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .expect("our file's mode can be set");
    let mut bytes = fs::read(path).expect("a file can be read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("a file can be written");
}

fn messages(report: &Value) -> String {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.filter_map(|finding| finding["message"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_point_is_proven_at_each_level_and_not_above_what_was_asked() {
    let site = site();
    for (level, checked) in [
        ("stored", "hash to their names"),
        ("readable", "1 of 1 artifacts match the manifest"),
        ("parsed", "/rabbitmq/definitions.json is consistent"),
        ("restored", "restored and equal: "),
    ] {
        let (outcome, lines) = site.json(["verify", "rabbitmq", "--level", level]);
        assert_eq!(outcome.code, Some(0), "{level}: {}{}", outcome.stdout, outcome.stderr);
        assert_eq!(lines[0]["proven"], level);
        let told = lines[0]["checked"].to_string();
        assert!(told.contains(checked), "{level}: {told}");
    }
}

#[test]
fn a_flipped_byte_in_a_pack_is_found_and_nothing_is_called_proven() {
    let site = site();
    let pack = packs(&site).remove(0);
    flip(&pack, 1000);
    let name = pack.file_name().and_then(|name| name.to_str()).expect("a pack's name").to_owned();
    let (outcome, lines) = site.json(["verify", "--level", "readable"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let damaged: Vec<&Value> = lines.iter().filter(|report| report["proven"].is_null()).collect();
    assert_eq!(damaged.len(), 1, "one source's data are in that pack: {}", outcome.stdout);
    let told = messages(damaged[0]);
    assert!(told.contains(&name) && told.contains("do not decrypt"), "{told}");
    assert!(told.contains("/tree/large: a part of its content is damaged"), "{told}");
}

#[test]
fn packs_that_are_missing_cut_short_or_altered_end_with_4_at_every_level() {
    let site = site();
    // Packs of trees that were corrected before the snapshot was written are not needed; after
    // this, each pack is.
    site.restic().succeed(["prune", "--max-unused", "0"]);
    let packs = packs(&site);
    assert!(packs.len() >= 2, "data and trees have packs of their own");
    for pack in packs {
        let whole = fs::read(&pack).expect("a pack can be read");
        let name =
            pack.file_name().and_then(|name| name.to_str()).expect("a pack's name").to_owned();
        fs::remove_file(&pack).expect("a file can be removed");
        let mut turned = whole.clone();
        turned[whole.len() / 3] ^= 1;
        for damaged in [None, Some(&whole[..whole.len() / 3]), Some(&[]), Some(&turned)] {
            if let Some(content) = damaged {
                fs::write(&pack, content).expect("a file can be written");
            }
            let what =
                format!("pack {name} of {} bytes, now {:?}", whole.len(), damaged.map(<[u8]>::len));
            for level in ["stored", "parsed"] {
                let (outcome, lines) = site.json(["verify", "--level", level]);
                assert_eq!(
                    outcome.code,
                    Some(4),
                    "{what}, {level}: {}{}",
                    outcome.stdout,
                    outcome.stderr
                );
                let told = format!(
                    "{}{}",
                    outcome.stderr,
                    lines.iter().map(Value::to_string).collect::<String>()
                );
                assert!(told.contains(&name), "{what}, {level}: {told}");
            }
        }
        fs::write(&pack, &whole).expect("a file can be written");
    }
    assert_eq!(site.run(["verify"]).code, Some(0), "nothing is left of the damages");
}

#[test]
fn a_snapshot_of_stock_restic_can_be_read_through_but_not_parsed() {
    let site = Site::new().initialised();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.restic().succeed(["backup", tree.to_str().expect("a UTF-8 path")]);
    let id = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    let (outcome, lines) = site.json(["verify", "--snapshot", &id]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["proven"], "readable");
    assert_eq!(site.run(["verify", "--snapshot", &id, "--level", "parsed"]).code, Some(2));
}
