//! `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kaleem_dr_core::{
    engine::change_log::InvalidLogPosition,
    ground::{Exit, SourceName},
    operate::site::{self, FilesRestore, FilesTarget, PlannedRestore},
    recovery::{
        change_log::Moment,
        point::Origin,
        restore::FilesReport,
        source::{
            Change, Existing, Extras, Rename, RestorePlan, RestoreReport, RestoreRequest,
            RestoreTarget,
        },
    },
};
use serde_json::json;

use super::Outcome;
use crate::{
    consent::{Asking, Consent},
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr restore mongo                        newest point, into a new database next to the old one
  kaleem-dr restore mongo --to kaleem_test --point 01J9
  kaleem-dr restore configs --at \"2026-11-27 12:00\"
  kaleem-dr restore mongo --to-time 2026-11-28T14:03:00Z
  kaleem-dr restore rabbitmq --in-place          into the broker itself, after a confirmation
  kaleem-dr restore mongo --from /backups/mongo/mongo-2026-01-31T030000Z.archive.gz
  kaleem-dr restore mongo --only users --rename users=users_old --in-place --existing merge
  kaleem-dr restore files --snapshot latest --target /tmp/r --include /etc/nginx";

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Source of the config, or `files` for the files of any snapshot
    pub source: SourceName,
    /// Run or snapshot to restore, by id prefix, or `latest~1` for the point before the newest
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    #[command(flatten)]
    pub at: At,
    /// Restore to the state just before this moment: a time with its zone (2026-11-28T14:03:00Z), a position SECONDS.INCREMENT of
    /// the change log, or `latest`; needs slices, see `kaleem-dr oplog`
    #[arg(long, value_name = "TIME", conflicts_with_all = ["point", "at", "from", "allow_incomplete"], value_parser = moment)]
    pub to_time: Option<Moment>,
    /// Use the newest point even if it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Restore this staged file instead, as written by `export` or by the old scripts; needs no
    /// repository
    #[arg(long, value_name = "FILE", conflicts_with_all = ["point", "at"])]
    pub from: Option<PathBuf>,
    /// New name next to the live data: a database, a virtual host, a directory
    #[arg(long, visible_alias = "target", value_name = "NAME", conflicts_with = "in_place")]
    pub to: Option<String>,
    /// Overwrite the live data
    #[arg(long)]
    pub in_place: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// Restore only these parts of the source, as globs: collections, virtual hosts, paths; may be
    /// repeated
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// Restore a part under another name; may be repeated
    #[arg(long, value_name = "FROM=TO", value_parser = rename)]
    pub rename: Vec<Rename>,
    /// Treatment of parts that already exist; next to the live data, only an interrupted restore
    /// may have left any
    #[arg(long, value_enum, default_value_t = ExistingChoice::Replace)]
    pub existing: ExistingChoice,
    /// With --in-place: how to treat existing parts that are not in the point
    #[arg(long, value_enum, default_value_t = ExtrasChoice::Keep)]
    pub extras: ExtrasChoice,
    /// With `files`: restore only this path or glob; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// With `files`: leave out this path or glob; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// With `files`: do not read restored files back
    #[arg(long)]
    pub no_verify: bool,
}

/// Parses a moment to restore.
pub fn moment(text: &str) -> Result<Moment, InvalidLogPosition> {
    if text == "latest" { Ok(Moment::Newest) } else { text.parse().map(Moment::Before) }
}

/// Treatment of parts that already exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExistingChoice {
    /// Remove the part and create it again
    Replace,
    /// Keep the part and add what it lacks
    Merge,
    /// Continue an interrupted restore of the same point: keep what is equal, complete the rest
    Continue,
}

/// Treatment of existing parts that are not in the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExtrasChoice {
    /// Keep them
    Keep,
    /// Remove them
    Remove,
}

fn rename(text: &str) -> Result<Rename, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            Ok(Rename::new(from.to_owned(), to.to_owned()))
        }
        _ => Err("write OLD=NEW".to_owned()),
    }
}

/// The argument that selects the files of any snapshot instead of a source.
const FILES: &str = "files";

pub async fn restore(context: &Context, args: Restore) -> Outcome {
    let of_files = args.source.as_str() == FILES;
    if !of_files && (!args.include.is_empty() || !args.exclude.is_empty() || args.no_verify) {
        return Err(Failure::usage(
            "--include, --exclude and --no-verify work with `restore files` only",
        ));
    }
    let choices = args.existing != ExistingChoice::Replace || args.extras != ExtrasChoice::Keep;
    if of_files && (choices || !args.only.is_empty() || !args.rename.is_empty()) {
        return Err(Failure::usage(
            "`restore files` does not accept --only, --rename, --existing and --extras; use --include",
        ));
    }
    if of_files && args.to_time.is_some() {
        return Err(Failure::usage("--to-time needs a source with a change log; `files` has none"));
    }
    if of_files && args.from.is_some() {
        return Err(Failure::usage(
            "name the source that the file belongs to: `kaleem-dr restore configs --from FILE`",
        ));
    }
    if of_files { files(context, args).await } else { source(context, args).await }
}

async fn source(context: &Context, args: Restore) -> Outcome {
    let (site, consent) = (context.load()?, args.consent);
    let mut asking = Asking::new(context, consent);
    let mut shown = None;
    let agree = async |planned: PlannedRestore<'_>| {
        if consent.dry_run {
            shown = Some(print_plan(planned, context.global.json));
            return false;
        }
        let question = format!("overwrite what is in {}?", planned.plan.target);
        let agreed =
            !planned.overwrites() || asking.agree(&question, || print_plan(planned, false)).await;
        if agreed {
            output::notes(&planned.plan.warnings);
        }
        agreed
    };
    let done = site.restore(args.options(), agree).await;
    if let (Some(printed), Ok(None)) = (shown, &done) {
        return printed.map(|()| Exit::Done);
    }
    let report = asking.given(done)?;
    print_restored(&report, context.global.json)?;
    Ok(report.exit())
}

impl Restore {
    fn options(self) -> site::Restore {
        let to =
            if self.in_place { RestoreTarget::InPlace } else { RestoreTarget::Beside(self.to) };
        let request = RestoreRequest::whole(to)
            .with_only(self.only)
            .with_rename(self.rename)
            .with_existing(match self.existing {
                ExistingChoice::Replace => Existing::Replace,
                ExistingChoice::Merge => Existing::Merge,
                ExistingChoice::Continue => Existing::Continue,
            })
            .with_extras(match self.extras {
                ExtrasChoice::Keep => Extras::Keep,
                ExtrasChoice::Remove => Extras::Remove,
            });
        let mut options = site::Restore::latest(self.source, request);
        (options.point, options.allow_incomplete) =
            (self.at.of(&self.point), self.allow_incomplete);
        (options.file, options.moment) = (self.from, self.to_time);
        options
    }
}

async fn files(context: &Context, args: Restore) -> Outcome {
    let target = match (args.to, args.in_place) {
        (Some(target), _) => FilesTarget::Directory(target.into()),
        (None, true) => FilesTarget::InPlace,
        (None, false) => {
            return Err(Failure::usage(
                "name a directory with --target DIRECTORY, or use --in-place for the original paths",
            ));
        }
    };
    let mut wanted = FilesRestore::to(target);
    wanted.snapshot = args.at.of(&args.point);
    (wanted.include, wanted.exclude) = (args.include, args.exclude);
    (wanted.verify, wanted.dry_run) = (!args.no_verify, args.consent.dry_run);
    let site = context.load()?;
    let mut asking = Asking::new(context, args.consent);
    let question = "overwrite these files in place?";
    let done = site
        .restore_files(wanted, async |plan| {
            asking.agree(question, || print_files(plan, false)).await
        })
        .await;
    let report = asking.given(done)?;
    print_files(&report, context.global.json)?;
    Ok(report.exit())
}

fn print_plan(PlannedRestore { plan, point, .. }: PlannedRestore<'_>, json: bool) -> Printed {
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
        output::moment(manifest.consistency.at),
        plan.target
    ))?;
    print_changes(plan)
}

/// Prints the changes and the warnings of a plan.
pub fn print_changes(plan: &RestorePlan) -> Printed {
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
    for missing in &report.not_restored {
        line(&format!("  NOT RESTORED: {}: {}", missing.what, missing.why))?;
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
