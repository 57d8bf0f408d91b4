//! `recover`: restores everything in its order, side by side where nothing depends on each other.
//!
//! The journal in the state directory is written before and after each source, so that a recovery
//! that was killed continues. A source that fails leaves its command in the report, and the others
//! are still recovered.

mod forecasting;
mod leftover;
mod own_config;
mod planning;
mod repositories;
mod running;

use std::time::Instant;

use jiff::Timestamp;

use self::{leftover::left_of_source, planning::Planning, running::Running};
use super::{Site, SiteError, parts::released};
use crate::{
    engine::ledger::EventKind,
    ground::{Exit, RunId, SourceName, host::HostScope},
    operate::{
        hook::run_hooks,
        monitor::{Ended, Job},
        recover::{Journal, Left, Recover, RecoveryPlan, RecoveryReport},
    },
    recovery::{
        change_log::Moment,
        drill::{DrillReport, ReportKind},
    },
};

/// Time limit for a command of `recovery.after`.
const HOOK_PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

impl Recover {
    /// The job of this recovery, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        let (parts, is_narrowed) = site.parts_of(&self.only);
        (!self.dry_run).then(|| site.job(EventKind::Recover, run, parts, is_narrowed))
    }
}

impl From<&RecoveryReport> for Ended {
    fn from(report: &RecoveryReport) -> Self {
        let why: Vec<String> =
            report.left.iter().map(|left| format!("{}: {}", left.what, left.why)).collect();
        let mut ended = Self::of_drill(&report.results);
        ended.exit = report.exit;
        ended.message = (!why.is_empty()).then(|| why.join("; "));
        ended
    }
}

impl Site {
    /// Recovers sources, if `agree` accepts the plan; `None` if it does not, or for a dry run. What
    /// could not be recovered is in the report, with the commands for it.
    ///
    /// # Errors
    /// If the recovery cannot begin: the repository cannot be read, a name is unknown, another
    /// recovery runs, or the history cannot be written.
    pub async fn recover(
        &self,
        wanted: &Recover,
        agree: impl AsyncFnOnce(&RecoveryPlan) -> bool,
    ) -> Result<Option<RecoveryReport>, SiteError> {
        if self.identity.scope == HostScope::Any {
            return Err(SiteError::Config(
                "a recovery belongs to one host: replace --host any by a host's name".to_owned(),
            ));
        }
        let work = Box::pin(self.recover_wanted(wanted, agree));
        self.until_cancelled(work).await
    }

    async fn recover_wanted(
        &self,
        wanted: &Recover,
        agree: impl AsyncFnOnce(&RecoveryPlan) -> bool,
    ) -> Result<Option<RecoveryReport>, SiteError> {
        let began = Timestamp::now();
        let mut journal = self.journal(wanted)?;
        let names = self.recovered_names(&wanted.only)?;
        let reads = self.read_from(&journal)?;
        let planning = Planning { site: self, wanted, names: &names, reads: &reads };
        let plan = planning.plan(&journal).await?;
        if !agree(&plan).await || wanted.dry_run {
            return Ok(None);
        }
        let settings = &self.config.settings;
        let mut report = RecoveryReport {
            results: DrillReport::begun(
                plan.run,
                ReportKind::Recovery,
                &settings.host_name(),
                plan.location.clone(),
            ),
            earlier: names.iter().filter(|name| journal.has_recovered(name)).cloned().collect(),
            repositories: Vec::new(),
            hooks: Vec::new(),
            left: Vec::new(),
            notes: plan.notes.clone(),
            hash: String::new(),
            exit: Exit::Done,
        };
        report.results.started = began;
        let reads = self.fill_repositories(&plan, &mut journal, &mut report).await?;
        let site = self.clone().with_repository(&reads);
        let setup = Instant::now();
        let repository = site.repository().await?;
        report.results.repository = repository.location();
        let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
        let running = Running { site: &site, wanted, plan: &plan, repository: &repository };
        let done = running.run(&mut journal).await;
        tracing::debug!(seconds = setup.elapsed().as_secs_f64(), "restored");
        let lines = released(lock, done).await?;
        self.conclude(wanted, &plan, lines, &mut report).await?;
        if wanted.only.is_empty() && report.exit == Exit::Done {
            journal.finish()?;
        }
        Ok(Some(report))
    }

    /// Puts the results together, runs the operator's commands, and records everything.
    async fn conclude(
        &self,
        wanted: &Recover,
        plan: &RecoveryPlan,
        lines: running::Lines,
        report: &mut RecoveryReport,
    ) -> Result<(), SiteError> {
        for name in plan.sources.iter().map(|planned| &planned.source) {
            let Some(line) = lines.results.get(name) else { continue };
            report.left.extend(left_of_source(self, wanted, line));
            report.results.sources.push(line.clone());
        }
        report.notes.extend(lines.notes);
        let is_whole = wanted.only.is_empty() && report.left.is_empty();
        if wanted.in_place && !self.cancel.is_cancelled() {
            self.settle(report).await;
            if is_whole {
                let hooks = &self.config.settings.recovery.after;
                report.hooks = run_hooks(hooks, HOOK_PATIENCE, &self.cancel).await;
            }
        }
        let failed = report.hooks.iter().filter(|hook| hook.status != Some(0));
        report.left.extend(failed.map(|hook| {
            let command = hook.command.join(" ");
            Left::new(
                "after the recovery",
                format!("{command} failed: {}", hook.output),
                vec![command],
            )
        }));
        let left = report.left.iter().map(|left| format!("{}: {}", left.what, left.why));
        report.results.notes = report.notes.iter().cloned().chain(left).collect();
        report.exit = exit_of(report, self.cancel.is_cancelled());
        report.results.exit = report.exit;
        report.results.finished = Timestamp::now();
        let chained = self.record_drill(&mut report.results).await?;
        report.hash = chained.hash;
        Ok(())
    }

    fn journal(&self, wanted: &Recover) -> Result<Journal, SiteError> {
        let state = &self.config.settings.state_directory;
        let mut journal = Journal::open(state, wanted.run.unwrap_or_default(), wanted.in_place)?;
        if wanted.again {
            journal.begin_again(&wanted.only);
        }
        if let Some(finished) = journal.finished().filter(|_| !wanted.dry_run) {
            return Err(SiteError::Refused(format!(
                "everything was recovered at {finished}; --again recovers it once more"
            )));
        }
        let moment = wanted.moment.map(|moment| match moment {
            Moment::Before(position) => format!("the moment before {position}"),
            Moment::Newest => "the newest moment".to_owned(),
        });
        // A single source may be of another moment, if the operator asks for that.
        if wanted.only.is_empty()
            && let Err(earlier) = journal.set_moment(moment)
        {
            return Err(SiteError::Refused(format!(
                "an earlier attempt has recovered sources to {earlier}; repeat its options to continue it, or begin again with --again"
            )));
        }
        Ok(journal)
    }

    /// The sources to recover, each once.
    fn recovered_names(&self, only: &[SourceName]) -> Result<Vec<SourceName>, SiteError> {
        let names = if only.is_empty() { self.source_names() } else { only.to_vec() };
        if names.is_empty() {
            return Err(SiteError::Config(format!(
                "{} has no [source.NAME]: there is nothing to recover",
                self.path.display()
            )));
        }
        for name in &names {
            if !self.own.iter().any(|source| source.name() == name) {
                self.declared(name)?;
            }
        }
        // In the order of their recovery.
        Ok(self.config.order.groups(&names).concat())
    }
}

/// 4 if something was restored and differs, 3 if something is left to do, the common reason if
/// nothing was recovered.
fn exit_of(report: &RecoveryReport, is_cancelled: bool) -> Exit {
    // What could not be restored is left to do, whatever the reason; 4 is for what was restored.
    let exits: Vec<Exit> = report
        .results
        .sources
        .iter()
        .map(|line| match line.exit {
            Exit::NotVerified if line.verification.is_none() => Exit::Failed,
            exit => exit,
        })
        .collect();
    if is_cancelled {
        Exit::Cancelled
    } else if exits.contains(&Exit::NotVerified) {
        Exit::NotVerified
    } else if report.left.is_empty() && exits.iter().all(|exit| *exit == Exit::Done) {
        Exit::Done
    } else if exits.iter().any(|exit| matches!(exit, Exit::Done | Exit::Partial)) {
        Exit::Partial
    } else {
        match exits.first() {
            Some(first) if exits.iter().all(|exit| exit == first) => *first,
            _ => Exit::Failed,
        }
    }
}
