//! Metrics that Prometheus can read, and alerts that fire when they should and not before.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kaleem_dr_core::{
    engine::ledger::{Event, EventKind, Ledger, Proof},
    ground::{ProofLevel, RunId},
    jiff::Timestamp,
};
use serde_json::Value;

use crate::support::{
    healthchecks_stand_in::HealthchecksStandIn, seed, servers::free_port, site::Site,
};

/// Runs Prometheus's own checker.
fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("promtool cannot be run ({error}): dev/install installs it")
        });
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// A site with one tree that publishes metrics in both ways.
fn site(server: &HealthchecksStandIn) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let textfile = site.path("kaleem-dr.prom");
    site.with_files("configs", &[&tree]).initialised().with(&format!(
        "[monitoring.prometheus]\ntextfile = {textfile:?}\npushgateway = {:?}",
        server.url("")
    ))
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("there is no {series} in\n{text}")).parse().expect("a number")
}

#[test]
fn every_end_of_a_job_is_published_as_prometheus_likes_it() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    let (_, lines) = site.json(["backup"]);
    let textfile = site.path("kaleem-dr.prom");
    let text = fs::read_to_string(&textfile).expect("the textfile is there");
    let (good, said) = promtool(&["check", "metrics"], &text);
    assert!(good, "{said}\n{text}");
    assert_eq!(fs::metadata(&textfile).expect("it is there").permissions().mode() & 0o777, 0o644);
    assert!(
        text.lines().all(|line| line.starts_with('#') || line.rsplit(' ').nth(1).is_some()),
        "{text}"
    );

    let now = Timestamp::now().as_second();
    let ended = value(
        &text,
        "kaleem_dr_last_success_timestamp_seconds{kind=\"backup\",repository=\"local\",source=\"configs\"}",
    );
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let age = now as f64 - ended;
    assert!((-2.0..300.0).contains(&age), "{age}");
    let size =
        lines.last().expect("a report")["sources"][0]["size_bytes"].as_f64().expect("a size");
    assert!(
        (value(&text, "kaleem_dr_source_bytes{repository=\"local\",source=\"configs\"}") - size)
            .abs()
            < 0.5
    );
    assert!(value(&text, "kaleem_dr_added_bytes{repository=\"local\",source=\"configs\"}") > 0.0);
    assert!(value(&text, "kaleem_dr_alarms{source=\"configs\"}").abs() < 0.5);

    let pushed = &server.seen()[0];
    let host = kaleem_dr_core::ground::host::name();
    assert_eq!(
        (pushed.method.as_str(), pushed.path.as_str()),
        ("POST", format!("/metrics/job/kaleem_dr/instance/{host}").as_str())
    );
    assert!(pushed.body.contains("kaleem_dr_last_run_status{kind=\"backup\""), "{}", pushed.body);
    assert_eq!(site.succeed(["metrics"]).stdout.lines().count(), text.lines().count());
    let (_, values) = site.json(["metrics"]);
    let status = values[0]
        .as_array()
        .expect("a list")
        .iter()
        .find(|value| value["name"] == "kaleem_dr_last_run_status");
    assert_eq!(status.expect("a status")["labels"]["kind"], "backup");
}

#[test]
fn a_failure_is_seen_at_once_and_the_last_success_stays() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    site.succeed(["backup"]);
    let textfile = site.path("kaleem-dr.prom");
    let read = || fs::read_to_string(&textfile).expect("the textfile is there");
    let success = "kaleem_dr_last_success_timestamp_seconds{kind=\"backup\",repository=\"local\",source=\"configs\"}";
    let before = value(&read(), success);
    fs::rename(site.path("tree"), site.path("gone")).expect("the tree can be taken away");
    assert_ne!(site.run(["backup"]).code, Some(0));
    let after = read();
    assert!((value(&after, success) - before).abs() < f64::EPSILON);
    for source in ["", "configs"] {
        let series = format!(
            "kaleem_dr_last_run_status{{kind=\"backup\",repository=\"local\",source=\"{source}\"}}"
        );
        assert!(value(&after, &series) > 0.5, "{after}");
    }
    // Sources that were removed from the config do not alert forever.
    let config = fs::read_to_string(site.config_path()).expect("the config can be read");
    fs::write(site.config_path(), config.replace("[source.configs]", "[source.others]"))
        .expect("the config can be written");
    let renamed = site.succeed(["metrics"]).stdout;
    assert!(
        !renamed.contains("source=\"configs\"") && renamed.contains("source=\"others\""),
        "{renamed}"
    );
}

#[test]
fn metrics_that_cannot_be_published_cost_a_warning() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    let config = fs::read_to_string(site.config_path()).expect("the config can be read");
    let textfile = site.path("kaleem-dr.prom");
    let config = config
        .replace(textfile.to_str().expect("UTF-8"), "/nowhere/kaleem-dr.prom")
        .replace(&server.url(""), &format!("http://127.0.0.1:{}", free_port()));
    fs::write(site.config_path(), config).expect("the config can be written");
    let outcome = site.succeed(["backup"]);
    for why in ["/nowhere/kaleem-dr.prom", "the Pushgateway at"] {
        assert!(
            outcome.stderr.contains("the metrics could not be published")
                && outcome.stderr.contains(why),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn proofs_drills_and_mirrors_have_their_metrics() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    let mirror = site.path("mirror");
    let site = site.with_mirror("second", &mirror);
    let (_, lines) = site.json(["backup"]);
    site.succeed(["replicate"]);
    let ledger = Ledger::open(&site.path("state")).expect("the ledger opens");
    let size_bytes =
        lines.last().expect("a report")["sources"][0]["size_bytes"].as_u64().expect("a size");
    let repository = site.repository().to_str().expect("UTF-8").to_owned();
    let proof = |day: i64, level, restore_seconds| {
        let snapshot = format!("{day:064}").parse().expect("an id");
        let at = Timestamp::from_second(day * 86_400).expect("a time");
        let source = "configs".parse().expect("a name");
        let mut proof = Proof::new(RunId::new(), source, &repository, (snapshot, at), level);
        proof.wanted = ProofLevel::Restored;
        // Half of the current size: a restore would take twice as long.
        proof.size_bytes = size_bytes / 2;
        proof.restore_seconds = restore_seconds;
        proof
    };
    for proof in
        [proof(20_000, ProofLevel::Restored, Some(30.0)), proof(20_001, ProofLevel::Parsed, None)]
    {
        ledger.record_proof(&proof).expect("a proof can be recorded");
    }
    let drill = Event::new(RunId::new(), EventKind::Drill, repository, Timestamp::now());
    ledger.record(&drill).expect("an event can be recorded");
    let text = site.succeed(["metrics"]).stdout;
    let proven = |level: &str| {
        value(
            &text,
            &format!(
                "kaleem_dr_newest_proven_timestamp_seconds{{level=\"{level}\",repository=\"local\",source=\"configs\"}}"
            ),
        )
    };
    assert!(
        (proven("parsed") - 20_001.0 * 86_400.0).abs() < 0.01
            && (proven("restored") - 20_000.0 * 86_400.0).abs() < 0.01
    );
    let of =
        |name: &str| value(&text, &format!("{name}{{repository=\"local\",source=\"configs\"}}"));
    assert!((of("kaleem_dr_rto_measured_seconds") - 30.0).abs() < 0.01);
    assert!((of("kaleem_dr_rto_forecast_seconds") - 60.0).abs() < 0.1, "{text}");
    assert!((of("kaleem_dr_drill_mismatches") - 1.0).abs() < 0.01, "the newest one was not equal");
    assert!(
        value(&text, "kaleem_dr_drill_last_success_timestamp_seconds{repository=\"local\"}") > 1e9
    );
    assert!(value(&text, "kaleem_dr_mirror_synced_timestamp_seconds{repository=\"second\"}") > 1e9);
    assert!(value(&text, "kaleem_dr_mirror_lag_seconds{repository=\"second\"}").abs() < 0.01);
    site.succeed(["backup"]);
    let text = site.succeed(["metrics"]).stdout;
    assert!(value(&text, "kaleem_dr_mirror_lag_seconds{repository=\"second\"}") > 0.0);
}

#[test]
fn the_alerts_are_rules_of_prometheus_and_the_packaged_ones_are_those_printed() {
    let path = packaged("prometheus/kaleem-dr.rules.yml");
    let (good, said) = promtool(&["check", "rules", path.to_str().expect("UTF-8")], "");
    assert!(good, "{said}");
    let site = Site::new();
    let packaged_rules = fs::read_to_string(path).expect("the rules are packaged");
    assert_eq!(site.succeed(["metrics", "--rules"]).stdout, packaged_rules);
    let dashboard =
        fs::read_to_string(packaged("grafana/kaleem-dr.json")).expect("the dashboard is packaged");
    assert_eq!(site.succeed(["metrics", "--dashboard"]).stdout, dashboard);
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 8));
}

/// The metrics of a healthy host, as series for Prometheus's rule tests with one sample a minute.
const HEALTHY: &str = "      - { series: 'kaleem_dr_build_info{instance=\"db1\",version=\"0.1.0\"}', values: '1x4000' }
      - { series: 'kaleem_dr_metrics_written_timestamp_seconds{instance=\"db1\"}', values: '0+60x4000' }
      - { series: 'kaleem_dr_rpo_target_seconds{instance=\"db1\"}', values: '93600x4000' }
      - { series: 'kaleem_dr_late_after_seconds{instance=\"db1\",kind=\"backup\"}', values: '93600x4000' }
      - { series: 'kaleem_dr_late_after_seconds{instance=\"db1\",kind=\"replicate\"}', values: '93600x4000' }
      - { series: 'kaleem_dr_late_after_seconds{instance=\"db1\",kind=\"drill\",repository=\"local\"}', values: '691200x13000' }
      - { series: 'kaleem_dr_alarms{instance=\"db1\",source=\"mongo\"}', values: '0x4000' }
";

/// Asserts that an alert fires, or does not fire, at a time with these series.
fn assert_fires(series: &str, minutes: u32, alert: &str, fires: bool) {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let test = home.path().join("test.yml");
    let rules = packaged("prometheus/kaleem-dr.rules.yml");
    // Queries the ALERTS series, so that the test need not repeat labels and texts.
    let wanted = if fires { "[{ labels: '{}', value: 1 }]" } else { "[]" };
    let text = format!(
        "rule_files: [{rules:?}]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{series}    \
         promql_expr_test:\n      - expr: 'count(count by (alertname) (ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}))'\n        \
         eval_time: {minutes}m\n        exp_samples: {wanted}\n"
    );
    fs::write(&test, &text).expect("a file can be written");
    let (good, said) = promtool(&["test", "rules", test.to_str().expect("UTF-8")], "");
    assert!(good, "{alert} after {minutes} minutes: {said}\n{text}");
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let with = |more: &str| format!("{HEALTHY}{more}");
    let backup = |success: &str, status: &str| {
        let labels = "instance=\"db1\",kind=\"backup\",source=\"mongo\",repository=\"local\"";
        format!(
            "      - {{ series: 'kaleem_dr_last_success_timestamp_seconds{{{labels}}}', values: '{success}' }}\n      \
             - {{ series: 'kaleem_dr_last_run_status{{{labels}}}', values: '{status}' }}\n      \
             - {{ series: 'kaleem_dr_newest_point_timestamp_seconds{{instance=\"db1\",source=\"mongo\",repository=\"local\"}}', \
             values: '{success}' }}\n"
        )
    };
    let proven = |at: &str| {
        format!(
            "      - {{ series: 'kaleem_dr_rpo_point_timestamp_seconds{{instance=\"db1\",source=\"mongo\",repository=\"local\"}}', \
             values: '{at}' }}\n"
        )
    };
    // A run at the beginning of time, and none since.
    let unproven = with(&backup("0x4000", "0x4000"));
    let once = format!("{unproven}{}", proven("0x4000"));
    for (minutes, late) in [(26 * 60, false), (26 * 60 + 10, true)] {
        assert_fires(&once, minutes, "KaleemDrBackupLate", late);
        assert_fires(&once, minutes, "KaleemDrRpoExceeded", late);
    }
    // A backup that succeeds every minute, while no point is proven any more.
    assert_fires(
        &format!("{}{}", with(&backup("0+60x4000", "0x4000")), proven("0x4000")),
        26 * 60 + 10,
        "KaleemDrRpoExceeded",
        true,
    );
    for (series, late) in [(&once, false), (&unproven, true)] {
        assert_fires(series, 26 * 60 + 10, "KaleemDrNeverProven", late);
    }
    assert_fires(&once, 60, "KaleemDrSourceFailed", false);
    assert_fires(&with(&backup("0x4000", "0x30 7x3000")), 60, "KaleemDrSourceFailed", true);
    // Prometheus drops empty labels.
    let job = "      - { series: 'kaleem_dr_last_run_status{instance=\"db1\",kind=\"check\",repository=\"local\"}', values: '4x4000' }\n";
    assert_fires(&with(job), 10, "KaleemDrJobFailed", true);
    assert_fires(&with(job), 10, "KaleemDrSourceFailed", false);
    // A timer that has not fired yet gets one day; one that never fires gets no more.
    let never = with("");
    assert_fires(&never, 25 * 60, "KaleemDrNeverBackedUp", false);
    assert_fires(&never, 27 * 60, "KaleemDrNeverBackedUp", true);
    assert_fires(&never, 25 * 60, "KaleemDrBackupLate", false);
    assert_fires(&never, 25 * 60, "KaleemDrMetricsMissing", false);
    // No metrics at all.
    let other = "      - { series: 'up{instance=\"db1\"}', values: '1x4000' }\n";
    assert_fires(other, 30, "KaleemDrMetricsMissing", false);
    assert_fires(other, 70, "KaleemDrMetricsMissing", true);
    // The file exists but is no longer written.
    let stale = HEALTHY.replace("'0+60x4000'", "'0x4000'");
    assert_fires(&stale, 26 * 60 + 10, "KaleemDrMetricsStale", true);
    assert_fires(HEALTHY, 26 * 60 + 10, "KaleemDrMetricsStale", false);
    let red = "      - { series: 'kaleem_dr_drill_mismatches{instance=\"db1\",source=\"mongo\",repository=\"local\"}', values: '1x4000' }\n";
    assert_fires(&with(red), 10, "KaleemDrDrillRed", true);
    let mirror = "      - { series: 'kaleem_dr_mirror_info{instance=\"db1\",repository=\"r2\",mirror_of=\"local\"}', values: '1x4000' }\n";
    assert_fires(&with(mirror), 27 * 60, "KaleemDrNeverMirrored", true);
    let synced = "      - { series: 'kaleem_dr_mirror_synced_timestamp_seconds{instance=\"db1\",repository=\"r2\"}', values: '0x4000' }\n";
    assert_fires(&with(&(mirror.to_owned() + synced)), 27 * 60, "KaleemDrNeverMirrored", false);
    assert_fires(&with(&(mirror.to_owned() + synced)), 27 * 60, "KaleemDrMirrorBehind", true);
    // Each job by its own schedule: an hourly backup is late after two hours, and a weekly drill after eight days.
    let hourly = once.replace("'93600x4000'", "'7200x4000'");
    for (minutes, late) in [(115, false), (130, true)] {
        assert_fires(&hourly, minutes, "KaleemDrBackupLate", late);
    }
    let drill = with(
        "      - { series: 'kaleem_dr_drill_last_success_timestamp_seconds{instance=\"db1\",repository=\"local\"}', values: '0x13000' }\n",
    );
    for (minutes, late) in [(191 * 60, false), (194 * 60, true)] {
        assert_fires(&drill, minutes, "KaleemDrDrillLate", late);
    }
}
