//! Selects the paths of a snapshot or an archive to restore.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::engine::repository::RepositoryError;

/// The selected paths of a snapshot.
#[derive(Debug)]
pub(crate) struct Selection {
    prefixes: Vec<PathBuf>,
    include: Option<GlobSet>,
    exclude: GlobSet,
    without_own_files: bool,
}

impl Selection {
    pub(crate) fn of(
        include: &[String],
        exclude: &[String],
        without_own_files: bool,
    ) -> Result<Self, RepositoryError> {
        let (globs, prefixes): (Vec<&String>, Vec<&String>) =
            include.iter().partition(|pattern| pattern.contains(['*', '?', '[']));
        Ok(Self {
            prefixes: prefixes.into_iter().map(PathBuf::from).collect(),
            include: if include.is_empty() { None } else { Some(globset(globs)?) },
            exclude: globset(exclude)?,
            without_own_files,
        })
    }

    /// A directory and what is below it, whatever characters its path contains.
    pub(crate) fn below(directory: &Path, without_own_files: bool) -> Self {
        let is_all = directory == Path::new("/");
        Self {
            prefixes: if is_all { Vec::new() } else { vec![directory.to_path_buf()] },
            include: (!is_all).then(GlobSet::empty),
            exclude: GlobSet::empty(),
            without_own_files,
        }
    }

    pub(super) fn excludes(&self, path: &Path) -> bool {
        let own = path == Path::new("/.kaleem-dr") || path == Path::new("/RESTORE.md");
        self.without_own_files && own
            || self.exclude.is_match(path)
            || path.file_name().is_some_and(|name| self.exclude.is_match(name))
    }

    pub(crate) fn includes(&self, path: &Path) -> bool {
        let Some(globs) = &self.include else { return true };
        self.prefixes.iter().any(|prefix| path.starts_with(prefix))
            || path.ancestors().any(|ancestor| {
                globs.is_match(ancestor)
                    || ancestor.file_name().is_some_and(|name| globs.is_match(name))
            })
    }

    /// Reports whether something below a directory may be selected.
    pub(crate) fn may_hold(&self, path: &Path) -> bool {
        self.includes(path)
            || self.include.as_ref().is_some_and(|globs| !globs.is_empty())
            || self.prefixes.iter().any(|prefix| prefix.starts_with(path))
    }
}

fn globset<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<GlobSet, RepositoryError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| {
            RepositoryError::Guarded(format!(
                "the pattern `{pattern}` is not valid: {}",
                error.kind()
            ))
        })?);
    }
    set.build()
        .map_err(|error| RepositoryError::Guarded(format!("the patterns are not valid: {error}")))
}
