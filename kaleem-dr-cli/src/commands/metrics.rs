//! `metrics`.

use clap::Args;
use kaleem_dr_core::{
    ground::Exit,
    operate::metrics::{dashboard, rules},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{document, line},
};

/// Arguments of `metrics`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Metrics {
    /// Print alerting rules for Prometheus instead
    #[arg(long)]
    pub rules: bool,
    /// Print a dashboard for Grafana instead
    #[arg(long, conflicts_with = "rules")]
    pub dashboard: bool,
}

pub fn metrics(context: &Context, args: Metrics) -> Outcome {
    let text = match (args.rules, args.dashboard) {
        (true, _) => rules(),
        (_, true) => dashboard(),
        _ if context.global.json => {
            document(&context.load()?.metrics()?)?;
            return Ok(Exit::Done);
        }
        _ => context.load()?.metrics_text()?,
    };
    line(text.trim_end())?;
    Ok(Exit::Done)
}
