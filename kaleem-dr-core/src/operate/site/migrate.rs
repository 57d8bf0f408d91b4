//! `migrate --apply`: a first run of the config that a migration wrote, and the switch to our jobs once that run is proven.

use std::path::{Path, PathBuf};

use super::{Backup, MirrorPass, Replication, Site, SiteError, Verification};
use crate::{
    ground::{Exit, ProofLevel, RunId},
    operate::{
        job::RunReport,
        migrate::{Journal, Proven, SwitchReport, prove, switch},
        schedule::{Manager, Style, activate, systemd_runs},
    },
    recovery::verify::VerifyReport,
};

/// Options of [`Site::migrate`]: system, program and style.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Migration {
    /// Id of the first run; a new one by default.
    pub run: Option<RunId>,
    /// Root directory of the system whose schedules are replaced.
    pub root: PathBuf,
    /// The program that our schedules start.
    pub program: PathBuf,
    /// Installs systemd timers even if systemd does not run below the root; otherwise a cron file is installed there.
    pub systemd: bool,
}

impl Migration {
    /// Migrates the running system to jobs that start this program.
    #[must_use]
    pub fn to(program: PathBuf) -> Self {
        Self { run: None, root: PathBuf::from("/"), program, systemd: false }
    }
}

/// A completed step of the first run of a migration.
#[derive(Debug)]
#[non_exhaustive]
pub enum FirstRun<'a> {
    /// The backup ended, successfully or not.
    Saved(&'a RunReport),
    /// Its points were verified, at level parsed.
    Verified(&'a [VerifyReport]),
    /// A mirror was updated, or could not be.
    Mirrored(&'a MirrorPass),
}

impl Site {
    /// Completes a migration with this site, which is that of the config that [`begin`](crate::operate::migrate::begin) wrote: backs
    /// up, verifies and updates the mirrors; only if all of that is proven, installs our schedules and disables the old ones. Nothing
    /// is forgotten before our jobs run. Calls `each` after every step of the first run.
    ///
    /// # Errors
    /// [`SiteError::Unproven`] if the first run fails or proves too little: the old jobs then continue unchanged.
    /// [`SiteError::Migrate`] or [`SiteError::Schedule`] if the switch fails.
    pub async fn migrate(
        &self,
        mut journal: Journal,
        wanted: &Migration,
        each: impl FnMut(FirstRun<'_>),
    ) -> Result<SwitchReport, SiteError> {
        let site = self.clone().without_retention();
        let proven =
            site.first_run(wanted.run.unwrap_or_default(), each).await.map_err(|cause| {
                SiteError::Unproven { config: journal.config.clone(), cause: Box::new(cause) }
            })?;
        let style = style_for(wanted.systemd, &wanted.root);
        let plan = site.schedule_plan(wanted.program.clone(), &wanted.root, Manager::System)?;
        let mut report = switch(&mut journal, proven, &plan, style)?;
        report.commands_run = activate(&wanted.root, &report.commands).await?;
        journal.finish()?;
        Ok(report)
    }

    async fn first_run(
        &self,
        run: RunId,
        mut each: impl FnMut(FirstRun<'_>),
    ) -> Result<Proven, SiteError> {
        let backup = Backup { run: Some(run), ..Backup::default() };
        let saved = self.backup(backup).await?;
        each(FirstRun::Saved(&saved));
        let wanted = self.config.backup_sources();
        let (mut verified, mut mirrors) = (Vec::new(), Vec::new());
        // A failed run is not worth verifying; its errors are the result.
        if saved.exit == Exit::Done {
            verified = self
                .verify(Verification {
                    run: Some(run),
                    sources: wanted.clone(),
                    point: run.to_string(),
                    level: Some(ProofLevel::Parsed),
                    ..Verification::default()
                })
                .await?;
            each(FirstRun::Verified(&verified));
            if self.has_mirrors() {
                let passes = self
                    .replicate(&Replication::default(), |pass| each(FirstRun::Mirrored(pass)))
                    .await?;
                mirrors.push(passes.exit);
            }
        }
        Ok(prove(&saved, &wanted, &verified, &mirrors)?)
    }

    fn has_mirrors(&self) -> bool {
        self.config.settings.repository.values().any(|of| of.mirror_of.is_some())
    }
}

fn style_for(systemd: bool, root: &Path) -> Style {
    if systemd || systemd_runs(root) { Style::Systemd } else { Style::Cron }
}
