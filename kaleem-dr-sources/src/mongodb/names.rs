//! Naming rules: files of collections, as in mongodump; databases that a restore creates; scratch
//! databases.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha1::{Digest as _, Sha1};

/// The directory in a snapshot that contains all artifacts of this source.
pub(crate) const ROOT: &str = "mongo";
/// The prefix of every scratch database of a rehearsal; a database without it is never dropped as
/// one.
pub(crate) const SCRATCH: &str = "kdr_drill_";

/// Limit for a file name without extension, in bytes; with `.metadata.json.gz` it is exactly the
/// limit of a file system (mongodump, outputPath).
const STEM_BYTES: usize = 238;
/// The part of a longer name that is kept before `%24` and the hash, in bytes.
const KEPT_BYTES: usize = 208;
/// The server's limit for the name of a database, in bytes.
const DATABASE_BYTES: usize = 63;

/// The file name of a collection, without extension: everything except letters, digits, `-`, `_`,
/// `.` and `~` is percent-encoded.
///
/// Releases of mongodump differ in what they escape (a space is `+` for some, `%20` for others),
/// but all of them decode percent signs alike. A name that is too long for a file is cut and gets a
/// hash; the full name is in the metadata.
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

/// The default target database of a restore, next to `database`: `kaleem_restored_20260131_120000`.
pub(crate) fn restored_database(database: &str, stamp: &str) -> String {
    let suffix = format!("_restored_{stamp}");
    let mut end = database.len().min(DATABASE_BYTES - suffix.len());
    while !database.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &database[..end])
}

/// Prefixes the name of a database. A result that is too long for a server is cut and made unique
/// by a hash.
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

/// The reason why a restore does not create a collection with this name.
pub(crate) fn invalid_collection(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.starts_with("system.") {
        Some("names that begin with `system.` are reserved for the server")
    } else if name.starts_with('.') || name.contains(['$', '\0']) {
        Some("it begins with a dot, or contains a `$`")
    } else {
        None
    }
}

/// The reason why no server would accept this name for a database.
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
    fn a_long_name_is_cut_and_made_unique_by_its_hash() {
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
        assert_ne!(long("a"), long("b"), "the cut-off part still distinguishes them");
        assert!(invalid_database("a.b").is_some() && invalid_database("").is_some());
    }
}
