//! Names: of files for collections, as mongodump makes them, of databases a restore goes to, and of what is always ours.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha1::{Digest as _, Sha1};

/// Everything of this source lies under this directory.
pub(crate) const ROOT: &str = "mongo";
/// Every scratch database of a rehearsal begins like this; nothing that does not is ever dropped as one.
pub(crate) const SCRATCH: &str = "kdr_drill_";

/// Longest file name without its extension; with `.metadata.json.gz` a file system takes just that (mongodump, outputPath).
const STEM_BYTES: usize = 238;
/// What is kept of a longer one, before `%24` and the hash.
const KEPT_BYTES: usize = 208;
/// Longest name of a database that a server takes.
const DATABASE_BYTES: usize = 63;

/// The file name of a collection, without extension: everything but letters, digits, `-`, `_`, `.` and `~` is percent-encoded.
///
/// Releases of mongodump differ in what they escape (a space is `+` for some, `%20` for others); percent signs alone are
/// decoded alike by all of them. A name too long for a file is cut and gets a hash; the full one is in the metadata.
pub(crate) fn file_stem(collection: &str) -> String {
    let mut stem = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            stem.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            stem.push('%');
            stem.push(char::from(HEX[usize::from(byte >> 4)]));
            stem.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    if stem.len() > STEM_BYTES {
        stem.truncate(KEPT_BYTES);
        stem.push_str("%24");
        stem.push_str(&BASE64_URL_SAFE_NO_PAD.encode(Sha1::digest(collection)));
    }
    stem
}

/// The name of the database a restore makes up next to `database`: `kaleem_restored_20260131_120000`.
pub(crate) fn restored_database(database: &str, stamp: &str) -> String {
    let suffix = format!("_restored_{stamp}");
    let mut end = database.len().min(DATABASE_BYTES - suffix.len());
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &database[..end])
}

/// The name of a database that keeps its own behind a prefix. One too long for a server is cut and told apart by a hash.
pub(crate) fn prefixed_database(prefix: &str, database: &str) -> String {
    let whole = format!("{prefix}_{database}");
    if whole.len() <= DATABASE_BYTES {
        return whole;
    }
    let digest = Sha1::digest(database);
    let hash = format!("{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]));
    let mut end = whole.len().min(DATABASE_BYTES - hash.len() - 1);
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{hash}", &whole[..end])
}

/// Why a restore does not make a collection of this name.
pub(crate) fn invalid_collection(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.starts_with("system.") {
        Some("names that begin with `system.` are the server's own")
    } else if name.starts_with('.') || name.contains(['$', '\0']) {
        Some("it begins with a dot, or holds a `$`")
    } else {
        None
    }
}

/// Why no server would take this name for a database.
pub(crate) fn invalid_database(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > DATABASE_BYTES {
        Some("it is longer than 63 bytes")
    } else if name.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        // Servers on Windows refuse more.
        Some("it holds one of / \\ . \" $ or a space")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_every_mongorestore_decodes_them() {
        for (name, stem) in [
            ("users", "users"),
            ("a.b-c_d~e", "a.b-c_d~e"),
            ("weird näme", "weird%20n%C3%A4me"),
            ("perc%25ent", "perc%2525ent"),
            ("sl/ash\\back", "sl%2Fash%5Cback"),
            ("plus+and&eq=", "plus%2Band%26eq%3D"),
            ("system.js", "system.js"),
        ] {
            assert_eq!(file_stem(name), stem);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_told_apart_by_its_hash() {
        let a = file_stem(&"L".repeat(239));
        let b = file_stem(&format!("{}M", "L".repeat(238)));
        assert_eq!(a.len(), STEM_BYTES);
        assert_eq!(a[..KEPT_BYTES], b[..KEPT_BYTES]);
        assert_ne!(a, b);
        assert_eq!(&a[KEPT_BYTES..KEPT_BYTES + 3], "%24");
        assert_eq!(file_stem(&"L".repeat(238)).len(), 238, "the longest that fits is kept");
    }

    #[test]
    fn a_made_up_database_name_fits_the_server() {
        assert_eq!(
            restored_database("kaleem", "20260131_120000"),
            "kaleem_restored_20260131_120000"
        );
        let long = restored_database(&"é".repeat(31), "20260131_120000");
        assert_eq!(invalid_database(&long), None, "{long}");
        let long = |end: &str| {
            prefixed_database(
                "kdr_drill_01arz3ndektsv4rrffq69g5fav",
                &format!("{}{end}", "é".repeat(30)),
            )
        };
        assert_eq!(invalid_database(&long("a")), None, "{}", long("a"));
        assert_ne!(long("a"), long("b"), "what is cut off still tells them apart");
        assert!(invalid_database("a.b").is_some() && invalid_database("").is_some());
    }
}
