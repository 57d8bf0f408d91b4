//! `bootstrap`: a new machine from a repository alone, and what each snapshot knows for it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use kaleem_dr_core::{
    ground::digest::ByteDigest,
    operate::{config::secret::SecretString, installation::SealedSecrets},
    secrecy::ExposeSecret as _,
};
use serde_json::Value;

use crate::support::site::{PASSWORD, Site};

const CANARY: &str = "canary-7f3a-secret";

/// A site of files with a canary in every kind of secret, and in the comments of its config.
fn site_with_canaries(more: &str) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    fs::write(tree.join("a"), "content").expect("a file can be written");
    let uri = format!("mongodb://u:{CANARY}-mongo@127.0.0.1:1/kaleem");
    let (uri, hook) = (
        site.secret("mongo.uri", &uri),
        site.secret("hook.url", &format!("http://127.0.0.1:1/{CANARY}")),
    );
    site.secret("recovery.pass", "correct horse battery");
    site.with_files("configs", &[&tree]).with(&format!(
        "# {CANARY} in a comment\n[source.mongo]\ntype = \"mongodb\"\nuri = {{ file = '{}' }} # {CANARY}\n\
         [source.broker]\ntype = \"rabbitmq\"\nurl = \"http://127.0.0.1:1\"\nusername = \"kaleem\"\npassword = {{ env = \"BROKER\" }}\n\
         [[monitoring.webhook]]\nurl = {{ file = '{}' }}\non = [\"success\"]\n{more}",
        uri.display(),
        hook.display()
    ))
}

fn backed_up(site: &Site) {
    site.succeed(["init"]);
    let outcome = crate::support::program::run(
        site.command().env("BROKER", format!("{CANARY}-broker")).arg("backup"),
    );
    // The servers do not exist; the files are saved.
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
}

/// The files of the newest snapshot, restored by stock restic.
fn restored(site: &Site) -> std::path::PathBuf {
    let target = site.path("by-restic");
    site.restic().succeed(["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    target.join(".kaleem-dr")
}

fn assert_silent(text: &str, name: &str) {
    assert!(!text.contains("canary"), "{name}: {text}");
}

#[test]
fn a_snapshot_knows_its_installation_and_no_secret() {
    let site = site_with_canaries("");
    backed_up(&site);
    let own = restored(&site);
    let text = fs::read_to_string(own.join("installation.json")).expect("an installation");
    assert_silent(&text, "installation.json");
    assert!(!own.join("secrets.age").exists(), "secrets are sealed only on request");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found["format"], 1);
    let config = found["config"]["text"].as_str().expect("a config");
    assert!(config.contains("[source.mongo]") && !config.contains('#'), "{config}");
    let keys: Vec<&str> = found["secrets"]
        .as_array()
        .expect("secrets")
        .iter()
        .filter_map(|secret| secret["key"].as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "monitoring.webhook.url",
            "repository.local.password",
            "source.broker.password",
            "source.mongo.uri"
        ]
    );
    assert_eq!(found["secrets"][2]["place"]["env"], "BROKER");
    assert_eq!(found["order"], serde_json::json!([["configs"], ["broker", "mongo"]]));
    let address =
        found["servers"].as_array().expect("servers").iter().find(|one| one["source"] == "mongo");
    assert_eq!(address.expect("mongo's")["address"], "127.0.0.1:1");
    assert!(
        found["machine"]["users"]
            .as_array()
            .is_some_and(|users| users.iter().any(|user| user["id"] == 0))
    );
    // Stock restic's view of the snapshot is whole, and so is ours.
    site.restic().check_read_data();
    site.succeed(["verify", "configs", "--level", "parsed"]);
}

#[test]
fn an_unchanged_night_adds_the_description_once() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    let site = site.with_files("configs", &[&tree]);
    site.initialised_and_backed_up();
    site.succeed(["backup"]);
    site.succeed(["backup"]);
    let own = restored(&site);
    let blobs = site.restic().succeed(["list", "blobs"]).stdout;
    let blobs = String::from_utf8_lossy(&blobs).into_owned();
    for name in [own.join("installation.json"), own.with_file_name("RESTORE.md")] {
        let blob = ByteDigest::of(&fs::read(&name).expect("the file was restored"));
        assert_eq!(blobs.matches(&blob).count(), 1, "{}: {blobs}", name.display());
    }
}

#[test]
fn sealed_secrets_open_with_their_passphrase_only() {
    let sealed = "[recovery]\nsecrets = \"sealed\"\npassphrase = { file = 'PASSPHRASE' }\n";
    let site = site_with_canaries("");
    let passphrase = site.path("recovery.pass");
    let site = site.with(&sealed.replace("PASSPHRASE", passphrase.to_str().expect("UTF-8")));
    backed_up(&site);
    let own = restored(&site);
    assert_silent(
        &fs::read_to_string(own.join("installation.json")).expect("it is there"),
        "installation.json",
    );
    let bundle = fs::read(own.join("secrets.age")).expect("sealed secrets");
    assert!(bundle.starts_with(b"age-encryption.org/v1\n"));
    let open =
        |passphrase: &str| SealedSecrets::open(&bundle, &SecretString::from(passphrase.to_owned()));
    assert!(open("battery").is_err());
    let opened = open("correct horse battery").expect("it is the passphrase");
    let value = |key: &str| opened.value(key).map(|value| value.expose_secret().to_owned());
    assert_eq!(value("source.broker.password"), Some(format!("{CANARY}-broker")));
    assert_eq!(value("repository.local.password"), Some(PASSWORD.to_owned()));
    assert_eq!(value("recovery.passphrase"), None);

    // On a new machine, they are in their places again, and in no output.
    let from = site.repository();
    let new = Site::within(site.directory(), "unused");
    let (root, kept) = (new.path("root"), site.path("repository.pass"));
    let wrong = site.secret("wrong", "battery");
    let run = |passphrase: &Path| {
        crate::support::program::run(new.command().env_remove("KALEEM_DR_CONFIG").args([
            "bootstrap",
            "--from",
            from.to_str().expect("UTF-8"),
            "--password-file",
            kept.to_str().expect("UTF-8"),
            "--passphrase-file",
            passphrase.to_str().expect("UTF-8"),
            "--root",
            root.to_str().expect("UTF-8"),
        ]))
    };
    let refused = run(&wrong);
    assert_eq!(refused.code, Some(12), "{}", refused.stderr);
    assert!(!root.exists(), "nothing was written");
    let done = run(&passphrase);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_silent(&(done.stdout.clone() + &done.stderr), "the output");
    let at = |path: &Path| root.join(path.strip_prefix("/").expect("absolute"));
    let uri = at(&site.path("mongo.uri"));
    assert!(
        fs::read_to_string(&uri).expect("it was written").contains(&format!("u:{CANARY}-mongo@"))
    );
    assert_eq!(fs::metadata(&uri).expect("it exists").permissions().mode() & 0o777, 0o600);
    let environment =
        fs::read_to_string(root.join("etc/kaleem-dr/environment")).expect("variables");
    assert!(environment.contains(&format!("BROKER='{CANARY}-broker'")), "{environment}");
    let config = fs::read_to_string(root.join("etc/kaleem-dr/kaleem-dr.toml")).expect("a config");
    assert_silent(&config, "the config");
    assert!(
        done.stdout.contains("--env-file"),
        "the next command names the variables: {}",
        done.stdout
    );
}

#[test]
fn the_age_program_opens_sealed_secrets_by_hand() {
    // `age` asks on a terminal; `script` provides one.
    let site = site_with_canaries("");
    let passphrase = site.path("recovery.pass");
    let site = site.with(&format!(
        "[recovery]\nsecrets = \"sealed\"\npassphrase = {{ file = '{}' }}\n",
        passphrase.display()
    ));
    backed_up(&site);
    let (bundle, plain) = (restored(&site).join("secrets.age"), site.path("plain.json"));
    let command = format!("age -d -o {} {}", plain.display(), bundle.display());
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script can be run");
    let mut typed = child.stdin.take().expect("its input");
    std::thread::sleep(std::time::Duration::from_secs(1));
    typed.write_all(b"correct horse battery\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    let json: Value = serde_json::from_slice(&fs::read(plain).expect("a file")).expect("JSON");
    assert!(json["secrets"].as_array().is_some_and(|secrets| secrets.len() == 4), "{json}");
}

#[test]
fn several_hosts_are_listed_and_one_has_to_be_named() {
    let site = Site::new().named("db1");
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    let site = site.with_files("configs", &[&tree]);
    site.initialised_and_backed_up();
    let other = site.neighbour("web1").with_files("site", &[&tree]);
    other.succeed(["backup"]);
    let new = Site::new();
    let (from, password) = (site.repository(), new.path("repository.pass"));
    let (from, password) = (from.to_str().expect("UTF-8"), password.to_str().expect("UTF-8"));
    let config = new.path("new/kaleem-dr.toml");
    let run = |more: &[&str]| {
        let args = ["bootstrap", "--from", from, "--password-file", password];
        crate::support::program::run(
            new.command().env("KALEEM_DR_CONFIG", &config).args(args).args(more),
        )
    };
    let refused = run(&[]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    for host in ["db1 (1 points", "web1 (1 points"] {
        assert!(refused.stderr.contains(host), "{}", refused.stderr);
    }
    assert_eq!(run(&["--host", "nobody"]).code, Some(1));
    let secret = format!("--secret=source.site.key={password}");
    let unknown = run(&["--host", "web1", &secret]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("repository.local.password"), "{}", unknown.stderr);
    assert!(!config.exists());
    let done = run(&["--host", "web1"]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let written = fs::read_to_string(&config).expect("a config");
    assert!(written.contains("host = \"web1\"") && written.contains("[source.site]"), "{written}");
    // The same again changes nothing; another host's config is in the way.
    assert_eq!(run(&["--host", "web1"]).code, Some(0));
    let refused = run(&["--host", "db1"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&config).expect("a config"), written);
    assert_eq!(run(&["--host", "db1", "--replace"]).code, Some(0));
    assert!(fs::read_to_string(&config).expect("a config").contains("host = \"db1\""));
}

#[test]
fn an_order_in_a_circle_and_an_unknown_name_are_faults_with_their_place() {
    let tree = Path::new("/nonexistent");
    let site =
        Site::new().with_files("a", &[tree]).with("after = [\"b\"]").with_files("b", &[tree]);
    let unknown = Site::new().with_files("a", &[tree]).with("after = [\"nothing\"]");
    let outcome = unknown.run(["config", "check"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("kaleem-dr.toml:9:") && outcome.stderr.contains("nothing"),
        "{}",
        outcome.stderr
    );
    site.succeed(["config", "check"]);
    let circle = site.with("after = [\"a\"]");
    let outcome = circle.run(["config", "check"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("kaleem-dr.toml:13:"), "{}", outcome.stderr);
}
