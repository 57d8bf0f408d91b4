//! File trees as one tar: written from a snapshot, read back, inspected and restored.

use std::{
    ffi::OsStr,
    fs,
    io::{Cursor, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::PathBuf,
    process::Command,
};

use kaleem_dr_core::{
    CancellationToken,
    ground::SourceError,
    recovery::{
        source::{Restorable, RestoreRequest, RestoreTarget, ScratchTarget},
        untar::survey,
    },
};
use tar::EntryType;

use crate::support::{
    program::run,
    seed,
    tars::{Fortress, Handmade, Place, gzip, pax_records},
    tree::Tree,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_exported_as_a_tar_is_equal_when_gnu_tar_or_we_extract_it() {
    let place = Place::new();
    let tree = place.path("tree");
    seed::file_tree(&tree);
    let deep = tree.join("d".repeat(120)).join("name ".repeat(40));
    fs::create_dir_all(&deep).expect("a directory");
    fs::write(deep.join(OsStr::from_bytes(b"long and latin-1 \xe9 ")), "deep").expect("a file");
    symlink("x".repeat(300), tree.join("long link")).expect("a link");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(tree.join("--help"), Some(3_000_000), Some(1))
            .expect("root may give files away");
        fs::set_permissions(tree.join("--help"), fs::Permissions::from_mode(0o4755))
            .expect("its mode can be set");
    }
    let before = Tree::of(&tree);
    let source = place.source(serde_json::json!({"special_files_of_tars": true}));
    let point = place.backed_up(&source).await;
    let file = place.export(&source, &point).await;

    fs::create_dir(place.path("gnu")).expect("a directory");
    let gnu = run(Command::new("tar")
        .args(["-xpf", file.to_str().expect("UTF-8"), "--xattrs", "--xattrs-include=*", "-C"])
        .arg(place.path("gnu")));
    assert_eq!((gnu.code, gnu.stderr.as_str()), (Some(0), ""), "{}", gnu.stdout);
    place.tree_in("gnu").assert_equal(&before);

    let opened = place.open(&source, &file).await.expect("it is whole");
    assert_eq!(opened.manifest().tree.files, point.manifest().tree.files);
    assert_eq!(opened.manifest().tree.directories, point.manifest().tree.directories);
    assert_eq!(opened.manifest().tree.others, point.manifest().tree.others);
    let plan = source.plan_restore(&opened, place.beside("ours")).await.expect("a plan");
    assert!(!plan.overwrites(), "{plan:?}");
    let report = source.restore(&opened, plan).await.expect("it is restored");
    assert!(report.is_done(), "{report:?}");
    place.tree_in("ours").assert_equal(&before);
    let hole = fs::metadata(
        place.path("ours").join(tree.strip_prefix("/").expect("absolute")).join("sparse"),
    )
    .expect("the file");
    assert!(hole.blocks() * 512 < hole.len() / 2, "holes stay holes");

    let inspection = source.inspect(&opened).await.expect("it can be looked at");
    assert!(inspection.is_well(), "{inspection:?}");
    let cautious = place.source(serde_json::json!({}));
    let plan = cautious.plan_restore(&opened, place.beside("cautious")).await.expect("a plan");
    let report = cautious.restore(&opened, plan).await.expect("the rest is restored");
    assert!(!report.is_equal(), "a pipe was not asked for: {report:?}");
    assert!(
        report.differences.iter().any(|difference| difference.what.ends_with("tree/pipe")),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tar_says_where_it_breaks_and_what_is_still_whole() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).expect("a directory");
    let source = place.source(serde_json::json!({}));
    let mut noise = 1u32;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    })
    .take(100_000)
    .collect();
    let plain = Handmade::default()
        .file("etc/first", "first")
        .member("etc/second", EntryType::Regular, "", &large)
        .file("etc/third", "third")
        .end();
    let file = place.path("configs.tar.gz");
    let write = |bytes: &[u8]| fs::write(&file, bytes).expect("a file can be written");
    write(&gzip(&plain));
    assert_eq!(place.open(&source, &file).await.expect("it is whole").manifest().tree.files, 3);
    let mut why = Vec::new();
    let mut flipped = gzip(&plain);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x20;
    let packed = gzip(&plain);
    for broken in [
        packed[..packed.len() / 2].to_vec(),
        packed[..packed.len() - 6].to_vec(),
        flipped,
        plain[..60_000].to_vec(),
        plain[..plain.len() - 1024].to_vec(),
        [&plain[..], b"more"].concat(),
        b"no tar at all, but long enough to hold a block: ".repeat(20),
    ] {
        write(&broken);
        match place.open(&source, &file).await {
            Err(SourceError::Damaged { path, why: said }) => {
                assert_eq!(path, file);
                assert!(said.contains("at byte "), "{said}");
                why.push(said);
            }
            other => panic!("{:?}", other.map(|point| point.manifest().clone())),
        }
    }
    for (at, expected) in [(0, "etc/first"), (1, "etc/third"), (3, "etc/first"), (4, "etc/third")] {
        assert!(why[at].contains(&format!("the last whole member is {expected}")), "{}", why[at]);
    }
    assert!(why[6].contains("no member of it is whole"), "{}", why[6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_after_a_restore_in_place_and_their_output_is_in_the_report() {
    let place = Place::new();
    seed::file_tree(&place.path("tree"));
    let before = Tree::of(&place.path("tree"));
    let marker = place.path("marker");
    let hooks = serde_json::json!({
        "special_files_of_tars": true,
        "after_restore": [
            ["sh", "-c", "echo configuration file test is successful"],
            ["sh", "-c", format!("cat {}/etc/nginx/nginx.conf > {}", place.path("tree").display(), marker.display())],
        ],
    });
    let source = place.source(hooks);
    let point = place.backed_up(&source).await;
    let file = place.export(&source, &point).await;
    let from_tar = place.open(&source, &file).await.expect("it is whole");

    let plan = source.plan_restore(&point, place.beside("beside")).await.expect("a plan");
    let report = source.restore(&point, plan).await.expect("it is restored");
    assert!(
        report.is_done() && report.hooks.is_empty() && !marker.exists(),
        "next to the live data, no hook runs: {report:?}"
    );

    for origin in [&point, &from_tar] {
        fs::write(place.path("tree/etc/nginx/nginx.conf"), "broken")
            .expect("a file can be written");
        let plan = source
            .plan_restore(origin, RestoreRequest::whole(RestoreTarget::InPlace))
            .await
            .expect("a plan");
        assert!(plan.overwrites());
        assert!(
            plan.warnings
                .iter()
                .any(|line| line
                    == "afterwards runs: sh -c echo configuration file test is successful"),
            "{plan:?}"
        );
        let report = source.restore(origin, plan).await.expect("it is restored");
        assert!(report.is_done(), "{report:?}");
        assert_eq!(report.hooks[0].output, "configuration file test is successful");
        assert_eq!(
            fs::read_to_string(&marker).expect("the second hook ran"),
            "worker_processes auto;\n"
        );
        fs::remove_file(&marker).expect("it is there");
        Tree::of(&place.path("tree")).assert_equal(&before);
    }

    let failing = place.source(serde_json::json!({"special_files_of_tars": true,
        "after_restore": [["sh", "-c", "echo unknown directive; exit 1"], ["touch", marker]]}));
    let plan = failing
        .plan_restore(&point, RestoreRequest::whole(RestoreTarget::InPlace))
        .await
        .expect("a plan");
    let report = failing.restore(&point, plan).await.expect("it is restored");
    assert!(report.is_equal() && !report.is_done(), "{report:?}");
    assert_eq!(
        (report.hooks[0].status, report.hooks[0].output.as_str()),
        (Some(1), "unknown directive")
    );
    assert!(report.hooks[1].status.is_none() && !marker.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_files_can_be_restored_from_a_snapshot_and_from_a_tar() {
    let place = Place::new();
    seed::file_tree(&place.path("tree"));
    let source = place.source(serde_json::json!({}));
    let point = place.backed_up(&source).await;
    let file = place.export(&source, &point).await;
    let from_tar = place.open(&source, &file).await.expect("it is whole");
    for (origin, name) in [(&point, "of snapshot"), (&from_tar, "of tar")] {
        let only = vec!["*.conf".to_owned(), place.path("tree/empty file").display().to_string()];
        let request = place.beside(name).with_only(only);
        let plan = source.plan_restore(origin, request).await.expect("a plan");
        let report = source.restore(origin, plan).await.expect("it is restored");
        assert!(report.is_done(), "{report:?}");
        let paths: Vec<_> =
            place.tree_in(name).paths().map(|path| path.display().to_string()).collect();
        let expected = [
            "",
            "empty file",
            "etc",
            "etc/nginx",
            "etc/nginx/conf.d",
            "etc/nginx/conf.d/default.conf",
            "etc/nginx/nginx.conf",
        ];
        assert_eq!(paths, expected, "{name}");
        let nothing = place.beside("nothing").with_only(vec!["/no/such".into()]);
        let error = source
            .plan_restore(origin, nothing)
            .await
            .expect_err("an empty restore is not a success");
        assert!(
            error.to_string().contains("nothing in the recovery point matches /no/such"),
            "{error}"
        );
        let merged =
            place.beside("merged").with_existing(kaleem_dr_core::recovery::source::Existing::Merge);
        assert!(source.plan_restore(origin, merged).await.is_err());
    }
    place.tree_in("of tar").assert_equal(&place.tree_in("of snapshot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_compares_and_leaves_nothing() {
    let place = Place::new();
    seed::file_tree(&place.path("tree"));
    let source = place
        .source(serde_json::json!({"special_files_of_tars": true, "after_restore": [["false"]]}));
    let point = place.backed_up(&source).await;
    let file = place.export(&source, &point).await;
    let from_tar = place.open(&source, &file).await.expect("it is whole");
    let before = Tree::of(&place.path("tree"));
    for origin in [&point, &from_tar] {
        fs::create_dir_all(place.path("scratch")).expect("a directory");
        let scratch = ScratchTarget::new("kdr_drill_1", place.path("scratch"));
        let report = source.rehearse(origin, &scratch).await.expect("it can be rehearsed");
        assert!(report.is_done() && report.items > 8 && report.hooks.is_empty(), "{report:?}");
        assert_eq!(fs::read_dir(place.path("scratch")).expect("the directory is there").count(), 0);
    }
    Tree::of(&place.path("tree")).assert_equal(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_reads_every_file_of_a_snapshot_and_names_the_damaged_ones() {
    let place = Place::new();
    seed::file_tree(&place.path("tree"));
    let source = place.source(serde_json::json!({}));
    let point = place.backed_up(&source).await;
    let inspection = source.inspect(&point).await.expect("it can be read");
    assert!(inspection.is_well(), "{inspection:?}");
    assert!(
        inspection.checked[0].contains(&format!("{} files", point.manifest().tree.files)),
        "{inspection:?}"
    );

    // The largest pack contains the files' content.
    let mut packs = Vec::new();
    for directory in fs::read_dir(place.path("repository/data")).expect("packs") {
        for pack in fs::read_dir(directory.expect("an entry").path()).expect("a directory") {
            let pack = pack.expect("an entry").path();
            packs.push((fs::metadata(&pack).expect("a pack").len(), pack));
        }
    }
    packs.sort();
    let (length, pack) = packs.pop().expect("a pack");
    let mut bytes = fs::read(&pack).expect("a pack can be read");
    let middle = usize::try_from(length / 2).expect("small");
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    fs::write(&pack, bytes).expect("a pack can be written");
    let inspection = source.inspect(&point).await.expect("the rest can be read");
    assert!(!inspection.is_well(), "{inspection:?}");
    let named: Vec<_> = inspection
        .findings
        .iter()
        .map(ToString::to_string)
        .filter(|line| line.contains("/large: "))
        .collect();
    assert_eq!(named.len(), 1, "{inspection:?}");
    assert!(
        !inspection.findings.iter().any(|finding| finding.message.contains("nginx.conf")),
        "{inspection:?}"
    );
}

#[test]
fn a_survey_counts_the_entries_and_lists_the_topmost_paths() {
    let place = Place::new();
    let tar = Handmade::default()
        .directory("etc")
        .file("etc/a", "aaa")
        .directory("opt/kaleem")
        .hard_link("opt/kaleem/b", "etc/a");
    let archive = place.path("a.tar");
    fs::write(&archive, tar.end()).expect("a file can be written");
    let found = survey(&archive, &[], &CancellationToken::new()).expect("it is whole");
    assert_eq!(found.roots, [PathBuf::from("/etc"), PathBuf::from("/opt/kaleem")]);
    assert_eq!(
        (found.report.files, found.report.links, found.report.directories, found.report.size_bytes),
        (1, 1, 2, 3)
    );
    // `tar` itself must read what we count.
    let mut names = Vec::new();
    let mut stock = tar::Archive::new(Cursor::new(fs::read(&archive).expect("the file")));
    for entry in stock.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        names.push(entry.path().expect("a path").display().to_string());
    }
    assert_eq!(names.len(), 4);
}

#[test]
fn an_attribute_that_cannot_be_set_never_costs_the_content() {
    let fortress = Fortress::new();
    let records = pax_records(&[
        ("SCHILY.xattr.nonsense.note", b"x"),
        ("SCHILY.xattr.user.large", &vec![7; 100_000]),
    ]);
    let tar = Handmade::default()
        .member("PaxHeaders", EntryType::XHeader, "", &records)
        .file("kept", "content")
        .member("PaxHeaders", EntryType::XHeader, "", &records)
        .directory("directory")
        .file("directory/below", "below")
        .end();
    let report = fortress.extract(&tar, &fortress.options()).expect("it is extracted");
    assert_eq!(fortress.content("kept"), "content");
    assert_eq!(fortress.content("directory/below"), "below");
    assert_eq!((report.files, report.directories), (2, 1));
    let lacks: Vec<_> = report
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.why))
        .collect();
    for (path, attribute) in [
        ("kept", "nonsense.note"),
        ("kept", "user.large"),
        ("directory", "nonsense.note"),
        ("directory", "user.large"),
    ] {
        let named = |lack: &&String| {
            lack.contains(&format!("/{path}: "))
                && lack.contains(&format!("extended attribute {attribute}"))
        };
        assert_eq!(lacks.iter().filter(named).count(), 1, "{path} {attribute} in {lacks:#?}");
    }
    assert_eq!(lacks.len(), 4, "{lacks:#?}");
}
