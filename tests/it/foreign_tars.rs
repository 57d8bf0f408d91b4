//! Tars of GNU tar and of other programs, in any form: they are extracted as those programs extract them.

use std::{fs, path::Path, process::Command};

use kaleem_dr_core::{
    CancellationToken,
    ground::progress::Silent,
    recovery::untar::{UntarOptions, extract, survey},
};

use crate::support::{
    program::run,
    seed,
    tars::{Fortress, Handmade, Place, assert_refused},
    tree::Tree,
};

#[test]
fn what_gnu_tar_writes_in_any_form_is_extracted_equal() {
    let place = Place::new();
    let tree = place.path("tree");
    seed::file_tree(&tree);
    fs::create_dir(tree.join("n".repeat(150))).expect("a directory");
    fs::write(tree.join("n".repeat(150)).join("m".repeat(150)), "long").expect("a file");
    let holes = fs::File::create(tree.join("many holes")).expect("a file");
    for n in 0..40u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"data", n << 20)
            .expect("a file can be written");
    }
    drop(holes);
    let before = Tree::of(&tree);
    for (format, more) in [("gnu", "--sparse"), ("gnu", "--no-xattrs"), ("posix", "--xattrs")] {
        let archive = place.path("gnu.tar.gz");
        let made = run(Command::new("tar")
            .args([
                "-czf",
                archive.to_str().expect("UTF-8"),
                &format!("--format={format}"),
                more,
                "-C",
            ])
            .arg(&tree)
            .arg("."));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let mut options = UntarOptions::to(place.path(&format!("{format}{more}")));
        options.special_files = true;
        let report =
            extract(&archive, &options, &Silent, &CancellationToken::new()).expect("it is whole");
        assert!(report.problems.is_empty(), "{report:?}");
        let back = Tree::of(&options.target);
        if format == "posix" {
            // The archive's first directory is ours, and keeps its own times.
            let top = fs::metadata(&tree).expect("the tree").modified().expect("a time");
            fs::File::open(&options.target)
                .and_then(|target| target.set_modified(top))
                .expect("its time can be set");
            fs::set_permissions(
                &options.target,
                fs::metadata(&tree).expect("the tree").permissions(),
            )
            .expect("its mode can be set");
            Tree::of(&options.target).assert_equal(&before);
        } else {
            // This format stores whole seconds and no extended attributes.
            assert_eq!(back.paths().collect::<Vec<_>>(), before.paths().collect::<Vec<_>>());
            for name in ["large", "many holes", "sparse"] {
                let read = |root: &Path| fs::read(root.join(name)).expect("the file");
                assert_eq!(read(&options.target), read(&tree), "{format} {more} {name}");
            }
        }
    }
}

#[test]
fn the_last_member_of_a_name_wins_whatever_came_before_it() {
    let fortress = Fortress::new();
    let tar = Handmade::default()
        .directory("etc")
        .file("etc/app", "old")
        .hard_link("etc/other", "etc/app")
        .directory("etc")
        .file("etc/app", "new")
        .hard_link("etc/third", "etc/app")
        .hard_link("etc/third", "etc/app")
        .file("was-file", "file")
        .directory("was-file")
        .file("was-file/below", "below")
        .directory("was-empty")
        .file("was-empty", "now a file")
        .symlink("was-link", "../outside/shadow")
        .file("was-link", "now a file")
        .file("to-link", "file")
        .symlink("to-link", "etc/app")
        .symlink("link-to-directory", "../outside")
        .directory("link-to-directory")
        .file("link-to-directory/x", "inside")
        .directory("turned")
        .symlink("turned", "../outside")
        .file("turned/planted", "bad")
        .directory("full")
        .file("full/x", "x")
        .symlink("full", "../outside")
        .end();
    let report = fortress.extract(&tar, &fortress.options()).expect("the rest is extracted");
    assert_refused(
        &report,
        &[("turned/planted", "link from the archive itself"), ("full", "not empty")],
    );
    fortress.assert_untouched();
    assert_eq!(fortress.content("etc/app"), "new");
    assert_eq!(
        fortress.content("etc/other"),
        "old",
        "another name of a replaced file keeps its content, as with GNU tar"
    );
    assert_eq!(fortress.content("etc/third"), "new");
    let names = fs::read_dir(fortress.place.path("target/etc")).expect("a directory").count();
    assert_eq!(names, 3, "no temporary name is left");
    assert_eq!(fortress.content("was-file/below"), "below");
    assert_eq!(fortress.content("was-empty"), "now a file");
    assert_eq!(fortress.content("was-link"), "now a file");
    assert_eq!(fortress.content("to-link"), "new");
    assert_eq!(fortress.content("link-to-directory/x"), "inside");
    assert_eq!(fortress.content("full/x"), "x");
}

#[test]
fn appended_overlapping_and_absolute_tars_of_gnu_tar_come_back_as_gnu_tar_unpacks_them() {
    let place = Place::new();
    let tar = |directory: &Path, args: &[&str]| {
        let made = run(Command::new("tar").current_dir(directory).args(args));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
    };
    let source = place.path("source");
    fs::create_dir_all(source.join("etc/nginx")).expect("a directory");
    fs::write(source.join("etc/app.conf"), "old").expect("a file");
    fs::write(source.join("etc/nginx/n.conf"), "n").expect("a file");
    tar(&source, &["-cf", "../appended.tar", "etc"]);
    fs::write(source.join("etc/app.conf"), "new").expect("a file");
    tar(&source, &["-rf", "../appended.tar", "etc/app.conf"]);
    tar(&source, &["-cf", "../overlapping.tar", "etc", "etc/nginx", "etc/nginx/n.conf"]);
    tar(&source, &["-cPf", "../absolute.tar", source.join("etc").to_str().expect("UTF-8")]);
    for name in ["appended", "overlapping", "absolute"] {
        let (archive, gnu) =
            (place.path(&format!("{name}.tar")), place.path(&format!("{name}-gnu")));
        fs::create_dir(&gnu).expect("a directory");
        tar(&gnu, &["-xpf", archive.to_str().expect("UTF-8")]);
        let target = place.path(name);
        let options = UntarOptions::to(target.clone());
        let report =
            extract(&archive, &options, &Silent, &CancellationToken::new()).expect("it is whole");
        assert!(report.problems.is_empty(), "{name}: {report:?}");
        let found = survey(&archive, &[], &CancellationToken::new()).expect("it is whole").report;
        assert_eq!(
            (found.files, found.directories),
            (report.files, report.directories),
            "{name}: as planned"
        );
        // The targets themselves, and the directories above `etc`, which the absolute archive does
        // not contain, were created at different times.
        let etc = if name == "absolute" {
            source.strip_prefix("/").expect("absolute").join("etc")
        } else {
            "etc".into()
        };
        Tree::of(&target.join(&etc)).assert_equal(&Tree::of(&gnu.join(&etc)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_attributes_survive_a_tar_of_either_maker() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).expect("a directory");
    let file = place.path("tree/f");
    fs::write(&file, "x").expect("a file");
    let names = ["user.a=b", "user.p%3Dq", "user.100%", "user.%25", "user.=", "user.plain"];
    for name in names {
        xattr::set(&file, name, name.as_bytes()).expect("an attribute");
    }
    let before = Tree::of(&place.path("tree"));
    let source = place.source(serde_json::json!({}));
    let point = place.backed_up(&source).await;
    let ours = place.export(&source, &point).await;
    let theirs = place.path("gnu.tar");
    let xattrs = ["--xattrs", "--xattrs-include=*"];
    let made =
        run(Command::new("tar").args(xattrs).arg("-cPf").arg(&theirs).arg(place.path("tree")));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    fs::create_dir(place.path("by-gnu")).expect("a directory");
    let unpacked = run(Command::new("tar")
        .args(xattrs)
        .arg("-xpf")
        .arg(&ours)
        .arg("-C")
        .arg(place.path("by-gnu")));
    assert_eq!(unpacked.code, Some(0), "{}", unpacked.stderr);
    place.tree_in("by-gnu").assert_equal(&before);
    for (archive, target) in [(&ours, "ours"), (&theirs, "theirs")] {
        let options = UntarOptions::to(place.path(target));
        let report =
            extract(archive, &options, &Silent, &CancellationToken::new()).expect("it is whole");
        assert!(report.problems.is_empty(), "{report:?}");
        place.tree_in(target).assert_equal(&before);
        let back = place.path(target).join(file.strip_prefix("/").expect("absolute"));
        for name in names {
            assert_eq!(
                xattr::get(&back, name).expect("readable").as_deref(),
                Some(name.as_bytes()),
                "{target} {name}"
            );
        }
    }
}
