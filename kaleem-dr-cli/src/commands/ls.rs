//! `ls`.

use std::{ffi::OsString, ops::ControlFlow, os::unix::ffi::OsStrExt as _, path::PathBuf};

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{Snapshot, TreeEntry},
    ground::Exit,
    operate::site::{ListFiles, Listed, Listing},
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Lines, entries, notes, restic_snapshot},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr ls                                    everything in the newest whole point of each source
  kaleem-dr ls configs /etc/nginx --long          one directory of the newest point of a source
  kaleem-dr ls 4f3a /etc --recursive
  kaleem-dr ls configs~1                          the point before the newest
  kaleem-dr ls configs --at \"2026-11-27 12:00\"";

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Source, for its newest whole point; or snapshot or run, by id prefix; or `latest`; each with `~N` for an older one [default:
    /// every source]
    #[arg(value_name = "SNAPSHOT|SOURCE")]
    pub of: Option<OsString>,
    /// Paths to list; of a directory also its content [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Show permissions, owner, size in bytes and time
    #[arg(short, long)]
    pub long: bool,
    /// List directories below PATH at every depth
    #[arg(short, long)]
    pub recursive: bool,
    #[command(flatten)]
    pub at: At,
}

impl Ls {
    fn options(&self) -> Result<ListFiles, Failure> {
        let mut wanted = ListFiles::default();
        match &self.of {
            Some(path) if path.as_bytes().starts_with(b"/") => wanted.paths.push(path.into()),
            Some(of) => wanted.of = Some(self.at.of(text(of)?)),
            None => {}
        }
        if wanted.of.is_none() {
            wanted.point = self.at.of("latest");
        }
        wanted.paths.extend(self.paths.iter().cloned());
        wanted.recursive = self.recursive;
        Ok(wanted)
    }
}

fn text(of: &OsString) -> Result<&str, Failure> {
    of.to_str().ok_or_else(|| {
        Failure::usage(format!("{} is neither a snapshot nor a source", of.display()))
    })
}

pub async fn ls(context: &Context, args: &Ls) -> Outcome {
    let (json, quiet) = (context.global.json, context.global.quiet);
    let mut lines = Lines::begin();
    let listing = context
        .load()?
        .list_files(&args.options()?, |item| match item {
            Listed::Snapshot(snapshot) => heading(&mut lines, snapshot, json, quiet),
            Listed::Entry(_, entry) if json => lines.document(&entries::node(entry)),
            Listed::Entry(_, entry) => line(&mut lines, entry, args.long),
        })
        .await;
    end(lines, listing)
}

/// Prints the line before the entries of a snapshot.
pub fn heading(lines: &mut Lines, snapshot: &Snapshot, json: bool, quiet: bool) -> ControlFlow<()> {
    if json {
        let mut value = restic_snapshot(snapshot);
        value["struct_type"] = "snapshot".into();
        return lines.document(&value);
    }
    if quiet {
        return ControlFlow::Continue(());
    }
    lines.line(entries::heading(snapshot).as_bytes())
}

/// Prints an entry.
pub fn line(lines: &mut Lines, entry: &TreeEntry, long: bool) -> ControlFlow<()> {
    lines.line(&if long { entries::long(entry) } else { entries::bytes(&entry.path) })
}

/// Prints what is left, and returns 4 if a part of the snapshot could not be read.
pub fn end(lines: Lines, listing: Result<Listing, kaleem_dr_core::SiteError>) -> Outcome {
    lines.finish()?;
    let listing = listing?;
    notes(&listing.notes);
    unread(&listing.damaged)
}

/// The exit status of a command that could not read these parts.
pub fn unread(damaged: &[String]) -> Outcome {
    let Some(first) = damaged.first() else { return Ok(Exit::Done) };
    damaged.iter().for_each(|why| tracing::error!("cannot be read: {why}"));
    let count = damaged.len();
    let mut failure = Failure::new(
        Exit::NotVerified,
        format!(
            "{count} directories cannot be read, and what is in them is missing above: {first}"
        ),
    );
    failure.advice = Some(
        "`kaleem-dr check --read-data` shows the extent of the damage and how to repair it".into(),
    );
    Err(failure)
}
