//! Restores to a disk that has changed: planted links, changed types, mounts in the way, attributes
//! that cannot be set.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    program::{Outcome, run},
    site::Site,
    tree::Tree,
};

/// A user that is neither root nor ours.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A site with one tree, filled by `fill` and backed up.
fn backed_up(fill: impl FnOnce(&Path)) -> (Site, PathBuf) {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    fill(&tree);
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    (site, tree)
}

/// The path below a target.
fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").expect("absolute"))
}

/// A script in its own mount namespace; `$K` is the program.
fn unshared(site: &Site, options: &[&str], script: &str) -> Outcome {
    let command = site.command();
    let mut unshare = Command::new("unshare");
    unshare
        .args(options)
        .args(["sh", "-ec", script])
        .env("K", command.get_program())
        .env("KALEEM_DR_CONFIG", site.config_path());
    run(&mut unshare)
}

#[test]
fn a_directory_exchanged_for_a_link_becomes_one_again_and_what_the_link_led_to_is_untouched() {
    let (site, tree) = backed_up(|tree| {
        fs::create_dir_all(tree.join("d/deep")).expect("a directory");
        fs::write(tree.join("d/deep/passwd"), "captured").expect("a file");
        fs::set_permissions(tree.join("d/deep"), fs::Permissions::from_mode(0o777))
            .expect("its mode can be set");
    });
    let before = Tree::of(&tree);
    let outside = site.path("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("passwd"), "foreign").expect("a file");
    let foreign = Tree::of(&outside);
    fs::remove_dir_all(tree.join("d/deep")).expect("it can be removed");
    symlink(&outside, tree.join("d/deep")).expect("a link");
    site.succeed(["restore", "configs", "--in-place", "--yes"]);
    Tree::of(&outside).assert_equal(&foreign);
    Tree::of(&tree).assert_equal(&before);
}

#[test]
fn whatever_kind_is_there_is_replaced_by_what_was_captured() {
    let make = |path: &Path, kind: &str| match kind {
        "file" => fs::write(path, "file").expect("a file"),
        "directory" => fs::create_dir(path).expect("a directory"),
        "link" => symlink("nowhere", path).expect("a link"),
        "pipe" => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe"),
        other => panic!("{other}"),
    };
    let kinds = ["file", "directory", "link", "pipe"];
    let (site, tree) = backed_up(|tree| {
        for captured in kinds {
            for there in kinds {
                make(&tree.join(format!("{captured} over {there}")), captured);
            }
        }
        make(&tree.join("file over a full directory"), "file");
    });
    let before = Tree::of(&tree);
    for entry in fs::read_dir(&tree).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        if fs::symlink_metadata(&path).expect("it is there").is_dir() {
            fs::remove_dir(&path).expect("it can be removed");
        } else {
            fs::remove_file(&path).expect("it can be removed");
        }
        let there = name.rsplit(' ').next().expect("a kind");
        make(&path, there);
        if name.contains("full") {
            fs::write(path.join("precious"), "in no snapshot").expect("a file");
        }
    }
    let outcome = site.succeed(["restore", "configs", "--in-place", "--yes"]);
    let kept: Vec<PathBuf> = fs::read_dir(&tree)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains(".before-restore-"))
        .collect();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(fs::read_to_string(kept.join("precious")).expect("it is kept"), "in no snapshot");
    assert!(outcome.stdout.contains(&kept.display().to_string()), "{}", outcome.stdout);
    fs::remove_dir_all(kept).expect("it can be removed");
    let pipe = fs::symlink_metadata(tree.join("pipe over file")).expect("it is there");
    assert!(pipe.file_type().is_fifo());
    for (path, expected) in kinds.iter().flat_map(|captured| {
        kinds.iter().map(move |there| (format!("{captured} over {there}"), *captured))
    }) {
        let kind = fs::symlink_metadata(tree.join(&path)).expect("it is there").file_type();
        let found = if kind.is_file() {
            "file"
        } else if kind.is_dir() {
            "directory"
        } else if kind.is_symlink() {
            "link"
        } else {
            "pipe"
        };
        assert_eq!(found, expected, "{path}");
    }
    assert_eq!(Tree::of(&tree).paths().collect::<Vec<_>>(), before.paths().collect::<Vec<_>>());
}

#[test]
fn a_configured_path_through_a_link_is_written_back_through_it_and_the_link_stays() {
    let site = Site::new();
    fs::create_dir_all(site.path("real/conf")).expect("a directory");
    fs::write(site.path("real/conf/a"), "one").expect("a file");
    fs::write(site.path("real/conf/b"), "two").expect("a file");
    symlink("real", site.path("link")).expect("a link");
    let mode = fs::Permissions::from_mode(0o751);
    fs::set_permissions(site.path("real"), mode).expect("its mode can be set");
    let root = site.path("link/conf");
    let site = site.with_files("configs", &[&root]).initialised();
    site.succeed(["backup"]);
    fs::write(site.path("real/conf/a"), "changed").expect("a file");
    fs::remove_file(site.path("real/conf/b")).expect("it can be removed");
    fs::set_permissions(site.path("real"), fs::Permissions::from_mode(0o710))
        .expect("its mode can be set");
    site.succeed(["restore", "configs", "--in-place", "--yes"]);
    assert_eq!(fs::read_to_string(site.path("real/conf/a")).expect("the file"), "one");
    assert_eq!(fs::read_to_string(site.path("real/conf/b")).expect("the file"), "two");
    assert!(fs::symlink_metadata(site.path("link")).expect("it is there").is_symlink());
    let mode = fs::metadata(site.path("real")).expect("it is there").mode() & 0o7777;
    assert_eq!(mode, 0o710, "what is above the configured path keeps its attributes");

    // The same link is not followed if another user could have created or replaced it.
    if !is_root() {
        return;
    }
    fs::write(site.path("real/conf/a"), "changed").expect("a file");
    lchown(site.path("link"), Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    let refused = site.run(["restore", "configs", "--in-place", "--yes"]);
    assert_eq!(refused.code, Some(4), "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("which user 65534 created"), "{}", refused.stdout);
    assert_eq!(fs::read_to_string(site.path("real/conf/a")).expect("the file"), "changed");
    lchown(site.path("link"), Some(0), Some(0)).expect("root may take it back");
    fs::set_permissions(site.path("."), fs::Permissions::from_mode(0o777))
        .expect("its mode can be set");
    let refused = site.run(["restore", "configs", "--in-place", "--yes"]);
    assert!(
        refused.stdout.contains("other users can exchange it"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert_eq!(fs::read_to_string(site.path("real/conf/a")).expect("the file"), "changed");
}

#[test]
fn a_target_that_another_user_made_where_everyone_may_is_refused() {
    if !is_root() {
        return;
    }
    let (site, tree) = backed_up(|tree| fs::write(tree.join("f"), "content").expect("a file"));
    let open = site.path("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("its mode can be set");
    fs::create_dir(open.join("planted")).expect("a directory");
    chown(open.join("planted"), Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    fs::create_dir(site.path("elsewhere")).expect("a directory");
    symlink(site.path("elsewhere"), open.join("linked")).expect("a link");
    lchown(open.join("linked"), Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    for name in ["planted", "linked"] {
        let target = open.join(name);
        for command in [["restore", "configs", "--to"], ["restore", "files", "--target"]] {
            let refused = site.run(command.into_iter().chain([target.to_str().expect("UTF-8")]));
            assert_eq!(refused.code, Some(1), "{name}: {}{}", refused.stdout, refused.stderr);
            assert!(refused.stderr.contains("65534 created"), "{name}: {}", refused.stderr);
        }
    }
    assert_eq!(fs::read_dir(site.path("elsewhere")).expect("a directory").count(), 0);
    let fresh = open.join("fresh");
    site.succeed(["restore", "configs", "--to", fresh.to_str().expect("UTF-8")]);
    assert_eq!(
        fs::metadata(&fresh).expect("it is there").mode() & 0o7777,
        0o700,
        "what is restored is for its owner alone"
    );
    assert_eq!(fs::read_to_string(below(&fresh, &tree).join("f")).expect("the file"), "content");
}

#[test]
fn the_default_target_is_new_private_and_cannot_be_guessed() {
    let (site, tree) = backed_up(|tree| fs::write(tree.join("f"), "content").expect("a file"));
    let (outcome, lines) = site.json(["restore", "configs"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let target = lines[0]["target"]
        .as_str()
        .expect("a target")
        .strip_prefix("directory ")
        .expect("a directory")
        .to_owned();
    let random = target.rsplit('_').next().expect("a suffix");
    assert!(target.starts_with("/var/tmp/kaleem_restored_") && random.len() == 16, "{target}");
    let meta = fs::metadata(&target).expect("it is there");
    assert_eq!(meta.mode() & 0o7777, 0o700);
    assert_eq!(
        fs::read_to_string(below(Path::new(&target), &tree).join("f")).expect("the file"),
        "content"
    );
    fs::remove_dir_all(&target).expect("it can be removed");
}

#[test]
fn a_mount_point_is_written_into() {
    if !is_root() {
        return;
    }
    let (site, tree) = backed_up(|tree| {
        fs::create_dir(tree.join("disk")).expect("a directory");
        fs::write(tree.join("disk/f"), "in the mount").expect("a file");
        fs::write(tree.join("hosts"), "captured hosts, longer than before").expect("a file");
        fs::set_permissions(tree.join("hosts"), fs::Permissions::from_mode(0o640))
            .expect("its mode can be set");
    });
    fs::write(site.path("mounted"), "mounted").expect("a file");
    fs::create_dir(site.path("seen")).expect("a directory");
    let script = format!(
        "mount -t tmpfs none '{tree}/disk'; mkdir '{tree}/disk/lost+found'; mount --bind '{mounted}' '{tree}/hosts'
        \"$K\" restore configs --in-place --yes; cp -a '{tree}/disk/f' '{tree}/hosts' '{seen}'
        \"$K\" restore configs --to '{tree}/disk/new'; umount '{tree}/disk'; mount -t tmpfs none '{tree}/disk'
        mkdir '{tree}/disk/lost+found'; \"$K\" restore configs --to '{tree}/disk'",
        tree = tree.display(),
        mounted = site.path("mounted").display(),
        seen = site.path("seen").display(),
    );
    let outcome = unshared(&site, &["-m"], &script);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(fs::read_to_string(site.path("seen/f")).expect("the file"), "in the mount");
    assert_eq!(
        fs::read_to_string(site.path("mounted")).expect("the file"),
        "captured hosts, longer than before"
    );
    assert_eq!(fs::metadata(site.path("mounted")).expect("it is there").mode() & 0o7777, 0o640);
    let left: Vec<_> = fs::read_dir(&tree)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "no temporary file is left: {left:?}");
}

#[test]
fn what_the_target_cannot_take_is_named_and_the_content_is_there() {
    if !is_root() {
        return;
    }
    let (site, tree) = backed_up(|tree| {
        fs::write(tree.join("noted"), "noted").expect("a file");
        xattr::set(tree.join("noted"), "user.note", b"hello").expect("an attribute");
        fs::create_dir(tree.join("d")).expect("a directory");
        fs::write(tree.join("d/below"), "below").expect("a file");
        fs::write(tree.join("owned"), "owned").expect("a file");
        for name in ["owned", "d"] {
            chown(tree.join(name), Some(1000), Some(1000)).expect("root may give it away");
        }
    });
    let tar = site.path("x.tar.gz");
    site.succeed(["export", "configs", "-o", tar.to_str().expect("UTF-8")]);
    for name in ["ram", "copy", "namespace"] {
        fs::create_dir(site.path(name)).expect("a directory");
    }
    let both = |into: &Path| {
        format!(
            "set +e; \"$K\" restore configs --to '{into}/snapshot'; echo \"snapshot ended with $?\"
            \"$K\" restore configs --from '{tar}' --to '{into}/tar'; echo \"tar ended with $?\"",
            into = into.display(),
            tar = tar.display()
        )
    };
    let (ram, copy) = (site.path("ram"), site.path("copy"));
    let script = format!(
        "mount -t ramfs none '{0}'; {1}; cp -r '{0}/.' '{2}'",
        ram.display(),
        both(&ram),
        copy.display()
    );
    let without_attributes = unshared(&site, &["-m"], &script);
    let without_owner = unshared(&site, &["-Ur"], &both(&site.path("namespace")));
    for (outcome, directory, lacks) in [
        (&without_attributes, "copy", "extended attribute user.note"),
        (&without_owner, "namespace", "owner 1000:1000"),
    ] {
        for from in ["snapshot", "tar"] {
            let back = below(&site.path(directory).join(from), &tree);
            for (name, content) in [("noted", "noted"), ("owned", "owned"), ("d/below", "below")] {
                assert_eq!(
                    fs::read_to_string(back.join(name)).expect("the file"),
                    content,
                    "{directory} {from} {name}"
                );
            }
            assert!(
                outcome.stdout.contains(&format!("{from} ended with 4")),
                "{}{}",
                outcome.stdout,
                outcome.stderr
            );
        }
        assert!(outcome.stdout.matches(lacks).count() >= 2, "{lacks}: {}", outcome.stdout);
    }
}

#[test]
fn attributes_of_a_read_only_file_come_back_to_its_owner_and_what_is_roots_is_noted() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory");
    for mode in [0o444, 0o644] {
        let path = tree.join(format!("{mode:o}"));
        fs::write(&path, "data").expect("a file");
        xattr::set(&path, "user.checksum", b"abc").expect("an attribute");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode can be set");
    }
    let site = site.with_files("configs", &[&tree]);
    let program = site.path("kaleem-dr");
    fs::copy(site.command().get_program(), &program).expect("the program can be copied");
    let user = if is_root() { NOBODY } else { nix::unistd::geteuid().as_raw() };
    if is_root() {
        for path in [
            site.path("."),
            site.path("repository.pass"),
            site.config_path(),
            tree.clone(),
            tree.join("444"),
        ] {
            chown(&path, Some(user), Some(user)).expect("root may give files away");
        }
    }
    let target = site.path("out");
    for args in [
        &["init"][..],
        &["backup"],
        &["restore", "configs", "--to", target.to_str().expect("UTF-8")],
    ] {
        let mut command = Command::new(&program);
        command.env("KALEEM_DR_CONFIG", site.config_path()).args(args);
        if is_root() {
            command.uid(user).gid(user);
        }
        let outcome = run(&mut command);
        assert_eq!(outcome.code, Some(0), "{args:?}: {}{}", outcome.stdout, outcome.stderr);
        if args[0] == "restore" && is_root() {
            // The other file belonged to root.
            assert!(
                outcome.stdout.contains("only root can set the owner of"),
                "{}",
                outcome.stdout
            );
        }
    }
    for name in ["444", "644"] {
        let value = xattr::get(below(&target, &tree).join(name), "user.checksum")
            .expect("attributes can be read");
        assert_eq!(value.as_deref(), Some(&b"abc"[..]), "{name}");
    }
}

#[test]
fn room_is_asked_for_before_a_restore_and_a_drill_and_the_scratch_directory_can_be_placed() {
    if !is_root() {
        return;
    }
    let (site, _) = backed_up(|tree| {
        let noise: Vec<u8> = (0..3u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
            .collect();
        fs::write(tree.join("large"), noise).expect("a file");
        // A hole needs no space.
        fs::File::create(tree.join("sparse"))
            .and_then(|file| file.set_len(64 << 20))
            .expect("a file");
    });
    let scratch = site.path("scratch");
    fs::create_dir(&scratch).expect("a directory");
    let site = {
        let toml = fs::read_to_string(site.config_path()).expect("the config");
        fs::write(
            site.config_path(),
            format!(
                "scratch_directory = {scratch:?}\n{toml}",
                scratch = scratch.display().to_string()
            ),
        )
        .expect("the config can be written");
        site
    };
    let script = |size: &str| {
        format!(
            "mount -t tmpfs -o size={size} none '{0}'; set +e
            \"$K\" drill; echo \"drill ended with $?\"; ls -A '{0}'
            \"$K\" restore configs --to '{0}/beside'; echo \"restore ended with $?\"; ls -A '{0}'",
            scratch.display()
        )
    };
    let small = unshared(&site, &["-m"], &script("2m"));
    let said = format!("{}{}", small.stdout, small.stderr);
    assert!(
        !said.contains("drill ended with 0") && said.contains("restore ended with 1"),
        "{said}"
    );
    assert!(said.matches("bytes are free and at least 3").count() >= 2, "{said}");
    assert!(
        !said.lines().any(|line| line == "beside" || line.starts_with("kdr_drill_")),
        "nothing is left: {said}"
    );
    let large = unshared(&site, &["-m"], &script("20m"));
    let said = format!("{}{}", large.stdout, large.stderr);
    assert!(said.contains("drill ended with 0") && said.contains("restore ended with 0"), "{said}");
}
