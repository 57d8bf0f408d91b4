//! The path of an artifact in a snapshot.

use std::fmt;

use serde::Serialize;

/// An artifact's absolute path in the snapshot, such as `/mongo/kaleem/users.bson`.
///
/// No component is empty, `.` or `..`, or contains a NUL; a source escapes the names that it uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ArtifactPath(String);

impl ArtifactPath {
    /// Joins components to a path: `["mongo", "kaleem", "users.bson"]`.
    ///
    /// # Errors
    /// If there is no component, or one is empty, `.` or `..`, or contains `/` or NUL.
    pub fn join<S: AsRef<str>>(
        components: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidArtifactPath> {
        let mut path = String::new();
        for component in components {
            let component = component.as_ref();
            if component.is_empty()
                || component == "."
                || component == ".."
                || component.contains(['/', '\0'])
            {
                return Err(InvalidArtifactPath(component.to_owned()));
            }
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() { Err(InvalidArtifactPath(path)) } else { Ok(Self(path)) }
    }

    /// The path as text, beginning with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path component that a snapshot cannot contain.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be a path component of an artifact")]
pub struct InvalidArtifactPath(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_that_could_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(ArtifactPath::join(["t", bad]).is_err(), "{bad:?}");
        }
    }
}
