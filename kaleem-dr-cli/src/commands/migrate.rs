//! `migrate`.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, diagnosis::Diagnosis},
    operate::{
        migrate::{Survey, SwitchReport, UndoReport, begin, undo},
        site::{FirstRun, Migration},
    },
};
use serde_json::json;

use super::{
    Outcome, backup, replicate,
    schedule::{Commands, print_commands},
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
        let ran = report.activate(&args.root).await?;
        print_undone(&report, Commands::of(ran, false, &args.root), json)?;
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
    let journal = begin(survey)?;
    let context = before.with_config(journal.config.clone());
    let json = context.global.json;
    let mut wanted = Migration::to(std::env::current_exe()?);
    wanted.run = Some(context.run);
    wanted.root.clone_from(&args.root);
    wanted.systemd = args.systemd;
    let mut printed = Ok(());
    let report = context
        .read_config()?
        .migrate(journal, &wanted, |step| {
            let now = print_step(&step, json);
            if printed.is_ok() {
                printed = now;
            }
        })
        .await?;
    printed?;
    let commands = Commands::of(report.commands_run, false, &args.root);
    print_switched(&report, commands, json)?;
    Ok(Exit::Done)
}

fn print_step(step: &FirstRun<'_>, json: bool) -> Printed {
    match step {
        FirstRun::Saved(report) => backup::print(report, json),
        FirstRun::Verified(reports) => verify::print(reports, json),
        FirstRun::Mirrored(pass) => replicate::print_pass(pass, json),
        _ => Ok(()),
    }
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
