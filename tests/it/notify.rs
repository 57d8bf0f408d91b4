//! Webhooks and ntfy are notified of failures and of the first success after one; `notify` tests
//! them, and reports units that failed.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::fs;

use serde_json::json;

use crate::support::{
    healthchecks_stand_in::{Answers, HealthchecksStandIn},
    program::run,
    seed,
    servers::free_port,
    site::Site,
};

/// A site whose only tree can be removed and restored, with a webhook and a topic.
fn site(server: &HealthchecksStandIn) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let (url, token) =
        (site.secret("webhook.url", &server.url("hook")), site.secret("ntfy.token", "tk_canary77"));
    site.with_files("configs", &[&tree]).initialised().with(&format!(
        "[[monitoring.webhook]]\nurl = {{ file = {url:?} }}\non = [\"failure\", \"recovery\"]\n\
         [[monitoring.ntfy]]\nurl = {:?}\ntopic = \"kaleem\"\ntoken = {{ file = {token:?} }}",
        server.url("ntfy")
    ))
}

#[test]
fn a_failure_and_the_recovery_from_it_are_notified_and_quiet_nights_are_not() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    site.succeed(["backup"]);
    assert!(server.seen().is_empty(), "a good night sends nothing");
    let (password, other) = (site.path("repository.pass"), "another");
    let right = fs::read_to_string(&password).expect("the password can be read");
    site.secret("repository.pass", other);
    assert_eq!(site.run(["backup"]).code, Some(12));
    fs::write(&password, right).expect("the password can be put back");
    let (_, lines) = site.json(["backup"]);
    site.succeed(["backup"]);

    let hooks = server.seen_at("hook");
    assert_eq!(hooks.len(), 2, "{hooks:?}");
    let (failed, well) = (hooks[0].json(), hooks[1].json());
    assert_eq!((&failed["event"], &failed["job"]), (&json!("failure"), &json!("backup")));
    assert_eq!((&failed["exit"], &failed["exit_code"]), (&json!("wrong-password"), &json!(12)));
    assert_eq!(failed["sources"][0]["source"], "configs");
    assert_eq!(failed["sources"][0]["exit_code"], 12);
    assert!(
        failed["message"].as_str().is_some_and(|message| message.contains("backup ended with 12")),
        "{failed}"
    );
    assert_eq!((&well["event"], &well["exit_code"]), (&json!("recovery"), &json!(0)));
    assert_eq!(well["run"], lines.last().expect("a report")["run"]);
    assert!(well["started"].as_str() < well["finished"].as_str(), "{well}");

    let told = server.seen_at("ntfy");
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].headers["authorization"], "Bearer tk_canary77");
    let (failed, well) = (told[0].json(), told[1].json());
    assert_eq!(
        (&failed["topic"], &failed["priority"], &failed["tags"][0]),
        (&json!("kaleem"), &json!(5), &json!("rotating_light"))
    );
    assert!(
        failed["title"].as_str().is_some_and(|title| title.ends_with("backup failed")),
        "{failed}"
    );
    assert!(
        well["title"].as_str().is_some_and(|title| title.ends_with("backup works again")),
        "{well}"
    );
}

#[test]
fn a_test_says_who_answered_and_who_did_not() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    let check = site.secret("backup.hc", &server.url("ping/backup"));
    let site = site.with(&format!(
        "[monitoring.healthchecks]\nchecks = {{ backup = {{ file = {check:?} }} }}"
    ));
    let outcome = site.succeed(["notify", "test"]);
    assert_eq!(
        outcome.stdout,
        "sent  healthchecks, check of backup\nsent  webhook 1\nsent  ntfy topic kaleem\n"
    );
    assert_eq!(server.heard()["backup"], ["log"], "a test changes nothing about a check");
    assert_eq!(server.seen_at("hook")[0].json()["event"], "test");

    site.secret("webhook.url", &format!("http://127.0.0.1:{}/secret-path", free_port()));
    fs::remove_file(site.path("backup.hc")).expect("the secret can be removed");
    let (outcome, lines) = site.json(["notify", "test"]);
    assert_eq!(outcome.code, Some(7), "{lines:?}");
    let error = |at: usize| lines[0][at]["error"].as_str().unwrap_or_default().to_owned();
    assert!(
        error(0).contains("the check of backup") && error(0).contains("backup.hc"),
        "{lines:?}"
    );
    assert!(!error(1).is_empty() && !lines[0].to_string().contains("secret-path"), "{lines:?}");
    assert_eq!(lines[0][2], json!({ "whom": "ntfy topic kaleem", "error": null }));
    let checked = site.run(["config", "check"]);
    assert_eq!(checked.code, Some(2));
    assert!(
        checked.stderr.contains("monitoring.healthchecks.checks.\"backup\""),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_missing_recipient_is_reported() {
    let outcome = Site::new().run(["notify", "test"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("configures no recipients")
            && outcome.stderr.contains("[monitoring.healthchecks]"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_unit_that_could_not_be_started_fails_its_jobs_check() {
    let server = HealthchecksStandIn::start();
    let site = site(&server);
    let (backup, drill) = (
        site.secret("b.hc", &server.url("ping/backup")),
        site.secret("d.hc", &server.url("ping/drill")),
    );
    let site = site.with(&format!(
        "[monitoring.healthchecks]\nchecks = {{ backup = {{ file = {backup:?} }}, drill = {{ file = {drill:?} }} }}"
    ));
    site.succeed(["notify", "--failed-unit", "kaleem-dr-backup.service"]);
    site.succeed(["notify", "--failed-unit", "kaleem-dr-drill-r2.service"]);
    assert_eq!(server.heard()["backup"], ["fail"]);
    assert_eq!(server.heard()["drill"], ["fail"]);
    let hook = server.seen_at("hook")[0].json();
    assert_eq!((&hook["event"], &hook["job"]), (&json!("failure"), &json!("backup")));
    assert!(
        hook["message"]
            .as_str()
            .is_some_and(|message| message.contains("journalctl -u kaleem-dr-backup.service")),
        "{hook}"
    );
    assert_eq!(site.run(["notify", "--failed-unit", "nginx.service"]).code, Some(2));
}

#[test]
fn the_handbooks_check_is_that_of_the_drill() {
    let server = HealthchecksStandIn::start().answering(Answers::default());
    let site = Site::new();
    let env_file = site.path("kaleem-backups.env");
    let text = format!(
        "RESTIC_REPOSITORY={}\nRESTIC_PASSWORD_FILE={}\nKALEEM_DR_STATE_DIRECTORY={}\nRESTORE_HC_URL=\"{}\"\n",
        site.repository().display(),
        site.path("repository.pass").display(),
        site.path("state").display(),
        server.url("ping/restore")
    );
    fs::write(&env_file, text).expect("a file can be written");
    let mut command = site.command();
    command.env_remove("KALEEM_DR_CONFIG").arg("--env-file").arg(&env_file);
    let outcome = run(command.args(["notify", "--failed-unit", "kaleem-dr-drill.service"]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(server.heard()["restore"], ["fail"]);
}
