//! The keys of a repository's objects (restic, `doc/design.rst`, "Repository Layout").

use rustic_core::{FileType, Id};

/// Hex digits of an object's name, its SHA-256.
const DIGITS: usize = 64;

/// Reports whether a key is that of an object: `keys/…`, `index/…`, `snapshots/…`, `locks/…` or `data/xx/xx…`, each ending in 64
/// lower-case hex digits. `config` has a fixed name and is not listed.
#[must_use]
pub fn is_object_name(key: &str) -> bool {
    let is_id = |name: &str| {
        name.len() == DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = key.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("keys" | "index" | "snapshots" | "locks"), Some(name), None, None) => is_id(name),
        (Some("data"), Some(shelf), Some(name), None) => is_id(name) && shelf == &name[..2],
        _ => false,
    }
}

/// The last part of an object's key: its id.
pub(super) fn id_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// The key of a repository file, as restic lays repositories out.
pub(crate) fn key_of(kind: FileType, id: &Id) -> String {
    let name = id.to_hex();
    match kind {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{}", &name[..2], &name[..]),
        _ => format!("{}/{}", kind.dirname(), &name[..]),
    }
}

#[cfg(test)]
mod tests {
    use super::is_object_name;

    #[test]
    fn only_ids_in_their_places_are_objects() {
        let id = "ab".repeat(32);
        for key in [format!("snapshots/{id}"), format!("keys/{id}"), format!("data/ab/{id}")] {
            assert!(is_object_name(&key), "{key}");
        }
        for key in [
            format!("data/{id}"),
            format!("data/cd/{id}"),
            format!("snapshots/@eaDir/{id}"),
            format!("index/{id}-tmp-1"),
            format!("index/{}", id.to_uppercase()),
            format!("data/ab/@eaDir/{id}"),
            "snapshots/.DS_Store".to_owned(),
            "config".to_owned(),
            String::new(),
        ] {
            assert!(!is_object_name(&key), "{key}");
        }
    }
}
