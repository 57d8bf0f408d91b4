//! Which files a backup captures and excludes: the root directory, and patterns as restic's users
//! write them.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::support::site::Site;

#[test]
fn the_root_directory_can_be_backed_up() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("hosts"), "content").expect("a file");
    // Everything except this tree, to keep it small.
    let mut excludes = Vec::new();
    let mut kept: &Path = &tree;
    while let Some(directory) = kept.parent() {
        for entry in fs::read_dir(directory).expect("a directory can be read") {
            let path = entry.expect("an entry").path();
            if path != kept {
                excludes.push(path.to_string_lossy().replace(['[', '*', '?', '\\'], "?"));
            }
        }
        kept = directory;
    }
    let site = site
        .with(&format!("[source.root]\ntype = \"files\"\npaths = [\"/\"]\nexclude = {excludes:?}\none_file_system = true"))
        .initialised();
    site.succeed(["backup"]);
    let listed = listed(&site, &["latest"]);
    let hosts = tree.join("hosts").display().to_string();
    assert!(listed.contains(&hosts), "{listed:?}");
    site.restic().check_read_data();
    let target = site.path("back");
    site.succeed(["restore", "root", "--to", target.to_str().expect("UTF-8")]);
    assert_eq!(
        fs::read_to_string(target.join(hosts.trim_start_matches('/'))).expect("the file"),
        "content"
    );
    fs::write(tree.join("hosts"), "changed").expect("a file");
    site.succeed(["restore", "root", "--in-place", "--yes"]);
    assert_eq!(fs::read_to_string(tree.join("hosts")).expect("the file"), "content");
}

#[test]
fn roots_that_overlap_come_twice_or_are_files_are_captured_once() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(tree.join("nginx")).expect("a directory");
    fs::write(tree.join("nginx/n.conf"), "n").expect("a file");
    fs::write(tree.join("one"), "one").expect("a file");
    fs::write(site.path("file"), "file").expect("a file");
    let (nginx, file, slash) =
        (tree.join("nginx"), site.path("file"), PathBuf::from(format!("{}/", tree.display())));
    let site = site.with_files("configs", &[&tree, &nginx, &file, &tree, &slash]).initialised();
    site.succeed(["backup"]);
    let listed = listed(&site, &["latest"]);
    for path in [tree.join("nginx/n.conf"), tree.join("one"), file] {
        assert_eq!(
            listed.iter().filter(|line| **line == path.display().to_string()).count(),
            1,
            "{} in {listed:?}",
            path.display()
        );
    }
}

#[test]
fn a_root_that_is_a_link_or_that_a_pattern_leaves_out_ends_as_done_in_part() {
    let site = Site::new();
    let (tree, link) = (site.path("tree"), site.path("link"));
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("f"), "f").expect("a file");
    symlink(&tree, &link).expect("a link");
    let site = site
        .with(&format!(
            "[source.linked]\ntype = \"files\"\npaths = [{tree:?}, {link:?}]\n\
             [source.excluded]\ntype = \"files\"\npaths = [{tree:?}, {link:?}]\nexclude = [\"link\"]",
            tree = tree.display().to_string(),
            link = link.display().to_string(),
        ))
        .initialised();
    for (source, why) in [("linked", "only the link was captured"), ("excluded", "excludes it")] {
        let outcome = site.run(["backup", source]);
        assert_eq!(outcome.code, Some(3), "{source}: {}{}", outcome.stdout, outcome.stderr);
        assert!(
            format!("{}{}", outcome.stdout, outcome.stderr).contains(why),
            "{}{}",
            outcome.stdout,
            outcome.stderr
        );
    }
}

/// Every form of exclude pattern, on a tree that contains a match for each.
#[test]
fn excludes_leave_out_what_restic_leaves_out() {
    let site = Site::new();
    let tree = site.path("t");
    for file in [
        "app/cache/big",
        "app/logs/old/x",
        "app/logs/new",
        "app/data/keep.log",
        "app/data/other.log",
        "app/Cache/c",
        "app/a b/c",
        "cache/cache/deep",
        "x/y/z/end",
        "x/y/end",
        "end",
        "ä/ö",
        "[odd]/f",
        "star*/f",
        "{a}/f",
        "!not/f",
        "~/f",
        "cache ",
        "bx",
        "ax",
        ".hidden/f",
        "tail/",
        "ca\\che/f",
    ] {
        let path = tree.join(file);
        if file.ends_with('/') {
            fs::create_dir_all(path).expect("a directory");
            continue;
        }
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, file).expect("a file");
    }
    let at = tree.display();
    let single = [
        "cache",
        "cache/",
        "**/cache/",
        "logs/old",
        "app/logs",
        "logs/**",
        "*.log",
        "app/*",
        "*/cache",
        "/cache",
        "y/end",
        "**/end",
        "x/**/end",
        "x/*/end",
        "?x",
        "[^a]x",
        "[a-b]x",
        "ä",
        "ä/?",
        "\\[odd\\]",
        "[[]odd]",
        "star\\*",
        "{a}",
        "~",
        "cache ",
        ".*",
        "./cache",
        "cache/.",
        "a//b",
        "a b",
        "a b/",
        "end/",
        "CACHE",
        "x/../cache",
        "../cache",
        "app/cache/big/",
        "**",
        "x/**",
        "**/y/**",
        "tail",
        "cache/cache",
        "[!a]x",
        "!cache",
        "ca\\\\che",
        "**/**/end",
        "z/**/end",
        "app/**/old/**",
        ".",
        "..",
    ];
    let mut tables: Vec<Vec<String>> =
        single.iter().map(|pattern| vec![(*pattern).to_owned()]).collect();
    for absolute in [
        "app/cache/",
        "app/cache/*",
        "app",
        "*/logs",
        "**/end",
        "",
        "app/../cache",
        "*",
        "/",
        "x/y/",
    ] {
        tables.push(vec![format!("{at}/{absolute}")]);
    }
    for several in [
        &["*.log", "!keep.log"][..],
        &["!keep.log", "*.log"],
        &["app/*", "!app/data"],
        &["app", "!app/data"],
        &["cache", "!app/cache", "big"],
    ] {
        tables.push(several.iter().map(|&pattern| pattern.to_owned()).collect());
    }
    let mut sources = String::new();
    for (number, patterns) in tables.iter().enumerate() {
        let _ = writeln!(
            sources,
            "[source.p{number}]\ntype = \"files\"\npaths = [{:?}]\nexclude = {patterns:?}",
            at.to_string()
        );
    }
    let site = site.with(&sources).initialised();
    // If everything is excluded, including the configured path, our run ends as partly done, and
    // restic's with an empty snapshot.
    let outcome = site.run(["backup"]);
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
    let restic = site.restic();
    let mut kept_something = 0;
    for (number, patterns) in tables.iter().enumerate() {
        let tag = format!("stock{number}");
        let mut args = vec!["backup".to_owned(), "--tag".into(), tag.clone(), at.to_string()];
        args.extend(patterns.iter().map(|pattern| format!("--exclude={pattern}")));
        restic.run(&args);
        let theirs = below(&tree, &listed(&site, &["--tag", &tag, "latest"]));
        let ours = below(&tree, &listed(&site, &["--tag", &format!("source:p{number}"), "latest"]));
        assert_eq!(ours, theirs, "{patterns:?}");
        kept_something += usize::from(!theirs.is_empty());
    }
    assert!(kept_something > 40, "{kept_something}");
}

/// The paths that stock restic lists; empty if there is no such snapshot.
fn listed(site: &Site, which: &[&str]) -> Vec<String> {
    let output = site.restic().run(["ls"].iter().chain(which));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

fn below(tree: &Path, paths: &[String]) -> BTreeSet<String> {
    let tree = format!("{}/", tree.display());
    paths.iter().filter_map(|path| path.strip_prefix(&tree)).map(str::to_owned).collect()
}

#[test]
fn a_pattern_that_matched_nothing_is_reported() {
    let site = Site::new();
    let tree = site.path("t");
    fs::create_dir_all(tree.join("cache")).expect("a directory");
    fs::write(tree.join("cache/f"), "f").expect("a file");
    fs::write(tree.join("kept"), "f").expect("a file");
    let site = site
        .with(&format!(
            "[source.configs]\ntype = \"files\"\npaths = [{:?}]\nexclude = [\"cache/\", \"~/secrets\", \"nowhere\", \"/elsewhere/x\"]",
            tree.display().to_string()
        ))
        .initialised();
    let outcome = site.succeed(["backup"]);
    for (pattern, why) in [
        ("~/secrets", "is not expanded"),
        ("nowhere", "matched nothing"),
        ("/elsewhere/x", "not below any of `paths`"),
    ] {
        let lines: Vec<_> = outcome
            .stderr
            .lines()
            .filter(|line| line.contains(&format!("exclude pattern `{pattern}`")))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{pattern}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("`cache/`"), "{}", outcome.stderr);
}
