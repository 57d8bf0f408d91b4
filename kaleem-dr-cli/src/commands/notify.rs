//! `notify test`, `notify --failed-unit`.

use clap::{Args, Subcommand};
use kaleem_dr_core::{ground::Exit, operate::monitor::Delivery};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
};

/// Arguments of `notify`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Notify {
    #[command(subcommand)]
    pub command: Option<NotifyCommand>,
    /// Report that this systemd unit failed, or failed to start: kaleem-dr-JOB.service
    #[arg(long, value_name = "UNIT")]
    pub failed_unit: Option<String>,
}

/// Subcommands of `notify`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test notification to every recipient, and show which of them accepted it
    Test,
}

pub async fn notify(context: &Context, args: &Notify) -> Outcome {
    let site = context.load()?;
    let monitor = site.monitor();
    if let (Some(unit), false) = (&args.failed_unit, monitor.has_recipients()) {
        // systemd calls it for every failed job; the journal has the failure.
        tracing::warn!(unit, "the unit failed, and the config names no recipients for that");
        return Ok(Exit::Done);
    }
    if !monitor.has_recipients() {
        let mut failure =
            Failure::usage(format!("{} configures no recipients", site.path().display()));
        failure.advice = Some(
            "add [monitoring.healthchecks], [[monitoring.webhook]] or [[monitoring.ntfy]]".into(),
        );
        return Err(failure);
    }
    let deliveries = match &args.failed_unit {
        Some(unit) => monitor.unit_failed(unit).await.map_err(Failure::usage)?,
        None => monitor.test().await,
    };
    print(&deliveries, context.global.json)?;
    Ok(Delivery::exit_of(&deliveries))
}

fn print(deliveries: &[Delivery], json: bool) -> Printed {
    if json {
        return document(&deliveries);
    }
    deliveries.iter().try_for_each(|delivery| match &delivery.error {
        None => line(&format!("sent  {}", delivery.recipient)),
        Some(error) => line(&format!("NOT   {}: {error}", delivery.recipient)),
    })
}
