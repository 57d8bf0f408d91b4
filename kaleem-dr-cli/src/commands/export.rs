//! `export`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::site::{self, ExportTo, Exported},
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line, size},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr export mongo                          mongo-<DATE>.archive.gz in this directory
  kaleem-dr export mongo --archive --gzip | mongorestore --archive --gzip
  kaleem-dr export configs --point 01J9 -o /tmp/configs.tar.gz";

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Source of the config
    pub source: SourceName,
    /// Run or snapshot to export, by id prefix, or `latest~1`
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    #[command(flatten)]
    pub at: At,
    /// Use the newest point even if it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Output file; `-` is standard output [default: the usual name, in the current directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// mongodump's option: write to this file, or to standard output without one; compressed only
    /// with --gzip
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", conflicts_with = "output")]
    pub archive: Option<PathBuf>,
    /// Compress the output whatever the file's name
    #[arg(long)]
    pub gzip: bool,
}

/// The path that represents standard output.
const STDOUT: &str = "-";

impl Export {
    fn to(&self) -> Result<ExportTo, Failure> {
        let (path, gzip) = match (&self.archive, &self.output) {
            (Some(path), _) => (path.clone(), self.gzip),
            (None, Some(path)) => {
                let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
                (path.clone(), self.gzip || is_gzip)
            }
            (None, None) => return Ok(ExportTo::Directory(PathBuf::new())),
        };
        if path != Path::new(STDOUT) {
            return Ok(ExportTo::File { path, gzip });
        }
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "refusing to write binary data to a terminal: redirect it, or name a file with --output",
            ));
        }
        Ok(ExportTo::Stream { out: Box::new(std::io::stdout()), gzip })
    }
}

pub async fn export(context: &Context, args: &Export) -> Outcome {
    let site = context.load()?;
    let mut wanted = site::Export::latest(args.source.clone(), args.to()?);
    wanted.point = args.at.of(&args.point);
    wanted.allow_incomplete = args.allow_incomplete;
    let exported = site.export(wanted).await?;
    if let Some(path) = &exported.path {
        print(path, &exported, context.global.json)?;
    }
    Ok(Exit::Done)
}

fn print(path: &Path, exported: &Exported, json: bool) -> Printed {
    let Exported { size_bytes, source, run, .. } = exported;
    if json {
        return document(
            &json!({ "message_type": "summary", "path": path, "size_bytes": size_bytes, "run": run }),
        );
    }
    line(&format!("wrote {} of {source} as {}", size(*size_bytes), path.display()))
}
