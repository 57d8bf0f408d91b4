//! A secret never leaves its wrapper: canaries wherever a secret can be configured, and a search
//! for them in every output.

use std::{fs, process::Stdio, thread, time::Duration};

use crate::support::{
    servers::{self, free_port},
    site::Site,
};

/// Contained in every secret; a string that a person could not type by accident.
const CANARY: &str = "kanarienvogel77";

/// Runs commands that succeed and fail in every way that uses a secret, and returns their complete
/// output.
fn everything_said(site: &Site, extra: &[(&str, &str)]) -> String {
    let commands: [&[&str]; 15] = [
        &["config", "check"],
        &["config", "schema"],
        &["init"],
        &["probe"],
        &["backup"],
        &["snapshots"],
        &["points"],
        &["status"],
        &["stats"],
        &["check", "--read-data"],
        &["verify"],
        &["restore", "mongo"],
        &["restore", "rabbitmq", "--dry-run"],
        &["forget", "--dry-run"],
        &["prune", "--dry-run"],
    ];
    let mut said = String::new();
    for args in commands {
        for format in
            [&["-vv", "--log-format", "text"][..], &["-vv", "--json", "--log-format", "json"]]
        {
            let mut command = site.command();
            command
                .args(format)
                .args(args)
                .envs(extra.iter().copied())
                .env("RUST_BACKTRACE", "full");
            let child = command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program runs");
            // What `ps` shows of the process, while it exists.
            let line = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
            said.push_str(&String::from_utf8_lossy(&line));
            let output = child.wait_with_output().expect("it ends");
            said.push_str(&String::from_utf8_lossy(&output.stdout));
            said.push_str(&String::from_utf8_lossy(&output.stderr));
        }
    }
    said
}

#[track_caller]
fn assert_silent(said: &str) {
    let at = said.find(CANARY);
    let around = at.map(|at| said[at.saturating_sub(200)..(at + 60).min(said.len())].to_owned());
    assert_eq!(around, None, "a secret was said");
}

#[test]
fn no_output_holds_a_secret() {
    let refused = free_port();
    let uris = [
        // Nothing listens; a refused login; text that is not a URI; unknown options.
        format!(
            "mongodb://backup:{CANARY}@127.0.0.1:{refused}/kaleem?serverSelectionTimeoutMS=300"
        ),
        format!(
            "mongodb://backup:{CANARY}@{}kaleem",
            servers::mongo_uri().trim_start_matches("mongodb://")
        ),
        format!("mongodb://backup:{CANARY}@@@/kaleem"),
        CANARY.to_owned(),
        format!("mongodb://backup:{CANARY}@127.0.0.1:{refused}/kaleem?authMechanism={CANARY}"),
    ];
    for (number, uri) in uris.iter().enumerate() {
        let site = Site::new();
        site.secret("repository.pass", &format!("{CANARY}-repository"));
        let site = site.with_mongo("mongo", uri).with_rabbitmq("rabbitmq");
        site.secret("rabbitmq.pass", &format!("{CANARY}-rabbitmq"));
        let said = everything_said(&site, &[]);
        assert!(said.contains("mongo"), "the commands did run");
        assert_silent(&said);
        if number == 0 {
            // The repository's content is searched as stock restic restores it.
            let state = fs::read_dir(site.path("state")).map_or(0, Iterator::count);
            assert!(state > 0, "a run leaves its queue file");
        }
    }
}

#[test]
fn secrets_from_the_environment_credentials_and_env_files_stay_there() {
    let site = Site::new();
    let credentials = site.path("credentials");
    fs::create_dir_all(&credentials).expect("a directory can be made");
    fs::write(credentials.join("rabbit"), format!("{CANARY}-credential"))
        .expect("a file can be written");
    let site = site.with(&format!(
        "[repository.bucket]\nlocation = \"s3:http://127.0.0.1:{}/bucket/prefix\"\npassword = {{ env = \"CANARY_PASSWORD\" }}\n\
         access_key_id = {{ env = \"CANARY_KEY\" }}\nsecret_access_key = {{ env = \"CANARY_SECRET\" }}\n\
         [source.mongo]\ntype = \"mongodb\"\nuri = {{ env = \"MONGO_URI\" }}\n\
         [source.rabbitmq]\ntype = \"rabbitmq\"\nurl = {:?}\nusername = \"nobody\"\npassword = {{ credential = \"rabbit\" }}",
        free_port(),
        servers::rabbitmq().url,
    ));
    let uri = format!(
        "mongodb://backup:{CANARY}@127.0.0.1:{}/kaleem?serverSelectionTimeoutMS=300",
        free_port()
    );
    let secret = |name: &str| format!("{CANARY}-{name}");
    let extra = [
        ("CANARY_PASSWORD".to_owned(), secret("password")),
        ("CANARY_KEY".to_owned(), secret("key")),
        ("CANARY_SECRET".to_owned(), secret("secret")),
        ("MONGO_URI".to_owned(), uri.clone()),
        ("CREDENTIALS_DIRECTORY".to_owned(), credentials.to_str().expect("UTF-8").to_owned()),
    ];
    let extra: Vec<(&str, &str)> =
        extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_silent(&everything_said(&site, &extra));

    // A bucket without a server: the test ends the program during its retries, like an operator.
    let mut command = site.command();
    command.args(["--repo", "bucket", "-vv", "snapshots"]).envs(extra.iter().copied());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    thread::sleep(Duration::from_secs(3));
    child.kill().expect("it can be ended");
    let output = child.wait_with_output().expect("it ends");
    assert_silent(
        &(String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)),
    );

    let env_file = site.path("kaleem-backups.env");
    fs::write(
        &env_file,
        format!(
            "MONGO_URI=\"{uri}\"\nRESTIC_REPOSITORY={}\nRESTIC_PASSWORD='{CANARY}-env'\nRABBIT_URL={}\nRABBIT_USER=nobody\nRABBIT_PASS={CANARY}\n",
            site.path("other").display(),
            servers::rabbitmq().url,
        ),
    )
    .expect("a file can be written");
    let env_file = env_file.to_str().expect("UTF-8").to_owned();
    for args in [&["init"][..], &["backup"], &["snapshots"], &["probe"]] {
        let mut command = site.command();
        command.env_remove("KALEEM_DR_CONFIG").args(["-vv", "--env-file", &env_file]).args(args);
        let outcome = crate::support::program::run(&mut command);
        assert!(outcome.code.is_some());
        assert_silent(&(outcome.stdout + &outcome.stderr));
    }
    assert!(site.path("other/config").exists(), "the env file made a config that works");

    // A secret in the wrong place of a config, and in an invalid line of an env file, is not
    // repeated either.
    let site =
        Site::new().with(&format!("[repository.two]\nlocation = \"/x\"\npassword = \"{CANARY}\""));
    let outcome = site.run(["snapshots"]);
    assert_eq!(outcome.code, Some(2));
    assert_silent(&outcome.stderr);
    fs::write(site.path("bad.env"), format!("PASSWORD={CANARY} and more\n"))
        .expect("a file can be written");
    let outcome =
        site.run(["--env-file", site.path("bad.env").to_str().expect("UTF-8"), "snapshots"]);
    assert_eq!(outcome.code, Some(2));
    assert_silent(&outcome.stderr);
}

#[test]
fn what_is_stored_holds_no_secret() {
    let site = Site::new();
    site.secret("repository.pass", &format!("{CANARY}-repository"));
    let uri = format!("{}secrets_stored?appName=x", servers::mongo_uri());
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    let site = site.with_files("configs", &[&tree]).with_mongo("mongo", &uri).initialised();
    site.run(["backup"]);
    let restic = crate::support::restic::Restic::on_directory(
        &site.repository(),
        &format!("{CANARY}-repository"),
    );
    let target = site.path("restored");
    restic.succeed(["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    let manifest = fs::read_to_string(target.join(".kaleem-dr/manifest.json")).expect("a manifest");
    assert_silent(&manifest);
    let snapshots =
        String::from_utf8_lossy(&restic.succeed(["snapshots", "--json"]).stdout).into_owned();
    assert_silent(&snapshots);
}
