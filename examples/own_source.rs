//! A service that embeds kaleem-dr: it defines its own source, backs it up and restores it.
//!
//! `cargo run --example own_source -- DIRECTORY` creates a repository in DIRECTORY/repository.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use kaleem_dr_core::{
    ArtifactPath, Exit, Restorable, Site, Source, SourceError, SourceName,
    engine::{
        artifact::Capture,
        repository::{Access, Location},
        source::Probe,
    },
    operate::{
        config::secret::SecretString,
        job::exit_of,
        site::{Backup, PlannedRestore, Restore, Verification},
    },
    recovery::{
        point::PointReader,
        source::{
            Change, Inspection, PlannedAction, RestorePlan, RestoreReport, RestoreRequest,
            RestoreTarget,
        },
    },
};
use tokio::sync::Mutex;

/// The service's data: settings by name, each captured as one artifact.
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
        Ok(Probe::new(None, None, Vec::new()))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        for (name, value) in &*self.1.lock().await {
            let path = ArtifactPath::join(["settings", name])
                .map_err(|error| SourceError::Unsupported(error.to_string()))?;
            out.whole(path, value.clone().into(), Some(1)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Restorable for Settings {
    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        let mut inspection = Inspection::default();
        for artifact in &point.manifest().artifacts {
            point.artifact(&artifact.path).await?.read_all(1 << 20).await?;
            inspection.checked.push(artifact.path.clone());
        }
        Ok(inspection)
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        let actions = point
            .manifest()
            .artifacts
            .iter()
            .map(|artifact| PlannedAction::new(Change::Overwrite, &artifact.path))
            .collect();
        Ok(RestorePlan::new(request, "this process", actions, Vec::new()))
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let mut report = RestoreReport::to(plan.target);
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
    let access = Access::new(
        Location::Directory(directory.join("repository")),
        SecretString::from("example"),
    );
    let source = Arc::new(Settings(
        "settings".parse()?,
        Mutex::new([("colour".into(), "green".into())].into()),
    ));
    let site = Site::new(access, &directory.join("state"))?.with_source(source.clone());
    site.init().await?;

    let run = site.backup(Backup::default()).await?;
    if run.exit != Exit::Done {
        return Err(format!("not all was saved: {:?}", run.sources).into());
    }
    println!("saved: {:?}", run.sources[0].snapshot);

    let verified = site.verify(Verification::default()).await?;
    if exit_of(&verified) != Exit::Done {
        return Err(format!("not proven: {verified:?}").into());
    }

    source.1.lock().await.insert("colour".into(), "lost".into());
    let whole = RestoreRequest::whole(RestoreTarget::InPlace);
    let wanted = Restore::latest(source.name().clone(), whole);
    let agree = async |planned: PlannedRestore<'_>| planned.plan.warnings.is_empty();
    let report = site.restore(wanted, agree).await?.ok_or("the plan has a warning")?;
    let colour = &source.1.lock().await["colour"];
    println!("restored: {}, colour is {colour}", report.compared.join(", "));
    Ok(())
}
