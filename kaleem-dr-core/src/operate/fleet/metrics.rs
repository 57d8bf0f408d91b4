//! The metrics of a fleet, in Prometheus' text format.

use std::{fmt::Write as _, io, path::Path};

use super::{FleetHost, FleetStatus};
use crate::{ground::durable_file, operate::metrics::escaped};

/// A metric of the fleet; all are gauges.
#[non_exhaustive]
pub struct FleetMetric {
    /// Its name, which ends in the unit.
    pub name: &'static str,
    /// Its help text, one English sentence.
    pub help: &'static str,
    read: fn(&FleetStatus) -> Vec<Sample>,
}

/// The labels of a value, and the value.
type Sample = (Vec<(&'static str, String)>, f64);

/// Every metric of a fleet, in the order in which they are printed. Those of hosts have the labels
/// `host` and `repository`.
pub static FLEET_METRICS: [FleetMetric; 9] = [
    FleetMetric {
        name: "kaleem_dr_fleet_read_timestamp_seconds",
        help: "Time at which the repositories of the fleet were read.",
        read: |status| vec![(Vec::new(), unix(status.time))],
    },
    FleetMetric {
        name: "kaleem_dr_fleet_repository_readable",
        help: "1 if the repository could be read.",
        read: |status| {
            let of = status.repositories.iter();
            of.map(|of| (vec![("repository", of.name.clone())], flag(of.error.is_none()))).collect()
        },
    },
    FleetMetric {
        name: "kaleem_dr_fleet_host_expected",
        help: "1 if the config expects the host, 0 if it has snapshots all the same.",
        read: |status| of_hosts(status, |host| Some(flag(host.is_expected))),
    },
    FleetMetric {
        name: "kaleem_dr_fleet_host_late",
        help: "1 if the newest complete point of the host is missing or older than its limit.",
        read: |status| of_hosts(status, |host| known(host).then(|| flag(host.is_late))),
    },
    FleetMetric {
        name: "kaleem_dr_fleet_point_timestamp_seconds",
        help: "Time as of which all sources of the host can be restored.",
        read: |status| of_hosts(status, |host| host.point.map(unix)),
    },
    FleetMetric {
        name: "kaleem_dr_fleet_rpo_target_seconds",
        help: "Maximum age of the newest complete point of the host.",
        #[expect(clippy::cast_precision_loss, reason = "a limit in hours")]
        read: |status| of_hosts(status, |host| Some(host.rpo_seconds as f64)),
    },
    FleetMetric {
        name: "kaleem_dr_fleet_host_unproven",
        help: "1 if a required proof of a source of the host is missing, too old or revoked.",
        read: |status| of_hosts(status, |host| known(host).then(|| flag(host.is_unproven))),
    },
    FleetMetric {
        name: "kaleem_dr_fleet_proof_timestamp_seconds",
        help: "Time of the oldest of the newest proofs of the sources of the host.",
        #[expect(clippy::cast_precision_loss, reason = "seconds of a time")]
        read: |status| {
            let time = |host: &FleetHost| {
                let age = host.proof_age_seconds?;
                Some(unix(status.time) - age as f64)
            };
            of_hosts(status, time)
        },
    },
    FleetMetric {
        name: "kaleem_dr_fleet_host_alarms",
        help: "Number of alarms of the host that are not acknowledged.",
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        read: |status| of_hosts(status, |host| Some(host.alarms as f64)),
    },
];

impl FleetStatus {
    /// Replaces a file with the metrics. Everyone may read it, because node exporter runs as its own
    /// user.
    ///
    /// # Errors
    /// The system's error, if the file cannot be written; then the old one stays.
    pub fn write_metrics(&self, path: &Path) -> io::Result<()> {
        durable_file::replace(path, self.metrics_text().as_bytes(), 0o644)
    }

    /// The metrics in Prometheus' text format (version 0.0.4), without timestamps.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        for metric in &FLEET_METRICS {
            let samples = (metric.read)(self);
            if samples.is_empty() {
                continue;
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", metric.name, metric.help);
            for (labels, value) in samples {
                let labels: Vec<String> = labels
                    .iter()
                    .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                    .collect();
                let labels = if labels.is_empty() {
                    String::new()
                } else {
                    format!("{{{}}}", labels.join(","))
                };
                let _ = writeln!(text, "{}{labels} {value}", metric.name);
            }
        }
        text
    }
}

fn of_hosts(status: &FleetStatus, value: impl Fn(&FleetHost) -> Option<f64>) -> Vec<Sample> {
    let of = |host: &FleetHost| {
        let repository = host.repository.clone().unwrap_or_default();
        Some((vec![("host", host.host.clone()), ("repository", repository)], value(host)?))
    };
    status.hosts.iter().filter_map(of).collect()
}

fn known(host: &FleetHost) -> bool {
    !host.is_unknown
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a time")]
fn unix(time: jiff::Timestamp) -> f64 {
    time.as_second() as f64
}
