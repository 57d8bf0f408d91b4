//! Notices for people: email on a real SMTP server, and the forms that chat services and PagerDuty
//! document. No service is reachable here, so their requests are recorded.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{fmt::Write as _, fs};

use serde_json::{Value, json};

use crate::support::{
    healthchecks_stand_in::{Answers, HealthchecksStandIn},
    program::run,
    seed,
    site::Site,
    smtp_server::{SmtpServer, authority},
};

/// A site with one tree, `tree`, which a test may remove.
fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree]).initialised()
}

fn with_email(site: Site, server: &SmtpServer, more: &str) -> Site {
    site.with(&format!(
        "[[monitoring.email]]\nserver = \"localhost\"\nport = {}\nca_file = {:?}\nfrom = \"Backups <backup@example.org>\"\n\
         to = [\"ops@example.org\", \"أحمد <ahmed@example.org>\"]\n{more}",
        server.port,
        authority()
    ))
}

/// Makes the next backups fail, or succeed again.
fn lose_tree(site: &Site) {
    fs::rename(site.path("tree"), site.path("lost")).expect("a tree can be renamed");
}

fn find_tree(site: &Site) {
    fs::rename(site.path("lost"), site.path("tree")).expect("a tree can be renamed");
}

fn header<'a>(message: &'a Value, name: &str) -> &'a str {
    let content = message["content"].as_str().expect("a text");
    let line = content.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {content}"))
}

#[test]
fn a_failure_is_mailed_once_and_so_is_its_recovery() {
    for (mode, login) in
        [("tls", &["u", "canary-9"][..]), ("starttls", &["u", "canary-9"]), ("none", &[])]
    {
        let server = SmtpServer::start(mode, login, 1);
        let site = site();
        let password = site.secret("smtp.pass", "canary-9");
        let login = if login.is_empty() {
            String::new()
        } else {
            format!("username = \"u\"\npassword = {{ file = {password:?} }}")
        };
        let site = with_email(site, &server, &format!("security = \"{mode}\"\n{login}"));
        site.succeed(["backup"]);
        lose_tree(&site);
        assert_eq!(site.run(["backup"]).code, Some(1));
        // The server refused it once for now.
        let failed = server.message();
        assert_eq!(failed["encrypted"], mode != "none");
        assert_eq!(failed["from"], "backup@example.org");
        assert_eq!(failed["to"], json!(["ops@example.org", "ahmed@example.org"]));
        assert!(header(&failed, "Subject:").ends_with(": backup failed"), "{failed}");
        assert!(
            failed["content"].as_str().is_some_and(|text| text.contains("backup ended with 1")),
            "{failed}"
        );
        assert_eq!(site.run(["backup"]).code, Some(1));
        // systemd reports the unit of a job that failed.
        site.succeed(["notify", "--failed-unit", "kaleem-dr-backup.service"]);
        assert!(server.is_quiet(), "nothing has changed");
        find_tree(&site);
        site.succeed(["backup"]);
        assert!(header(&server.message(), "Subject:").ends_with(": backup works again"));
        site.succeed(["backup"]);
        // After a recovery, the same failure is a new one.
        lose_tree(&site);
        assert_eq!(site.run(["backup"]).code, Some(1));
        assert!(header(&server.message(), "Subject:").ends_with(": backup failed"));
        assert!(server.is_quiet());
        // A unit that could not be started reports nothing itself.
        for _ in 0..2 {
            site.succeed(["notify", "--failed-unit", "kaleem-dr-drill.service"]);
        }
        assert!(header(&server.message(), "Subject:").ends_with(": drill failed"));
        assert!(server.is_quiet());
    }
}

#[test]
fn a_server_without_the_encryption_or_the_password_is_an_error_that_names_no_secret() {
    let plain = SmtpServer::start("none", &[], 0);
    let site = with_email(site(), &plain, "security = \"starttls\"");
    let outcome = site.run(["notify", "test"]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.stdout);
    assert!(plain.is_quiet());

    let server = SmtpServer::start("tls", &["u", "right"], 0);
    let password = site.secret("smtp.pass", "canary-9");
    let more = format!("username = \"u\"\npassword = {{ file = {password:?} }}");
    let site = with_email(self::site(), &server, &more);
    let outcome = site.run(["notify", "test"]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("email to ops@example.org"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("canary-9") && !outcome.stderr.contains("canary-9"));
}

#[test]
fn the_report_of_a_drill_is_attached() {
    let server = SmtpServer::start("tls", &[], 0);
    let site = with_email(
        site(),
        &server,
        "on = [\"success\", \"failure\"]\nonly = { jobs = [\"drill\"] }",
    );
    site.succeed(["backup"]);
    assert!(server.is_quiet(), "only drills are mailed");
    site.succeed(["drill"]);
    let mail = server.message();
    let content = mail["content"].as_str().expect("a text");
    assert!(header(&mail, "Subject:").ends_with(": drill ended well"));
    assert!(content.contains("text/html") && content.contains("attachment"), "{content}");
    let name = content.split("drill-").nth(1).expect("it has a name");
    assert!(name.contains(".html"), "{name:.80}");
}

#[test]
fn a_failure_that_was_not_delivered_is_sent_again_at_once() {
    let server = HealthchecksStandIn::start();
    let site = site();
    let url = site.secret("chat.url", &server.url("slack"));
    let site =
        site.with(&format!("[[monitoring.chat]]\nservice = \"slack\"\nurl = {{ file = {url:?} }}"));
    let server = server.answering(Answers { unavailable: 3, ..Answers::default() });
    lose_tree(&site);
    for (deliveries, why) in
        [(3, "all three attempts fail"), (4, "it is sent again"), (4, "it has arrived")]
    {
        site.run(["backup"]);
        assert_eq!(server.seen_at("slack").len(), deliveries, "{why}");
    }
}

#[test]
fn each_service_receives_its_own_form() {
    let server = HealthchecksStandIn::start();
    let site = site();
    let mut config = String::new();
    for service in ["slack", "discord", "mattermost", "teams"] {
        let url = site.secret(service, &server.url(service));
        // Writing to a String cannot fail.
        let _ = write!(
            config,
            "[[monitoring.chat]]\nservice = \"{service}\"\nurl = {{ file = {url:?} }}\n"
        );
    }
    let (token, key) = (site.secret("token", "77:canary"), site.secret("key", "R0UT1NG"));
    // As above.
    let _ = write!(
        config,
        "[[monitoring.telegram]]\ntoken = {{ file = {token:?} }}\nchat = \"-100\"\nurl = {:?}\n\
         [[monitoring.pagerduty]]\nrouting_key = {{ file = {key:?} }}\nurl = {:?}",
        server.url("telegram"),
        server.url("pagerduty")
    );
    let site = site.with(&config);
    lose_tree(&site);
    assert_eq!(site.run(["backup"]).code, Some(1));
    find_tree(&site);
    site.succeed(["backup"]);

    let both = |path: &str| -> [Value; 2] {
        let seen = server.seen_at(path);
        assert_eq!(seen.len(), 2, "{path}: {seen:?}");
        [seen[0].json(), seen[1].json()]
    };
    let says = |value: &Value, text: &str| {
        assert!(
            value.as_str().is_some_and(|found| found.contains(text)),
            "{text:?} is not in {value}"
        );
    };
    let [failed, well] = both("slack");
    says(&failed["text"], "backup failed");
    says(&failed["attachments"][0]["blocks"][1]["text"]["text"], "backup ended with 1");
    says(&well["text"], "backup works again");
    let [failed, _] = both("discord");
    assert_eq!(failed["allowed_mentions"], json!({ "parse": [] }));
    says(&failed["embeds"][0]["description"], "backup ended with 1");
    let [failed, _] = both("mattermost");
    says(&failed["attachments"][0]["text"], "backup ended with 1");
    let [failed, _] = both("teams");
    let card = &failed["attachments"][0];
    assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
    says(&card["content"]["body"][1]["text"], "backup ended with 1");
    let [failed, _] = both("telegram/bot77:canary/sendMessage");
    assert_eq!(failed["chat_id"], "-100");
    says(&failed["text"], "backup failed");
    let [failed, well] = both("pagerduty");
    assert_eq!(
        (&failed["event_action"], &well["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    assert_eq!(failed["dedup_key"], well["dedup_key"]);
    assert_eq!(failed["routing_key"], "R0UT1NG");
    assert_eq!(failed["payload"]["severity"], "critical");
    assert_eq!(failed["payload"]["custom_details"]["exit_code"], 1);
    let all = format!("{:?}", server.seen());
    assert_eq!(all.matches("canary").count(), 2, "the token is in Telegram's address alone");
}

#[test]
fn a_recipient_for_what_is_critical_does_not_receive_the_rest() {
    let server = HealthchecksStandIn::start();
    let site = site();
    let url = site.secret("hook.url", &server.url("hook"));
    let site = site.with(&format!(
        "[[monitoring.webhook]]\nurl = {{ file = {url:?} }}\nonly = {{ severity = \"critical\" }}\n\
         body = '{{ \"text\": {{{{ title | tojson }}}}, \"bad\": [{{% for part in sources if part.exit_code %}}{{{{ part.source | tojson }}}}{{% endfor %}}] }}'"
    ));
    site.succeed(["backup"]);
    // One of two paths is missing: the backup is incomplete.
    let paths = format!("[{:?}, {:?}]", site.path("tree"), site.path("gone"));
    let mut command = site.command();
    let outcome = run(command.env("KALEEM_DR__SOURCE__CONFIGS__PATHS", paths).arg("backup"));
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    site.succeed(["backup"]);
    assert!(server.seen_at("hook").is_empty(), "it is a warning, and so is the recovery from it");
    lose_tree(&site);
    site.run(["backup"]);
    find_tree(&site);
    site.succeed(["backup"]);
    let seen = server.seen_at("hook");
    let texts: Vec<Value> = seen.iter().map(|one| one.json()["text"].clone()).collect();
    assert_eq!(seen.len(), 2, "{texts:?}");
    assert_eq!(seen[0].json()["bad"], json!(["configs"]));
    assert_eq!(seen[0].headers["content-type"], "application/json");
}
