//! `migrate`.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use kaleem_dr_core::{
    Site,
    ground::{Exit, ProofLevel, diagnosis::Diagnosis},
    operate::site::{Backup, Replication, Verification},
    operate::{
        migrate::{Journal, Proven, Survey, SwitchReport, UndoReport, begin, prove, switch, undo},
        schedule::{Manager, Style, carry_out, systemd_runs},
    },
};
use serde_json::json;

use super::{
    Outcome, backup, replicate,
    schedule::{Commands, plan, print_commands},
    verify,
};
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Root directory of the old system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Write the config to this file for review; `-` prints it
    #[arg(long, value_name = "FILE", conflicts_with = "apply")]
    pub output: Option<PathBuf>,
    /// Write the config, back up and verify with it; if that succeeds, install our schedules and
    /// disable the old ones
    #[arg(long)]
    pub apply: bool,
    /// With --apply: install systemd timers even if systemd is not running
    #[arg(long, requires = "apply")]
    pub systemd: bool,
    /// Undo the changes of --apply
    #[arg(long, conflicts_with_all = ["apply", "output", "systemd"])]
    pub undo: bool,
}

pub async fn migrate(context: &Context, args: &Migrate) -> Outcome {
    let json = context.global.json;
    if args.undo {
        let report = undo(&args.root)?;
        let commands = Commands::of(false, &args.root);
        if commands == Commands::Ran {
            carry_out(&report.commands).await?;
        }
        print_undone(&report, commands, json)?;
        return Ok(Exit::Done);
    }
    let survey = Survey::of(&args.root).await?;
    match &args.output {
        Some(path) if path == Path::new("-") => {
            line(survey.draft.config.trim_end())?;
            return Ok(Exit::Done);
        }
        Some(path) => write_new(path, &survey.draft.config)?,
        None => {}
    }
    print_survey(&survey, args.output.as_deref(), json)?;
    if args.apply { apply(context, args, &survey).await } else { Ok(survey.exit()) }
}

async fn apply(before: &Context, args: &Migrate, survey: &Survey) -> Outcome {
    let mut journal = begin(survey)?;
    let context = before.with_config(journal.config.clone());
    // Forget nothing before the new jobs are in charge.
    let site = context.read_config()?.without_retention();
    let proven = first_run(&context, &site, &journal).await?;
    let style = if args.systemd || systemd_runs(&args.root) { Style::Systemd } else { Style::Cron };
    let report = switch(&mut journal, proven, &plan(&site, &args.root, Manager::System)?, style)?;
    let commands = Commands::of(false, &args.root);
    if commands == Commands::Ran {
        carry_out(&report.commands).await?;
    }
    journal.finish()?;
    print_switched(&report, commands, context.global.json)?;
    Ok(Exit::Done)
}

/// The first run of the new config. The old jobs stay untouched until it is proven.
async fn first_run(context: &Context, site: &Site, journal: &Journal) -> Result<Proven, Failure> {
    let unchanged = |failure: Failure| Failure {
        advice: Some(advice(failure.advice, &journal.config)),
        ..failure
    };
    let mut backup = Backup::default();
    backup.run = Some(context.run);
    let report = site.backup(backup).await.map_err(|error| unchanged(error.into()))?;
    backup::print(&report, context.global.json)?;
    let wanted = site.config().backup_sources();
    let mut verified = Vec::new();
    let mut mirrors = Vec::new();
    // A failed run is not worth verifying; its errors are the result.
    if report.exit == Exit::Done {
        let mut what = Verification::of(wanted.clone());
        (what.run, what.level) = (Some(context.run), Some(ProofLevel::Parsed));
        what.point = report.run.to_string();
        verified = site.verify(what).await.map_err(|error| unchanged(error.into()))?;
        verify::print(&verified, context.global.json)?;
        if site
            .config()
            .settings
            .repository
            .values()
            .any(|repository| repository.mirror_of.is_some())
        {
            mirrors.push(
                replicate::run(context, site, &Replication::default())
                    .await
                    .map_err(unchanged)?
                    .exit,
            );
        }
    }
    prove(&report, &wanted, &verified, &mirrors).map_err(|not| {
        let mut failure = Failure::new(not.exit, not.why);
        failure.advice = Some(advice(None, &journal.config));
        failure
    })
}

fn advice(first: Option<String>, config: &Path) -> String {
    let first = first.map(|first| format!("{first}. ")).unwrap_or_default();
    format!(
        "{first}The old jobs continue unchanged. Fix {} or what it refers to, then run `kaleem-dr migrate --apply` again; --undo removes it",
        config.display()
    )
}

fn write_new(path: &Path, content: &str) -> Result<(), Failure> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.map_err(|error| {
        Failure::usage(format!("{}: {error}; the existing file is not overwritten", path.display()))
    })?;
    Ok(file.write_all(content.as_bytes())?)
}

fn print_survey(survey: &Survey, written: Option<&Path>, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "migration", "survey": survey, "written": written }),
        );
    }
    for finding in &survey.findings {
        let place = finding.place.as_ref().map(|place| format!(" {place}:")).unwrap_or_default();
        let Diagnosis { id, severity, what, cause, fix, .. } = &finding.diagnosis;
        line(&format!("{}:{place} {what} [{id}]", severity.word()))?;
        let (why, advice) = (cause.as_deref(), fix.as_deref());
        line(&format!(
            "  why: {}\n  do:  {}",
            why.unwrap_or_default(),
            advice.unwrap_or_default()
        ))?;
    }
    let blocking = survey.blocking().count();
    if blocking > 0 {
        line(&format!("{blocking} of these must be fixed before --apply changes anything"))?;
    }
    for secret in &survey.draft.secrets {
        let (path, variable, from) =
            (secret.path.display(), &secret.variable, secret.from.display());
        line(&format!(
            "the config refers to {path}, which --apply writes, mode 600, from {variable} in {from}"
        ))?;
    }
    match written {
        Some(path) => line(&format!("wrote {}; nothing else was changed", path.display())),
        None => line(&format!(
            "the config goes to {}; `kaleem-dr migrate --output -` prints it, --apply writes it and switches over",
            survey.config_path.display()
        )),
    }
}

fn print_switched(report: &SwitchReport, commands: Commands, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "migrated", "commands_run": commands == Commands::Ran, "report": report }),
        );
    }
    for path in &report.installed.written {
        line(&format!("written  {}", path.display()))?;
    }
    for disabled in &report.disabled {
        line(&format!("off: {disabled}"))?;
    }
    for warning in &report.installed.warnings {
        line(&format!("warning: {warning}"))?;
    }
    print_commands(&report.commands, commands)?;
    line("the new jobs are in charge; `kaleem-dr migrate --undo` puts everything back")
}

fn print_undone(report: &UndoReport, commands: Commands, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "migration_undone", "commands_run": commands == Commands::Ran, "report": report }),
        );
    }
    report.done.iter().try_for_each(|done| line(done))?;
    report.left.iter().try_for_each(|left| line(&format!("unchanged: {left}")))?;
    print_commands(&report.commands, commands)
}
