//! No failure looks like success: a source that fails half way leaves no snapshot and does not
//! affect the others.

use std::{path::PathBuf, sync::Arc};

use ::mongodb::{Client, bson::doc};
use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::Capture,
        repository::{Access, Location, Repository},
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, Exit, SourceError, SourceName,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, RunReport, backup},
    },
    recovery::{
        point::PointReader,
        source::{Restorable, RestorePlan, RestoreReport, RestoreRequest},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    process::await_stopped,
    restic::Restic,
    seed,
    servers::MongoServer,
    site::{PASSWORD, Site},
};

/// A source with one artifact of a few MiB, which ends as scripted.
struct Scripted {
    name: SourceName,
    ends: Ends,
}

#[derive(Clone, Copy)]
enum Ends {
    Well,
    WithErrorAt80Percent,
    ByForgettingToFinish,
    ByPanic,
}

const PIECES: usize = 10;

#[async_trait]
impl Source for Scripted {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec!["/scripted".into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe::new(None, None, Vec::new()))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let path = ArtifactPath::join(["scripted", "data"]).expect("a valid path");
        let mut writer = out.artifact(path.clone()).await?;
        for piece in 0..PIECES {
            if piece * 10 >= PIECES * 8 {
                match self.ends {
                    Ends::Well => {}
                    Ends::WithErrorAt80Percent => {
                        return Err(SourceError::artifact(&path, "the reader broke at 80 %"));
                    }
                    Ends::ByForgettingToFinish => return Ok(()),
                    Ends::ByPanic => panic!("a source panicked"),
                }
            }
            let byte = u8::try_from(piece).expect("few pieces");
            writer.write(Bytes::from(vec![byte; 700_000])).await?;
        }
        writer.finish(None, None).await
    }
}

#[async_trait]
impl Restorable for Scripted {
    async fn plan_restore(
        &self,
        _: &PointReader,
        _: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        Err(SourceError::Unsupported("not in this test".into()))
    }

    async fn restore(&self, _: &PointReader, _: RestorePlan) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported("not in this test".into()))
    }
}

async fn run(directory: &std::path::Path, sources: Vec<(&str, Ends)>) -> (Repository, RunReport) {
    let access =
        Access::new(Location::Directory(directory.to_path_buf()), SecretString::from(PASSWORD));
    let repository = Repository::init(&access, 2).await.expect("a repository can be made");
    let sources = sources
        .into_iter()
        .map(|(name, ends)| {
            Arc::new(Scripted { name: name.parse().expect("a name"), ends }) as Arc<dyn Restorable>
        })
        .collect();
    let job = BackupJob::new(repository.clone(), sources);
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let report = backup(&job, &progress, &CancellationToken::new()).await.expect("the run begins");
    (repository, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_error_at_80_percent_leaves_no_snapshot_and_the_others_are_saved() {
    for ends in [Ends::WithErrorAt80Percent, Ends::ByForgettingToFinish] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("repository");
        let (repository, report) =
            run(&path, vec![("first", Ends::Well), ("second", ends), ("third", Ends::Well)]).await;
        assert_eq!(report.exit, Exit::Partial);
        let error = report.sources[1].error.as_deref().expect("an error");
        for word in ["second", "/scripted/data"] {
            assert!(error.contains(word), "{error}");
        }
        if matches!(ends, Ends::WithErrorAt80Percent) {
            assert!(error.contains("the reader broke at 80 %"), "{error}");
        }
        let saved: Vec<String> = repository
            .snapshots()
            .await
            .expect("snapshots")
            .iter()
            .map(|snapshot| snapshot.source().expect("ours").to_string())
            .collect();
        assert_eq!(saved, ["first", "third"]);
        let restic = Restic::on_directory(&path, PASSWORD);
        restic.check_read_data();
        let locks = restic.succeed(["list", "locks"]).stdout;
        assert!(locks.is_empty(), "no lock is left: {}", String::from_utf8_lossy(&locks));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_source_leaves_no_snapshot_and_no_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("repository");
    let inner = path.clone();
    let died =
        tokio::spawn(async move { run(&inner, vec![("only", Ends::ByPanic)]).await.1 }).await;
    assert!(died.is_err(), "the panic is not swallowed");
    let restic = Restic::on_directory(&path, PASSWORD);
    assert!(restic.snapshots().is_empty());
    let locks = restic.succeed(["list", "locks"]).stdout;
    assert!(locks.is_empty(), "the lock went with the panic: {}", String::from_utf8_lossy(&locks));
    restic.check_read_data();
}

#[tokio::test]
async fn a_server_killed_during_capture_fails_its_source_alone() {
    let mut server = MongoServer::start();
    let client = Client::with_uri_str(server.uri()).await.expect("the server's address is valid");
    let filler = "x".repeat(2000);
    for name in ["a", "b", "c"] {
        let documents = (0..3000).map(|n| doc! { "_id": n, "filler": &filler });
        client
            .database("kaleem")
            .collection(name)
            .insert_many(documents)
            .await
            .expect("documents can be inserted");
    }
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let uri = format!("{}kaleem", server.uri());
    let site = site.with_mongo("mongo", &uri).with_files("configs", &[&tree]).initialised();

    // The run is frozen once the first collection has begun, the server is killed, and the run
    // continues.
    let mut command = site.command();
    command
        .args(["--json", "backup", "mongo", "configs"])
        .env("KALEEM_DR_FAILPOINT", "capture=stop:3");
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    await_stopped(pid);
    server.kill();
    kill(pid, Signal::SIGCONT).expect("our child can be woken");
    let output = child.wait_with_output().expect("our child ends");

    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let error = said
        .lines()
        .find(|line| line.contains("\"error\"") && line.contains("message_type"))
        .expect("an error is reported");
    for word in ["mongo", "/mongo/kaleem/", ".bson"] {
        assert!(error.contains(word), "source, artifact and cause are named: {error}");
    }
    let snapshots = site.snapshots();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["source"], "configs");
    site.restic().check_read_data();
}
