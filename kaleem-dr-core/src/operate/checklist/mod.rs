//! The operators' checklists, answered: conditions that must hold each day, week and month, with
//! the evidence for each.
//!
//! The ledger and the run's own repository answer nearly all items; another repository is opened
//! only if the ledger does not know its content. An item that could not be answered is `unknown`,
//! never `yes`.

mod daily;
mod monthly;
mod weekly;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    engine::{
        ledger::Ledger,
        repository::{Repository, Snapshot},
    },
    ground::{Exit, error_chain},
    operate::{
        config::{Config, secret::Environment},
        doctor::Host,
        job::{Freshness, freshness},
    },
};

/// Period of a checklist: how often operators go through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// Items to check every day.
    Daily,
    /// Items to check every week.
    Weekly,
    /// Items to check every month.
    Monthly,
}

impl Period {
    /// The period's name on the command line: `daily`, `weekly` or `monthly`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Daily, Self::Weekly, Self::Monthly]
            .into_iter()
            .find(|period| period.word() == text);
        found.ok_or_else(|| {
            format!("unknown checklist `{text}`; checklists are daily, weekly, monthly")
        })
    }
}

/// The answer to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The evidence shows that it holds.
    Yes,
    /// The evidence shows that it does not hold.
    No,
    /// It could not be answered.
    Unknown,
}

/// A sentence in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Text {
    /// The text of an English checklist.
    pub en: &'static str,
    /// The text of an Arabic checklist.
    pub ar: &'static str,
}

/// One item of a list, with its answer and the evidence.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChecklistLine {
    /// Id of the item, in kebab case.
    pub id: &'static str,
    /// The condition to hold, as a sentence in both languages.
    pub text: Text,
    /// The answer to the condition, from the evidence.
    pub holds: Holds,
    /// The evidence: runs, snapshots, free space.
    pub evidence: Vec<String>,
}

/// A checklist with its answers.
#[derive(Clone, Debug, Serialize)]
#[must_use]
#[non_exhaustive]
pub struct Checklist {
    /// Period that the list is for.
    pub period: Period,
    /// Time of the answers, by this machine's clock.
    pub at: Timestamp,
    /// Its items, in the order of the list.
    pub lines: Vec<ChecklistLine>,
}

impl Checklist {
    /// Exit status: 6 if an item does not hold, 1 if one could not be answered.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let any = |holds| self.lines.iter().any(|line| line.holds == holds);
        if any(Holds::No) {
            Exit::Stale
        } else if any(Holds::Unknown) {
            Exit::Failed
        } else {
            Exit::Done
        }
    }
}

/// Inputs of a checklist: the installation and the machine.
#[non_exhaustive]
pub struct Inspection {
    /// The config of the installation.
    pub config: Config,
    /// The environment that the config was read in.
    pub environment: Environment,
    /// The repository that runs save to, by its name in the config.
    pub primary: String,
    /// The machine whose clock, disks and jobs are examined.
    pub host: Host,
    /// Time at which the backup was last due; if unknown, `status.max_age_hours` ago.
    pub last_scheduled: Option<Timestamp>,
}

/// Answers a checklist. Changes nothing.
pub async fn go_through(period: Period, job: &Inspection) -> Checklist {
    let known = Known::gather(job, period).await;
    let lines = match period {
        Period::Daily => daily::lines(job, &known),
        Period::Weekly => weekly::lines(job, &known).await,
        Period::Monthly => monthly::lines(job, &known),
    };
    Checklist { period, at: known.now, lines }
}

/// Inputs that several items share.
struct Known {
    now: Timestamp,
    /// `None` if nothing has run yet.
    ledger: Result<Option<Ledger>, String>,
    /// Snapshots of the primary repository; read only if an item needs them.
    snapshots: Result<Vec<Snapshot>, String>,
    /// The location of the primary repository, as in the ledger.
    primary: String,
}

impl Known {
    async fn gather(job: &Inspection, period: Period) -> Self {
        let settings = &job.config.settings;
        let ledger = Ledger::find(&settings.state_directory).map_err(|error| error_chain(&error));
        let location = settings
            .repository
            .get(&job.primary)
            .and_then(|repository| repository.location(&job.environment).ok());
        let snapshots = if period == Period::Monthly {
            Ok(Vec::new())
        } else {
            listed(job, &job.primary).await
        };
        let primary = location.map_or_else(|| job.primary.clone(), |location| location.in_words());
        Self { now: job.host.facts.now(), ledger, snapshots, primary }
    }

    /// The newest snapshot of each source of the config.
    fn newest(&self, job: &Inspection) -> Result<Vec<Freshness>, String> {
        let snapshots = self.snapshots.as_ref().map_err(Clone::clone)?;
        let settings = &job.config.settings;
        let limit = SignedDuration::from_hours(i64::from(settings.status.max_age_hours));
        Ok(freshness(
            snapshots,
            &job.config.backup_sources(),
            settings.host_name().as_str(),
            limit,
            self.now,
        ))
    }

    /// Reads from the ledger; without a ledger, no run is known.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Ledger) -> Result<T, crate::engine::ledger::LedgerError>,
    ) -> Result<Option<T>, String> {
        match &self.ledger {
            Ok(Some(ledger)) => question(ledger).map(Some).map_err(|error| error_chain(&error)),
            Ok(None) => Ok(None),
            Err(why) => Err(why.clone()),
        }
    }
}

/// Opens a repository and lists its snapshots.
async fn listed(job: &Inspection, name: &str) -> Result<Vec<Snapshot>, String> {
    let settings = &job.config.settings;
    let repository = settings
        .repository
        .get(name)
        .ok_or_else(|| format!("the config has no repository {name}"))?;
    let access = repository
        .access(&settings.cache_directory, &job.environment)
        .map_err(|error| error_chain(&error))?;
    let opened = Repository::open(&access).await.map_err(|error| error_chain(&error))?;
    opened.snapshots().await.map_err(|error| error_chain(&error))
}

/// An item under construction: it holds until evidence against it is found.
struct Answer {
    holds: Holds,
    evidence: Vec<String>,
}

impl Answer {
    fn new() -> Self {
        Self { holds: Holds::Yes, evidence: Vec::new() }
    }

    fn for_it(&mut self, evidence: impl fmt::Display) {
        self.evidence.push(evidence.to_string());
    }

    fn against(&mut self, evidence: impl fmt::Display) {
        self.holds = Holds::No;
        self.evidence.push(evidence.to_string());
    }

    fn untold(&mut self, what: &str, why: &str) {
        if self.holds == Holds::Yes {
            self.holds = Holds::Unknown;
        }
        self.evidence.push(format!("cannot determine {what}: {why}"));
    }

    fn line(self, id: &'static str, en: &'static str, ar: &'static str) -> ChecklistLine {
        ChecklistLine { id, text: Text { en, ar }, holds: self.holds, evidence: self.evidence }
    }
}
