//! Several hosts on one repository: each uses its own points, proofs and retention, and another
//! host's only if it is named.

use std::{fs, path::Path};

use crate::support::site::Site;

/// A host with one file that contains its name. The repository exists, and nothing has been saved
/// yet.
fn host(name: &str) -> Site {
    let site = with_file(Site::new().named(name), name);
    site.succeed(["init"]);
    site
}

fn with_file(site: Site, content: &str) -> Site {
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("whose"), content).expect("a file");
    site.with_files("configs", &[&tree])
}

fn restored(target: &Path, of: &Site) -> String {
    let path = target.join(of.path("tree/whose").strip_prefix("/").expect("an absolute path"));
    fs::read_to_string(path).expect("the restored file")
}

fn count(site: &Site, host: &str) -> usize {
    site.snapshots().iter().filter(|snapshot| snapshot["hostname"] == host).count()
}

#[test]
fn a_restore_takes_this_hosts_newest_point_and_its_plan_names_the_host() {
    let db1 = host("db1");
    let web1 = with_file(db1.neighbour("web1"), "web1");
    db1.succeed(["backup"]);
    web1.succeed(["backup"]);

    let plan = db1.succeed(["restore", "configs", "--dry-run"]);
    assert!(plan.stdout.contains("host db1"), "{}", plan.stdout);
    let target = db1.path("own");
    db1.succeed(["restore", "configs", "--to", &target.display().to_string()]);
    assert_eq!(restored(&target, &db1), "db1");

    let target = db1.path("theirs");
    db1.succeed(["--host", "web1", "restore", "configs", "--to", &target.display().to_string()]);
    assert_eq!(restored(&target, &web1), "web1");
    let points = db1.succeed(["points"]).stdout;
    assert!(points.contains("db1") && !points.contains("web1"), "{points}");
    assert!(db1.succeed(["--host", "any", "points"]).stdout.contains("web1"));
}

#[test]
fn in_place_from_another_hosts_snapshot_is_refused_unless_that_host_is_named() {
    let db1 = host("db1");
    let web1 = with_file(db1.neighbour("web1"), "web1");
    web1.succeed(["backup"]);
    let id = db1.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    let theirs = web1.path("tree/whose");
    fs::write(&theirs, "changed").expect("a file");

    for args in [
        vec!["restore", "configs", "--point", &id, "--in-place", "--yes"],
        vec!["--host", "any", "restore", "configs", "--in-place", "--yes"],
        vec!["restore", "files", "--snapshot", &id, "--in-place", "--yes"],
    ] {
        let refused = db1.run(args.iter().copied());
        assert_eq!(refused.code, Some(5), "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("--host web1"), "{}", refused.stderr);
        assert_eq!(fs::read_to_string(&theirs).expect("the file"), "changed", "{args:?} wrote");
    }
    db1.succeed(["--host", "web1", "restore", "configs", "--in-place", "--yes"]);
    assert_eq!(fs::read_to_string(&theirs).expect("the file"), "web1");
}

#[test]
fn a_replacement_machine_hears_which_hosts_have_points_and_carries_on_as_the_lost_one() {
    let db1 = host("db1");
    db1.succeed(["backup"]);
    let new = with_file(db1.neighbour("db1-new"), "lost");
    let none = new.run(["restore", "configs", "--to", &new.path("out").display().to_string()]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    for word in ["db1 (newest ", "--host", "host = \"NAME\""] {
        assert!(none.stderr.contains(word), "{word}: {}", none.stderr);
    }
    let target = new.path("out");
    new.succeed(["--host", "db1", "restore", "configs", "--to", &target.display().to_string()]);
    assert_eq!(restored(&target, &db1), "db1");

    let heir = with_file(db1.neighbour("db1"), "db1");
    heir.succeed(["restore", "configs", "--to", &heir.path("out").display().to_string()]);
    heir.succeed(["backup"]);
    assert_eq!(count(&heir, "db1"), 2);
    assert_eq!(heir.succeed(["status"]).code, Some(0));
}

#[test]
fn what_one_host_proves_proves_nothing_of_another() {
    let db1 = host("db1").with("[objectives]\nrpo_hours = 24");
    let web1 = with_file(db1.neighbour("web1"), "web1");
    db1.succeed(["backup"]);
    web1.succeed(["backup"]);
    assert_eq!(db1.run(["status"]).code, Some(6), "nothing is proven");
    db1.succeed(["--host", "web1", "verify"]);
    assert_eq!(db1.run(["status"]).code, Some(6), "web1's proof does not count for db1");
    db1.succeed(["verify"]);
    db1.succeed(["status"]);
    let (_, proofs) = db1.json(["--host", "web1", "status"]);
    assert_eq!(proofs[0][0]["host"], "web1");
    assert_eq!(proofs[0][0]["proven_level"], "parsed");
}

#[test]
fn retention_touches_this_hosts_snapshots_only() {
    let keep = "[backup]\nforget = true\n[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0";
    let a = host("a");
    let b = with_file(a.neighbour("b"), "b").with(keep);
    (0..3).for_each(|_| drop(a.succeed(["backup"])));
    (0..3).for_each(|_| drop(b.succeed(["backup"])));
    assert_eq!((count(&a, "a"), count(&a, "b")), (3, 1));
    let told = b.succeed(["forget", "--dry-run"]);
    assert!(told.stdout.contains("3 snapshots of other hosts were ignored"), "{}", told.stdout);
    b.succeed(["--host", "any", "forget", "--yes"]);
    assert_eq!((count(&a, "a"), count(&a, "b")), (1, 1));
}

#[test]
fn another_hosts_alarm_stops_prune_and_a_forget_that_means_that_host() {
    let keep = "[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0";
    let a = host("a").with(keep);
    let b = with_file(a.neighbour("b"), "b").with(keep);
    for n in 0..40 {
        fs::write(a.path("tree").join(format!("file-{n}")), "content").expect("a file");
    }
    a.succeed(["backup"]);
    (0..2).for_each(|_| drop(b.succeed(["backup"])));
    for n in 0..40 {
        fs::remove_file(a.path("tree").join(format!("file-{n}"))).expect("our file");
    }
    assert_eq!(a.run(["backup"]).code, Some(3), "saved, and an alarm");
    assert_eq!(a.run(["prune", "--yes"]).code, Some(5));

    // The alarm is in the repository, where b sees it.
    let listed = b.succeed(["alarm", "list"]).stdout;
    assert!(listed.contains("files are gone") && listed.contains(" a,"), "{listed}");
    b.succeed(["forget", "--yes"]);
    assert_eq!((count(&a, "a"), count(&a, "b")), (2, 1), "b's own may go");
    for refused in [
        &["prune", "--yes"][..],
        &["--host", "any", "forget", "--yes"],
        &["--host", "a", "forget", "--yes"],
    ] {
        let outcome = b.run(refused.iter().copied());
        assert_eq!(outcome.code, Some(5), "{refused:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("files are gone"), "{}", outcome.stderr);
    }
    // A machine that replaces a honours what a's lost state contained.
    let heir = with_file(a.neighbour("a"), "a").with(keep);
    assert_eq!(heir.run(["forget", "--yes"]).code, Some(5));
    a.restic().check_read_data();

    heir.succeed(["alarm", "acknowledge"]);
    a.succeed(["forget", "--yes"]);
    assert_eq!(count(&a, "a"), 1, "acknowledged by whichever host, it is acknowledged");
    b.succeed(["prune", "--yes"]);
    a.restic().check_read_data();
}

#[test]
fn every_host_has_a_row_and_an_expected_one_that_is_missing_ends_with_6() {
    let db1 = host("db1");
    let web1 = with_file(db1.neighbour("web1"), "web1");
    db1.succeed(["backup"]);
    web1.succeed(["backup"]);
    let all = db1.succeed(["status", "--all-hosts"]).stdout;
    assert!(all.contains("db1") && all.contains("web1"), "{all}");
    let strict = db1.with("[status]\nexpected_hosts = [\"db1\", \"cache1\"]");
    let (outcome, lines) = strict.json(["status", "--all-hosts"]);
    assert_eq!(outcome.code, Some(6), "{}", outcome.stderr);
    let rows = lines[0].as_array().expect("rows");
    let row = |host: &str| {
        rows.iter().find(|row| row["host"] == host).unwrap_or_else(|| panic!("no {host}: {rows:?}"))
    };
    assert_eq!(row("cache1")["is_broken"], true);
    assert_eq!(row("db1")["is_broken"], false);
    assert_eq!(row("web1")["is_expected"], false);
}

#[test]
fn a_backup_of_any_host_and_a_host_that_cannot_be_one_are_usage_errors() {
    let db1 = host("db1");
    assert_eq!(db1.run(["--host", "any", "backup"]).code, Some(2));
    assert_eq!(db1.run(["--host", "a b", "points"]).code, Some(2));
    db1.succeed(["--host", "other", "backup"]);
    assert_eq!(count(&db1, "other"), 1);
}
