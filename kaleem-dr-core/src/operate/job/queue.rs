//! The queue of this host's runs for a repository.

use std::{fs, path::Path};

use crate::{
    CancellationToken,
    engine::repository::RepositoryError,
    ground::flock::{self, FileLock},
};

/// Waits for this host's turn at a repository. The turn ends with the file's handle, however the
/// process ends.
pub(super) async fn queue(
    directory: &Path,
    repository: &str,
    cancel: &CancellationToken,
) -> Result<FileLock, RepositoryError> {
    let path = directory.join(format!("writer-{}.lock", &repository[..16.min(repository.len())]));
    let failed = |action| {
        let path = path.clone();
        move |cause| RepositoryError::Path { path, action, cause }
    };
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    let announce =
        || tracing::info!("another run of this host is using the repository; waiting for it");
    flock::wait_cancellable(&path, cancel, announce)
        .await
        .map_err(failed("lock"))?
        .ok_or(RepositoryError::Cancelled)
}
