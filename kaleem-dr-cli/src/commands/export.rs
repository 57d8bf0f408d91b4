//! `export`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::job::file_name,
    recovery::{points::open_point, staged},
};

use super::Outcome;
use crate::{args::Export, context::Context, failure::Failure, output};

/// Standard output, as a path.
const STDOUT: &str = "-";

pub async fn export(context: &Context, args: &Export) -> Outcome {
    let loaded = context.load()?;
    let source = loaded.source(&args.source)?;
    let form = source.staged().ok_or_else(|| no_form(&args.source))?;
    let repository = context.repository(&loaded).await?;
    let lock = context.lock_to_read(&repository).await?;
    let result = async {
        let choice = loaded.point(&args.point, args.allow_incomplete);
        let (point, notes) = open_point(&repository, &args.source, &choice, &context.progress, &context.cancel).await?;
        output::notes(&notes);
        let usual = || PathBuf::from(file_name(form.name(), point.manifest().started));
        let (path, gzip) = match (&args.archive, &args.output) {
            (Some(path), _) => (path.clone(), args.gzip),
            (None, Some(path)) => (path.clone(), args.gzip || path.extension().is_some_and(|extension| extension == "gz")),
            (None, None) => (usual(), form.name().is_gzip()),
        };
        if path == Path::new(STDOUT) {
            if std::io::stdout().is_terminal() {
                return Err(Failure::usage("this is not for a terminal: send it on, or name a file with --output"));
            }
            staged::export(form, &point, Box::new(std::io::stdout()), gzip).await?;
        } else {
            let written = staged::export_to(form, &point, &path, gzip).await?;
            output::exported(&path, written, &point, context.global.json)?;
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
