//! Every single call to the store fails once: the run reports it, loses nothing, and leaves a
//! repository that stock restic finds whole.

use std::{path::Path, sync::Arc};

use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{
        Access, Location, Repository, RepositoryError, Retention, store::OpendalStore,
    },
    ground::{
        Exit,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, RunReport, backup},
    },
    recovery::source::Restorable,
};
use kaleem_dr_sources::files::{FilesConfig, FilesSource};

use crate::support::{faulty_store::FaultyStore, restic::Restic, seed, site::PASSWORD, tree::Tree};

fn access(directory: &Path) -> Access {
    Access::new(Location::Directory(directory.to_path_buf()), SecretString::from(PASSWORD))
}

/// Runs a backup with forget and prune on a store whose nth call fails. Returns the report and the
/// number of calls.
async fn run(
    directory: &Path,
    tree: &Path,
    fails_at: u64,
) -> (Result<RunReport, RepositoryError>, u64) {
    let inner = OpendalStore::directory(directory).expect("the repository is there");
    let store = Arc::new(FaultyStore::new(Arc::new(inner), fails_at));
    let report = async {
        let repository = Repository::open_in(store.clone(), &access(directory)).await?;
        let config: FilesConfig = serde_json::from_value(serde_json::json!({ "paths": [tree] }))
            .expect("a config of one path is valid");
        let source =
            FilesSource::new("configs".parse().expect("a name"), config).expect("a valid config");
        let mut job = BackupJob::new(repository, vec![Arc::new(source) as Arc<dyn Restorable>]);
        let mut newest_only = Retention::nothing();
        newest_only.keep_last = 1;
        job.retention = Some(newest_only);
        job.prune = true;
        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
        backup(&job, &progress, &CancellationToken::new()).await
    }
    .await;
    (report, store.calls())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_failed_call_is_reported_and_harms_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (tree, directory) = (home.path().join("tree"), home.path().join("repository"));
    seed::file_tree(&tree);
    Repository::init(&access(&directory), 2).await.expect("a repository can be made");
    let (report, calls) = run(&directory, &tree, 0).await;
    assert_eq!(report.expect("a run").exit, Exit::Done);
    let restic = Restic::on_directory(&directory, PASSWORD);
    let expected = Tree::of(&tree);

    let mut failed = 0;
    let mut last = None;
    // Later runs make a few more calls than the first: they also forget and prune.
    for fails_at in 1..=calls + 20 {
        std::fs::write(tree.join("changing"), format!("{fails_at}").repeat(1000))
            .expect("a file can be written");
        let (report, made) = run(&directory, &tree, fails_at).await;
        let told = !matches!(&report, Ok(report) if report.exit == Exit::Done);
        failed += u64::from(told);
        let snapshots = restic.snapshots();
        let newest = snapshots.last().map(|snapshot| snapshot["id"].clone());
        assert!(newest.is_some(), "call {fails_at}: the last good snapshot is still there");
        // A failed call that was retried (such as the removal of a lock) may go unnoticed; then the
        // run must have saved a snapshot.
        assert!(
            told || newest != last,
            "call {fails_at} of {made} failed, nothing was saved, and the run said nothing"
        );
        last = newest;
        let seen = restic.succeed(["check"]);
        assert!(
            String::from_utf8_lossy(&seen.stdout).contains("no errors were found"),
            "call {fails_at}: {report:?}"
        );
    }
    assert!(failed >= calls / 2, "of {calls} calls only {failed} failures were reported");

    std::fs::remove_file(tree.join("changing")).expect("a file can be removed");
    let (report, _) = run(&directory, &tree, 0).await;
    assert_eq!(report.expect("a run").exit, Exit::Done);
    restic.check_read_data();
    let target = home.path().join("back");
    restic.restore_latest(&target, true);
    let back = Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")));
    for path in expected.paths().filter(|path| !path.as_os_str().is_empty()) {
        assert!(back.paths().any(|found| found == path), "{} came back", path.display());
    }
}
