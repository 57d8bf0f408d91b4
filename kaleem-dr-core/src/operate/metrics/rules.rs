//! The alerts, as a rules file for Prometheus.
//!
//! A job that has never run has no metrics, and must not count as late before it was due: an
//! `unless` with a `for` handles this. `absent` alerts about a host whose metrics are missing
//! altogether.

use std::fmt::Write as _;

struct Alert {
    name: &'static str,
    expression: String,
    lasts: &'static str,
    severity: &'static str,
    summary: &'static str,
    what_to_do: &'static str,
}

/// The rules file, which is also in `packaging/prometheus/kaleem-dr.rules.yml`.
#[must_use]
pub fn rules() -> String {
    let mut text = String::from(
        "# Made by `kaleem-dr metrics --rules`.\ngroups:\n  - name: kaleem-dr\n    rules:\n",
    );
    for alert in alerts() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          \
             summary: {}\n          description: {}\n",
            alert.name,
            quoted(&alert.expression),
            alert.lasts,
            alert.severity,
            quoted(alert.summary),
            quoted(alert.what_to_do),
        );
    }
    text
}

/// A string in YAML's single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn alerts() -> Vec<Alert> {
    [of_jobs(), of_points(), of_drills(), of_mirrors(), of_metrics()]
        .into_iter()
        .flatten()
        .collect()
}

/// An expression for a time that is longer ago than the schedule of a kind of job allows.
fn late(metric: &str, kind: &str, on: &str) -> String {
    format!(
        "time() - {metric} > on ({on}) group_left () kaleem_dr_late_after_seconds{{kind=\"{kind}\"}}"
    )
}

fn of_jobs() -> Vec<Alert> {
    vec![
        Alert {
            name: "KaleemDrJobFailed",
            expression: "kaleem_dr_last_run_status{source=\"\"} != 0".into(),
            lasts: "1m",
            severity: "critical",
            summary: "{{ $labels.kind }} of {{ $labels.repository }} ended with {{ $value }} on {{ $labels.instance }}",
            what_to_do: "`kaleem-dr history --last 5` and `journalctl -u kaleem-dr-{{ $labels.kind }}` show the reason.",
        },
        Alert {
            name: "KaleemDrSourceFailed",
            expression: "kaleem_dr_last_run_status{source!=\"\"} != 0".into(),
            lasts: "1m",
            severity: "critical",
            summary: "{{ $labels.kind }} of source {{ $labels.source }} in {{ $labels.repository }} ended with {{ $value }}",
            what_to_do: "`kaleem-dr probe` shows whether the source can be reached now.",
        },
    ]
}

fn of_points() -> Vec<Alert> {
    vec![
        Alert {
            name: "KaleemDrBackupLate",
            expression: late("kaleem_dr_last_success_timestamp_seconds{kind=\"backup\",source!=\"\"}", "backup", "instance"),
            lasts: "5m",
            severity: "critical",
            summary: "no successful backup of source {{ $labels.source }} in {{ $labels.repository }} since the schedule wanted one",
            what_to_do: "Check that the timer is enabled: `systemctl list-timers 'kaleem-dr-*'`; then see `kaleem-dr history`.",
        },
        Alert {
            name: "KaleemDrNeverBackedUp",
            expression: "kaleem_dr_build_info unless on (instance) kaleem_dr_last_success_timestamp_seconds{kind=\"backup\"}"
                .into(),
            lasts: "26h",
            severity: "critical",
            summary: "{{ $labels.instance }} publishes metrics, but no backup has ever succeeded there",
            what_to_do: "Check that the timer is enabled: `systemctl list-timers 'kaleem-dr-*'`; then see `kaleem-dr history`.",
        },
        Alert {
            name: "KaleemDrRpoExceeded",
            expression:
                "time() - max by (instance, source) (kaleem_dr_rpo_point_timestamp_seconds) > on (instance) group_left () \
                         kaleem_dr_rpo_target_seconds"
                    .into(),
            lasts: "5m",
            severity: "critical",
            summary: "if source {{ $labels.source }} were lost now, {{ $value | humanizeDuration }} of data would be lost",
            what_to_do: "No repository has a newer proven point. `kaleem-dr backup {{ $labels.source }}` makes one, \
                         `kaleem-dr verify {{ $labels.source }}` proves it.",
        },
        Alert {
            name: "KaleemDrNeverProven",
            expression: "max by (instance, source) (kaleem_dr_newest_point_timestamp_seconds) unless on (instance, source) \
                         kaleem_dr_rpo_point_timestamp_seconds"
                .into(),
            lasts: "26h",
            severity: "critical",
            summary: "source {{ $labels.source }} is backed up, but no point of it is proven",
            what_to_do: "`kaleem-dr verify {{ $labels.source }}` shows whether its newest point can be restored.",
        },
        Alert {
            name: "KaleemDrAlarm",
            expression: "kaleem_dr_alarms > 0".into(),
            lasts: "1m",
            severity: "critical",
            summary: "source {{ $labels.source }} looks lost or encrypted; nothing is forgotten or pruned",
            what_to_do: "`kaleem-dr alarm list` shows what was detected; if the data are all right, run `kaleem-dr alarm acknowledge`.",
        },
    ]
}

fn of_drills() -> Vec<Alert> {
    vec![
        Alert {
            name: "KaleemDrDrillLate",
            expression: late("kaleem_dr_drill_last_success_timestamp_seconds", "drill", "instance, repository"),
            lasts: "1h",
            severity: "warning",
            summary: "no successful drill from {{ $labels.repository }} since the schedule wanted one",
            what_to_do: "Run `kaleem-dr drill`.",
        },
        Alert {
            name: "KaleemDrNeverDrilled",
            expression: "kaleem_dr_build_info unless on (instance) kaleem_dr_drill_last_success_timestamp_seconds".into(),
            lasts: "32d",
            severity: "warning",
            summary: "no drill has ever succeeded on {{ $labels.instance }}",
            what_to_do: "Backups that were never restored are unproven. Run `kaleem-dr drill`.",
        },
        Alert {
            name: "KaleemDrDrillRed",
            expression: "kaleem_dr_drill_mismatches > 0".into(),
            lasts: "1m",
            severity: "critical",
            summary: "source {{ $labels.source }} in {{ $labels.repository }} was restored, but differs from what was captured",
            what_to_do: "Keep every snapshot (no forget, no prune) and check the newest drill report.",
        },
    ]
}

fn of_mirrors() -> Vec<Alert> {
    vec![
        Alert {
            name: "KaleemDrMirrorBehind",
            expression: late("kaleem_dr_mirror_synced_timestamp_seconds", "replicate", "instance"),
            lasts: "5m",
            severity: "critical",
            summary: "the mirror {{ $labels.repository }} was not updated when the schedule wanted it",
            what_to_do: "Run `kaleem-dr replicate {{ $labels.repository }}` and check its output.",
        },
        Alert {
            name: "KaleemDrNeverMirrored",
            expression: "kaleem_dr_mirror_info unless on (instance, repository) kaleem_dr_mirror_synced_timestamp_seconds".into(),
            lasts: "26h",
            severity: "critical",
            summary: "the mirror {{ $labels.repository }} of {{ $labels.mirror_of }} was never updated",
            what_to_do: "Run `kaleem-dr replicate {{ $labels.repository }}` and check its output.",
        },
    ]
}

fn of_metrics() -> Vec<Alert> {
    vec![
        Alert {
            name: "KaleemDrMetricsStale",
            expression: "time() - kaleem_dr_metrics_written_timestamp_seconds > on (instance) min by (instance) (kaleem_dr_late_after_seconds)".into(),
            lasts: "5m",
            severity: "critical",
            summary: "no job has ended on {{ $labels.instance }} for longer than its schedule allows",
            what_to_do: "No job runs there, or metrics cannot be written: check `kaleem-dr history` and the journal.",
        },
        Alert {
            name: "KaleemDrMetricsMissing",
            expression: "absent(kaleem_dr_build_info)".into(),
            lasts: "1h",
            severity: "critical",
            summary: "no host publishes metrics of kaleem-dr",
            what_to_do: "Check that `monitoring.prometheus.textfile` is in node exporter's directory, and that a job has run.",
        },
    ]
}
