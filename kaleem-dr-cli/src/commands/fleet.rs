//! `fleet`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Subcommand;
use kaleem_dr_core::{
    ground::Exit,
    operate::fleet::{FleetHost, FleetRepository, FleetStatus},
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    global::duration,
    output::{Printed, age, document, line, table},
};

/// Longest text of a column, so that a row fits into 80 columns.
const WIDEST: usize = 24;

/// Subcommands of `fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Show each host's newest complete point, proof and alarms; exit 6 if an expected host is
    /// missing, late, unproven or alarming
    Status {
        /// Also write the metrics in the Prometheus text format to this file, for node exporter's
        /// textfile collector
        #[arg(long, value_name = "FILE")]
        metrics: Option<PathBuf>,
    },
    /// Serve the metrics over HTTP at /metrics, until a signal
    Serve {
        /// Address to listen on
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9469")]
        listen: SocketAddr,
        /// Time between two reads of the repositories
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
        every: Duration,
    },
}

pub async fn fleet(context: &Context, command: &FleetCommand) -> Outcome {
    let site = context.load()?;
    match command {
        FleetCommand::Status { metrics } => {
            let status = site.fleet_status().await?;
            if let Some(path) = metrics {
                status.write_metrics(path).map_err(|error| {
                    Failure::usage(format!("cannot write {}: {error}", path.display()))
                })?;
            }
            if context.global.json {
                document(&status)?;
            } else {
                print(&status)?;
            }
            Ok(status.exit())
        }
        FleetCommand::Serve { listen, every } => {
            let listening = |address| tracing::info!(%address, "serving the metrics of the fleet");
            site.serve_fleet(*listen, *every, listening).await?;
            Ok(Exit::Done)
        }
    }
}

fn print(status: &FleetStatus) -> Printed {
    let mut rows = table(["host", "repository", "point", "proof", "state"]);
    for host in &status.hosts {
        let proof = host.proof.zip(host.proof_age_seconds);
        rows.add_row([
            short(&host.host),
            short(host.repository.as_deref().unwrap_or("-")),
            host.point_age_seconds.map_or_else(|| "-".to_owned(), age),
            proof.map_or_else(|| "-".to_owned(), |(level, old)| format!("{level} {}", age(old))),
            state(host),
        ]);
    }
    line(&rows.to_string())?;
    // A host that is not expected is listed, and judged only by its alarms.
    for host in status.hosts.iter().filter(|host| host.is_expected || host.alarms > 0) {
        for problem in &host.problems {
            line(&format!("{}: {problem}", host.host))?;
        }
    }
    let unread = status.repositories.iter().filter_map(unread);
    unread.into_iter().try_for_each(|why| line(&why))?;
    line(&summary(status))
}

fn unread(repository: &FleetRepository) -> Option<String> {
    let error = repository.error.as_ref()?;
    Some(format!("error: repository {} cannot be read: {error}", repository.name))
}

fn state(host: &FleetHost) -> String {
    if host.is_unknown {
        return "UNKNOWN".to_owned();
    }
    let problems = [
        (host.is_missing, "MISSING"),
        (host.is_late && !host.is_missing, "LATE"),
        (host.is_unproven, "UNPROVEN"),
        (host.alarms > 0, "ALARM"),
    ];
    let mut words: Vec<&str> =
        problems.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect();
    if words.is_empty() {
        words.push("ok");
    }
    if !host.is_expected {
        words.push("not expected");
    }
    words.join(", ")
}

/// One sentence about all hosts.
fn summary(status: &FleetStatus) -> String {
    let count = |of: fn(&FleetHost) -> bool| status.hosts.iter().filter(|host| of(host)).count();
    let unread = status.repositories.iter().filter(|of| of.error.is_some()).count();
    format!(
        "{} rows: {} late or missing, {} unproven, {} with alarms, {} not expected; {} of {} repositories read",
        status.hosts.len(),
        count(|host| host.is_expected && host.is_late),
        count(|host| host.is_expected && host.is_unproven),
        count(|host| host.alarms > 0),
        count(|host| !host.is_expected),
        status.repositories.len() - unread,
        status.repositories.len(),
    )
}

/// A name that fits into its column.
fn short(name: &str) -> String {
    if name.chars().count() <= WIDEST {
        return name.to_owned();
    }
    name.chars().take(WIDEST - 1).chain(['…']).collect()
}
