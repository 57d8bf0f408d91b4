//! The end of a job of any kind, as one type.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Job, notice::NoticePart, redact::Redactor};
use crate::{
    engine::ledger::{Event, EventKind, Part},
    ground::Exit,
    operate::job::{RunReport, exit_of},
    recovery::{
        drill::{DrillReport, SourceDrill},
        verify::{VerifyReport, left_out},
    },
};

/// The end of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Exit status of the job.
    pub exit: Exit,
    /// Why it did not end well.
    pub message: Option<String>,
    /// Its report, as `--json` prints it.
    pub report: Value,
    /// The end of each source or mirror. A part that is missing here ended as the job did.
    pub parts: Vec<EndedPart>,
}

/// The end of one source or mirror of a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndedPart {
    /// Its name in the config.
    pub name: String,
    /// Exit status of the part alone.
    pub exit: Exit,
    /// Why it did not end well.
    pub message: Option<String>,
    /// Duration of the part, in seconds.
    pub seconds: f64,
}

impl From<Exit> for Ended {
    /// An end without a report.
    fn from(exit: Exit) -> Self {
        Self::new(exit, &())
    }
}

impl Ended {
    /// An end with this exit status and report, and without parts.
    #[must_use]
    pub fn new(exit: Exit, report: &impl Serialize) -> Self {
        let report = serde_json::to_value(report).unwrap_or_default();
        Self { exit, message: None, report, parts: Vec::new() }
    }

    /// The end of a job without a report: it could not begin, was cancelled, or panicked.
    #[must_use]
    pub fn failed(exit: Exit, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { message: Some(why.clone()), ..Self::new(exit, &serde_json::json!({ "error": why })) }
    }

    /// The end of a backup run, which is in the ledger already.
    #[must_use]
    pub fn of_run(report: &RunReport) -> Self {
        let part = |source: &crate::operate::job::SourceReport| EndedPart {
            name: source.source.to_string(),
            exit: source.exit,
            message: source
                .error
                .clone()
                .or_else(|| source.staged_error.clone())
                .or_else(|| source.hook_error.clone())
                .or_else(|| {
                    let copy = source
                        .copies
                        .iter()
                        .find_map(|copy| copy.error.as_ref().map(|error| (copy, error)));
                    copy.map(|(copy, error)| format!("not copied to {}: {error}", copy.repository))
                }),
            seconds: source.seconds,
        };
        let why = [
            &report.repository_error,
            &report.withheld,
            &report.retention_error,
            &report.unsealed,
            &report.hook_error,
        ]
        .into_iter()
        .flatten()
        .cloned();
        let why: Vec<String> = why.collect();
        Self {
            parts: report.sources.iter().map(part).collect(),
            message: (!why.is_empty()).then(|| why.join("; ")),
            ..Self::new(report.exit, report)
        }
    }

    /// The end of verifications, with a part for each source.
    #[must_use]
    pub fn of_verification(reports: &[VerifyReport]) -> Self {
        let parts = reports.iter().filter_map(|report| {
            let wrong = report
                .findings
                .iter()
                .find(|finding| finding.is_error())
                .map(|finding| finding.message.clone());
            let message = report.error.as_ref().map(|untried| untried.why.clone()).or(wrong);
            let message = message
                .or_else(|| (!report.incomplete.is_empty()).then(|| left_out(&report.incomplete)));
            Some(EndedPart {
                name: report.source.clone()?,
                exit: report.exit(),
                message,
                seconds: report.seconds,
            })
        });
        Self { parts: parts.collect(), ..Self::new(exit_of(reports), &reports) }
    }

    /// The end of a drill, which is in the ledger already.
    #[must_use]
    pub fn of_drill(report: &DrillReport) -> Self {
        let part = |drill: &SourceDrill| {
            let wrong = drill
                .verification
                .as_ref()
                .and_then(|found| found.findings.iter().find(|finding| finding.is_error()));
            EndedPart {
                name: drill.source.to_string(),
                exit: drill.exit,
                message: drill
                    .error
                    .clone()
                    .or_else(|| wrong.map(|finding| finding.message.clone())),
                seconds: drill.seconds,
            }
        };
        Self { parts: report.sources.iter().map(part).collect(), ..Self::new(report.exit, report) }
    }

    /// Adds parts of the job that it did not reach.
    pub(super) fn completed(mut self, job: &Job) -> Self {
        for name in &job.parts {
            if !self.parts.iter().any(|part| part.name == *name) {
                let (name, message) = (name.clone(), self.message.clone());
                self.parts.push(EndedPart { name, exit: self.exit, message, seconds: 0.0 });
            }
        }
        self
    }

    /// Marks the end as failed after all.
    pub(super) fn spoil(&mut self, why: &str) {
        if self.exit == Exit::Done {
            self.exit = Exit::Failed;
        }
        let before = self.message.take().map(|message| format!("{message}; ")).unwrap_or_default();
        self.message = Some(format!("{before}{why}"));
    }

    pub(super) fn event(
        &self,
        job: &Job,
        repository: &str,
        started: Timestamp,
        finished: Timestamp,
        redactor: &Redactor,
    ) -> Event {
        let of_sources = matches!(
            job.kind,
            EventKind::Backup | EventKind::Verify | EventKind::Drill | EventKind::Recover
        );
        let part = |part: &EndedPart| {
            Some(Part {
                source: part.name.parse().ok()?,
                repository: repository.to_owned(),
                snapshot: None,
                exit: part.exit.code(),
                finished,
                seconds: part.seconds,
                size_bytes: 0,
                added_bytes: 0,
                consistent_at: None,
            })
        };
        let report = match &self.message {
            // An error may quote anything; the fields of a report are made to be shown.
            Some(why) if self.report.get("error").is_some() => {
                serde_json::json!({ "error": redactor.clean(why) })
            }
            _ => self.report.clone(),
        };
        Event {
            run: job.run,
            kind: job.kind,
            repository: repository.to_owned(),
            started,
            finished,
            exit: self.exit,
            report,
            parts: if of_sources {
                self.parts.iter().filter_map(part).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// A summary of a few lines, for people.
    pub(super) fn summary(&self, job: &Job, started: Timestamp, finished: Timestamp) -> String {
        let how = match self.exit {
            Exit::Done => "ended well".to_owned(),
            exit => format!("ended with {} ({})", exit.code(), word(exit)),
        };
        let seconds = finished.duration_since(started).as_secs_f64();
        let mut lines =
            vec![format!("{} {how} after {seconds:.0} s, run {}", job.kind.word(), job.run)];
        lines.extend(self.message.clone());
        lines.extend(self.parts.iter().map(EndedPart::line));
        lines.join("\n") + "\n"
    }

    pub(super) fn notice_parts(&self, redactor: &Redactor) -> Vec<NoticePart> {
        let part = |part: &EndedPart| NoticePart {
            source: part.name.clone(),
            exit_code: part.exit.code(),
            message: part.message.as_ref().map(|message| redactor.clean(message)),
        };
        self.parts.iter().map(part).collect()
    }
}

impl EndedPart {
    pub(super) fn line(&self) -> String {
        let why = self.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.exit {
            Exit::Done => format!("{}: well, in {:.1} s", self.name, self.seconds),
            exit => format!("{}: {}{why}", self.name, word(exit)),
        }
    }
}

/// The name as in JSON, for example `not-verified`.
fn word(exit: Exit) -> String {
    serde_json::to_value(exit)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::RunId;

    fn job() -> Job {
        let parts = vec!["mongo".to_owned(), "n8n".to_owned()];
        Job {
            kind: EventKind::Verify,
            run: RunId::new(),
            repositories: vec!["/r".into()],
            parts,
            is_narrowed: false,
        }
    }

    #[test]
    fn a_part_that_was_not_come_to_ends_as_the_job_did() {
        let n8n = EndedPart { name: "n8n".into(), exit: Exit::Done, message: None, seconds: 1.0 };
        let ended = Ended {
            parts: vec![n8n],
            ..Ended::failed(Exit::WrongPassword, "the password opens nothing")
        };
        let ended = ended.completed(&job());
        let exits: Vec<_> =
            ended.parts.iter().map(|part| (part.name.as_str(), part.exit)).collect();
        assert_eq!(exits, [("n8n", Exit::Done), ("mongo", Exit::WrongPassword)]);
        let now = Timestamp::now();
        let summary = ended.summary(&job(), now, now);
        assert!(summary.starts_with("verify ended with 12 (wrong-password)"), "{summary}");
        assert!(summary.contains("mongo: wrong-password: the password opens nothing"), "{summary}");
        let event = ended.event(&job(), "/r", now, now, &Redactor::default());
        assert_eq!((event.exit, event.parts.len()), (Exit::WrongPassword, 2));
    }

    #[test]
    fn a_good_end_that_the_ledger_does_not_know_is_none() {
        let mut ended = Ended::new(Exit::Done, &1);
        ended.spoil("the ledger cannot be written");
        assert_eq!(ended.exit, Exit::Failed);
        let mut ended = Ended::failed(Exit::Unreachable, "no server");
        ended.spoil("and no ledger");
        assert_eq!(
            (ended.exit, ended.message.as_deref()),
            (Exit::Unreachable, Some("no server; and no ledger"))
        );
    }
}
