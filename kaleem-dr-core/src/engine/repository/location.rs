//! The location of a repository, and its password.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::SecretString;

#[cfg(feature = "s3")]
use super::store::S3Access;
use super::{
    DerivedKeys, RepositoryError, store,
    store::{ObjectStore, OpendalStore},
};

/// The directories of a repository on disk.
const DIRECTORIES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// The location of a repository.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "s3",
    expect(clippy::large_enum_variant, reason = "there are a handful of them in a process")
)]
#[non_exhaustive]
pub enum Location {
    /// A local directory; absolute, or relative to the process's directory.
    Directory(PathBuf),
    /// A bucket, or a prefix in one.
    #[cfg(feature = "s3")]
    S3(S3Access),
}

impl Location {
    /// The location as text, without credentials: stores use it in errors, and the ledger as the repository's name.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            #[cfg(feature = "s3")]
            Self::S3(access) => access.location(),
        }
    }

    /// The directory; `None` for a bucket.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            #[cfg(feature = "s3")]
            Self::S3(_) => None,
        }
    }

    /// The object store at an existing location.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] if the directory does not exist; errors of the store.
    pub fn store(&self) -> Result<Arc<dyn ObjectStore>, RepositoryError> {
        match self {
            Self::Directory(path) => match OpendalStore::directory(path) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) if error.is_not_found() => {
                    Err(RepositoryError::NotFound { location: path.display().to_string() })
                }
                Err(error) => Err(error.into()),
            },
            #[cfg(feature = "s3")]
            Self::S3(access) => Ok(Arc::new(OpendalStore::s3(access)?)),
        }
    }

    /// Like [`Location::store`], for a location that is to be filled object by object: creates the directories of a repository.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if the location has other content.
    pub fn store_to_fill(&self) -> Result<Arc<dyn ObjectStore>, RepositoryError> {
        if let Some(path) = self.directory()
            && !path.join("config").exists()
        {
            make_directories(path)?;
        }
        self.store()
    }
}

/// The location of a repository and its password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Access {
    /// The directory or bucket of the repository.
    pub location: Location,
    /// The password of one of its keys.
    pub password: SecretString,
    /// Directory for the cache of a remote repository's index and trees; `None` disables the cache.
    pub cache_directory: Option<PathBuf>,
    /// The key pair may neither delete nor overwrite objects: this host adds and reads, and leaves forgetting and pruning to
    /// another one.
    pub append_only: bool,
    /// The keys that were derived from passwords; accesses that share it derive each one once.
    pub derived_keys: DerivedKeys,
}

impl Access {
    /// Access without a cache: index and trees are read from the repository each time.
    #[must_use]
    pub fn new(location: Location, password: SecretString) -> Self {
        Self {
            location,
            password,
            cache_directory: None,
            append_only: false,
            derived_keys: DerivedKeys::default(),
        }
    }
}

/// Creates the directories of a repository with access for their owner only.
pub(super) fn lay_out(root: &Path) -> Result<(), RepositoryError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| RepositoryError::Path { path, action: "create the directory", cause }
    };
    if root.join("config").exists() {
        return Err(RepositoryError::AlreadyExists { location: root.display().to_string() });
    }
    if root.exists() && fs::read_dir(root).map_err(failed(root))?.next().is_some() {
        return Err(RepositoryError::Guarded(format!(
            "{} is not empty and is not a repository; choose an empty or a new directory",
            root.display()
        )));
    }
    make_directories(root)
}

/// Creates the directories of a repository in a location without other content. Existing ones are kept: a mirror may be incomplete.
pub(super) fn make_directories(root: &Path) -> Result<(), RepositoryError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| RepositoryError::Path { path, action: "create the directory", cause }
    };
    if root.exists() {
        for entry in fs::read_dir(root).map_err(failed(root))? {
            let name = entry.map_err(failed(root))?.file_name();
            if name != store::TEMPORARY_DIRECTORY
                && !DIRECTORIES.iter().any(|directory| name == *directory)
            {
                return Err(RepositoryError::Guarded(format!(
                    "{} contains {} and is not a repository; choose an empty or a new directory",
                    root.display(),
                    name.display()
                )));
            }
        }
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for directory in DIRECTORIES {
        let path = root.join(directory);
        builder.create(&path).map_err(failed(&path))?;
    }
    Ok(())
}
