//! `dump`.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use kaleem_dr_core::{
    SiteError,
    ground::{Exit, SourceError},
    operate::site::{self, DumpTo},
    recovery::look::Dumped,
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line, size},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr dump configs /etc/nginx/nginx.conf    one file of the newest whole point, to standard output
  kaleem-dr dump configs~1 /etc/nginx | tar -tv   a directory as a tar, of the point before
  kaleem-dr dump 4f3a /mongo/kaleem/users.bson --target users.bson";

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Source, for its newest whole point; or snapshot or run, by id prefix; or `latest`; each with `~N` for an older one
    #[arg(value_name = "SNAPSHOT|SOURCE")]
    pub of: String,
    /// Path in the snapshot: a file, or a directory, which is written as a tar with names relative to it
    pub path: PathBuf,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    #[command(flatten)]
    pub at: At,
}

pub async fn dump(context: &Context, args: &Dump) -> Outcome {
    let to = match &args.target {
        Some(target) => DumpTo::File(target.clone()),
        None => {
            DumpTo::Stream { out: Box::new(io::stdout()), is_terminal: io::stdout().is_terminal() }
        }
    };
    let wanted = site::Dump::new(args.at.of(&args.of), &args.path, to);
    match (context.load()?.dump(wanted).await, &args.target) {
        (Ok(dumped), Some(target)) => print(&dumped, target, context.global.json)?,
        (Ok(_), None) => {}
        // The reader has seen enough.
        (Err(SiteError::Source(SourceError::Output(error))), None)
            if error.kind() == io::ErrorKind::BrokenPipe => {}
        (Err(error), _) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

fn print(dumped: &Dumped, target: &Path, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "summary",
            "path": target,
            "size_bytes": dumped.size_bytes,
            "is_tar": dumped.is_tar,
        }));
    }
    line(&format!("wrote {} as {}", size(dumped.size_bytes), target.display()))
}
