//! What a run leaves in the history.

use std::path::Path;

use jiff::Timestamp;

use super::report::RunReport;
use crate::{
    engine::{
        ledger::{Event, EventKind, Ledger, Part},
        repository::RepositoryError,
    },
    ground::{Exit, RunId, error_chain},
};

/// Puts the run into the host's ledger, however it ended.
pub(super) fn note(
    directory: &Path,
    repository: String,
    run: RunId,
    started: Timestamp,
    result: &Result<RunReport, RepositoryError>,
) -> Result<(), RepositoryError> {
    let (exit, report, parts) = match result {
        Ok(report) => {
            (report.exit, serde_json::to_value(report).unwrap_or_default(), parts(report))
        }
        Err(error) => {
            (error.into(), serde_json::json!({ "error": error_chain(error) }), Vec::new())
        }
    };
    let (kind, finished) = (EventKind::Backup, Timestamp::now());
    Ok(Ledger::open(directory)?.record(&Event {
        run,
        kind,
        repository,
        started,
        finished,
        exit,
        report,
        parts,
    })?)
}

/// A part for each source in the run's repository and in each further one.
pub(super) fn parts(report: &RunReport) -> Vec<Part> {
    let location = |name: &str| {
        let further = report.further.iter().find(|further| further.repository == name);
        further.and_then(|further| further.location.clone()).unwrap_or_else(|| name.to_owned())
    };
    let mut parts = Vec::new();
    for source in &report.sources {
        let own = Part {
            source: source.source.to_string(),
            repository: report.repository.clone(),
            snapshot: source.snapshot.map(|id| id.to_string()),
            exit: source.exit.code(),
            finished: report.finished,
            seconds: source.seconds,
            size_bytes: source.size_bytes,
            added_bytes: source.added_bytes,
            consistent_at: source.consistent_at,
        };
        parts.extend(source.copies.iter().map(|copy| Part {
            repository: location(&copy.repository),
            snapshot: copy.snapshot.map(|id| id.to_string()),
            exit: if copy.error.is_none() { Exit::Done } else { Exit::Failed }.code(),
            added_bytes: copy.added_bytes,
            ..own.clone()
        }));
        parts.push(own);
    }
    parts
}
