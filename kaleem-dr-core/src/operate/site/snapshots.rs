//! Content of the repository: snapshots, recovery points, sizes; and the pinning of snapshots.

use super::{Site, SiteError, parts::released};
use crate::{
    engine::repository::{LockKind, RepositoryStats, Rewritten, Snapshot},
    ground::{RunId, SourceName, host::HostScope},
    operate::job::pin,
    recovery::{
        change_log::{RestorableSpan, restorable_spans},
        points::{RecoveryPoint, recovery_points},
    },
};

/// Filter of [`Site::snapshots`]; matches all snapshots by default.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SnapshotFilter {
    /// Only snapshots of this source; `None` for all.
    pub source: Option<SourceName>,
    /// Only snapshots of this run; `None` for all.
    pub run: Option<RunId>,
    /// Only snapshots of these hosts; `None` for all.
    pub hosts: Option<HostScope>,
    /// Only those that kaleem-dr made.
    pub own: bool,
}

impl SnapshotFilter {
    /// All snapshots of a source, or of all sources.
    #[must_use]
    pub fn of(source: Option<SourceName>) -> Self {
        Self { source, ..Self::default() }
    }

    fn fits(&self, snapshot: &Snapshot) -> bool {
        (self.source.is_none() || snapshot.source() == self.source)
            && (self.run.is_none() || snapshot.run() == self.run)
            && (!self.own || snapshot.is_ours())
            // Records of alarms and slices of change logs are listed by `alarm` and `points`.
            && snapshot.is_data()
            && self.hosts.as_ref().is_none_or(|hosts| hosts.includes(snapshot.host()))
    }
}

impl Site {
    /// Lists snapshots of the selected repository, of every host unless the filter names one.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, SiteError> {
        let (_, mut snapshots) = self.listed().await?;
        snapshots.retain(|snapshot| filter.fits(snapshot));
        Ok(snapshots)
    }

    /// The recovery points of the selected hosts, newest first.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn points(&self) -> Result<Vec<RecoveryPoint>, SiteError> {
        let (_, snapshots) = self.listed().await?;
        Ok(recovery_points(&snapshots, &self.source_names(), &self.identity.scope))
    }

    /// The spans of time of which every moment can be restored, by source of the selected hosts.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn restorable_spans(&self) -> Result<Vec<RestorableSpan>, SiteError> {
        let (_, snapshots) = self.listed().await?;
        Ok(restorable_spans(&snapshots, &self.identity.scope))
    }

    /// The size of the selected repository.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn stats(&self) -> Result<RepositoryStats, SiteError> {
        let counting = async { Ok(self.repository().await?.stats().await?) };
        self.until_cancelled(Box::pin(counting)).await
    }

    /// Pins snapshots, given by id prefix, so that retention keeps them; or unpins them. Their ids
    /// change; their proofs remain valid under the new ones.
    ///
    /// # Errors
    /// If a snapshot is not found or cannot be written; those before it are changed already.
    pub async fn pin(
        &self,
        snapshots: &[String],
        pinned: bool,
    ) -> Result<Vec<Rewritten>, SiteError> {
        let pinning = async {
            let repository = self.repository().await?;
            let state_directory = &self.config.settings.state_directory;
            let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
            let done = async {
                let (progress, cancel) = (&self.progress, &self.cancel);
                let pinned =
                    pin(&repository, state_directory, snapshots, pinned, &lock, progress, cancel);
                Ok(pinned.await?)
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(pinning)).await
    }
}
