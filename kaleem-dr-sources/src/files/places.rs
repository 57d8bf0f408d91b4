//! The places at which paths are read: the paths themselves, or snapshots of their volumes.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kaleem_dr_core::ground::SourceError;

/// The directories that are read from another place, the deepest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<(PathBuf, PathBuf)>);

impl Places {
    /// # Errors
    /// If a path is relative, or a directory has nothing to do with the roots.
    pub(super) fn new(
        places: &BTreeMap<PathBuf, PathBuf>,
        roots: &[PathBuf],
    ) -> Result<Self, SourceError> {
        let fault = |directory: &Path, why: &str| {
            SourceError::Unsupported(format!("`snapshot_at`: {} {why}", directory.display()))
        };
        for (directory, place) in places {
            if let Some(relative) = [directory, place].into_iter().find(|path| !path.is_absolute())
            {
                return Err(fault(relative, "must be an absolute path"));
            }
            if !roots.iter().any(|root| root.starts_with(directory) || directory.starts_with(root))
            {
                return Err(fault(
                    directory,
                    "is neither in `paths`, nor above nor below one of them",
                ));
            }
        }
        // A map is in the order of paths, in which a directory comes before what is in it.
        let places = places.iter().rev().map(|(at, place)| (at.clone(), place.clone()));
        Ok(Self(places.collect()))
    }

    /// The path to read instead of this one.
    pub(super) fn of<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        let moved = self.0.iter().find_map(|(directory, place)| {
            let below = path.strip_prefix(directory).ok()?;
            Some(if below.as_os_str().is_empty() { place.clone() } else { place.join(below) })
        });
        moved.map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// Reports whether a path is read from another place, with everything below it.
    pub(super) fn is_elsewhere(&self, path: &Path) -> bool {
        self.0.iter().any(|(directory, _)| path.starts_with(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: &[(&str, &str)]) -> Result<Places, SourceError> {
        let all = all.iter().map(|(at, place)| (PathBuf::from(at), PathBuf::from(place)));
        Places::new(&all.collect(), &["/srv/data".into(), "/etc".into()])
    }

    #[test]
    fn the_deepest_directory_decides() {
        let places = places(&[("/srv", "/snap/srv"), ("/srv/data/db", "/snap/db")]).unwrap();
        for (path, expected) in [
            ("/srv", "/snap/srv"),
            ("/srv/data/a", "/snap/srv/data/a"),
            ("/srv/data/db", "/snap/db"),
            ("/srv/data/db/x", "/snap/db/x"),
            ("/srv/data/dbx", "/snap/srv/data/dbx"),
            ("/etc/passwd", "/etc/passwd"),
        ] {
            assert_eq!(places.of(Path::new(path)), Path::new(expected), "{path}");
        }
        assert!(places.is_elsewhere(Path::new("/srv/data")));
        assert!(!places.is_elsewhere(Path::new("/etc")));
    }

    #[test]
    fn a_place_that_means_nothing_is_refused() {
        for (at, place, why) in [
            ("srv", "/snap", "absolute"),
            ("/srv", "snap", "absolute"),
            ("/home", "/snap", "neither"),
        ] {
            let error = places(&[(at, place)]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
