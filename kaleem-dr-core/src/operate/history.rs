//! The history of this host: the only code that records the results of jobs in the ledger.
//!
//! Jobs return reports, which are recorded here: proofs first, then the chain of reports, then the
//! event, so that an event never refers to something that is missing. A proof that a verification
//! revokes is recorded as soon as the verification ends, however the job ends. If no verb recorded
//! an event, for example of a job that could not begin, [`crate::operate::monitor`] records it
//! through [`History::ended`]. What a mirror's pass must know while it works (which objects it
//! brought) stays in `engine::replicate`, because safety depends on it.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::job::RunReport;
use crate::{
    engine::{
        ledger::{ChainedReport, Event, EventKind, Ledger, LedgerError, LedgerLimits, Part, Proof},
        replicate::MirrorReport,
        repository::RepositoryError,
    },
    ground::{Exit, RunId, error_chain},
    recovery::{
        drill::{DrillReport, ReportKind, SourceDrill},
        verify::VerifyReport,
    },
};

/// Writes to the ledger of a state directory.
pub(crate) struct History(Ledger);

/// Identifies a pass of a mirror.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) run: RunId,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) started: Timestamp,
}

impl History {
    pub(crate) fn open(state_directory: &Path) -> Result<Self, LedgerError> {
        Ledger::open(state_directory).map(Self)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0
    }

    /// Records a backup run, however it ended.
    pub(crate) fn backup(
        &self,
        repository: String,
        (run, started): (RunId, Timestamp),
        result: &Result<RunReport, RepositoryError>,
    ) -> Result<(), LedgerError> {
        let (exit, report, parts) = match result {
            Ok(report) => (report.exit, value(report), parts(report)),
            Err(error) => (error.into(), json!({ "error": error_chain(error) }), Vec::new()),
        };
        let kind = EventKind::Backup;
        let finished = Timestamp::now();
        self.0.record(&Event { run, kind, repository, started, finished, exit, report, parts })
    }

    /// Records the results of verifications, from which the RPO is computed. Returns the proofs.
    pub(crate) fn proofs(
        &self,
        run: RunId,
        repository: &str,
        reports: &[VerifyReport],
    ) -> Result<Vec<Proof>, LedgerError> {
        let now = Timestamp::now();
        let proofs: Vec<Proof> =
            reports.iter().filter_map(|report| report.proof(run, repository, now)).collect();
        proofs.iter().try_for_each(|proof| self.0.record_proof(proof))?;
        Ok(proofs)
    }

    /// Records a drill or a recovery: its proofs, its report at the end of the chain, its event.
    /// Returns the chained report and the proofs.
    pub(crate) fn drill(
        &self,
        report: &mut DrillReport,
    ) -> Result<(ChainedReport, Vec<Proof>), LedgerError> {
        let proofs = proofs_of(report);
        proofs.iter().try_for_each(|proof| self.0.record_proof(proof))?;
        let chained = self.0.append_report(report.run, |previous| {
            report.previous = previous.map(str::to_owned);
            // A report has plain fields only, so serialisation cannot fail.
            serde_json::to_string(report).unwrap_or_default()
        })?;
        self.0.record(&event_of(report))?;
        Ok((chained, proofs))
    }

    /// Adds what a lost ledger had recorded and the repositories have kept: proofs, and the chain of
    /// reports with their events if the ledger has no report. Returns the numbers of added proofs and
    /// reports.
    pub(crate) fn refill(
        &self,
        proofs: &[Proof],
        chain: &[ChainedReport],
    ) -> Result<(usize, usize), LedgerError> {
        let proofs = self.0.refill_proofs(proofs)?;
        let reports = self.0.refill_reports(chain)?;
        for report in chain.iter().take(reports) {
            // A report of a newer format stays in the chain, without an event.
            let Ok(report) = serde_json::from_str::<DrillReport>(&report.body) else { continue };
            if !self.0.has(report.run)? {
                self.0.record(&event_of(&report))?;
            }
        }
        Ok((proofs, reports))
    }

    /// Records a pass of a mirror, however it ended.
    pub(crate) fn pass(
        &self,
        pass: Pass<'_>,
        result: &Result<MirrorReport, RepositoryError>,
    ) -> Result<(), LedgerError> {
        let Pass { run, from, to, started } = pass;
        let (exit, report) = match result {
            Ok(report) => (report.exit, value(report)),
            Err(error) => {
                let report = json!({ "from": from, "to": to, "error": error_chain(error) });
                (error.into(), report)
            }
        };
        self.replicated(run, to, started, exit, report)
    }

    /// Records a pass that could not begin because one of its sides could not be reached.
    pub(crate) fn pass_not_begun(
        &self,
        run: RunId,
        to: &str,
        exit: Exit,
        why: &str,
    ) -> Result<(), LedgerError> {
        let report = json!({ "to": to, "error": why });
        self.replicated(run, to, Timestamp::now(), exit, report)
    }

    fn replicated(
        &self,
        run: RunId,
        to: &str,
        started: Timestamp,
        exit: Exit,
        report: Value,
    ) -> Result<(), LedgerError> {
        self.0.record(&Event {
            run,
            kind: EventKind::Replicate,
            repository: to.to_owned(),
            started,
            finished: Timestamp::now(),
            exit,
            report,
            parts: Vec::new(),
        })
    }

    /// Records the end of a job: an event for each repository, unless the run is recorded already.
    /// Trims entries that are too old.
    pub(crate) fn ended(
        &self,
        run: RunId,
        limits: LedgerLimits,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<(), LedgerError> {
        self.0.trim(limits, Timestamp::now())?;
        if self.0.has(run)? {
            return Ok(());
        }
        events.into_iter().try_for_each(|event| self.0.record(&event))
    }
}

/// The proofs of a drill or a recovery. Live data may change while they are compared, so a difference
/// there shows nothing about the point.
fn proofs_of(report: &DrillReport) -> Vec<Proof> {
    let counts = |proof: &Proof| report.kind != ReportKind::Recovery || proof.is_good();
    let verified = report.sources.iter().filter_map(|source| source.verification.as_ref());
    verified
        .filter_map(|found| found.proof(report.run, &report.repository, report.finished))
        .filter(counts)
        .collect()
}

/// The event of a drill or a recovery, without its report, which the chain holds.
fn event_of(report: &DrillReport) -> Event {
    let part = |source: &SourceDrill| {
        let verification = source.verification.as_ref();
        Part {
            source: source.source.clone(),
            repository: report.repository.clone(),
            snapshot: verification.and_then(|found| found.snapshot),
            exit: source.exit.code(),
            finished: report.finished,
            seconds: source.seconds,
            size_bytes: verification.map_or(0, |found| found.size_bytes),
            added_bytes: 0,
            consistent_at: verification.and_then(|found| found.consistent_at),
        }
    };
    Event {
        run: report.run,
        kind: match report.kind {
            ReportKind::Recovery => EventKind::Recover,
            ReportKind::Drill | ReportKind::FromNothing => EventKind::Drill,
        },
        repository: report.repository.clone(),
        started: report.started,
        finished: report.finished,
        exit: report.exit,
        report: Value::Null,
        parts: report.sources.iter().map(part).collect(),
    }
}

/// Reports have plain fields only, so serialisation cannot fail.
fn value(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}

/// A part for each source, in the run's repository and in each secondary one.
fn parts(report: &RunReport) -> Vec<Part> {
    let location = |name: &str| {
        let secondary = report.secondaries.iter().find(|secondary| secondary.repository == name);
        secondary
            .and_then(|secondary| secondary.location.clone())
            .unwrap_or_else(|| name.to_owned())
    };
    let mut parts = Vec::new();
    for source in &report.sources {
        let own = Part {
            source: source.source.clone(),
            repository: report.repository.clone(),
            snapshot: source.snapshot,
            exit: source.exit.code(),
            finished: report.finished,
            seconds: source.seconds,
            size_bytes: source.size_bytes,
            added_bytes: source.added_bytes,
            consistent_at: source.consistent_at,
        };
        parts.extend(source.copies.iter().map(|copy| Part {
            repository: location(&copy.repository),
            snapshot: copy.snapshot,
            exit: if copy.error.is_none() { Exit::Done } else { Exit::Failed }.code(),
            added_bytes: copy.added_bytes,
            ..own.clone()
        }));
        parts.push(own);
    }
    parts
}
