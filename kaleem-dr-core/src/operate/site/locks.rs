//! `unlock`: lists restic's locks, and removes stale ones.

use super::{Site, SiteError};
use crate::engine::repository::LockInfo;

/// Options of [`Site::unlock`]. The default removes stale locks only.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unlock {
    /// Removes every lock, including those of processes that may still run; otherwise stale ones
    /// only.
    pub all: bool,
    /// Lists the locks. Writes nothing, so ages are by this machine's clock.
    pub dry_run: bool,
}

impl Unlock {
    /// Removes stale locks, or all of them.
    #[must_use]
    pub fn of(all: bool, dry_run: bool) -> Self {
        Self { all, dry_run }
    }
}

/// The locks of a repository.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocksReport {
    /// Locks that are, or would be, removed.
    pub going: Vec<LockInfo>,
    /// Locks that stay, because their holders may be alive.
    pub staying: Vec<LockInfo>,
    /// The locks were removed, not only listed.
    pub done: bool,
}

impl Site {
    /// Removes stale locks, if `agree` accepts the list; `None` if it does not. `agree` is not
    /// called in a dry run, or if there is nothing to remove.
    ///
    /// # Errors
    /// If the locks cannot be read or removed.
    pub async fn unlock(
        &self,
        wanted: Unlock,
        agree: impl AsyncFnOnce(&LocksReport) -> bool,
    ) -> Result<Option<LocksReport>, SiteError> {
        let unlocking = async {
            let repository = self.repository().await?;
            let locks = if wanted.dry_run {
                repository.locks().await?
            } else {
                repository.locks_of_others().await?
            };
            let (going, staying) = locks.into_iter().partition(|lock| wanted.all || lock.is_stale);
            let found = LocksReport { going, staying, done: false };
            if wanted.dry_run || found.going.is_empty() {
                return Ok(Some(found));
            }
            if !agree(&found).await {
                return Ok(None);
            }
            repository.remove_locks(&found.going).await?;
            Ok(Some(LocksReport { done: true, ..found }))
        };
        self.until_cancelled(Box::pin(unlocking)).await
    }
}
