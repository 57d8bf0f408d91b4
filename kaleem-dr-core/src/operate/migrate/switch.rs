//! The switch-over: writes the config, proves it by a run, installs our schedules, disables the old
//! ones. In this order, so that backups never stop.

use std::{
    collections::BTreeSet,
    fs,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::{
    Journal, MigrateError, Step, Survey, below, failed,
    journal::{digest, exists},
    legacy::{CRON_FILE, TIMER, UNITS},
};
use crate::{
    ground::{Exit, ProofLevel, SourceName, durable_file},
    operate::{
        job::RunReport,
        schedule,
        schedule::{InstallReport, Plan, Style},
    },
    recovery::verify::VerifyReport,
};

/// cron ignores names with a dot.
const DISABLED: &str = ".disabled-by-kaleem-dr";

/// Evidence that a first run of the new config was proven. Only [`prove`] creates one.
#[derive(Debug)]
pub struct Proven(());

/// Why the first run proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
#[non_exhaustive]
pub struct NotProven {
    /// The reason, as a sentence.
    pub why: String,
    /// Exit status of the migration.
    pub exit: Exit,
}

/// The report of a switch-over.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SwitchReport {
    /// The installation of our schedules.
    pub installed: InstallReport,
    /// The disabled jobs, in words.
    pub disabled: Vec<String>,
    /// Commands that make systemd aware of the changes.
    pub commands: Vec<String>,
    /// They were run, because systemd runs on that system.
    #[serde(skip)]
    pub commands_run: bool,
}

/// Writes the secrets' files and the config, or resumes a migration: then its config is used in its
/// current form.
///
/// # Errors
/// [`MigrateError::Refused`] if a finding blocks it, a config exists that no migration wrote, or
/// the migration is complete already.
pub fn begin(survey: &Survey) -> Result<Journal, MigrateError> {
    if let Some(first) = survey.blocking().next() {
        let place = first.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        return Err(MigrateError::Refused(format!(
            "nothing was changed: {}{place}; {}",
            first.diagnosis.what,
            first.diagnosis.fix.as_deref().unwrap_or_default()
        )));
    }
    let mut journal = match Journal::load(&survey.root)? {
        Some(journal) if journal.finished.is_some() => {
            return Err(MigrateError::Refused(
                "this installation was migrated already; --undo reverts it".into(),
            ));
        }
        Some(journal) => journal,
        None if exists(&survey.config_path) => {
            let path = survey.config_path.display();
            return Err(MigrateError::Refused(format!(
                "nothing was changed: {path} exists and is not overwritten"
            )));
        }
        None => Journal::new(&survey.root, &survey.config_path),
    };
    for secret in &survey.draft.secrets {
        write(
            &mut journal,
            &secret.path,
            format!("{}\n", secret.value.expose_secret()).as_bytes(),
        )?;
    }
    write(&mut journal, &survey.config_path, survey.draft.config.as_bytes())?;
    Ok(journal)
}

/// Writes a file for its owner only, atomically. A file that this migration wrote before is left
/// alone, because the operator may have fixed it.
fn write(journal: &mut Journal, path: &Path, content: &[u8]) -> Result<(), MigrateError> {
    let is_noted = journal
        .steps
        .iter()
        .any(|step| matches!(step, Step::Write { path: written, .. } if written == path));
    if exists(path) {
        if is_noted || fs::read(path).map_err(failed("read", path))? == content {
            return Ok(());
        }
        return Err(MigrateError::Refused(format!(
            "{} exists with different content and is not overwritten",
            path.display()
        )));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let missing: Vec<_> = directory
        .ancestors()
        .take_while(|directory| !directory.exists())
        .map(Path::to_path_buf)
        .collect();
    for directory in missing.into_iter().rev() {
        journal.note(Step::MakeDirectory { path: directory.clone() })?;
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed("make the directory", &directory))?;
    }
    journal.note(Step::Write { path: path.to_path_buf(), sha256: digest(content) })?;
    durable_file::create_new(path, content, 0o600).map_err(failed("write", path))
}

/// Judges by a first run and its verification whether the new config does the old jobs' work.
/// `mirrors` are the exit statuses of replicating to each mirror.
///
/// # Errors
/// [`NotProven`] with the run's own exit status if that is not success, otherwise
/// [`Exit::NotVerified`] or the mirror's.
pub fn prove(
    run: &RunReport,
    wanted: &[SourceName],
    verified: &[VerifyReport],
    mirrors: &[Exit],
) -> Result<Proven, NotProven> {
    let not = |why: String, exit| Err(NotProven { why, exit });
    if run.exit != Exit::Done {
        return not(format!("the first backup failed or is not whole: {}", faults(run)), run.exit);
    }
    if run.dry_run || wanted.is_empty() {
        return not("nothing was backed up".into(), Exit::NotVerified);
    }
    let saved: BTreeSet<&str> = run
        .sources
        .iter()
        .filter(|source| source.snapshot.is_some())
        .map(|source| source.source.as_str())
        .collect();
    let proven: BTreeSet<&str> = verified
        .iter()
        .filter(|report| report.is_proven() && report.wanted >= ProofLevel::Parsed)
        .filter_map(|report| report.source.as_deref())
        .collect();
    if let Some(source) = wanted
        .iter()
        .find(|source| !saved.contains(source.as_str()) || !proven.contains(source.as_str()))
    {
        return not(format!("the first backup of {source} is not proven"), Exit::NotVerified);
    }
    if let Some(exit) = mirrors.iter().find(|exit| **exit != Exit::Done) {
        return not("the off-site repository could not be updated".into(), *exit);
    }
    Ok(Proven(()))
}

/// The reasons why a run did not end well.
fn faults(run: &RunReport) -> String {
    let mut faults: Vec<String> = run
        .repository_error
        .iter()
        .chain(&run.retention_error)
        .chain(&run.withheld)
        .cloned()
        .collect();
    for source in &run.sources {
        faults.extend(
            source.error.iter().chain(&source.staged_error).chain(&source.hook_error).cloned(),
        );
        if !source.incomplete.is_empty() {
            faults.push(format!(
                "source {}: {} of its parts could not be read",
                source.source,
                source.incomplete.len()
            ));
        }
    }
    for secondary in &run.secondaries {
        let name = &secondary.repository;
        faults.extend(secondary.error.iter().map(|error| format!("repository {name}: {error}")));
    }
    if faults.is_empty() { "see its report".to_owned() } else { faults.join("; ") }
}

/// Installs our schedules, then disables the old ones.
///
/// # Errors
/// [`MigrateError::Refused`] if the new name of the cron file exists; [`MigrateError::Schedule`] if
/// our schedules cannot be installed: then the old ones are unchanged.
pub fn switch(
    journal: &mut Journal,
    Proven(()): Proven,
    plan: &Plan,
    style: Style,
) -> Result<SwitchReport, MigrateError> {
    let root = journal.root.clone();
    let cron = below(&root, CRON_FILE);
    let off = PathBuf::from(format!("{}{DISABLED}", cron.display()));
    if exists(&cron) && exists(&off) {
        return Err(MigrateError::Refused(format!(
            "{} exists already; move it away",
            off.display()
        )));
    }
    journal.note(Step::InstallSchedules { style })?;
    let installed = schedule::install(plan, style, &root, false)?;
    let mut report = SwitchReport {
        commands: installed.commands.clone(),
        installed,
        disabled: Vec::new(),
        commands_run: false,
    };
    if exists(&cron) {
        journal.note(Step::Rename { from: cron.clone(), to: off.clone() })?;
        fs::rename(&cron, &off).map_err(failed("rename", &cron))?;
        report.disabled.push(format!("renamed {} to {}", cron.display(), off.display()));
    }
    let link = below(&root, Path::new(UNITS).join("timers.target.wants").join(TIMER));
    if exists(&link) {
        let target = fs::read_link(&link).map_err(failed("read the link", &link))?;
        journal.note(Step::Unlink { path: link.clone(), target })?;
        fs::remove_file(&link).map_err(failed("remove", &link))?;
        report.disabled.push(format!("removed {}", link.display()));
        report
            .commands
            .extend([format!("systemctl stop {TIMER}"), "systemctl daemon-reload".to_owned()]);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rustic_core::repofile;

    use super::*;
    use crate::{engine::repository::SnapshotId, ground::RunId, operate::job::SourceReport};

    fn source(name: &str) -> SourceReport {
        SourceReport {
            source: name.parse().unwrap(),
            kind: "files".into(),
            snapshot: Some(SnapshotId(repofile::SnapshotId::default())),
            error: None,
            size_bytes: 1,
            added_bytes: 1,
            artifacts: 0,
            items: 0,
            files: 1,
            files_new: 1,
            files_changed: 0,
            files_unmodified: 0,
            new_blob_bytes: 1,
            consistency: None,
            consistent_at: None,
            incomplete: Vec::new(),
            staged: None,
            staged_error: None,
            hook_error: None,
            healed: None,
            copies: Vec::new(),
            seconds: 0.0,
            exit: Exit::Done,
        }
    }

    fn run() -> RunReport {
        RunReport {
            run: RunId::new(),
            host: "h".into(),
            repository: "/r".into(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            dry_run: false,
            sources: vec![source("configs"), source("mongo")],
            forgotten: None,
            prune: None,
            retention_error: None,
            secondaries: Vec::new(),
            alarms: Vec::new(),
            withheld: None,
            repository_error: None,
            unsealed: None,
            hook_error: None,
            exit: Exit::Done,
        }
    }

    fn verified(name: &str, wanted: ProofLevel, proven: Option<ProofLevel>) -> VerifyReport {
        VerifyReport { proven, ..VerifyReport::of("p".to_owned(), Some(name.to_owned()), wanted) }
    }

    #[test]
    fn only_a_whole_run_of_which_every_point_is_parsed_proves_anything() {
        let wanted: Vec<SourceName> =
            ["configs", "mongo"].map(|name| name.parse().unwrap()).to_vec();
        let parsed = |name| verified(name, ProofLevel::Parsed, Some(ProofLevel::Parsed));
        let both = [parsed("configs"), parsed("mongo")];
        let exit = |run: &RunReport, verified: &[VerifyReport], mirrors: &[Exit]| {
            prove(run, &wanted, verified, mirrors).map(|_| ()).map_err(|not| not.exit)
        };
        assert_eq!(exit(&run(), &both, &[Exit::Done]), Ok(()));
        assert_eq!(exit(&run(), &both[..1], &[]), Err(Exit::NotVerified), "mongo was not verified");
        let damaged =
            [parsed("configs"), verified("mongo", ProofLevel::Parsed, Some(ProofLevel::Readable))];
        assert_eq!(exit(&run(), &damaged, &[]), Err(Exit::NotVerified), "mongo is not BSON");
        let shallow =
            [parsed("configs"), verified("mongo", ProofLevel::Stored, Some(ProofLevel::Stored))];
        assert_eq!(exit(&run(), &shallow, &[]), Err(Exit::NotVerified), "less was asked for");
        assert_eq!(
            exit(&run(), &both, &[Exit::Refused]),
            Err(Exit::Refused),
            "the mirror is not as it should be"
        );
        assert_eq!(
            exit(&RunReport { exit: Exit::Partial, ..run() }, &both, &[]),
            Err(Exit::Partial)
        );
        assert_eq!(exit(&RunReport { dry_run: true, ..run() }, &both, &[]), Err(Exit::NotVerified));
        assert_eq!(
            exit(&RunReport { sources: vec![source("configs")], ..run() }, &both, &[]),
            Err(Exit::NotVerified)
        );
    }
}
