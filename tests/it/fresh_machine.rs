//! The loss of a machine, on two machines: a booted Debian is backed up and destroyed, and another one, with nothing but the
//! program, a bucket, a password and empty servers, becomes it again.
//!
//! Where no systemd can be booted, this test does nothing; `dev/test` reports that.

use std::fs;

use crate::support::{
    everything::{Servers, n8n},
    lost::Content,
    mirror::S3Mirror,
    program::kaleem_dr,
    qdrant_stand_in::API_KEY,
    seed,
    systemd::Systemd,
};

const PASSWORD: &str = "password-of-the-repository";
const PASSPHRASE: &str = "correct horse battery staple";

/// Installs the program, and writes files that an operator keeps elsewhere, each with mode 600 below /root.
fn prepare(machine: &Systemd, kept: &[(&str, &str)]) {
    fs::copy(kaleem_dr().get_program(), machine.at("/usr/local/bin/kaleem-dr"))
        .expect("the program can be copied");
    for (name, value) in kept {
        fs::write(machine.at(&format!("/root/{name}")), value).expect("a file can be written");
    }
    machine.succeed("chmod -R go= /root");
}

/// The config of the machine. Its secrets are in files, in a variable, and in a credential.
fn config(servers: &Servers, mirror: &S3Mirror) -> String {
    let (s3, broker) = (&mirror.s3, &servers.rabbitmq.server);
    format!(
        r#"[repository.local]
location = "/var/backups/kaleem-dr"
password = {{ file = "/etc/kaleem-dr/repository.pass" }}

[repository.r2]
location = "s3:{}/{}/{}"
mirror_of = "local"
password = {{ file = "/etc/kaleem-dr/repository.pass" }}
access_key_id = {{ file = "/etc/kaleem-dr/r2.id" }}
secret_access_key = {{ file = "/etc/kaleem-dr/r2.key" }}

[recovery]
secrets = "sealed"
passphrase = {{ file = "/etc/kaleem-dr/passphrase" }}

[objectives]
rpo_hours = 26
proof = "restored"

[source.configs]
type = "files"
paths = ["/srv/shop"]

[source.mongo]
type = "mongodb"
uri = {{ env = "MONGO_URI" }}

[source.rabbitmq]
type = "rabbitmq"
url = "{}"
username = "{}"
password = {{ file = "/etc/kaleem-dr/rabbitmq.pass" }}

[source.qdrant]
type = "qdrant"
url = "{}"
api_key = {{ credential = "qdrant-key" }}

[source.n8n]
type = "n8n"
directory = "/srv/n8n/.n8n"
"#,
        s3.endpoint,
        s3.bucket,
        mirror.prefix,
        broker.url,
        broker.username,
        servers.qdrant.url()
    )
}

/// The content of the servers and of the machine.
async fn content(servers: &Servers, machine: &Systemd) -> Content {
    Content::at(servers, &machine.at("/srv/shop"), &machine.at("/srv/n8n/.n8n")).await
}

/// A machine with the config, its schedule, and one backup, which is also in the bucket.
async fn set_up_and_backed_up(machine: &Systemd, servers: &Servers, mirror: &S3Mirror) -> Content {
    prepare(machine, &[]);
    fs::create_dir(machine.at("/srv/shop")).expect("a directory can be made");
    seed::file_tree(&machine.at("/srv/shop"));
    n8n(&machine.at("/srv/n8n/.n8n"));
    fs::create_dir_all(machine.at("/etc/kaleem-dr/credentials")).expect("a directory can be made");
    let uri = format!("MONGO_URI='{}kaleem'\n", servers.mongo.uri());
    for (name, text) in [
        ("kaleem-dr.toml", config(servers, mirror).as_str()),
        ("repository.pass", PASSWORD),
        ("r2.id", &mirror.s3.key),
        ("r2.key", &mirror.s3.secret),
        ("passphrase", PASSPHRASE),
        ("rabbitmq.pass", &servers.rabbitmq.server.password),
        ("credentials/qdrant-key", API_KEY),
        ("environment", &uri),
    ] {
        fs::write(machine.at("/etc/kaleem-dr").join(name), text).expect("a file can be written");
    }
    machine.succeed("chmod -R go= /etc/kaleem-dr");
    machine.succeed(&with_secrets("init"));
    machine.succeed(&with_secrets("schedule install"));
    for job in ["backup", "replicate"] {
        let (result, journal) = machine.start(&format!("kaleem-dr-{job}.service"));
        assert_eq!(result, "success", "{job}: {journal}");
    }
    content(servers, machine).await
}

/// A command with the variables and credentials of the usual places.
fn with_secrets(command: &str) -> String {
    format!(
        "CREDENTIALS_DIRECTORY=/etc/kaleem-dr/credentials kaleem-dr --env-file /etc/kaleem-dr/environment {command}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_debian_with_the_program_a_password_and_empty_servers_becomes_the_lost_machine() {
    let Some(old) = Systemd::machine("shop1") else { return };
    let (servers, mirror) = (Servers::filled().await, S3Mirror::new("fresh"));
    let before = set_up_and_backed_up(&old, &servers, &mirror).await;

    drop(old);
    servers.empty().await;
    let new = Systemd::machine("replacement").expect("the first one was booted");
    assert_eq!(
        new.succeed("hostname; ls -A /srv /var/backups"),
        "replacement\n/srv:\n\n/var/backups:\n"
    );
    assert!(!new.at("/etc/kaleem-dr").exists() && !new.at("/var/lib/kaleem-dr").exists());
    prepare(
        &new,
        &[
            ("password", PASSWORD),
            ("id", &mirror.s3.key),
            ("key", &mirror.s3.secret),
            ("passphrase", PASSPHRASE),
        ],
    );
    let location = format!("s3:{}/{}/{}", mirror.s3.endpoint, mirror.s3.bucket, mirror.prefix);
    let said = new.succeed(&format!(
        "cd /root; kaleem-dr bootstrap --from {location} --password-file password --key-id-file id --secret-key-file key \
         --passphrase-file passphrase"
    ));
    assert!(said.contains("continues as host shop1"), "{said}");
    // As the last line says.
    let next = said.lines().find_map(|line| line.strip_prefix("next: ")).expect("a next command");
    let said = new.succeed(&format!("{next} --yes"));
    assert!(said.ends_with("RECOVERED\n"), "{said}");
    content(&servers, &new).await.assert_equal(&before);
    new.succeed(&with_secrets("status"));

    let installed = new.succeed(&with_secrets("schedule install"));
    assert!(!installed.contains("warning:"), "{installed}");
    for job in ["backup", "replicate"] {
        let (result, journal) = new.await_timer(job);
        assert_eq!(result, "success", "{job}: {journal}");
    }
    let points: serde_json::Value =
        serde_json::from_str(&new.succeed(&with_secrets("--repo r2 points --json"))).expect("JSON");
    let points = points.as_array().expect("a list");
    assert!(points.len() > 1, "the old machine's and the new one's: {points:?}");
    for point in points {
        assert_eq!(
            (&point["host"], &point["complete"]),
            (&"shop1".into(), &true.into()),
            "{point}"
        );
    }
    new.succeed(&with_secrets("status"));
    content(&servers, &new).await.assert_equal(&before);
}
