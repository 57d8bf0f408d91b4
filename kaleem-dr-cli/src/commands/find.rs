//! `find`.

use std::ops::ControlFlow;

use clap::Args;
use kaleem_dr_core::{
    ground::SourceName,
    operate::site::{FindFiles, Listed},
    recovery::look::FileVersion,
};
use serde_json::Value;

use super::{Outcome, ls};
use crate::{
    context::Context,
    output::{Lines, entries},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr find '*.conf'                         in the newest point of each source
  kaleem-dr find '/etc/**/sites-*/*' --long --source configs
  kaleem-dr find nginx.conf --history             every version of a file, and which snapshots have it
  kaleem-dr find '*.bson' --at \"2026-11-27 12:00\"";

/// Arguments of `find`.
#[derive(Debug, Args)]
pub struct Find {
    /// Globs for names; with a `/` for the end of the path; with a leading `/` for the whole path. `*` does not match `/`, `**` does
    #[arg(required = true, value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Search all snapshots of the host: one line for each version of a file, with the first and the last snapshot that have it
    #[arg(long, conflicts_with_all = ["point", "at"])]
    pub history: bool,
    /// Search only this source
    #[arg(long)]
    pub source: Option<SourceName>,
    /// Run or snapshot to search, by id prefix, or `latest~1`
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    #[command(flatten)]
    pub at: At,
    /// Ignore the case of letters
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Show permissions, owner, size in bytes and time
    #[arg(short, long)]
    pub long: bool,
}

pub async fn find(context: &Context, args: &Find) -> Outcome {
    let (json, quiet) = (context.global.json, context.global.quiet);
    let mut wanted = FindFiles::default();
    (wanted.patterns, wanted.source) = (args.patterns.clone(), args.source.clone());
    (wanted.point, wanted.ignore_case) = (args.at.of(&args.point), args.ignore_case);
    let (site, mut lines) = (context.load()?, Lines::begin());
    if args.history {
        let found = site.find_versions(&wanted, |found| version(&mut lines, found, json)).await;
        return ls::end(lines, found);
    }
    // A snapshot is named once something is found in it.
    let mut named = None;
    let found = site
        .find_files(&wanted, |item| {
            let Listed::Entry(snapshot, entry) = item else { return ControlFlow::Continue(()) };
            if json {
                let mut node = entries::node(entry);
                node["snapshot"] = snapshot.id().to_string().into();
                node["source"] = snapshot.source().map_or(Value::Null, |name| name.as_str().into());
                return lines.document(&node);
            }
            if named != Some(snapshot.id()) {
                named = Some(snapshot.id());
                ls::heading(&mut lines, snapshot, false, quiet)?;
            }
            ls::line(&mut lines, entry, args.long)
        })
        .await;
    ls::end(lines, found)
}

fn version(lines: &mut Lines, found: &FileVersion, json: bool) -> ControlFlow<()> {
    let FileVersion { entry, first, last, .. } = found;
    if json {
        let mut node = entries::node(entry);
        node["struct_type"] = "version".into();
        node["source"] = first.source().map_or(Value::Null, |name| name.as_str().into());
        node["host"] = first.host().into();
        node["first_snapshot"] = first.id().to_string().into();
        node["first_time"] = first.time().timestamp().to_string().into();
        node["last_snapshot"] = last.id().to_string().into();
        node["last_time"] = last.time().timestamp().to_string().into();
        return lines.document(&node);
    }
    let time = |snapshot: &kaleem_dr_core::engine::repository::Snapshot| {
        format!("{} {}", snapshot.id().short(), entries::local(snapshot.time().timestamp()))
    };
    let mut line = format!(
        "{}  {}  {:>12} {} ",
        time(first),
        time(last),
        entry.size_bytes(),
        entry.mtime().map_or_else(|| " ".repeat(19), entries::local)
    )
    .into_bytes();
    line.extend(entries::bytes(&entry.path));
    lines.line(&line)
}
