//! The queue of this host's runs for a repository.

use std::{
    fs,
    fs::{File, OpenOptions},
    path::Path,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use crate::{CancellationToken, engine::repository::RepositoryError};

/// Waits for this host's turn at a repository. The queue ends with the file's handle, however the process ends.
pub(super) async fn queue(
    directory: &Path,
    repository: &str,
    cancel: &CancellationToken,
) -> Result<Flock<File>, RepositoryError> {
    let path = directory.join(format!("writer-{}.lock", &repository[..16.min(repository.len())]));
    let failed = |action| {
        let path = path.clone();
        move |cause| RepositoryError::Path { path, action, cause }
    };
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    let mut is_reported = false;
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed("open"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                if !is_reported {
                    tracing::info!(
                        "another run of this host is using the repository; waiting for it"
                    );
                    is_reported = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    () = cancel.cancelled() => return Err(RepositoryError::Cancelled),
                }
            }
            Err((_, errno)) => return Err(failed("lock")(errno.into())),
        }
    }
}
