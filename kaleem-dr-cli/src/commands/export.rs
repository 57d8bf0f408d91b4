//! `export`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::job::file_name,
    recovery::{point::PointReader, points::open_point, staged},
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr export mongo                          mongo-<DATE>.archive.gz in this directory
  kaleem-dr export mongo --archive --gzip | mongorestore --archive --gzip
  kaleem-dr export configs --point 01J9 -o /tmp/configs.tar.gz";

/// What to write, and where.
#[derive(Debug, Args)]
pub struct Export {
    /// A source of the config
    pub source: SourceName,
    /// Run or snapshot to write, by the beginning of its id
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Take the newest point although it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Where to; `-` is standard output [default: the usual name, in this directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// As mongodump's: to this file, else to standard output, compressed with --gzip only
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", conflicts_with = "output")]
    pub archive: Option<PathBuf>,
    /// Compress, whatever the name says
    #[arg(long)]
    pub gzip: bool,
}

/// Standard output, as a path.
const STDOUT: &str = "-";

pub async fn export(context: &Context, args: &Export) -> Outcome {
    let site = context.load()?;
    let source = site.source(&args.source)?;
    let form = source.staged().ok_or_else(|| no_form(&args.source))?;
    let repository = site.repository().await?;
    let lock = context.lock_to_read(&repository).await?;
    let result = async {
        let choice = site.point(&args.point, args.allow_incomplete);
        let (point, notes) =
            open_point(&repository, &args.source, &choice, &context.progress, &context.cancel)
                .await?;
        output::notes(&notes);
        let usual = || PathBuf::from(file_name(form.name(), point.manifest().started));
        let (path, gzip) = match (&args.archive, &args.output) {
            (Some(path), _) => (path.clone(), args.gzip),
            (None, Some(path)) => (
                path.clone(),
                args.gzip || path.extension().is_some_and(|extension| extension == "gz"),
            ),
            (None, None) => (usual(), form.name().is_gzip()),
        };
        if path == Path::new(STDOUT) {
            if std::io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "this is not for a terminal: send it on, or name a file with --output",
                ));
            }
            staged::export(form, &point, Box::new(std::io::stdout()), gzip).await?;
        } else {
            let written = staged::export_to(form, &point, &path, gzip).await?;
            print(&path, written, &point, context.global.json)?;
        }
        Ok(Exit::Done)
    }
    .await;
    lock.release().await?;
    result
}

pub fn no_form(source: &SourceName) -> Failure {
    Failure::usage(format!("points of source {source} have no form as a single file"))
}

fn print(path: &Path, size_bytes: u64, point: &PointReader, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "summary", "path": path, "size_bytes": size_bytes, "run": point.manifest().run }),
        );
    }
    line(&format!(
        "wrote {} of {} as {}",
        size(size_bytes),
        point.manifest().source,
        path.display()
    ))
}
