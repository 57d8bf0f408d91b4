//! `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kaleem_dr_core::{
    Site,
    engine::repository::{Repository, select},
    ground::{Exit, SourceName},
    operate::job::{Restoring, plan_restore},
    recovery::{
        point::{Origin, PointReader},
        points::open_point,
        restore::{FilesReport, RestoreOptions, restore_files},
        source::{
            Change, Existing, Extras, Rename, Restorable, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget,
        },
    },
};
use serde_json::json;

use super::{Outcome, export::no_form};
use crate::{
    consent::{self, Consent},
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr restore mongo                        newest point, into a new database beside the old one
  kaleem-dr restore mongo --to kaleem_test --point 01J9
  kaleem-dr restore rabbitmq --in-place          into the broker itself, after a question
  kaleem-dr restore mongo --from /backups/mongo/mongo-2026-01-31T030000Z.archive.gz
  kaleem-dr restore mongo --only users --rename users=users_old --in-place --existing merge
  kaleem-dr restore files --snapshot latest --target /tmp/r --include /etc/nginx";

/// What to restore, and where.
#[derive(Debug, Args)]
pub struct Restore {
    /// A source of the config, or `files` for the files of any snapshot
    pub source: SourceName,
    /// Run or snapshot to restore, by the beginning of its id
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Take the newest point although it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// A staged file to restore instead, as `export` or the tools before wrote it; no repository is needed
    #[arg(long, value_name = "FILE", conflicts_with = "point")]
    pub from: Option<PathBuf>,
    /// Name beside what is there: a database, a virtual host, a directory
    #[arg(long, visible_alias = "target", value_name = "NAME", conflicts_with = "in_place")]
    pub to: Option<String>,
    /// Over what is there
    #[arg(long)]
    pub in_place: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// Only these parts of the source: a collection, a virtual host, a path, as a glob; may be repeated
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// Restore a part under another name; may be repeated
    #[arg(long, value_name = "FROM=TO", value_parser = rename)]
    pub rename: Vec<Rename>,
    /// In place: what becomes of a part that is there
    #[arg(long, value_enum, default_value_t = ExistingChoice::Replace)]
    pub existing: ExistingChoice,
    /// In place: what becomes of parts that are there but not in the point
    #[arg(long, value_enum, default_value_t = ExtrasChoice::Keep)]
    pub extras: ExtrasChoice,
    /// `files` only: what to restore, a path or a glob; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// `files` only: what to leave out; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// `files` only: do not read restored files back
    #[arg(long)]
    pub no_verify: bool,
}

/// What becomes of a part that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExistingChoice {
    /// It is removed and made anew
    Replace,
    /// It stays, and what it lacks of the point is added
    Merge,
}

/// What becomes of parts that are there but not in the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExtrasChoice {
    /// They stay
    Keep,
    /// They are removed
    Remove,
}

fn rename(text: &str) -> Result<Rename, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok(Rename { from: from.to_owned(), to: to.to_owned() })
        }
        _ => Err("write OLD=NEW".to_owned()),
    }
}

/// The word that means the files of any snapshot rather than a source.
const FILES: &str = "files";

pub async fn restore(context: &Context, args: Restore) -> Outcome {
    let site = context.load()?;
    let of_files = args.source.as_str() == FILES;
    if !of_files && (!args.include.is_empty() || !args.exclude.is_empty() || args.no_verify) {
        return Err(Failure::usage(
            "--include, --exclude and --no-verify go with `restore files` only",
        ));
    }
    let choices = args.existing != ExistingChoice::Replace || args.extras != ExtrasChoice::Keep;
    if of_files && (choices || !args.only.is_empty() || !args.rename.is_empty()) {
        return Err(Failure::usage(
            "`restore files` knows no --only, --rename, --existing and --extras; --include chooses",
        ));
    }
    if let Some(path) = &args.from {
        if of_files {
            return Err(Failure::usage(
                "name the source whose form the file has: `kaleem-dr restore configs --from FILE`",
            ));
        }
        let source = site.source(&args.source)?;
        let form = source.staged().ok_or_else(|| no_form(&args.source))?;
        let point = form.open(path, &site.staged_work()).await?;
        return point_of(context, &site, (&*source, &point, Vec::new()), args).await;
    }
    let repository = site.repository().await?;
    // A shared lock: nobody may prune what we are reading.
    let lock = context.lock_to_read(&repository).await?;
    let result = if of_files {
        files(context, &site, &repository, args).await
    } else {
        source(context, &site, &repository, args).await
    };
    lock.release().await?;
    result
}

async fn source(context: &Context, site: &Site, repository: &Repository, args: Restore) -> Outcome {
    let source = site.source(&args.source)?;
    let choice = site.point(&args.point, args.allow_incomplete);
    let (point, notes) =
        open_point(repository, &args.source, &choice, &context.progress, &context.cancel).await?;
    point_of(context, site, (&*source, &point, notes), args).await
}

async fn point_of(
    context: &Context,
    site: &Site,
    (source, point, notes): (&dyn Restorable, &PointReader, Vec<String>),
    args: Restore,
) -> Outcome {
    let request = RestoreRequest {
        to: if args.in_place { RestoreTarget::InPlace } else { RestoreTarget::Beside(args.to) },
        only: args.only,
        rename: args.rename,
        existing: match args.existing {
            ExistingChoice::Replace => Existing::Replace,
            ExistingChoice::Merge => Existing::Merge,
        },
        extras: match args.extras {
            ExtrasChoice::Keep => Extras::Keep,
            ExtrasChoice::Remove => Extras::Remove,
        },
    };
    let plan = plan_restore(Restoring { source, point, notes, identity: site.identity() }, request)
        .await?;
    if args.consent.dry_run {
        print_plan(&plan, point, context.global.json)?;
        return Ok(Exit::Done);
    }
    if plan.request.to == RestoreTarget::InPlace || plan.overwrites() {
        let question = format!("write over what is in {}?", plan.target);
        consent::ask(args.consent, &question, &context.cancel, || print_plan(&plan, point, false))
            .await?;
    }
    output::notes(&plan.warnings);
    let report = source.restore(point, plan).await?;
    print_restored(&report, context.global.json)?;
    Ok(if report.is_done() { Exit::Done } else { Exit::NotVerified })
}

async fn files(context: &Context, site: &Site, repository: &Repository, args: Restore) -> Outcome {
    let target = match (args.to, args.in_place) {
        (Some(target), _) => target.into(),
        (None, true) => "/".into(),
        (None, false) => {
            return Err(Failure::usage(
                "say where to with --target DIRECTORY, or --in-place for the real paths",
            ));
        }
    };
    let snapshots = repository.snapshots().await?;
    let chosen = select(&snapshots, &args.point, &site.identity().scope)?;
    if args.in_place {
        site.identity()
            .refuse_replacing_from(&chosen.id().short(), chosen.host())
            .map_err(|why| Failure::new(Exit::Refused, why))?;
    }
    let snapshot = repository.read(chosen).await?;
    let mut options = RestoreOptions::new(target);
    options.include = args.include;
    options.exclude = args.exclude;
    options.without_own_files = args.in_place;
    options.overwrite = args.in_place;
    options.verify = !args.no_verify;
    options.dry_run = true;
    if args.in_place && !args.consent.dry_run {
        let plan = restore_files(&snapshot, &options, &context.progress, &context.cancel).await?;
        consent::ask(
            args.consent,
            "write these files over those in place?",
            &context.cancel,
            || print_files(&plan, false),
        )
        .await?;
    }
    options.dry_run = args.consent.dry_run;
    let report = restore_files(&snapshot, &options, &context.progress, &context.cancel).await?;
    if report.is_empty() {
        let of = snapshot
            .snapshot()
            .source()
            .map_or_else(String::new, |source| format!(" of source {source}"));
        let mut failure = Failure::new(
            Exit::Failed,
            format!(
                "nothing in snapshot {}{of} is meant by that",
                snapshot.snapshot().id().short()
            ),
        );
        failure.advice =
            Some("`kaleem-dr snapshots` lists what there is; name one with --snapshot".into());
        return Err(failure);
    }
    print_files(&report, context.global.json)?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Partial })
}

fn print_plan(plan: &RestorePlan, point: &PointReader, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(plan)?;
        value["message_type"] = "plan".into();
        match point.origin() {
            Origin::Snapshot(reader) => {
                value["snapshot_id"] = reader.snapshot().id().to_string().into();
            }
            Origin::File(file) => value["file"] = file.path.display().to_string().into(),
        }
        return document(&value);
    }
    let manifest = point.manifest();
    let origin = match point.origin() {
        Origin::Snapshot(reader) => format!("snapshot {}", reader.snapshot().id().short()),
        Origin::File(file) => file.path.display().to_string(),
    };
    let host =
        plan.origin.as_ref().map_or_else(String::new, |origin| format!(", host {},", origin.host));
    line(&format!(
        "{origin} of {}{host} as of {} → {}",
        manifest.source,
        manifest.consistency.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        plan.target
    ))?;
    for action in &plan.actions {
        let change = match action.change {
            Change::Create => "create",
            Change::Overwrite => "OVERWRITE",
            Change::Merge => "merge",
            Change::Leave => "leave",
            Change::Remove => "REMOVE",
            Change::Conflict => "CONFLICT",
        };
        let items = action.items.map(|items| format!(", {items} items")).unwrap_or_default();
        let bytes = action.size_bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        let why = action.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        line(&format!("  {change:9} {}{items}{bytes}{why}", action.what))?;
    }
    plan.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))
}

fn print_restored(report: &RestoreReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        value["equal"] = (report.is_equal() && report.uncompared.is_empty()).into();
        return document(&value);
    }
    line(&format!(
        "restored {} items, {} into {}",
        report.items,
        size(report.size_bytes),
        report.target
    ))?;
    report.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))?;
    report.compared.iter().try_for_each(|what| line(&format!("  equal: {what}")))?;
    for difference in &report.differences {
        line(&format!(
            "  DIFFERS: {}: expected {}, found {}",
            difference.what, difference.expected, difference.found
        ))?;
    }
    for hook in &report.hooks {
        let status = hook
            .status
            .map_or_else(|| "did not run".to_owned(), |status| format!("ended with {status}"));
        line(&format!("  after the restore: {} {status}", hook.command.join(" ")))?;
        hook.output.lines().try_for_each(|text| line(&format!("    {text}")))?;
    }
    for uncompared in &report.uncompared {
        line(&format!("  NOT COMPARED: {}: {}", uncompared.what, uncompared.why))?;
    }
    line(match (report.is_equal(), report.uncompared.is_empty()) {
        (true, true) => "it is equal to what was captured",
        (true, false) => {
            "what was compared is equal to what was captured; the rest was NOT compared"
        }
        (false, _) => "it is NOT equal to what was captured",
    })
}

fn print_files(report: &FilesReport, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "summary",
            "files_restored": report.files + report.links,
            "total_files": report.files + report.links,
            "total_bytes": report.size_bytes,
            "bytes_restored": report.size_bytes,
            "directories": report.directories,
            "others": report.others,
            "files_verified": report.verified,
            "problems": report.problems,
            "more_problems": report.more_problems,
            "notes": report.notes,
            "left_to_root": report.roots_only,
            "more_notes": report.more_notes,
        }));
    }
    let verified = if report.verified > 0 {
        format!("; {} read back and equal", report.verified)
    } else {
        String::new()
    };
    line(&format!(
        "{} files, {} directories, {} others, {}{verified}",
        report.files + report.links,
        report.directories,
        report.others,
        size(report.size_bytes)
    ))?;
    report
        .notes
        .iter()
        .try_for_each(|note| line(&format!("  note: {}: {}", note.path, note.why)))?;
    report.left_to_root().try_for_each(|note| line(&format!("  note: {note}")))?;
    if report.more_notes > 0 {
        line(&format!("  note: {} more like these", report.more_notes))?;
    }
    report
        .problems
        .iter()
        .try_for_each(|problem| line(&format!("  FAILED: {}: {}", problem.path, problem.why)))?;
    if report.more_problems > 0 {
        line(&format!("  FAILED: {} more like these", report.more_problems))?;
    }
    Ok(())
}
