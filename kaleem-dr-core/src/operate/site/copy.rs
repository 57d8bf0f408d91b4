//! `copy`: copies snapshots to a repository with its own id and password.

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{
            CopyOptions, CopyReport, Lock, LockKind, Repository, RepositoryError, Snapshot, select,
        },
    },
    ground::{RunId, SourceName},
    operate::monitor::{Ended, Job},
};

/// Options of [`Site::copy`], which copies snapshots into another repository.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Copying {
    /// Repository of the config to copy to.
    pub to: String,
    /// Only snapshots of these sources, with the slices of their change logs; of all if empty.
    pub sources: Vec<SourceName>,
    /// Only these snapshots, by id prefix, or `latest`; all if empty.
    pub snapshots: Vec<String>,
    /// Lists what would be copied, and writes nothing.
    pub dry_run: bool,
}

impl Copying {
    /// Copies all snapshots that a repository of the config does not have yet.
    #[must_use]
    pub fn to(repository: impl Into<String>) -> Self {
        Self { to: repository.into(), sources: Vec::new(), snapshots: Vec::new(), dry_run: false }
    }

    /// The job of this copy, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        (!self.dry_run).then(|| Job {
            kind: EventKind::Copy,
            run,
            repositories: vec![site.place_of(&self.to)],
            parts: Vec::new(),
            is_narrowed: !self.sources.is_empty() || !self.snapshots.is_empty(),
        })
    }

    fn takes(&self, snapshot: &Snapshot) -> bool {
        self.sources.is_empty()
            || snapshot
                .source()
                .or_else(|| snapshot.sliced())
                .is_some_and(|source| self.sources.contains(&source))
    }
}

impl From<&CopyReport> for Ended {
    fn from(report: &CopyReport) -> Self {
        let message = report.failed.first().map(|failure| failure.error.clone());
        Self { message, ..Self::new(report.exit(), report) }
    }
}

impl Site {
    /// Copies snapshots from the selected repository to another one of the config. Snapshots that
    /// could not be copied are in the report.
    ///
    /// # Errors
    /// [`SiteError::Config`] if both are the same repository; if one cannot be opened or locked, or
    /// a snapshot is not found.
    pub async fn copy(&self, wanted: &Copying) -> Result<CopyReport, SiteError> {
        self.until_cancelled(Box::pin(self.copy_wanted(wanted))).await
    }

    async fn copy_wanted(&self, wanted: &Copying) -> Result<CopyReport, SiteError> {
        let access = self.access_to(&wanted.to)?;
        if self.access.is_none() && self.chosen_repository()?.0 == wanted.to {
            return Err(SiteError::Config(format!(
                "{} cannot be copied into itself; select the repository to copy from with --repo",
                wanted.to
            )));
        }
        let source = self.repository().await?;
        let destination = Repository::open(&access).await?;
        let mut chosen = source.snapshots().await?;
        if !wanted.snapshots.is_empty() {
            let named = wanted
                .snapshots
                .iter()
                .map(|id| select(&chosen, id, &self.identity.scope).cloned());
            chosen = named.collect::<Result<_, RepositoryError>>()?;
        }
        chosen.retain(|snapshot| wanted.takes(snapshot));
        let tags = self.named(&wanted.to)?.1.tags.clone();
        let options = CopyOptions { tags, dry_run: wanted.dry_run };
        let both = (&source, &destination);
        let here = self.wait_for(source.lock_to_read(self.patience)).await?;
        let done = async {
            let there = self.wait_for(destination.lock(LockKind::Shared, self.patience)).await?;
            let done =
                async { self.copy_between(both, &chosen, &options, (&here, &there)).await }.await;
            released(there, done).await
        }
        .await;
        released(here, done).await
    }

    async fn copy_between(
        &self,
        (source, destination): (&Repository, &Repository),
        snapshots: &[Snapshot],
        options: &CopyOptions,
        locks: (&Lock, &Lock),
    ) -> Result<CopyReport, SiteError> {
        let (progress, cancel) = (&self.progress, &self.cancel);
        let copied =
            source.copy_to(destination, snapshots, options, locks, progress, cancel).await?;
        Ok(copied)
    }
}
