//! Metrics for Prometheus: one list, from which the published text, the alerts and the dashboard
//! are made.
//!
//! All values come from the state directory: from the ledger and the active alarms. No repository
//! is opened. The label `kind` has the job of a metric, because `job` and `instance` belong to
//! Prometheus, which renames them in what it scrapes, and to the Pushgateway, which overwrites
//! them.

mod dashboard;
mod inputs;
mod list;
mod publish;
mod rules;

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use self::inputs::MetricInputs;
pub(crate) use self::publish::publish;
pub use self::{dashboard::dashboard, list::METRICS, rules::rules};
use crate::{
    engine::ledger::LedgerError,
    operate::{
        config::{Config, secret::Environment},
        tripwire::AlarmError,
    },
};

/// A metric; all metrics are gauges.
#[non_exhaustive]
pub struct Metric {
    /// Its name, which ends in the unit.
    pub name: &'static str,
    /// Its help text, one English sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    read: fn(&MetricInputs) -> Vec<Sample>,
}

/// A value, with the labels' values in the order of their names.
struct Sample {
    labels: Vec<String>,
    value: f64,
}

/// A value of a metric, for scripts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Value {
    /// Name of the metric, beginning with `kaleem_dr_`.
    pub name: &'static str,
    /// Labels of the metric with their values.
    pub labels: std::collections::BTreeMap<&'static str, String>,
    /// The value, in the unit of the name.
    pub value: f64,
}

/// Why metrics cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The ledger cannot be opened or read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The alarms cannot be read.
    #[error(transparent)]
    Alarms(#[from] AlarmError),
}

/// All current values.
///
/// # Errors
/// If the ledger or the alarms cannot be read.
pub fn values(config: &Config, environment: &Environment) -> Result<Vec<Value>, MetricsError> {
    let inputs = MetricInputs::read(config, environment)?;
    let of = |metric: &'static Metric| {
        let named = |sample: Sample| metric.labels.iter().copied().zip(sample.labels).collect();
        (metric.read)(&inputs).into_iter().map(move |sample| (sample.value, named(sample)))
    };
    let all = METRICS.iter().flat_map(|metric| {
        of(metric).map(|(value, labels)| Value { name: metric.name, labels, value })
    });
    Ok(all.collect())
}

/// All current values in Prometheus' text format (version 0.0.4), without timestamps.
///
/// # Errors
/// If the ledger or the alarms cannot be read.
pub fn text(config: &Config, environment: &Environment) -> Result<String, MetricsError> {
    let values = values(config, environment)?;
    let mut text = String::new();
    for metric in &METRICS {
        let mut of = values.iter().filter(|value| value.name == metric.name).peekable();
        if of.peek().is_none() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "# HELP {} {}\n# TYPE {} gauge", metric.name, metric.help, metric.name);
        for value in of {
            let labels: Vec<String> = value
                .labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{}{labels} {}", metric.name, value.value);
        }
    }
    Ok(text)
}

pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of our metrics in a text.
    fn mentioned(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("kaleem_dr_"))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
        for text in [rules(), dashboard()] {
            let names = mentioned(&text);
            assert!(names.len() > 8, "{names:?}");
            for name in names {
                assert!(METRICS.iter().any(|metric| metric.name == name), "{name} is not a metric");
            }
        }
    }

    #[test]
    fn what_is_packaged_is_what_this_makes() {
        let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/");
        for (path, made, option) in [
            ("prometheus/kaleem-dr.rules.yml", rules(), "--rules"),
            ("grafana/kaleem-dr.json", dashboard(), "--dashboard"),
        ] {
            let packaged =
                std::fs::read_to_string(format!("{packaging}{path}")).unwrap_or_default();
            assert!(
                packaged == made,
                "packaging/{path} is old: write it with `kaleem-dr metrics {option} > packaging/{path}`"
            );
        }
    }

    #[test]
    fn names_and_labels_are_those_prometheus_likes() {
        for metric in &METRICS {
            assert!(
                !metric.labels.contains(&"job") && !metric.labels.contains(&"instance"),
                "{}",
                metric.name
            );
            assert!(
                metric.name.starts_with("kaleem_dr_") && !metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
        }
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
