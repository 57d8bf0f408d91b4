//! `diff`.

use std::ops::ControlFlow;

use clap::Args;
use kaleem_dr_core::{
    ground::SourceName,
    operate::site::{self, Compared, DiffReport, SnapshotDiff},
    recovery::{
        look::{ChangeKind, Counted, TreeChange},
        source::{ItemChange, PartDiff},
    },
};
use serde_json::json;

use super::{Outcome, ls};
use crate::{
    context::Context,
    output::{Lines, entries, notes, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr diff latest~1 latest                  what the last run changed, for each source
  kaleem-dr diff configs~7 configs --verbose      with the names of files
  kaleem-dr diff 01M84Q9X 01M84QAM --source mongo
  kaleem-dr diff 4f3a a153                        two snapshots of any program

Letters: + added, - removed, M content changed, U only attributes changed, T of another type.";

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Older point: a run or a snapshot by id prefix, a source, `latest`; each of the last two with `~N` for an older one
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Newer point
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Compare only this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<SourceName>,
}

pub async fn diff(context: &Context, args: &Diff) -> Outcome {
    let (json, names) = (context.global.json, context.global.verbose > 0);
    let mut wanted = site::Diff::between(&args.old, &args.new);
    wanted.source.clone_from(&args.source);
    let mut lines = Lines::begin();
    let compared = context
        .load()?
        .diff(&wanted, |item| match item {
            Compared::Snapshots(old, new) if names && !json => lines.line(
                format!("{} → {}", entries::heading(old).trim_end_matches(':'), new.id().short())
                    .as_bytes(),
            ),
            Compared::Change(change) if json => document(&mut lines, change),
            Compared::Change(change) if names => name(&mut lines, change),
            Compared::Item(item) if json => lines.document(&json!({
                "message_type": "item",
                "modifier": item.kind.letter(),
                "part": item.part,
                "item": item.item,
            })),
            Compared::Item(ItemChange { kind, part, item, .. }) if names => {
                lines.line(format!("{}    {part}: {item}", kind.letter()).as_bytes())
            }
            _ => ControlFlow::Continue(()),
        })
        .await;
    let report = match compared {
        Ok(report) => report,
        Err(error) => {
            lines.finish()?;
            return Err(error.into());
        }
    };
    // A reader that has seen enough ends the comparison.
    let _ = print(&mut lines, &report, json);
    lines.finish()?;
    notes(&report.notes);
    let damaged: Vec<String> =
        report.compared.iter().flat_map(|diff| diff.damaged.clone()).collect();
    ls::unread(&damaged)
}

fn document(lines: &mut Lines, change: &TreeChange) -> ControlFlow<()> {
    let mut value = json!({
        "message_type": "change",
        "path": change.path().to_string_lossy(),
        "modifier": change.kind.letter(),
    });
    entries::escaped(&mut value, change.path());
    lines.document(&value)
}

fn name(lines: &mut Lines, change: &TreeChange) -> ControlFlow<()> {
    let mut line = format!("{}    ", change.kind.letter()).into_bytes();
    line.extend(entries::bytes(change.path()));
    lines.line(&line)
}

fn print(lines: &mut Lines, report: &DiffReport, json: bool) -> ControlFlow<()> {
    for diff in &report.compared {
        if json {
            lines.document(&json!({
                "message_type": "statistics",
                "source": diff.new.source(),
                "host": diff.new.host(),
                "source_snapshot": diff.old.id().to_string(),
                "target_snapshot": diff.new.id().to_string(),
                "changed_files": diff.files.changed,
                "metadata_changed": diff.files.metadata,
                "type_changed": diff.files.types,
                "added": diff.files.added,
                "removed": diff.files.removed,
                "parts": diff.parts,
                "damaged": diff.damaged,
            }))?;
        } else {
            counts(lines, diff)?;
        }
    }
    for (snapshots, side) in [(&report.only_old, "older"), (&report.only_new, "newer")] {
        for snapshot in snapshots {
            if json {
                lines.document(&json!({
                    "message_type": "unpaired",
                    "source": snapshot.source(),
                    "host": snapshot.host(),
                    "snapshot": snapshot.id().to_string(),
                    "side": side,
                }))?;
            } else {
                let heading = entries::heading(snapshot);
                let heading = heading.trim_end_matches(':');
                lines.line(format!("only the {side} point has {heading}").as_bytes())?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn counts(lines: &mut Lines, diff: &SnapshotDiff) -> ControlFlow<()> {
    let (old, new) = (&diff.old, &diff.new);
    let of = new.maker();
    let (from, to) = (old.id().short(), new.id().short());
    lines.line(format!("{of} on {}: {from} → {to}", new.host()).as_bytes())?;
    if diff.files.is_empty() && diff.parts.is_empty() && diff.damaged.is_empty() {
        return lines.line(b"  no differences");
    }
    for part in &diff.parts {
        lines.line(format!("  {}", of_part(part)).as_bytes())?;
    }
    for (label, counted) in [("added", &diff.files.added), ("removed", &diff.files.removed)] {
        if *counted != Counted::default() {
            let Counted { files, dirs, others, bytes, .. } = counted;
            let total = size(*bytes);
            lines.line(
                format!("  {label}: {files} files ({total}), {dirs} directories, {others} others")
                    .as_bytes(),
            )?;
        }
    }
    for (label, count) in [
        ("content changed", diff.files.changed),
        ("only attributes changed", diff.files.metadata),
        ("of another type", diff.files.types),
    ] {
        if count > 0 {
            lines.line(format!("  {label}: {count}").as_bytes())?;
        }
    }
    ControlFlow::Continue(())
}

/// A part that differs, as one line.
fn of_part(part: &PartDiff) -> String {
    let total =
        |items: Option<u64>| items.map_or_else(String::new, |items| format!(", {items} items"));
    let mut text = match (part.change, part.items) {
        (ChangeKind::Added, _) => format!("{}: added{}", part.what, total(part.new_items)),
        (ChangeKind::Removed, _) => format!("{}: removed{}", part.what, total(part.old_items)),
        (_, Some(items)) if !items.is_empty() => format!(
            "{}: {} added, {} removed, {} changed{}",
            part.what,
            items.added,
            items.removed,
            items.changed,
            total(part.new_items)
        ),
        (_, Some(_)) => format!("{}: its items are equal", part.what),
        (_, None) => format!("{}: differs{}", part.what, total(part.new_items)),
    };
    if let Some(note) = &part.note {
        text = format!("{text}; {note}");
    }
    text
}
