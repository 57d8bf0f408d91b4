//! A directory tree as a value: what a faithful restore must reproduce, in a form that can be
//! compared and shows differences.
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "names that are not UTF-8 must not fall together"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use kaleem_dr_core::ground::digest::ByteDigest;

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory can be read");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything below a directory (including the directory itself, as the empty path), by relative
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Node>);

/// An entry of a tree: its attributes by name, as comparable text. Bytes that are not UTF-8 are
/// escaped.
type Node = BTreeMap<&'static str, String>;

impl Tree {
    /// Reads a tree with all contents.
    pub fn of(root: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        let mut first_of_inode = HashMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let path = root.join(&relative);
            let node = node(&path, &relative, &mut first_of_inode);
            if node["type"] == "directory" {
                let mut children: Vec<_> = fs::read_dir(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                    .map(|child| {
                        relative
                            .join(child.expect("a directory can be read to its end").file_name())
                    })
                    .collect();
                // The first of several hard links names their group, so the walk must not depend on
                // the order on disk.
                children.sort_by(|a, b| b.cmp(a));
                pending.extend(children);
            }
            nodes.insert(relative, node);
        }
        Self(nodes)
    }

    /// The paths in it.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Panics with one line per difference.
    #[track_caller]
    pub fn assert_equal(&self, expected: &Self) {
        let differences = self.differences(expected);
        assert!(differences.is_empty(), "the trees differ:\n{differences}");
    }

    fn differences(&self, expected: &Self) -> String {
        let mut lines = String::new();
        let paths: BTreeSet<_> = self.0.keys().chain(expected.0.keys()).collect();
        for path in paths {
            match (expected.0.get(path), self.0.get(path)) {
                (Some(_), None) => writeln!(lines, "{path:?}: is missing"),
                (None, Some(_)) => writeln!(lines, "{path:?}: is there and should not be"),
                (Some(expected), Some(found)) => {
                    let facts: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
                    facts
                        .into_iter()
                        .filter(|fact| expected.get(*fact) != found.get(*fact))
                        .try_for_each(|fact| {
                            let shown = |node: &Node| {
                                node.get(fact).map_or("none", String::as_str).to_owned()
                            };
                            writeln!(
                                lines,
                                "{path:?}: {fact} is {}, expected {}",
                                shown(found),
                                shown(expected)
                            )
                        })
                }
                (None, None) => Ok(()),
            }
            .expect("a string takes any text");
        }
        lines
    }
}

fn node(path: &Path, relative: &Path, first_of_inode: &mut HashMap<(u64, u64), PathBuf>) -> Node {
    let fail = |error| panic!("{}: {error}", path.display());
    let meta = fs::symlink_metadata(path).unwrap_or_else(fail);
    let kind = meta.file_type();
    let mut node = Node::from([
        ("mode", format!("{:04o}", meta.mode() & 0o7777)),
        ("owner", format!("{}:{}", meta.uid(), meta.gid())),
        ("mtime", format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())),
        ("type", format!("{kind:?}")),
    ]);
    if kind.is_dir() {
        node.insert("type", "directory".into());
    } else if kind.is_file() {
        node.insert("type", "file".into());
        let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        node.insert(
            "content",
            format!("{} bytes, SHA-256 {}", content.len(), ByteDigest::of(&content)),
        );
    } else if kind.is_symlink() {
        node.insert("type", "symlink".into());
        let target =
            fs::read_link(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        node.insert("target", format!("{target:?}"));
    } else if kind.is_fifo() {
        node.insert("type", "fifo".into());
    }
    if meta.nlink() > 1 && !kind.is_dir() {
        let first =
            first_of_inode.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.to_owned());
        node.insert("hard link of", format!("{first:?}"));
    }
    // Links and pipes have none, or none that a user may set.
    if kind.is_file() || kind.is_dir() {
        let names: BTreeSet<_> = xattr::list(path).map(Iterator::collect).unwrap_or_default();
        let shown: Vec<_> = names
            .into_iter()
            .map(|name| {
                format!(
                    "{name:?}={:?}",
                    xattr::get(path, &name)
                        .ok()
                        .flatten()
                        .unwrap_or_default()
                        .escape_ascii()
                        .to_string()
                )
            })
            .collect();
        node.insert("xattrs", shown.join(" "));
    }
    node
}
