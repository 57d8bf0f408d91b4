//! The report of a recovery, and the results of its sources in the form of a drill's, so that both
//! are recorded, chained and printed alike.

use serde::Serialize;

use crate::{
    engine::manifest::Incomplete,
    ground::{Exit, ProofLevel, SourceError, SourceName, error_chain, finding::Finding},
    recovery::{
        drill::{DrillReport, SourceDrill},
        point::{Origin, PointReader},
        source::{HookReport, RestoreReport},
        verify::VerifyReport,
    },
};

/// The result of a recovery.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The results of the sources, as they are recorded in the chain of reports.
    pub results: DrillReport,
    /// Sources that an earlier attempt of this recovery had recovered.
    pub earlier: Vec<SourceName>,
    /// Repositories that did not exist.
    pub repositories: Vec<RepositoryOutcome>,
    /// The commands of `recovery.after`; empty unless everything was recovered in place.
    pub hooks: Vec<HookReport>,
    /// Remaining work, with the commands for it.
    pub left: Vec<Left>,
    /// Notes for the operator, one sentence each.
    pub notes: Vec<String>,
    /// SHA-256 of the recorded report.
    pub hash: String,
    /// Exit status: 3 if something is left to do.
    pub exit: Exit,
}

/// A repository of the config that did not exist.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RepositoryOutcome {
    /// Its name in the config.
    pub name: String,
    /// Why it could not be filled; `None` if it was.
    pub error: Option<String>,
}

impl RepositoryOutcome {
    /// A repository, and why it could not be filled.
    pub(crate) fn new(name: String, error: Option<String>) -> Self {
        Self { name, error }
    }
}

/// Something that a recovery could not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// The source, repository or command that it concerns.
    pub what: String,
    /// The reason, with its causes.
    pub why: String,
    /// Commands that do it, in order.
    pub commands: Vec<String>,
}

impl Left {
    /// Something to do, and the reason; `commands` do it.
    pub fn new(what: impl Into<String>, why: impl Into<String>, commands: Vec<String>) -> Self {
        Self { what: what.into(), why: why.into(), commands }
    }
}

/// The result of a restore. Only what is whole, compared and equal counts as proven.
pub(crate) fn line_of_restore(
    (source, kind): (&SourceName, &str),
    point: &PointReader,
    report: &RestoreReport,
    seconds: f64,
) -> SourceDrill {
    let manifest = point.manifest();
    let (snapshot, host, name) = match point.origin() {
        Origin::Snapshot(reader) => {
            let snapshot = reader.snapshot();
            let name = format!("snapshot {}", snapshot.id().short());
            (Some(snapshot.id()), Some(snapshot.host().to_owned()), name)
        }
        Origin::File(file) => (None, None, file.path.display().to_string()),
    };
    let mut found = VerifyReport::of(name, Some(source.to_string()), ProofLevel::Restored);
    let left = report.uncompared.iter().chain(&report.not_restored);
    found.incomplete = manifest
        .incomplete
        .iter()
        .cloned()
        .chain(left.map(|left| Incomplete::new(left.what.clone(), left.why.clone())))
        .collect();
    let reached = report.is_equal().then_some(ProofLevel::Restored);
    (found.proven, found.held) =
        if found.incomplete.is_empty() { (reached, None) } else { (None, reached) };
    found.snapshot = snapshot;
    found.host = host;
    found.consistent_at = Some(manifest.consistency.at);
    found.size_bytes = manifest.size_bytes();
    found.checked.clone_from(&report.compared);
    found.findings = report
        .differences
        .iter()
        .map(|found| {
            Finding::error(format!(
                "{}: expected {}, found {}",
                found.what, found.expected, found.found
            ))
        })
        .chain(report.hooks.iter().filter(|hook| hook.status != Some(0)).map(|hook| {
            Finding::error(format!(
                "after the restore: {} failed: {}",
                hook.command.join(" "),
                hook.output
            ))
        }))
        .chain(report.warnings.iter().cloned().map(Finding::warning))
        .collect();
    found.restore_seconds = report.is_equal().then_some(seconds);
    found.seconds = seconds;
    let exit = match found.exit() {
        Exit::Done => report.exit(),
        other => other,
    };
    SourceDrill { seconds, exit, ..line(source, kind, Some(found), None) }
}

/// The result of a source that could not be restored.
pub(crate) fn line_of_error(
    (source, kind): (&SourceName, &str),
    error: &SourceError,
    seconds: f64,
) -> SourceDrill {
    let why = format!("source {source}: {}", error_chain(error));
    SourceDrill { seconds, exit: Exit::from(error), ..line(source, kind, None, Some(why)) }
}

/// The result of a source that could not be made, for example because its secret is missing.
pub(crate) fn line_of_unavailable(of: (&SourceName, &str), why: String) -> SourceDrill {
    SourceDrill { exit: Exit::Usage, ..line(of.0, of.1, None, Some(why)) }
}

fn line(
    source: &SourceName,
    kind: &str,
    verification: Option<VerifyReport>,
    error: Option<String>,
) -> SourceDrill {
    SourceDrill {
        source: source.clone(),
        kind: kind.to_owned(),
        verification,
        control_caught: None,
        rto_forecast_seconds: None,
        error,
        seconds: 0.0,
        exit: Exit::Done,
    }
}
