//! A host's files: small, changing from step to step, and comparable by content.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use kaleem_dr_core::ground::digest::ByteDigest;

use crate::random::Random;

/// Files by path below the tree, each with the hash of its content.
pub type Content = BTreeMap<PathBuf, String>;

/// The content of a directory; empty if it does not exist.
pub fn content_of(root: &Path) -> io::Result<Content> {
    let mut content = Content::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let relative = path.strip_prefix(root).expect("it is below").to_path_buf();
                content.insert(relative, ByteDigest::of(&fs::read(&path)?));
            }
        }
    }
    Ok(content)
}

/// A summary of the differences between two trees.
pub fn difference(found: &Content, expected: &Content) -> Option<String> {
    let missing = expected.keys().filter(|path| !found.contains_key(*path)).count();
    let surplus = found.keys().filter(|path| !expected.contains_key(*path)).count();
    let other = expected
        .iter()
        .filter(|(path, digest)| found.get(*path).is_some_and(|found| found != *digest))
        .count();
    (missing + surplus + other > 0).then(|| {
        format!("of {} files, {missing} are missing and {other} are different; {surplus} should not be there", expected.len())
    })
}

/// Fills a new tree.
pub fn plant(root: &Path, random: &mut Random) -> io::Result<()> {
    for number in 0..random.between(12, 30) {
        write(root, number, random)?;
    }
    Ok(())
}

/// Changes, adds and removes some files, as on a normal day. On some days nothing changes.
pub fn change(root: &Path, random: &mut Random) -> io::Result<()> {
    if random.chance(15) {
        return Ok(());
    }
    for _ in 0..random.between(1, 6) {
        let number = random.below(40);
        let path = root.join(name(number));
        if path.exists() && random.chance(25) {
            fs::remove_file(&path)?;
        } else {
            write(root, number, random)?;
        }
    }
    // A tree without files is not a valid source.
    write(root, 0, random)
}

fn name(number: usize) -> PathBuf {
    format!("d{}/e{}/file-{number}", number % 4, number % 3).into()
}

fn write(root: &Path, number: usize, random: &mut Random) -> io::Result<()> {
    let path = root.join(name(number));
    fs::create_dir_all(path.parent().expect("it is in a directory"))?;
    let content = match random.below(10) {
        0 => Vec::new(),
        1 => vec![7; random.between(1, 200_000)],
        2 => random.bytes(200_000),
        _ => {
            let length = random.between(1, 20_000);
            random.bytes(length)
        }
    };
    fs::write(path, content)
}
