//! `replicate`: updates mirrors to match their repositories. Needs no password.

use std::time::Instant;

use jiff::Timestamp;

use super::{Site, SiteError};
use crate::{
    engine::{
        ledger::EventKind,
        replicate::{MirrorJob, MirrorOptions, MirrorReport, mirror, place},
    },
    ground::{Exit, RunId, error_chain},
    operate::{
        history::{History, Pass},
        monitor::{Ended, EndedPart, Job},
        tripwire::Alarms,
    },
};

/// Default of the maximum share of a mirror that a pass may delete, in percent.
pub const MAX_DELETE_PERCENT: u8 = 50;

/// Options of [`Site::replicate`]. The default updates every mirror of the config.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replication {
    /// Id of the job, under which each pass is recorded; a new one by default.
    pub run: Option<RunId>,
    /// Mirrors of the config; all if empty.
    pub mirrors: Vec<String>,
    /// Replicates from this repository of the config to that one instead.
    pub pair: Option<(String, String)>,
    /// Options of each pass. The site sets [`MirrorOptions::alarm`].
    pub options: MirrorOptions,
}

impl Default for Replication {
    /// Updates every mirror of the config.
    fn default() -> Self {
        let options =
            MirrorOptions { max_delete_percent: MAX_DELETE_PERCENT, ..MirrorOptions::default() };
        Self::with(options)
    }
}

impl Replication {
    fn with(options: MirrorOptions) -> Self {
        Self { run: None, mirrors: Vec::new(), pair: None, options }
    }

    /// Updates these mirrors of the config; all if the list is empty.
    #[must_use]
    pub fn of(mirrors: Vec<String>, options: MirrorOptions) -> Self {
        Self { mirrors, ..Self::with(options) }
    }

    /// Replicates from one repository of the config to another.
    #[must_use]
    pub fn between(from: String, to: String, options: MirrorOptions) -> Self {
        Self { pair: Some((from, to)), ..Self::with(options) }
    }

    /// The job of this command, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        if self.options.dry_run {
            return None;
        }
        let pairs = site.pairs(self).unwrap_or_default();
        let mirrors: Vec<String> = pairs.into_iter().map(|(_, to)| to).collect();
        let repositories = mirrors.iter().map(|name| site.place_of(name)).collect();
        let is_narrowed = self.pair.is_some() || !self.mirrors.is_empty();
        let kind = EventKind::Replicate;
        Some(Job { kind, run, repositories, parts: mirrors, is_narrowed })
    }
}

/// A pass of one mirror.
#[derive(Debug)]
#[non_exhaustive]
pub struct MirrorPass {
    /// Name of the repository in the config.
    pub from: String,
    /// Name of the mirror in the config.
    pub to: String,
    /// Report of the pass, or why it could not be carried out.
    pub result: Result<MirrorReport, SiteError>,
    /// Duration of the pass, in seconds.
    pub seconds: f64,
}

impl MirrorPass {
    /// Exit status of the pass.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.result {
            Ok(report) => report.exit,
            Err(error) => error.into(),
        }
    }

    fn part(&self) -> EndedPart {
        let message = match &self.result {
            Ok(report) => report
                .refused
                .clone()
                .or_else(|| report.wrong.first().cloned())
                .or_else(|| report.postponed.clone()),
            Err(error) => Some(error_chain(error)),
        };
        EndedPart { name: self.to.clone(), exit: self.exit(), message, seconds: self.seconds }
    }
}

/// The report of [`Site::replicate`], with one pass for each mirror.
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
pub struct Replicated {
    /// A pass for each mirror that was reached.
    pub passes: Vec<MirrorPass>,
    /// Exit status: of the first pass that failed, or cancelled.
    pub exit: Exit,
}

impl From<&Replicated> for Ended {
    fn from(report: &Replicated) -> Self {
        Self {
            parts: report.passes.iter().map(MirrorPass::part).collect(),
            ..Self::from(report.exit)
        }
    }
}

impl Site {
    /// Updates mirrors to match their repositories, one after the other, and calls `each` after
    /// every pass. Each pass is recorded in the history as soon as it ends. If a pass fails, the next one still runs. While an alarm is unacknowledged,
    /// nothing is deleted from a mirror.
    ///
    /// # Errors
    /// If no pass can begin: an unknown mirror, no mirror at all, an unreadable history or
    /// unreadable alarms.
    pub async fn replicate(
        &self,
        wanted: &Replication,
        mut each: impl FnMut(&MirrorPass),
    ) -> Result<Replicated, SiteError> {
        let state_directory = &self.config.settings.state_directory;
        let history = self.history()?;
        let run = wanted.run.unwrap_or_default();
        // Without a password it is unknown which repository an alarm belongs to, so any alarm
        // postpones deletions.
        let alarms = Alarms::load(state_directory)?;
        let alarm = alarms.standing().first().map(ToString::to_string);
        let options = MirrorOptions { alarm, ..wanted.options.clone() };
        let mut done = Replicated { passes: Vec::new(), exit: Exit::Done };
        for (from, to) in self.pairs(wanted)? {
            let began = Instant::now();
            let pass = self.pass(&history, run, options.clone(), (&from, &to));
            let result = self.until_cancelled(Box::pin(pass)).await;
            let pass = MirrorPass { from, to, result, seconds: began.elapsed().as_secs_f64() };
            each(&pass);
            if done.exit == Exit::Done {
                done.exit = pass.exit();
            }
            done.passes.push(pass);
            if self.cancel.is_cancelled() {
                done.exit = Exit::Cancelled;
                break;
            }
        }
        Ok(done)
    }

    /// Runs one pass of one mirror and records its event, even if the pass cannot begin. A dry run is not recorded.
    async fn pass(
        &self,
        history: &History,
        run: RunId,
        options: MirrorOptions,
        (from, to): (&str, &str),
    ) -> Result<MirrorReport, SiteError> {
        let is_append_only =
            self.config.settings.repository.get(to).is_some_and(|mirror| mirror.append_only);
        let options = MirrorOptions { keep_all: options.keep_all || is_append_only, ..options };
        let stores = || -> Result<_, SiteError> {
            let near = self.location(from)?.store()?;
            Ok((near, place(history.ledger(), &self.location(to)?, &options)?))
        };
        let (near, far) = match stores() {
            Ok(stores) => stores,
            Err(error) => {
                if !options.dry_run {
                    let why = error_chain(&error);
                    history.pass_not_begun(run, &self.place_of(to), Exit::from(&error), &why)?;
                }
                return Err(error);
            }
        };
        let (from_words, to_words) = (near.location(), far.location());
        let job = MirrorJob {
            from: near,
            to: far,
            run,
            ledger: Some(history.ledger().clone()),
            // A lost password does not prevent copying.
            access: self.access_to(from).ok(),
            options,
        };
        let started = Timestamp::now();
        let result = mirror(&job, &self.progress, &self.cancel).await;
        // A plan is not a pass: it would count as one that filled the mirror.
        if !job.options.dry_run {
            history.pass(Pass { run, from: &from_words, to: &to_words, started }, &result)?;
        }
        Ok(result?)
    }

    /// The pairs of repository and mirror, by name.
    fn pairs(&self, wanted: &Replication) -> Result<Vec<(String, String)>, SiteError> {
        if let Some(pair) = &wanted.pair {
            return Ok(vec![pair.clone()]);
        }
        let is_wanted = |name: &String| wanted.mirrors.is_empty() || wanted.mirrors.contains(name);
        let mirrors = self.config.settings.repository.iter().filter(|(name, _)| is_wanted(name));
        let pairs: Vec<(String, String)> =
            mirrors.filter_map(|(name, of)| Some((of.mirror_of.clone()?, name.clone()))).collect();
        if let Some(unknown) =
            wanted.mirrors.iter().find(|name| !pairs.iter().any(|(_, to)| to == *name))
        {
            return Err(SiteError::Config(format!(
                "{} has no [repository.{unknown}] with `mirror_of`",
                self.path.display()
            )));
        }
        if pairs.is_empty() {
            return Err(SiteError::NoMirror(format!(
                "no repository in {} has `mirror_of`: there is nothing to replicate",
                self.path.display()
            )));
        }
        Ok(pairs)
    }
}
