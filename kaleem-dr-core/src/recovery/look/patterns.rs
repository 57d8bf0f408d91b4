//! Patterns for the paths of a snapshot.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::engine::repository::RepositoryError;

/// Globs, of which a path has to match one. `*` and `?` do not match `/`, `**` does. A pattern without `/` is compared with the
/// last component of a path; one that begins with `/`, with the whole path; any other, with the end of the path.
#[derive(Clone, Debug)]
pub struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    /// Parses patterns.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidPattern`] for the first invalid one.
    pub fn parse(patterns: &[String], ignore_case: bool) -> Result<Self, RepositoryError> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let invalid = |error: globset::Error| RepositoryError::InvalidPattern {
                pattern: pattern.clone(),
                why: error.kind().to_string(),
            };
            let is_name = !pattern.contains('/');
            let whole = if is_name || pattern.starts_with('/') {
                pattern.clone()
            } else {
                format!("**/{pattern}")
            };
            let glob = GlobBuilder::new(&whole)
                .literal_separator(true)
                .case_insensitive(ignore_case)
                .build()
                .map_err(invalid)?;
            if is_name { &mut names } else { &mut paths }.add(glob);
        }
        let built = |set: GlobSetBuilder| {
            set.build().map_err(|error| RepositoryError::InvalidPattern {
                pattern: patterns.join(" "),
                why: error.kind().to_string(),
            })
        };
        Ok(Self { names: built(names)?, paths: built(paths)? })
    }

    /// Reports whether an absolute path matches.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.names.is_match(name)) || self.paths.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn a_pattern_is_for_a_name_a_path_or_the_end_of_one() {
        let matches = |pattern: &str, path: &str| {
            Patterns::parse(&[pattern.to_owned()], false).unwrap().matches(Path::new(path))
        };
        assert!(matches("*.conf", "/etc/nginx/nginx.conf"));
        assert!(!matches("*.conf", "/etc/x.conf/y"));
        assert!(matches("nginx/*.conf", "/etc/nginx/nginx.conf"));
        assert!(!matches("nginx/*.conf", "/etc/nginx/conf.d/nginx.conf"));
        assert!(matches("/etc/**/default.conf", "/etc/nginx/conf.d/default.conf"));
        assert!(!matches("/nginx.conf", "/etc/nginx/nginx.conf"));
        let latin = Path::new(OsStr::from_bytes(b"/a/caf\xe9"));
        assert!(Patterns::parse(&["caf?".into()], false).unwrap().matches(latin));
        assert!(Patterns::parse(&["CAF*".into()], true).unwrap().matches(latin));
        assert!(Patterns::parse(&["[".into()], false).is_err());
    }
}
