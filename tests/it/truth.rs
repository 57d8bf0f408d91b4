//! No false positives: proofs that were revoked, incomplete points, snapshots dated in the future,
//! sources that cannot be verified.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use kaleem_dr_core::{engine::ledger::Ledger, ground::RunId};

use crate::support::{program::run, site::Site};

/// A site with one small tree and an RPO objective.
fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("a"), "first").expect("a file");
    site.with_files("configs", &[&tree]).with("[objectives]\nrpo_hours = 24").initialised()
}

/// Adds a source whose tree does not exist, so that each capture of it is incomplete or fails.
fn with_unreadable(site: Site) -> Site {
    let gone = site.path("gone");
    let tree = site.path("tree");
    site.with(&format!(
        "[source.partly]\ntype = \"files\"\npaths = ['{}', '{}']",
        tree.display(),
        gone.display()
    ))
}

#[test]
fn a_failed_verification_takes_an_earlier_proof_back() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["verify"]);
    site.succeed(["status"]);
    let pack = fs::read_dir(site.repository().join("data"))
        .expect("packs")
        .flat_map(|directory| {
            fs::read_dir(directory.expect("a directory").path()).expect("a directory")
        })
        .map(|pack| pack.expect("a pack").path())
        .max_by_key(|pack| fs::metadata(pack).expect("a pack").len())
        .expect("a pack");
    let good = fs::read(&pack).expect("a pack");
    let mut bad = good.clone();
    bad[40] ^= 1;
    overwrite(&pack, &bad);
    assert_eq!(site.run(["verify"]).code, Some(4));
    let status = site.run(["status"]);
    assert_eq!(status.code, Some(6), "{}", status.stdout);
    assert!(status.stdout.contains("never proven"), "{}", status.stdout);
    overwrite(&pack, &good);
    site.succeed(["verify"]);
    site.succeed(["status"]);
}

#[test]
fn an_incomplete_point_is_never_proven_and_a_restore_prefers_the_whole_one_before_it() {
    let site = site();
    site.succeed(["backup"]);
    let whole = site.path("tree/a");
    // The same source, with a path that does not exist.
    let gone = site.path("gone");
    let paths = format!("[{:?}, {gone:?}]", site.path("tree"));
    fs::write(&whole, "second").expect("a file");
    let partly = |args: &[&str]| {
        let mut command = site.command();
        run(command.env("KALEEM_DR__SOURCE__CONFIGS__PATHS", &paths).args(args))
    };
    let outcome = partly(&["backup"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);

    let drill = partly(&["drill"]);
    assert_eq!(drill.code, Some(3), "{}{}", drill.stdout, drill.stderr);
    assert!(drill.stdout.contains("NOT PROVEN"), "{}", drill.stdout);
    let verify = partly(&["verify"]);
    assert_eq!(verify.code, Some(3), "{}", verify.stdout);
    assert!(
        verify.stdout.contains("incomplete") && verify.stdout.contains("gone"),
        "{}",
        verify.stdout
    );
    let ledger = Ledger::open(&site.path("state")).expect("the ledger");
    assert!(ledger.proofs(9).expect("proofs").iter().all(|proof| proof.proven.is_none()));
    let status = site.run(["status"]);
    assert_eq!(status.code, Some(6), "{}", status.stdout);
    assert!(status.stdout.contains("incomplete"), "{}", status.stdout);

    let read = |target: &str| {
        let file = whole.strip_prefix("/").expect("an absolute path");
        fs::read_to_string(site.path(target).join(file)).expect("the restored file")
    };
    let restore =
        site.succeed(["restore", "configs", "--to", &site.path("r1").display().to_string()]);
    assert!(restore.stderr.contains("--allow-incomplete"), "{}", restore.stderr);
    assert_eq!(read("r1"), "first");
    let allowed = partly(&[
        "restore",
        "configs",
        "--allow-incomplete",
        "--to",
        &site.path("r2").display().to_string(),
    ]);
    assert!(allowed.stderr.contains("gone"), "the plan says what is missing: {}", allowed.stderr);
    assert_eq!(read("r2"), "second");
}

#[test]
fn verify_goes_on_past_a_source_that_cannot_be_tried_and_nothing_tried_is_a_failure() {
    let site = site();
    let none = site.run(["verify"]);
    assert_eq!(none.code, Some(1), "nothing was ever saved: {}{}", none.stdout, none.stderr);
    site.succeed(["backup"]);
    let site = with_unreadable(site);
    let outcome = site.run(["verify"]);
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
    assert!(
        outcome.stdout.contains("parsed is proven") && outcome.stdout.contains("NOT VERIFIED"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("source partly"), "{}", outcome.stdout);
    let drill = site.run(["drill"]);
    assert_eq!(drill.code, Some(3), "{}{}", drill.stdout, drill.stderr);
    assert_eq!(Site::new().initialised().run(["verify"]).code, Some(2), "no source at all");
}

/// Adds a snapshot of the source, as made by a run with a clock that is years ahead.
fn snapshot_of_the_future(site: &Site) {
    let tags = format!("kaleem-dr,source:configs,run:{}", RunId::new());
    let tree = site.path("tree").display().to_string();
    site.restic().succeed(["backup", "--time", "2099-01-01 00:00:00", "--tag", &tags, &tree]);
}

#[test]
fn a_snapshot_of_the_future_is_named_and_never_the_newest() {
    let site = site();
    snapshot_of_the_future(&site);
    let status = site.run(["status"]);
    assert_eq!(status.code, Some(6), "{}", status.stdout);
    assert!(
        status.stdout.contains("DATED IN THE FUTURE") && status.stdout.contains("NEVER BACKED UP"),
        "{}",
        status.stdout
    );
    let only = site.run(["restore", "configs", "--to", &site.path("r0").display().to_string()]);
    assert_eq!(only.code, Some(1), "{}", only.stderr);
    assert!(only.stderr.contains("in the future"), "{}", only.stderr);

    site.succeed(["backup"]);
    site.succeed(["verify"]);
    assert_eq!(site.run(["status"]).code, Some(6), "as long as it is there");
    let target = site.path("r1");
    let restore = site.succeed(["restore", "configs", "--to", &target.display().to_string()]);
    assert!(restore.stderr.contains("in the future"), "{}", restore.stderr);
    let file = target.join(site.path("tree/a").strip_prefix("/").expect("an absolute path"));
    assert_eq!(fs::read_to_string(file).expect("the file"), "first");

    let refused = site.run(["forget", "--yes"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(refused.stderr.contains("kaleem-dr forget "), "{}", refused.stderr);
    let of_2099 = |snapshot: &serde_json::Value| {
        snapshot["time"].as_str().is_some_and(|time| time.starts_with("20") && time > "2098")
    };
    let future = site.snapshots().into_iter().find(of_2099).expect("the snapshot of the future");
    site.succeed(["forget", future["id"].as_str().expect("an id"), "--yes"]);
    site.succeed(["status"]);
    site.succeed(["forget", "--yes"]);
}

fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("our file");
    fs::write(path, content).expect("our file");
}

#[test]
fn a_pinned_snapshot_stays_and_its_proof_holds_under_its_new_id() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["verify"]);
    let id = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    site.succeed(["snapshot", "pin", &id[..8]]);
    site.succeed(["status"]);
    site.succeed(["backup"]);
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(site.snapshots().len(), 2, "pinned");
    let pinned = site.snapshots()[0].clone();
    assert_eq!(pinned["original"].as_str(), Some(id.as_str()));
    let named = pinned["id"].as_str().expect("an id").to_owned();
    assert_eq!(site.run(["forget", &named, "--yes"]).code, Some(5));
    site.restic().succeed(["forget", "--keep-tag", "pinned", "--keep-last", "1"]);
    assert_eq!(site.snapshots().len(), 2, "stock restic sees the tag");
    site.succeed(["snapshot", "unpin", &named[..8]]);
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(site.snapshots().len(), 1);
    let last = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    let refused = site.run(["forget", &last, "--yes"]);
    assert_eq!(refused.code, Some(5), "the last good one: {}", refused.stderr);
    site.restic().check_read_data();
}

#[test]
fn a_schedule_that_makes_more_points_than_retention_keeps_is_refused() {
    let hourly = "[schedule]\nbackup = \"hourly\"\n[backup]\nforget = true";
    let site = site().with(hourly);
    let refused = site.run(["config", "check"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("keep_hourly"), "{}", refused.stderr);
    assert_eq!(site.run(["schedule", "print"]).code, Some(2));
    site.succeed(["backup"]);
    site.with("[retention]\nkeep_hourly = 48").succeed(["config", "check"]);
}
