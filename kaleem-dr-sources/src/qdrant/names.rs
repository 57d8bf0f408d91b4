//! Naming rules: artifacts of collections, collections that a restore creates, and segments of
//! request paths.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Limit for the name of a collection, in bytes: it is the name of a directory on the server, and
/// the prefix of its snapshots' names there.
const COLLECTION_BYTES: usize = 255 - "-18446744073709551615-2026-01-31-12-00-00.snapshot".len();

/// The file name of a collection, without extension: the name itself, with `%XX` for characters
/// that are unsafe in file names or terminals.
pub(super) fn file_stem(collection: &str) -> String {
    let mut stem = String::with_capacity(collection.len());
    for character in collection.chars() {
        if character.is_control() || "/\\%".contains(character) {
            stem.push_str(&percent(character.encode_utf8(&mut [0; 4])));
        } else {
            stem.push(character);
        }
    }
    stem
}

/// Escapes a name for use as one segment of a path.
pub(super) fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_alphanumeric() || "-_~".contains(character) {
            segment.push(character);
        } else {
            segment.push_str(&percent(character.encode_utf8(&mut [0; 4])));
        }
    }
    segment
}

fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        // Writing to a string cannot fail.
        let _ = write!(escaped, "%{byte:02X}");
        escaped
    })
}

/// The default target of a restore, next to `collection`: `docs_restored_20260131_120000`.
pub(super) fn restored(collection: &str, stamp: &str) -> String {
    format!("{collection}_restored_{stamp}")
}

/// The name of `collection` with a prefix chosen by the operator.
pub(super) fn prefixed(prefix: &str, collection: &str) -> String {
    format!("{prefix}_{collection}")
}

/// The reason why Qdrant would not accept this name for a collection.
pub(super) fn invalid(name: &str) -> Option<&'static str> {
    if name.is_empty() || name == "." || name == ".." {
        Some("it is empty or consists of dots")
    } else if name.len() > COLLECTION_BYTES {
        Some("it is too long: its snapshots on the server could not be named")
    } else if name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*'])
        || name.contains(char::is_control)
    {
        Some("it contains one of < > : \" / \\ | ? * or a control character")
    } else {
        None
    }
}

/// Compiles globs into one matcher; collection names have no directories, so `*` matches anything.
///
/// # Errors
/// If one is not a glob.
pub(super) fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern)?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collections_file_keeps_its_name_but_for_what_no_file_name_takes() {
        for (name, stem) in [
            ("docs", "docs"),
            ("وثائق 1", "وثائق 1"),
            ("a.b-c_d~e", "a.b-c_d~e"),
            ("100%", "100%25"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("line\nbreak", "line%0Abreak"),
        ] {
            assert_eq!(file_stem(name), stem);
        }
    }

    #[test]
    fn a_name_becomes_one_segment_of_a_path() {
        assert_eq!(path_segment("a/b?c=d #é"), "a%2Fb%3Fc%3Dd%20%23%C3%A9");
        assert_eq!(path_segment(".."), "%2E%2E");
    }

    #[test]
    fn names_that_qdrant_refuses_are_refused_before_it_does() {
        for name in ["", "..", "a/b", "a:b", "tab\t", &"x".repeat(206)] {
            assert!(invalid(name).is_some(), "{name:?}");
        }
        for name in ["docs", "وثائق", "a b", "a.b", &"x".repeat(205)] {
            assert_eq!(invalid(name), None, "{name:?}");
        }
    }
}
