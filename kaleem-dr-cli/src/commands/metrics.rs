//! `metrics`.

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, error_chain},
    operate::metrics as library,
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{document, line},
};

/// What to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Metrics {
    /// The alerts instead, as a rules file of Prometheus
    #[arg(long)]
    pub rules: bool,
    /// The dashboard instead, as Grafana imports it
    #[arg(long, conflicts_with = "rules")]
    pub dashboard: bool,
}

pub fn metrics(context: &Context, args: Metrics) -> Outcome {
    let text = match (args.rules, args.dashboard) {
        (true, _) => library::rules(),
        (_, true) => library::dashboard(),
        _ => {
            let site = context.load()?;
            let failed = |error| Failure::new(Exit::Failed, error_chain(&error));
            if context.global.json {
                let values = library::values(site.config(), site.environment()).map_err(failed)?;
                document(&values)?;
                return Ok(Exit::Done);
            }
            library::text(site.config(), site.environment()).map_err(failed)?
        }
    };
    line(text.trim_end())?;
    Ok(Exit::Done)
}
