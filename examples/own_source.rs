//! A service that embeds kaleem-dr defines a source of its own, backs it up and restores it.
//!
//! `cargo run --example own_source -- DIRECTORY` makes a repository in DIRECTORY/repository.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use kaleem_dr_core::recovery::source::Restorable;
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::Capture,
        repository::{Access, Location, Repository, select},
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, SourceError, SourceName,
        host::HostScope,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::{
        point::PointReader,
        source::{Change, PlannedAction, RestorePlan, RestoreReport, RestoreRequest, RestoreTarget},
    },
};
use tokio::sync::Mutex;

/// The service's own data: settings by name, one artifact each.
struct Settings(SourceName, Mutex<BTreeMap<String, String>>);

#[async_trait]
impl Source for Settings {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn kind(&self) -> &'static str {
        "settings"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec!["/settings".into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { server: None, size_bytes: None, warnings: Vec::new() })
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        for (name, value) in &*self.1.lock().await {
            let path = ArtifactPath::join(["settings", name]).map_err(|error| SourceError::Unsupported(error.to_string()))?;
            out.whole(path, value.clone().into(), Some(1)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Restorable for Settings {
    async fn plan_restore(&self, point: &PointReader, request: RestoreRequest) -> Result<RestorePlan, SourceError> {
        let actions =
            point.manifest().artifacts.iter().map(|artifact| PlannedAction::new(Change::Overwrite, &artifact.path)).collect();
        Ok(RestorePlan::new(request, "this process", actions, Vec::new()))
    }

    async fn restore(&self, point: &PointReader, plan: RestorePlan) -> Result<RestoreReport, SourceError> {
        let mut report = RestoreReport { target: plan.target, ..RestoreReport::default() };
        for action in plan.actions {
            let value = point.artifact(&action.what).await?.read_all(1 << 20).await?;
            let name = action.what.trim_start_matches("/settings/").to_owned();
            self.1.lock().await.insert(name, String::from_utf8_lossy(&value).into_owned());
            report.compared.push(action.what);
        }
        Ok(report)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: own_source DIRECTORY")?);
    let access = Access {
        location: Location::Directory(directory.join("repository")),
        password: SecretString::from("example"),
        cache_directory: None,
    };
    let repository = Repository::init(&access, 2).await?;
    let source = Arc::new(Settings("settings".parse()?, Mutex::new([("colour".into(), "green".into())].into())));
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let cancel = CancellationToken::new();
    let job = BackupJob::new(repository.clone(), vec![source.clone()]);
    let report = backup(&job, &progress, &cancel).await?;
    println!("saved: {:?}", report.sources[0].snapshot);

    source.1.lock().await.insert("colour".into(), "lost".into());
    let snapshots = repository.snapshots().await?;
    let reader = repository.read(select(&snapshots, "latest", &HostScope::Any)?).await?;
    let point = PointReader::open(reader, progress, cancel).await?;
    let plan = source.plan_restore(&point, RestoreRequest::whole(RestoreTarget::InPlace)).await?;
    let report = source.restore(&point, plan).await?;
    println!("restored: {}, colour is {}", report.compared.join(", "), source.1.lock().await["colour"]);
    Ok(())
}
