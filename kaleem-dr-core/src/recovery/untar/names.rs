//! Names in a tar: of members, and of extended attributes in the keys of pax records.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
};

/// Converts a member's name to a relative path of plain names, without the leading `/`, as GNU tar does. The error is the reason
/// why this is impossible.
pub(super) fn relative(name: &OsStr) -> Result<PathBuf, &'static str> {
    if name.as_bytes().contains(&0) {
        return Err("its name contains a NUL");
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err("its name contains `..`"),
        }
    }
    Ok(path)
}

/// An attribute's name in a pax key, where `=` ends the key: `%3D` for `=` and `%25` for `%` (GNU tar, `xattr_encode_keyword`).
pub(crate) fn encode_attribute(name: &str) -> String {
    name.replace('%', "%25").replace('=', "%3D")
}

/// The inverse of the encoding. Any other `%` is kept, as in GNU tar.
pub(super) fn decode_attribute(key: &[u8]) -> OsString {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&first, after)) = rest.split_first() {
        rest = if let Some(after) = rest.strip_prefix(b"%3D") {
            name.push(b'=');
            after
        } else if let Some(after) = rest.strip_prefix(b"%25") {
            name.push(b'%');
            after
        } else {
            name.push(first);
            after
        };
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert_eq!(relative(OsStr::new("./etc//nginx/")).unwrap(), Path::new("etc/nginx"));
        assert_eq!(relative(OsStr::new("./")).unwrap(), Path::new(""));
        assert_eq!(relative(OsStr::new("//etc/passwd")).unwrap(), Path::new("etc/passwd"));
        for bad in ["../x", "a/../../x", "a/..", "/..", "a\0b"] {
            assert!(relative(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_of_an_attribute_survives_a_pax_key() {
        // Every name of up to six of the significant characters.
        let mut names = vec![String::new()];
        for _ in 0..6 {
            let longer: Vec<String> = names
                .iter()
                .flat_map(|name| "a=%235D".chars().map(move |c| format!("{name}{c}")))
                .collect();
            for name in &longer {
                let key = encode_attribute(name);
                assert!(!key.contains('='), "{key}");
                assert_eq!(decode_attribute(key.as_bytes()), OsString::from(name));
            }
            names = longer;
        }
    }

    #[test]
    fn a_percent_sign_of_another_meaning_stays() {
        assert_eq!(decode_attribute(b"user.50%.%3d"), "user.50%.%3d");
    }
}
