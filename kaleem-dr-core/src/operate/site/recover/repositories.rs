//! The repositories of a recovery: which one is read, and those of the config that do not exist,
//! which are filled first.

use super::super::{Copying, Init, Replication, Site, SiteError};
use crate::{
    engine::{
        replicate::MirrorOptions,
        repository::{Repository, RepositoryError},
    },
    ground::{Exit, error_chain, failpoint, failpoint::Step},
    operate::{
        bootstrap::Origin,
        recover::{
            Journal, Left, PlannedRepository, RecoveryPlan, RecoveryReport, RepositoryFrom,
            RepositoryOutcome,
        },
    },
};

impl Site {
    /// Name of the repository to read: the one that was selected, that the journal has, or that this
    /// machine was set up from; otherwise as for every command.
    pub(super) fn read_from(&self, journal: &Journal) -> Result<String, SiteError> {
        if let Some(chosen) = &self.chosen {
            return Ok(self.named(chosen)?.0.to_owned());
        }
        if let Some(reads) = journal.reads() {
            return Ok(self.named(reads)?.0.to_owned());
        }
        let state = &self.config.settings.state_directory;
        let origin = Origin::load(state).map_err(|cause| SiteError::File {
            path: Origin::path(state),
            action: "read the repository to recover from",
            cause,
        })?;
        match origin {
            Some(origin) => Ok(self.named(&origin.repository)?.0.to_owned()),
            None => Ok(self.chosen_repository()?.0.to_owned()),
        }
    }

    /// The repositories of the config that do not exist, or whose filling was interrupted, except
    /// mirrors, which the next pass fills. Also returns a note for each one that cannot be examined.
    pub(super) async fn absent_repositories(
        &self,
        reads: &str,
        journal: &Journal,
    ) -> (Vec<PlannedRepository>, Vec<String>) {
        let (mut absent, mut notes) = (Vec::new(), Vec::new());
        for (name, settings) in &self.config.settings.repository {
            if name == reads || settings.mirror_of.is_some() {
                continue;
            }
            let opened = match self.access_to(name) {
                Ok(access) => Repository::open(&access).await.map(drop).map_err(SiteError::from),
                Err(error) => Err(error),
            };
            match opened {
                Ok(()) if !journal.is_filling(name) => {}
                Ok(()) | Err(SiteError::Repository(RepositoryError::NotFound { .. })) => {
                    let from = self.origin_of(name, reads);
                    absent.push(PlannedRepository::new(name.clone(), self.place_of(name), from));
                }
                Err(error) => notes.push(format!(
                    "the repository {name} cannot be examined, so it is not filled if it is missing: {}",
                    error_chain(&error)
                )),
            }
        }
        (absent, notes)
    }

    /// A repository is filled object by object from its own mirror, and from a repository that the
    /// config did not have, which can only be a mirror of it; any other one has an id of its own.
    fn origin_of(&self, name: &str, reads: &str) -> RepositoryFrom {
        let mirrors = |settings: &crate::operate::config::RepositorySettings| {
            settings.mirror_of.as_deref() == Some(name)
        };
        let is_mirror = self.config.settings.repository.get(reads).is_some_and(mirrors);
        let is_unknown = reads == crate::operate::bootstrap::RECOVERED;
        if is_mirror || is_unknown { RepositoryFrom::Mirror } else { RepositoryFrom::Copy }
    }

    /// Fills the absent repositories, and returns the name of the one to read from now on: the
    /// primary one if it was filled, because it is nearer.
    pub(super) async fn fill_repositories(
        &self,
        plan: &RecoveryPlan,
        journal: &mut Journal,
        report: &mut RecoveryReport,
    ) -> Result<String, SiteError> {
        let mut reads = plan.repository.clone();
        for planned in &plan.repositories {
            // Its config is written first: an interrupted one exists, and has no points yet.
            journal.begin_filling(&planned.name)?;
            failpoint::pass(Step::Recover);
            let filled = self.fill(planned, plan).await;
            if self.cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled.into());
            }
            failpoint::pass(Step::Recover);
            if filled.is_ok() {
                journal.filled(&planned.name)?;
            }
            let error = filled.as_ref().err().map(|error| error_chain(error));
            match &error {
                None if self.is_primary(&planned.name) => reads.clone_from(&planned.name),
                None => {}
                Some(error) => report.left.push(Left::new(
                    format!("repository {}", planned.name),
                    error.clone(),
                    commands(planned, &plan.repository),
                )),
            }
            report.repositories.push(RepositoryOutcome::new(planned.name.clone(), error));
        }
        journal.read_from(&reads)?;
        Ok(reads)
    }

    async fn fill(
        &self,
        planned: &PlannedRepository,
        plan: &RecoveryPlan,
    ) -> Result<(), SiteError> {
        tracing::info!(repository = %planned.name, from = %plan.repository, "filling a repository that does not exist");
        let (from, to) = (plan.repository.clone(), planned.name.clone());
        match planned.from {
            RepositoryFrom::Mirror => {
                let options =
                    MirrorOptions { refill: true, keep_all: true, ..MirrorOptions::default() };
                let wanted = Replication::between(from, to, options);
                let done = Box::pin(self.replicate(&wanted, |_| ())).await?;
                let Some(pass) = done.passes.into_iter().next() else { return Ok(()) };
                match pass.result? {
                    report if report.exit == Exit::Done => Ok(()),
                    report => Err(SiteError::Refused(
                        report.refused.or_else(|| report.wrong.first().cloned()).unwrap_or_else(
                            || format!("the pass ended with {}", report.exit.code()),
                        ),
                    )),
                }
            }
            RepositoryFrom::Copy => {
                let site = self.clone().with_repository(&to);
                // It exists if an earlier attempt was interrupted.
                match site.repository().await {
                    Ok(_) => {}
                    Err(SiteError::Repository(RepositoryError::NotFound { .. })) => {
                        Box::pin(site.init_repository(&Init::of(2, Some(from.clone())))).await?;
                    }
                    Err(error) => return Err(error),
                }
                self.copy_points(&from, &to, plan).await
            }
        }
    }

    async fn copy_points(
        &self,
        from: &str,
        to: &str,
        plan: &RecoveryPlan,
    ) -> Result<(), SiteError> {
        let points = plan.sources.iter().filter_map(|planned| planned.snapshot);
        let mut copying = Copying::to(to);
        copying.snapshots = points.map(|id| id.to_string()).collect();
        if copying.snapshots.is_empty() {
            return Ok(());
        }
        let report = Box::pin(self.clone().with_repository(from).copy(&copying)).await?;
        match report.failed.first() {
            None => Ok(()),
            Some(failure) => Err(SiteError::Refused(failure.error.clone())),
        }
    }

    /// Reports whether a repository is the one that commands use without `--repo`.
    pub(super) fn is_primary(&self, name: &str) -> bool {
        let mut site = self.clone();
        site.chosen = None;
        site.chosen_repository().is_ok_and(|(primary, _)| primary == name)
    }

    /// After a recovery in place: what the history must know of the repositories, so that `status`
    /// and the next jobs find it. What fails is left to do.
    pub(super) async fn settle(&self, report: &mut RecoveryReport) {
        if let Err(error) = Box::pin(self.rebuild_past()).await {
            report.left.push(Left::new(
                "history",
                error_chain(&error),
                vec!["kaleem-dr history --rebuild".to_owned()],
            ));
        }
        let mut site = self.clone();
        site.chosen = None;
        let Ok((primary, _)) = site.chosen_repository() else { return };
        let repositories = &self.config.settings.repository;
        let mirrors = repositories
            .iter()
            .filter(|(_, settings)| settings.mirror_of.as_deref() == Some(primary));
        for (name, _) in mirrors {
            let options = MirrorOptions { keep_all: true, ..MirrorOptions::default() };
            let wanted = Replication::of(vec![name.clone()], options);
            let done = Box::pin(self.replicate(&wanted, |_| ())).await;
            let why = match done {
                Err(error) => Some(error_chain(&error)),
                Ok(done) => done.passes.iter().find_map(|pass| match &pass.result {
                    Err(error) => Some(error_chain(error)),
                    Ok(done) => done.refused.clone(),
                }),
            };
            if let Some(why) = why {
                report.left.push(Left::new(
                    format!("mirror {name}"),
                    why,
                    vec![format!("kaleem-dr replicate {name}")],
                ));
            }
        }
    }
}

/// The commands that fill a repository by hand.
fn commands(planned: &PlannedRepository, from: &str) -> Vec<String> {
    let name = &planned.name;
    match planned.from {
        RepositoryFrom::Mirror => vec![format!("kaleem-dr replicate --from {from} --to {name}")],
        RepositoryFrom::Copy => vec![
            format!("kaleem-dr --repo {name} init --copy-chunker-params {from}"),
            format!("kaleem-dr --repo {from} copy {name}"),
        ],
    }
}
