//! A repository as one job sees it: its snapshots and its index are read once, whatever the number of points that it opens.

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::{
    engine::repository::{Repository, RepositoryError, Snapshot, SnapshotReader},
    ground::SourceName,
    recovery::points::{ChosenPoint, PointChoice, choose},
};

/// A repository with its snapshots and its index, each read at its first use. What others save later does not appear; under a
/// lock, nothing that it shows disappears.
#[derive(Debug)]
pub struct RepositoryView {
    repository: Repository,
    snapshots: OnceCell<Vec<Snapshot>>,
    reader: OnceCell<SnapshotReader>,
}

impl RepositoryView {
    /// A view of a repository, of which nothing has been read.
    #[must_use]
    pub fn of(repository: &Repository) -> Self {
        Self { repository: repository.clone(), snapshots: OnceCell::new(), reader: OnceCell::new() }
    }

    /// A view of a repository whose snapshots were listed already, oldest first.
    #[must_use]
    pub fn listed(repository: &Repository, snapshots: Vec<Snapshot>) -> Self {
        Self {
            repository: repository.clone(),
            snapshots: OnceCell::new_with(Some(snapshots)),
            reader: OnceCell::new(),
        }
    }

    /// All readable snapshots, oldest first.
    ///
    /// # Errors
    /// If they cannot be listed, or the store fails.
    pub async fn snapshots(&self) -> Result<&[Snapshot], RepositoryError> {
        let snapshots = self.snapshots.get_or_try_init(|| self.repository.snapshots()).await?;
        Ok(snapshots)
    }

    /// The snapshot of a source that a choice selects.
    ///
    /// # Errors
    /// As [`choose`].
    pub async fn choose(
        &self,
        source: &SourceName,
        choice: &PointChoice,
    ) -> Result<ChosenPoint, RepositoryError> {
        choose(self.snapshots().await?, source, choice, Timestamp::now())
    }

    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn read(&self, snapshot: &Snapshot) -> Result<SnapshotReader, RepositoryError> {
        let reader = self.reader.get_or_try_init(|| self.repository.read(snapshot)).await?;
        Ok(reader.at(snapshot))
    }
}
