//! `doctor`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::operate::doctor::{Examination, Host, examine};

use super::Outcome;
use crate::{context::Context, output};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr doctor                 everything, with the servers and the buckets
  kaleem-dr doctor --offline       only what is on this machine
  kaleem-dr doctor --strict        for a monitor: a warning fails too";

/// What to look at.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Look for crontabs, services, /proc and programs below this directory; paths of the config are taken as they are
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Ask no server: neither sources nor buckets
    #[arg(long)]
    pub offline: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
}

pub async fn doctor(context: &Context, args: &Doctor) -> Outcome {
    let loaded = context.read_config()?;
    // Without one, the repositories are looked at all the same.
    let primary = context.chosen(&loaded).ok().map(|(name, _)| name.clone());
    let job = Examination {
        primary,
        config_path: loaded.path.is_file().then(|| loaded.path.clone()),
        config: loaded.config,
        environment: loaded.environment,
        host: Host::this(args.root.clone()),
        offline: args.offline,
    };
    let report = examine(job).await;
    let exit = report.exit(args.strict);
    output::doctor::report(&report, exit, context.global.verbose > 0, context.global.json)?;
    Ok(exit)
}
