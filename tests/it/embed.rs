//! Runs the examples for programs that embed the library.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::support::{
    program::{example, run},
    restic::Restic,
    servers,
    site::Site,
};

/// A program that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_embedders_example_backs_up_and_restores_its_own_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let outcome = run(example("own_source").arg(directory.path()));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("restored: /settings/colour, colour is green"),
        "{}",
        outcome.stdout
    );
    Restic::on_directory(&directory.path().join("repository"), "example").check_read_data();

    let text = include_str!("../../examples/own_source.rs");
    let begins = text
        .lines()
        .position(|line| line.starts_with("struct Settings"))
        .expect("the source is in the example");
    let ends =
        text.lines().position(|line| line.starts_with("#[tokio::main]")).expect("and what uses it");
    assert!(ends - begins < 75, "a source of one's own takes {} lines", ends - begins);
    let service = text.lines().count() - ends;
    assert!(service < 40, "what uses it takes {service} lines");
}

#[test]
fn an_embedder_shows_progress_and_notifies_in_its_own_way_and_its_jobs_are_in_the_history() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    fs::write(tree.join("file"), "content").expect("a file can be written");
    let site = site.with_files("data", &[&tree]).initialised();
    let outcome = run(example("own_progress").arg(site.config_path()));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for line in ["begun: ", "paged: backup ended with 0", "paged: verify ended with 0"] {
        assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
    }
    assert!(outcome.stdout.ends_with("verify: Done\n"), "{}", outcome.stdout);
    let (_, past) = site.json(["history"]);
    let kinds: Vec<_> = past[0].as_array().expect("a list").iter().map(|of| &of["kind"]).collect();
    assert_eq!(kinds, ["verify", "backup"]);
}

#[tokio::test]
async fn a_service_in_a_bucket_is_drilled_and_says_over_http_how_well_it_is_protected() {
    let s3 = servers::s3();
    let site = Site::new();
    let (tree, config, state) =
        (site.path("tree"), site.path("service.toml"), site.path("service-state"));
    fs::create_dir_all(&tree).expect("a directory can be made");
    fs::write(tree.join("file"), "content").expect("a file can be written");
    let secret =
        |name: &str, value: &str| format!("{{ file = '{}' }}", site.secret(name, value).display());
    let toml = format!(
        "state_directory = '{}'\ncache_directory = '{}'\n[repository.bucket]\nlocation = \"s3:{}/{}/embed-{}\"\npassword = {}\n\
         access_key_id = {}\nsecret_access_key = {}\n[source.data]\ntype = \"files\"\npaths = ['{}']\n",
        state.display(),
        site.path("service-cache").display(),
        s3.endpoint,
        s3.bucket,
        std::process::id(),
        secret("service.pass", "a service"),
        secret("service.key", &s3.key),
        secret("service.secret", &s3.secret),
        tree.display(),
    );
    fs::write(&config, toml).expect("a config can be written");
    let mut init = site.command();
    init.env("KALEEM_DR_CONFIG", &config).arg("init");
    let made = run(&mut init);
    assert_eq!(made.code, Some(0), "{}", made.stderr);

    let mut service = example("status_endpoint");
    let mut service =
        Running(service.arg(&config).stdout(Stdio::piped()).spawn().expect("it can be started"));
    let said = BufReader::new(service.0.stdout.take().expect("it is a pipe"));
    let lines: Vec<String> =
        said.lines().take(3).map(|line| line.expect("it can be read")).collect();
    assert_eq!(lines[..2], ["backup: Done", "drill: Done"]);
    let url = &lines[2];
    let status: Value = reqwest::get(format!("{url}/status"))
        .await
        .expect("it answers")
        .json()
        .await
        .expect("JSON");
    assert_eq!(status["sources"][0]["source"], "data", "{status}");
    let health = reqwest::get(format!("{url}/healthz")).await.expect("it answers");
    assert_eq!(health.status(), 200, "{status}");
}
