//! Every command in the documentation works as written, on a site with the names of the handbook.
//! The Arabic pages have the same commands.

use std::{fs, path::PathBuf};

use crate::support::{
    everything::Everything, healthchecks_stand_in::HealthchecksStandIn, program::run, site::Site,
};

/// Commands whose exit code describes the site and not the command: 1 and 6 are valid answers.
const ANSWERS: [&str; 3] = ["doctor", "checklist", "status"];

fn document(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The command lines in the fenced blocks of a document: ours, and files moved into place. Synopses
/// are left out.
fn commands(document: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let command = line.trim().trim_start_matches("$ ");
        let is_synopsis = command.contains('[') || command.contains("...");
        if fenced
            && !is_synopsis
            && ["kaleem-dr ", "mv "].iter().any(|program| command.starts_with(program))
        {
            let plain = command.split(" #").next().unwrap_or_default();
            found.push(plain.split(" | ").next().unwrap_or_default().trim().to_owned());
        }
    }
    found
}

/// Runs every command of a document in order. `places` replaces paths and ids of the document.
fn run_all(site: &Site, name: &str, places: &[(&str, String)]) {
    let commands = commands(&document(name));
    assert!(commands.len() >= 10, "{name}: {commands:?}");
    for command in commands {
        let mut here = command.clone();
        for (from, to) in places {
            here = here.replace(from, to);
        }
        let words: Vec<&str> = here.split_whitespace().collect();
        if words[0] == "mv" {
            fs::rename(words[1], words[2])
                .unwrap_or_else(|error| panic!("{name}: {here}: {error}"));
            continue;
        }
        let mut program = site.command();
        program.current_dir(site.path(".")).args(&words[1..]);
        if words.contains(&"--in-place") && !words.contains(&"--dry-run") {
            // There is no terminal to ask on.
            program.arg("--yes");
        }
        let outcome = run(&mut program);
        let is_answer = ANSWERS.iter().any(|answer| words.contains(answer))
            && matches!(outcome.code, Some(1 | 6));
        assert!(
            outcome.code == Some(0) || is_answer,
            "{name}: {here}\n{}{}",
            outcome.stdout,
            outcome.stderr
        );
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().expect("a UTF-8 path").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works_as_written() {
    let all = Everything::set_up(|site| site).await;
    let site = &all.site;
    let variables = format!(
        "RESTIC_REPOSITORY={}\nRESTIC_PASSWORD_FILE={}\nKALEEM_DR_STATE_DIRECTORY={}\nMONGO_URI={}kaleem\n",
        text(site.repository()),
        text(site.path("repository.pass")),
        text(site.path("state-of-variables")),
        all.mongo.uri(),
    );
    let file = site.secret("kaleem-backups.env", &variables);
    run_all(
        site,
        "README.md",
        &[
            (
                "config init --source",
                format!("config init {} --source", text(site.path("made.toml"))),
            ),
            ("--env-file /etc/kaleem-backups.env", format!("--env-file {}", text(file))),
            ("schedule install", format!("schedule install --root {}", text(site.path("root")))),
            ("migrate", format!("migrate --root {}", text(site.path("old")))),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_operator_guide_works_as_written() {
    let told = HealthchecksStandIn::start();
    let second = |site: Site| {
        let url = site.secret("webhook.url", &told.url("webhook"));
        let site = site.with(&format!("[[monitoring.webhook]]\nurl = {{ file = {url:?} }}"));
        let (place, password) = (site.path("r2"), site.path("repository.pass"));
        site.with(&format!(
            "[repository.r2]\nlocation = {place:?}\npassword = {{ file = {password:?} }}"
        ))
    };
    let all = Everything::set_up(second).await;
    let site = &all.site;
    site.initialised_and_backed_up();
    let of_files = site
        .snapshots()
        .into_iter()
        .find(|snapshot| snapshot["source"] == "configs")
        .expect("files");
    let places = [
        ("config init --source", format!("config init {} --source", text(site.path("made.toml")))),
        ("a1536ac7", of_files["short_id"].as_str().expect("an id").to_owned()),
        ("/var/tmp/look", text(site.path("look"))),
        ("/etc/apt", format!("{}/etc/nginx", text(site.path("tree")))),
        ("/root/second.pass", text(site.secret("second.pass", "another-password"))),
        // A moment that the slice of this test reaches.
        ("2026-11-28T14:03:00Z", "latest".to_owned()),
        // The guide begins by creating a repository; the test needs one with a history.
        ("kaleem-dr init", "kaleem-dr stats".to_owned()),
    ];
    run_all(site, "docs/operator.md", &places);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_works_as_written() {
    let mirrored = |site: Site| {
        let place = site.path("r2");
        site.with_mirror("r2", &place)
    };
    let all = Everything::set_up(mirrored).await;
    let site = &all.site;
    site.initialised_and_backed_up();
    site.succeed(["replicate"]);
    site.succeed(["drill"]);
    let of_files = site
        .snapshots()
        .into_iter()
        .find(|snapshot| snapshot["source"] == "configs")
        .expect("files");
    let places = [
        // First, because the other replacements contain `/tmp`.
        ("/tmp/", format!("{}/", text(site.path("")))),
        ("4f3a", of_files["short_id"].as_str().expect("an id").to_owned()),
        ("01J9", of_files["run"].as_str().expect("a run").to_owned()),
        ("/etc/kaleem-dr", format!("{}/etc", text(site.path("tree")))),
        ("/etc/nginx", format!("{}/etc/nginx", text(site.path("tree")))),
        ("/etc/restic.pass.new", text(site.secret("new.pass", "a-new-password"))),
        ("/etc/restic.pass", text(site.path("repository.pass"))),
        // Moments that the slice of this test reaches.
        ("2026-11-28T14:03:00Z", "latest".to_owned()),
        ("1764338580.3", "latest".to_owned()),
    ];
    run_all(site, "docs/runbooks.md", &places);
}

#[test]
fn both_languages_have_the_same_commands() {
    for (english, arabic) in
        [("docs/operator.md", "docs/operator.ar.md"), ("docs/runbooks.md", "docs/runbooks.ar.md")]
    {
        assert_eq!(
            commands(&document(english)),
            commands(&document(arabic)),
            "{english}, {arabic}"
        );
    }
}
