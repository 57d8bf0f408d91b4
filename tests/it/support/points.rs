//! Recovery points of single sources, created and opened through the library.

use std::sync::Arc;

use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{Access, Location, Repository, select},
    ground::{
        Exit,
        host::HostScope,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::{point::PointReader, source::Restorable},
};
use tempfile::TempDir;

/// A repository for one test. It is removed when this value is dropped.
pub struct Points {
    pub repository: Repository,
    _directory: TempDir,
}

impl Points {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let access = Access::new(
            Location::Directory(directory.path().join("repository")),
            SecretString::from("points"),
        );
        let repository = Repository::init(&access, 2).await.expect("a repository can be made");
        Self { repository, _directory: directory }
    }

    /// Captures a source and expects success.
    pub async fn capture(&self, source: &Arc<impl Restorable + 'static>) {
        let job = BackupJob::new(self.repository.clone(), vec![source.clone()]);
        let report = backup(&job, &progress(), &CancellationToken::new()).await.expect("a run");
        assert_eq!(report.exit, Exit::Done, "{:?}", report.sources);
    }

    /// The newest point.
    pub async fn latest(&self) -> PointReader {
        let snapshots = self.repository.snapshots().await.expect("snapshots can be listed");
        let reader = self
            .repository
            .read(select(&snapshots, "latest", &HostScope::Any).expect("one is there"))
            .await
            .expect("it can be read");
        PointReader::open(reader, progress(), CancellationToken::new())
            .await
            .expect("it is one of ours")
    }
}

/// A sink that ignores progress.
pub fn progress() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}
