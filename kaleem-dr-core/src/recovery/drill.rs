//! Drills: restores that are compared and timed.
//!
//! Each source's recovery point is read, checked, restored into a scratch target of its own, compared there with the manifest,
//! and removed. Before that, the scratch target is damaged on purpose, and a comparison that does not detect this makes the drill
//! red, whatever else it found. The results are stored as proofs in the ledger, and as one report that contains the hash of the
//! previous report.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CancellationToken,
    engine::{
        ledger::{ChainedReport, Ledger, LedgerError},
        repository::{Repository, RepositoryError},
    },
    ground::{
        Exit, ProofLevel, RunId, SourceError, SourceName, error_chain, host::HostName,
        progress::ProgressSink,
    },
    recovery::{
        objectives::{Sample, forecast_seconds},
        points::PointChoice,
        scratch,
        scratch::Cleared,
        source::{Restorable, Unavailable},
        staged::StagedWork,
        verify::{Thoroughness, VerifyReport, verify_source},
        view::RepositoryView,
    },
};

/// Version of the report's format.
const FORMAT: u32 = 1;
/// Limit for the number of earlier drills used for a forecast.
const SAMPLES: usize = 400;

/// The parameters of a drill.
#[derive(Clone)]
#[non_exhaustive]
pub struct DrillJob {
    /// Id of the job; also that of its proofs and event.
    pub run: RunId,
    /// The repository to restore from.
    pub repository: Repository,
    /// The sources to restore, in this order.
    pub sources: Vec<Arc<dyn Restorable>>,
    /// Requested sources that could not be created: they count as failed.
    pub unavailable: Vec<Unavailable>,
    /// The host that the drill runs as.
    pub host: HostName,
    /// The choice of each source's point.
    pub point: PointChoice,
    /// The level to prove. Only [`ProofLevel::Restored`] measures an RTO.
    pub level: ProofLevel,
    /// The directory that contains the ledger.
    pub state_directory: PathBuf,
    /// The directory for scratch targets.
    pub scratch_directory: PathBuf,
    /// Time to wait for another tool's lock.
    pub patience: Duration,
}

impl DrillJob {
    /// A drill of the newest points of these sources at level restored, with scratch targets in the state directory.
    #[must_use]
    pub fn new(
        repository: Repository,
        sources: Vec<Arc<dyn Restorable>>,
        host: HostName,
        state_directory: &Path,
    ) -> Self {
        Self {
            run: RunId::new(),
            repository,
            sources,
            unavailable: Vec::new(),
            point: PointChoice::newest(host.clone()),
            host,
            level: ProofLevel::Restored,
            state_directory: state_directory.to_path_buf(),
            scratch_directory: state_directory.to_path_buf(),
            patience: Duration::ZERO,
        }
    }
}

/// The subject of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReportKind {
    /// A drill.
    #[default]
    Drill,
    /// A drill that began with nothing but the repository, its keys and its password.
    FromNothing,
    /// A recovery of the installation itself.
    Recovery,
}

/// The result of a drill.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DrillReport {
    /// Number of the format; it grows with each incompatible change.
    pub format: u32,
    /// The subject of the report.
    #[serde(default)]
    pub kind: ReportKind,
    /// Duration of everything before the first restore, in seconds: of a drill from nothing, until
    /// the new installation was ready.
    #[serde(default)]
    pub setup_seconds: Option<f64>,
    /// Hash of the previous report in the chain; `None` for the first.
    pub previous: Option<String>,
    /// Id of the drill's job.
    pub run: RunId,
    /// Name and version of the program that ran the drill.
    pub tool: String,
    /// Host that ran the drill.
    pub host: String,
    /// Name of the repository, without credentials.
    pub repository: String,
    /// Start of the drill, by this machine's clock.
    pub started: Timestamp,
    /// End of the drill, by this machine's clock.
    pub finished: Timestamp,
    /// The level that the drill was asked to prove.
    pub level: ProofLevel,
    /// The results of the sources, in order.
    pub sources: Vec<SourceDrill>,
    /// The scratch targets that killed rehearsals had left behind.
    pub cleared: Vec<Cleared>,
    /// Notes for the reader, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Exit status of the drill.
    pub exit: Exit,
}

/// A drill's result for one source.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SourceDrill {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Kind of the source: `mongodb`, `files`, …
    pub kind: String,
    /// The verification; `None` if it could not be attempted.
    pub verification: Option<VerifyReport>,
    /// True if the comparison detected the damage of the negative control, as it must; `None` if there was no control.
    pub control_caught: Option<bool>,
    /// Expected duration of a restore of today's size, in seconds, from this drill and earlier ones.
    pub rto_forecast_seconds: Option<f64>,
    /// The reason why it could not be attempted.
    pub error: Option<String>,
    /// Duration of all of it, in seconds.
    pub seconds: f64,
    /// Exit status for this source.
    pub exit: Exit,
}

impl DrillReport {
    /// A report without results, as of now.
    pub(crate) fn begun(run: RunId, kind: ReportKind, host: &HostName, repository: String) -> Self {
        let now = Timestamp::now();
        Self {
            format: FORMAT,
            kind,
            setup_seconds: None,
            previous: None,
            run,
            tool: concat!("kaleem-dr ", env!("CARGO_PKG_VERSION")).to_owned(),
            host: host.to_string(),
            repository,
            started: now,
            finished: now,
            level: ProofLevel::Restored,
            sources: Vec::new(),
            cleared: Vec::new(),
            notes: Vec::new(),
            exit: Exit::Done,
        }
    }

    /// Duration of the setup and of all restores one after the other, in seconds; `None` unless each source was restored.
    #[must_use]
    pub fn rto_seconds(&self) -> Option<f64> {
        let restores: Option<f64> =
            self.sources.iter().map(|drill| drill.verification.as_ref()?.restore_seconds).sum();
        restores.map(|seconds| seconds + self.setup_seconds.unwrap_or_default())
    }
}

/// The reason why a drill could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// An error of the repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// An error of the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An error of the scratch directory.
    #[error("{}: what killed rehearsals left cannot be looked at", path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: std::io::Error,
    },
}

/// Runs a drill. The caller must check [`DrillReport::exit`] and store the report. The second value is a lock that could not be
/// released, which does not affect the results.
///
/// # Errors
/// If the drill cannot begin, or the history for the forecast cannot be read.
pub async fn drill(
    job: &DrillJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(DrillReport, Result<(), RepositoryError>), DrillError> {
    let ledger = Ledger::open(&job.state_directory)?;
    let work = StagedWork {
        scratch: job.scratch_directory.clone(),
        progress: progress.clone(),
        cancel: cancel.clone(),
    };
    let cleared = scratch::clear_abandoned(&work.scratch, &job.sources)
        .await
        .map_err(|cause| DrillError::Scratch { path: work.scratch.clone(), cause })?;
    let mut report = DrillReport {
        level: job.level,
        sources: job.unavailable.iter().map(unavailable).collect(),
        cleared,
        ..DrillReport::begun(job.run, ReportKind::Drill, &job.host, job.repository.location())
    };
    let lock = job.repository.lock_to_read(job.patience).await?;
    let view = RepositoryView::of(&job.repository);
    for source in &job.sources {
        let mut line = drill_source(job, &view, &**source, &work).await;
        line.rto_forecast_seconds = forecast(&ledger, &report.repository, &line)?;
        tracing::info!(source = %line.source, exit = line.exit.code(), "drilled");
        report.sources.push(line);
        if cancel.is_cancelled() {
            break;
        }
    }
    let released = lock.release().await;
    report.finished = Timestamp::now();
    report.exit = exit(&report, cancel.is_cancelled());
    Ok((report, released))
}

fn unavailable(unavailable: &Unavailable) -> SourceDrill {
    SourceDrill {
        source: unavailable.source.clone(),
        kind: unavailable.kind.clone(),
        verification: None,
        control_caught: None,
        rto_forecast_seconds: None,
        error: Some(unavailable.why.clone()),
        seconds: 0.0,
        exit: Exit::Usage,
    }
}

async fn drill_source(
    job: &DrillJob,
    view: &RepositoryView,
    source: &dyn Restorable,
    work: &StagedWork,
) -> SourceDrill {
    tracing::info!(source = %source.name(), "drilling");
    let began = std::time::Instant::now();
    let how = Thoroughness { level: job.level, control: true };
    let verified = verify_source(view, source, &job.point, how, work).await;
    let (exit, error, verification) = match verified {
        Ok(report) => (report.exit(), None, Some(report)),
        Err(error) => (Exit::from(&error), Some(in_words(source, &error)), None),
    };
    SourceDrill {
        source: source.name().clone(),
        kind: source.kind().to_owned(),
        control_caught: verification
            .as_ref()
            .and_then(|report| Some(report.control.as_ref()?.is_caught())),
        verification,
        rto_forecast_seconds: None,
        error,
        seconds: began.elapsed().as_secs_f64(),
        exit,
    }
}

fn in_words(source: &dyn Restorable, error: &SourceError) -> String {
    format!("source {}: {}", source.name(), error_chain(error))
}

/// Computes the forecast from this drill and earlier ones of the same source and repository.
fn forecast(
    ledger: &Ledger,
    repository: &str,
    line: &SourceDrill,
) -> Result<Option<f64>, LedgerError> {
    let Some((verification, seconds)) =
        line.verification.as_ref().and_then(|report| Some((report, report.restore_seconds?)))
    else {
        return Ok(None);
    };
    let mut samples = Sample::of_source(&ledger.proofs(SAMPLES)?, &line.source, repository);
    samples.push(Sample { size_bytes: verification.size_bytes, seconds });
    Ok(forecast_seconds(&samples, verification.size_bytes))
}

/// A red drill stays red whatever else happened; one that was only carried out in part is not a success either.
fn exit(report: &DrillReport, cancelled: bool) -> Exit {
    let exits: Vec<Exit> = report.sources.iter().map(|source| source.exit).collect();
    if cancelled {
        Exit::Cancelled
    } else if exits.contains(&Exit::NotVerified) {
        Exit::NotVerified
    } else if exits.iter().all(|exit| *exit == Exit::Done) {
        if exits.is_empty() { Exit::Failed } else { Exit::Done }
    } else if exits.iter().any(|exit| matches!(exit, Exit::Done | Exit::Partial)) {
        Exit::Partial
    } else {
        // Nothing could be tried.
        Exit::Failed
    }
}

/// Checks that a chain of reports is complete: returns one sentence for each defect. `start` is the hash that its first report
/// must contain: that of the last trimmed one, [`Ledger::chain_start`].
#[must_use]
pub fn broken_links(chain: &[ChainedReport], start: Option<&str>) -> Vec<String> {
    #[derive(Deserialize)]
    struct Body {
        previous: Option<String>,
        run: String,
    }
    let mut wrong = Vec::new();
    let mut before = start;
    for report in chain {
        let name = format!("report {}", report.run);
        if crate::ground::digest::ByteDigest::of(report.body.as_bytes()) != report.hash {
            wrong.push(format!(
                "{name} does not hash to {}: it was changed afterwards",
                report.hash
            ));
        }
        match serde_json::from_str::<Body>(&report.body) {
            Ok(body) if body.run != report.run.to_string() => {
                wrong.push(format!("{name} contains the report of {}", body.run));
            }
            Ok(body) if body.previous.as_deref() != before => {
                wrong.push(format!(
                    "{name} does not follow the one before it: a report was removed or put between"
                ));
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{name} cannot be read: {error}")),
        }
        before = Some(&report.hash);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_was_tampered_with_is_told() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        for name in ["one", "two", "three"] {
            let run = RunId::new();
            ledger
                .append_report(run, |previous| {
                    serde_json::json!({ "run": run, "previous": previous, "name": name })
                        .to_string()
                })
                .unwrap();
        }
        let chain = ledger.reports().unwrap();
        assert_eq!(broken_links(&chain, None), Vec::<String>::new());
        let mut changed = chain.clone();
        changed[1].body = changed[1].body.replace("two", "2wo");
        assert!(broken_links(&changed, None)[0].contains("was changed afterwards"), "{changed:?}");
        let removed = [chain[0].clone(), chain[2].clone()];
        assert!(broken_links(&removed, None)[0].contains("does not follow"), "{removed:?}");
    }
}
