//! `r2`: the bucket that a repository lies in.

use kaleem_dr_core::engine::repository::{Location, check_bucket};

use super::Outcome;
use crate::{args::R2Command, context::Context, failure::Failure, output};

pub async fn r2(context: &Context, command: &R2Command) -> Outcome {
    match command {
        R2Command::Check => {
            let loaded = context.load()?;
            let Location::S3(access) = context.access(&loaded)?.location else {
                return Err(Failure::usage("the repository lies in a directory, not in a bucket; name another with --repo"));
            };
            let report = check_bucket(&access).await?;
            output::bucket(&report, context.global.json)?;
            Ok(report.exit())
        }
    }
}
