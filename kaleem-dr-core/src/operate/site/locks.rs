//! `unlock`: restic's locks, shown, and those that are left over removed.

use super::{Site, SiteError};
use crate::engine::repository::LockInfo;

/// Which locks [`Site::unlock`] removes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unlock {
    /// Every lock, also of processes that may be at work; else only stale ones.
    pub all: bool,
    /// Only lists them. Nothing is written then, and ages are by this machine's clock.
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
    /// Those that are, or would be, removed.
    pub going: Vec<LockInfo>,
    /// Those that stay.
    pub staying: Vec<LockInfo>,
    /// Whether they were removed.
    pub done: bool,
}

impl Site {
    /// Removes locks that are left over, after `agree` has seen which and said yes; `None` when it said no. It is not asked in a dry run, or
    /// where none goes.
    ///
    /// # Errors
    /// When the locks cannot be read or removed.
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
