//! A host whose key may add objects to a bucket, and may neither delete nor overwrite any.

use std::{fs, path::Path};

use kaleem_dr_core::engine::repository::store::BasicStore as _;

use crate::support::{faulty_s3::FaultyS3, mirror::S3Mirror, seed, servers::S3, site::Site};

/// A site whose repository is the prefix of a bucket.
fn site(host: &str, place: &S3Mirror, more: &str) -> Site {
    let site = Site::new().named(host);
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let of = |name: &str, value: &str| {
        let path = site.secret(name, value);
        format!("{{ file = '{}' }}", path.display())
    };
    let S3Mirror { s3: S3 { endpoint, bucket, key, secret, .. }, prefix } = place;
    let (key, secret) = (of("s3.key", key), of("s3.secret", secret));
    let config = format!(
        "host = {host:?}\nstate_directory = '{}'\ncache_directory = '{}'\n[repository.bucket]\n\
         location = \"s3:{endpoint}/{bucket}/{prefix}\"\npassword = {{ file = '{}' }}\naccess_key_id = {key}\n\
         secret_access_key = {secret}\n{more}\n[source.configs]\ntype = \"files\"\npaths = ['{}']\n\
         [retention]\nkeep_last = 1\n[backup]\nforget = true\nprune = true\n[tripwire]\nenabled = false\n",
        site.path("state").display(),
        site.path("cache").display(),
        site.path("repository.pass").display(),
        tree.display(),
    );
    site.rewritten(config)
}

fn change(site: &Site, content: &str) {
    fs::write(site.path("tree").join("changing"), content).expect("a file can be written");
}

fn snapshots_of(site: &Site, host: &str) -> usize {
    let (_, lines) = site.json(["snapshots", "--host", host]);
    lines[0].as_array().map_or(lines.len(), Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_only_adds_backs_up_proves_and_restores_and_another_one_cleans_up() {
    let place = S3Mirror::new("append-only");
    let proxy = FaultyS3::before(&place.s3.endpoint);
    let through =
        S3Mirror { s3: S3 { endpoint: proxy.endpoint(), ..place.s3.clone() }, ..place.clone() };
    let trusted = site("trusted", &place, "").initialised();
    trusted.succeed(["backup"]);
    let adding = site("adding", &through, "append_only = true");
    proxy.only_add();

    for round in ["one", "two", "three"] {
        change(&adding, round);
        adding.succeed(["backup"]);
    }
    adding.succeed(["verify"]);
    adding.succeed(["check", "--read-data"]);
    adding.succeed(["drill"]);
    let out = adding.path("restored");
    adding.succeed(["restore", "files", "--target", out.to_str().expect("UTF-8")]);
    let restored = out.join(adding.path("tree").strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read_to_string(restored.join("changing")).expect("it is there"), "three");
    assert_eq!(proxy.denied(), [""; 0], "nothing that the key may not do was tried");

    let examined = adding.run(["doctor"]).stdout;
    assert!(
        !examined.contains("is locked by"),
        "locks that have ended are no findings: {examined}"
    );

    // What deletes is refused before anything is sent, with where to run it.
    for command in [
        &["forget", "--keep-last", "1"][..],
        &["prune"],
        &["repair", "index", "--yes"],
        &["unlock", "--remove-all", "--yes"],
    ] {
        let refused = adding.run(command.iter().copied());
        assert_ne!(refused.code, Some(0), "{command:?}: {}{}", refused.stdout, refused.stderr);
        assert!(
            refused.stderr.contains("append_only = true") && refused.stderr.contains("host that"),
            "{command:?}: {}",
            refused.stderr
        );
    }
    assert_eq!(proxy.denied(), [""; 0]);

    let checked = adding.run(["r2", "check"]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    for word in ["not delete them", "not overwrite them", "append_only = true"] {
        assert!(checked.stdout.contains(word), "{word}: {}", checked.stdout);
    }

    // Its locks are still there, have ended, and are in no one's way.
    assert_eq!(snapshots_of(&trusted, "adding"), 3, "the adding host has forgotten nothing");
    change(&trusted, "again");
    let cleaned = trusted.run(["backup"]);
    assert_eq!(cleaned.code, Some(0), "{}{}", cleaned.stdout, cleaned.stderr);
    trusted.succeed(["forget", "--host", "adding", "--prune", "--yes"]);
    assert_eq!(snapshots_of(&trusted, "adding"), 2, "one of three on a day is forgotten");
    let locks = place.store().list("locks").await.expect("they can be listed");
    assert!(locks.is_empty(), "the locks that had ended are removed: {locks:?}");
    trusted.succeed(["check", "--read-data"]);
    adding.succeed(["backup"]);
    adding.succeed(["verify"]);
}

#[test]
fn a_mirror_that_is_only_added_to_loses_nothing() {
    let place = S3Mirror::new("append-only-mirror");
    let proxy = FaultyS3::before(&place.s3.endpoint);
    let through =
        S3Mirror { s3: S3 { endpoint: proxy.endpoint(), ..place.s3.clone() }, ..place.clone() };
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site.with_files("configs", &[&tree]);
    let site = through.of(site, "far").with("append_only = true");
    proxy.only_add();
    let site = site.initialised();
    for round in ["one", "two"] {
        fs::write(tree.join("changing"), round).expect("a file can be written");
        site.succeed(["backup"]);
        site.succeed(["replicate"]);
    }
    site.succeed(["forget", "--keep-last", "1", "--prune", "--yes"]);
    site.succeed(["replicate"]);
    assert_eq!(proxy.denied(), [""; 0]);
    let (_, lines) = site.json(["snapshots", "--repo", "far"]);
    let count = lines[0].as_array().map_or(lines.len(), Vec::len);
    assert_eq!(count, 2, "the mirror keeps what was forgotten here");
    assert_restorable(&site);
}

fn assert_restorable(site: &Site) {
    let out = site.path("restored");
    let target: &Path = &out;
    site.succeed([
        "--repo",
        "far",
        "restore",
        "files",
        "--target",
        target.to_str().expect("UTF-8"),
    ]);
}
