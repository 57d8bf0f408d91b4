//! `notify test`, `notify --failed-unit`.

use clap::{Args, Subcommand};
use kaleem_dr_core::operate::monitor::Delivery;

use super::Outcome;
use crate::{
    context::Context,
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
    let notified = match &args.failed_unit {
        Some(unit) => site.notify_failed_unit(unit).await?,
        None => site.notify_test().await?,
    };
    print(&notified.deliveries, context.global.json)?;
    Ok(notified.exit)
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
