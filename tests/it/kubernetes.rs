//! The manifests for Kubernetes are valid for its last releases, and contain no secret.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{env, fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    program::{Outcome, run},
    site::Site,
};

/// The last three minor releases whose schemas the validator has.
const RELEASES: [&str; 3] = ["1.35", "1.36", "1.37"];

/// A site with everything that becomes a part of a manifest.
fn site() -> Site {
    let site = Site::new().named("db1");
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    let webhook = site.secret("webhook.url", "https://canary.example.com/secret");
    let (key, secret) =
        (site.secret("s3.key", "canary-key"), site.secret("s3.secret", "canary-secret"));
    let password = site.path("repository.pass");
    site.with_files("configs", &[&tree])
        .with("[source.mongo]\ntype = \"mongodb\"\nuri = { env = \"MONGO_URI\" }")
        .with(&format!(
            "[repository.r2]\nlocation = \"s3:https://s3.example.com/backups/db1\"\nmirror_of = \"local\"\npassword = {{ file = {password:?} }}\n\
             access_key_id = {{ file = {key:?} }}\nsecret_access_key = {{ file = {secret:?} }}\n\
             [[monitoring.webhook]]\nurl = {{ file = {webhook:?} }}\n[oplog]\nsources = [\"mongo\"]"
        ))
}

fn validator() -> Command {
    let program = env::var_os("KALEEM_TEST_KUBERNETES_VALIDATE")
        .expect("KALEEM_TEST_KUBERNETES_VALIDATE: run `make up`, then `source .dev/env`");
    let mut command = Command::new(program);
    // Its schemas are installed with it.
    command.env("https_proxy", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
    command
}

fn validated(manifests: &Path, release: &str) -> Outcome {
    run(validator().args(["--strict", "-k", release]).arg(manifests))
}

/// The documents, parsed by `PyYAML`, which the validator brings.
fn documents(manifests: &Path) -> Vec<Value> {
    let program = env::var_os("KALEEM_TEST_KUBERNETES_VALIDATE").expect("see above");
    let python = Path::new(&program).with_file_name("python");
    let script =
        "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let outcome = run(Command::new(python).args(["-c", script]).arg(manifests));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

#[test]
fn manifests_are_valid_for_the_last_three_releases_and_contain_no_secret() {
    let site = site();
    let printed = site.succeed([
        "schedule",
        "print",
        "--kubernetes",
        "--image",
        "registry.example.com/kaleem-dr:1",
        "--namespace",
        "backup",
    ]);
    let path = site.path("manifests.yaml");
    fs::write(&path, &printed.stdout).expect("a file");
    for release in RELEASES {
        let outcome = validated(&path, release);
        assert_eq!(outcome.code, Some(0), "{release}: {}{}", outcome.stdout, outcome.stderr);
    }
    assert!(!printed.stdout.contains("canary"), "{}", printed.stdout);
    for comment in [
        "kubectl create secret generic kaleem-dr -n backup",
        "--from-file=repository.local.password=",
    ] {
        assert!(printed.stdout.contains(comment), "{comment}: {}", printed.stdout);
    }

    let documents = documents(&path);
    assert!(documents.iter().all(|document| document["metadata"]["namespace"] == "backup"));
    let jobs = of_kind(&documents, "CronJob");
    let names: Vec<&str> = jobs.iter().filter_map(|job| job["metadata"]["name"].as_str()).collect();
    for name in ["backup", "replicate", "verify", "check", "drill", "drill-r2", "oplog"] {
        assert!(names.contains(&format!("kaleem-dr-{name}").as_str()), "{name}: {names:?}");
    }
    for job in &jobs {
        let (spec, pod) = (&job["spec"], &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
        assert_eq!(
            (&spec["concurrencyPolicy"], &spec["timeZone"]),
            (&"Forbid".into(), &"Etc/UTC".into())
        );
        assert!(
            spec["successfulJobsHistoryLimit"].is_u64() && spec["failedJobsHistoryLimit"].is_u64()
        );
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert!(container["resources"]["limits"]["memory"].is_string());
        let claims = pod["volumes"].as_array().expect("volumes");
        assert!(
            claims
                .iter()
                .any(|volume| volume["persistentVolumeClaim"]["claimName"] == "kaleem-dr-state"),
            "{pod}"
        );
    }

    // The jobs' config is one that the program accepts, with credentials as its only secrets.
    let config =
        of_kind(&documents, "ConfigMap")[0]["data"]["kaleem-dr.toml"].as_str().expect("text");
    assert!(config.contains("host = \"db1\"") && !config.contains("env = "), "{config}");
    assert!(!config.contains(&site.path("repository.pass").display().to_string()), "{config}");
    let credentials = site.path("credentials");
    fs::create_dir_all(&credentials).expect("a directory");
    fs::write(credentials.join("repository.local.password"), crate::support::site::PASSWORD)
        .expect("a file");
    let inner = site.path("inner.toml");
    fs::write(&inner, config).expect("a file");
    let stats = run(site.command().env("CREDENTIALS_DIRECTORY", &credentials).args([
        "--config",
        inner.to_str().expect("UTF-8"),
        "init",
    ]));
    assert_eq!(stats.code, Some(0), "{}{}", stats.stdout, stats.stderr);

    // A ServiceMonitor finds the service by its labels and the port by its name.
    let service = of_kind(&documents, "Service")[0];
    assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/component"], "metrics");
    assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
    let deployment = of_kind(&documents, "Deployment")[0];
    let template = &deployment["spec"]["template"];
    assert_eq!(service["spec"]["selector"], template["metadata"]["labels"]);
    assert_eq!(template["spec"]["containers"][0]["ports"][0]["name"], "metrics");
    let args = template["spec"]["containers"][0]["args"].to_string();
    assert!(args.contains("\"fleet\",\"serve\""), "{args}");

    // What the cluster cannot know is a warning, not a part of the output.
    let tree = site.path("tree").display().to_string();
    assert!(printed.stderr.contains(&tree), "{}", printed.stderr);
}

#[test]
fn without_state_the_jobs_have_an_empty_directory_and_the_validator_is_not_blind() {
    let site = site();
    let printed = site.succeed(["schedule", "print", "--kubernetes", "--without-state"]).stdout;
    let path = site.path("manifests.yaml");
    fs::write(&path, &printed).expect("a file");
    assert_eq!(validated(&path, RELEASES[2]).code, Some(0));
    let documents = documents(&path);
    let claims = of_kind(&documents, "PersistentVolumeClaim");
    assert!(
        claims.iter().all(|claim| claim["metadata"]["name"] != "kaleem-dr-state"),
        "{claims:?}"
    );
    fs::write(&path, printed.replace("concurrencyPolicy", "concurrencyPolitics")).expect("a file");
    assert_ne!(validated(&path, RELEASES[2]).code, Some(0), "an unknown field is detected");
}
