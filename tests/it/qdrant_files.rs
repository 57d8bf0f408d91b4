//! Qdrant's own files as points: full snapshots, files of one collection, and damaged ones.

use std::fs;

use kaleem_dr_core::{
    ground::error_chain,
    recovery::{
        point::PointReader,
        source::{Rename, Restorable},
        staged::Sink,
    },
};
use serde_json::json;

use crate::support::{
    qdrant_scene::{Captured, DOCS, FULL, Server, beside, restore, staged_work},
    qdrant_stand_in::QdrantStandIn,
    site::Site,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_snapshot_that_we_wrote_opens_again_and_restores() {
    let server = Server::any("staged");
    server.seed().await;
    let (docs, sessions) = (server.name("docs"), server.name("sessions"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.points(&docs).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-2026-11-23.snapshot");
    let staged = source.staged().expect("Qdrant has a staged form");
    let mut sink =
        Sink::new(Box::new(fs::File::create(&path).expect("a file")), staged.name().is_gzip());
    staged.write(&point, &mut sink).await.expect("it can be written");
    sink.finish().await.expect("the file is written");

    // Like Qdrant's own: snapshots in the root, the mapping last, every entry a regular file.
    let mut members = Vec::new();
    let mut archive = tar::Archive::new(fs::File::open(&path).expect("a file"));
    for entry in archive.entries().expect("a tar") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        members.push(entry.path().expect("a path").display().to_string());
    }
    assert_eq!(members.len(), 3);
    assert_eq!(members[2], "config.json");
    assert!(members[0].starts_with(&docs) && members[1].starts_with(&sessions), "{members:?}");

    let opened = staged.open(&path, &staged_work(directory.path())).await.expect("it opens");
    let snapshot = format!("/qdrant/collections/{docs}.snapshot");
    let sha256 = |point: &PointReader| {
        point.manifest().artifact(&snapshot).expect("it is there").sha256.clone()
    };
    assert_eq!(sha256(&opened), sha256(&point));
    assert!(source.inspect(&opened).await.expect("an inspection").is_well());
    let request = beside("unused").with_rename(vec![
        Rename::new(docs.clone(), server.name("docs2")),
        Rename::new(sessions, server.name("sessions2")),
    ]);
    let plan = source.plan_restore(&opened, request).await.expect("a plan");
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("does not record which Qdrant made it")),
        "{plan:?}"
    );
    let report = source.restore(&opened, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report.uncompared.iter().any(|left| left.what.contains("150 points")),
        "equal is said only of what was compared: {report:?}"
    );
    assert_eq!(server.points(&server.name("docs2")).await, before);
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handbooks_full_snapshot_and_one_collections_file_restore() {
    let server = Server::any("handbook");
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    for (file, content, expected) in [
        ("full-snapshot-2026-11-23-05-01-03.snapshot", FULL, vec![("docs", 120), ("sessions", 30)]),
        ("docs-6214784781599714-2026-11-23-05-01-03.snapshot", DOCS, vec![("docs", 120)]),
    ] {
        let path = directory.path().join(file);
        fs::write(&path, content).expect("a file");
        let staged = source.staged().expect("Qdrant has a staged form");
        let opened = staged.open(&path, &staged_work(directory.path())).await.expect("it opens");
        assert!(source.inspect(&opened).await.expect("an inspection").is_well());
        let rename =
            expected.iter().map(|(from, _)| Rename::new(*from, server.name(from))).collect();
        let report = restore(&source, &opened, beside("unused").with_rename(rename))
            .await
            .expect("a restore");
        assert!(report.is_equal(), "{report:?}");
        for (name, count) in expected {
            assert_eq!(server.points(&server.name(name)).await.len(), count);
        }
        let point = &server.points(&server.name("docs")).await[0];
        assert_eq!((&point["id"], &point["vector"]["kw"]["indices"]), (&json!(1), &json!([1, 21])));
        server.assert_no_files("after a restore").await;
        server.clean_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_names_what_of_a_full_snapshot_it_could_not_compare() {
    let server = Server::recorded();
    let site = Site::new().with_qdrant("vectors", &server.url, &server.key, &["*".to_owned()]);
    let file = site.path("full-snapshot-2026-11-23-05-01-03.snapshot");
    fs::write(&file, FULL).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let outcome = site.succeed(["restore", "vectors", "--from", file, "--target", "copy"]);
    assert_eq!(server.points("copy_docs").await.len(), 120);
    assert!(outcome.stdout.contains("NOT COMPARED: "), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("it is equal to what was captured"), "{}", outcome.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_staged_files_say_where_they_break_and_what_is_whole() {
    let server = Server::recorded();
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-damaged.snapshot");
    let staged = source.staged().expect("Qdrant has a staged form");
    let mut packed = Vec::from([0x1f, 0x8b]);
    packed.extend([0; 600]);
    for (content, told) in [
        (&FULL[..FULL.len() - 1024], "it ends after"),
        (
            &FULL[..180_000],
            "the complete ones are docs-6214784781599714-2026-11-23-05-01-03.snapshot",
        ),
        (&FULL[..90_000], "no collection in it is complete"),
        (&FULL[..206_336 - 512], "it does not end with config.json"),
        (&b"not a tar at all"[..], "is not a Qdrant snapshot"),
        (&packed, "gunzip"),
    ] {
        fs::write(&path, content).expect("a file");
        let error =
            staged.open(&path, &staged_work(directory.path())).await.expect_err("it is damaged");
        assert!(error_chain(&error).contains(told), "{told}: {}", error_chain(&error));
    }
    let left: Vec<_> = fs::read_dir(directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "nothing unpacked is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_holes_is_restored_with_its_holes_filled() {
    // Like the tar of a file with a hole: the last 1,024 bytes of the snapshot are zeros, and are
    // left out of the archive.
    let data = DOCS.len() - 1024;
    let mut header = tar::Header::new_gnu();
    header.set_path("docs-1-2026-11-23-05-01-03.snapshot").expect("a path");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o600);
    header.set_size(data as u64);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    let octal = |number: usize| -> [u8; 12] {
        format!("{number:011o}\0").into_bytes().try_into().expect("12 digits")
    };
    (gnu.sparse[0].offset, gnu.sparse[0].numbytes) = (octal(0), octal(data));
    (gnu.sparse[1].offset, gnu.sparse[1].numbytes) = (octal(DOCS.len()), octal(0));
    gnu.realsize = octal(DOCS.len());
    header.set_cksum();
    let mut file = [header.as_bytes(), &DOCS[..data]].concat();
    let mut tail = tar::Builder::new(Vec::new());
    let mapping = json!({ "collections_mapping": { "docs": "docs-1-2026-11-23-05-01-03.snapshot" }, "collections_aliases": {} })
        .to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(mapping.len() as u64);
    tail.append_data(&mut header, "config.json", mapping.as_bytes()).expect("memory takes all");
    file.extend(tail.into_inner().expect("memory takes all"));

    let server = Server::failing(QdrantStandIn::start());
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-holes.snapshot");
    fs::write(&path, file).expect("a file");
    let opened = source
        .staged()
        .expect("a form")
        .open(&path, &staged_work(directory.path()))
        .await
        .expect("it opens");
    let record =
        opened.manifest().artifact("/qdrant/collections/docs.snapshot").expect("it is there");
    assert_eq!(record.sha256, kaleem_dr_core::ground::digest::ByteDigest::of(DOCS));
    let report = restore(&source, &opened, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.points("copy_docs").await.len(), 120);
}
