//! `drill`.

use clap::Args;
use kaleem_dr_core::{
    ground::{ProofLevel, SourceName},
    operate::monitor::Ended,
    recovery::drill::{DrillJob, drill as run},
};

use super::{
    JobOutcome,
    report::{ReportFiles, write_files},
};
use crate::{context::Context, output};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr drill                                 every source, from the repository `local`
  kaleem-dr drill mongo --repo r2                 one, from another repository
  kaleem-dr drill --html proof.html --lang ar";

/// What to drill, and where its report goes.
#[derive(Debug, Args)]
pub struct Drill {
    /// Sources of the config; all of them when none is named
    pub sources: Vec<SourceName>,
    /// Run or snapshot to restore, by the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    /// How far: stored, readable, parsed, or restored
    #[arg(long, value_name = "LEVEL", default_value_t = ProofLevel::Restored)]
    pub level: ProofLevel,
    #[command(flatten)]
    pub to: ReportFiles,
}

pub async fn drill(context: &Context, args: &Drill) -> JobOutcome {
    let loaded = context.load()?;
    let (sources, unavailable) = loaded.sources(&args.sources)?;
    let job = DrillJob {
        run: context.run,
        repository: context.repository(&loaded).await?,
        sources,
        unavailable,
        host: loaded.config.settings.host_name(),
        // What is newest has to be proven, whole or not.
        point: loaded.point(&args.point, true),
        level: args.level,
        state_directory: loaded.config.settings.state_directory.clone(),
        scratch_directory: loaded.config.settings.scratch(),
        patience: context.global.retry_lock,
    };
    let (report, chained) = run(&job, &context.progress, &context.cancel).await?;
    write_files(&loaded, &report.run.to_string(), &args.to)?;
    output::drill::drill(&report, &chained, context.global.json, context.global.verbose > 0)?;
    Ok(Ended::of_drill(&report))
}
