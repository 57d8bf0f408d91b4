//! Sources in containers of a real engine, and the image of the program.
//!
//! Where no engine can run, these tests do nothing; `dev/test` reports that.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ::mongodb::{
    Client,
    bson::{Document, doc},
};

use crate::support::{
    docker::{Engine, MongoContainer, Network, Shop, shop::PASSWORD as SHOP_PASSWORD},
    program::Outcome,
    restic::Restic,
    site::Site,
};

/// The sources of the example.
const SOURCES: [&str; 5] = ["configs", "mongo", "n8n", "qdrant", "rabbitmq"];

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_example_backs_up_restores_and_drills_five_services() {
    let Some(engine) = Engine::running() else { return };
    let shop = Shop::open(&engine).await;
    let before = shop.content().await;
    shop.succeed("kaleem-dr", &["config", "check"]);
    shop.succeed("kaleem-dr", &["init"]);
    let backup = shop.succeed("kaleem-dr", &["backup"]);
    for source in SOURCES {
        assert!(backup.stdout.contains(source), "{source}: {}", backup.stdout);
    }
    shop.succeed("kaleem-dr", &["verify"]);
    let restic = Restic::on_directory(&shop.repository(), SHOP_PASSWORD);
    restic.check_read_data();
    assert_eq!(restic.data_snapshots().len(), SOURCES.len());

    // n8n runs in a container whose processes are not visible in that of the program.
    let refused = shop.run("kaleem-dr-restore", &["restore", "n8n", "--in-place", "--yes"]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("stop n8n"), "{}", refused.stderr);

    shop.lose().await;
    for source in SOURCES {
        shop.succeed("kaleem-dr-restore", &["restore", source, "--in-place", "--yes"]);
    }
    shop.content().await.assert_equal(&before);
    let drill = shop.succeed("kaleem-dr-restore", &["--json", "drill"]);
    for source in SOURCES {
        assert!(drill.stdout.contains(source), "{source}: {}", drill.stdout);
    }
    shop.content().await.assert_equal(&before);
    shop.succeed("kaleem-dr", &["status"]);

    let requests = shop.proxy.seen();
    for part in ["GET /containers/json?", "GET /containers/shop-rabbitmq/json "] {
        assert!(requests.iter().any(|line| line.starts_with(part)), "{part}: {requests:?}");
    }
    assert!(requests.iter().all(|line| line.starts_with("GET /containers/")), "{requests:?}");
}

/// A site with a MongoDB in a container that this TOML selects.
fn selected(engine: &Engine, uri: &str, docker: &str) -> Site {
    let site = Site::new();
    let secret = site.secret("mongo.uri", uri);
    let socket = engine.socket();
    site.with(&format!(
        "[source.mongo]\ntype = \"mongodb\"\nuri = {{ file = \"{}\" }}\ndocker = {{ {docker}, socket = \"{}\" }}",
        secret.display(),
        socket.display()
    ))
}

fn probe(engine: &Engine, site: &Site) -> Outcome {
    engine.on_host(["--config", site.config_path().to_str().expect("UTF-8"), "probe"])
}

#[test]
fn a_container_is_reached_from_the_host_and_every_obstacle_is_named() {
    let Some(engine) = Engine::running() else { return };
    let label = "kaleem-dr.source=seen-from-the-host";
    let by_label = selected(&engine, "mongodb://localhost/kaleem", &format!("label = \"{label}\""));
    let by_name =
        selected(&engine, "mongodb://localhost/kaleem", "container = \"kaleem-dr-test-published\"");
    let refused = |site: &Site, reason: &str| {
        let outcome = probe(&engine, site);
        assert_ne!(outcome.code, Some(0), "{}", outcome.stdout);
        assert!(outcome.stderr.contains(reason), "{reason}: {}", outcome.stderr);
    };
    let reached = |site: &Site| {
        let outcome = probe(&engine, site);
        assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    };
    refused(&by_name, "there is no container with this name");
    refused(&by_label, "no container has this label");

    let network = Network::new(&engine, "kaleem-dr-test-host");
    let on_network = ["--network", network.name, "--label", label];
    {
        // A port that is free only in the engine's network.
        let options = [&on_network[..], &["--publish", "127.0.0.1:31999:27017"]].concat();
        let published = MongoContainer::start(&engine, "kaleem-dr-test-published", &options);
        reached(&by_name);
        reached(&by_label);
        // From a container on another network. There, only the engine's socket is shared.
        let apart = engine
            .client("docker")
            .args(["run", "--rm", "--network", "none"])
            .args(Engine::program_mounts().iter().flat_map(|mount| ["--volume", mount.as_str()]))
            .args(["--user", "0:0", "--volume"])
            .arg(format!("{0}:{0}:ro", engine.socket().display()))
            .arg("--volume")
            .arg(format!("{0}:{0}", by_name.directory().display()))
            .arg(engine.program_image())
            .arg("--config")
            .arg(by_name.config_path())
            .arg("probe")
            .output();
        let apart = Outcome::from(apart.expect("docker can be run"));
        assert_ne!(apart.code, Some(0), "{}", apart.stdout);
        assert!(apart.stderr.contains("shares no network"), "{}", apart.stderr);

        let second = MongoContainer::start(&engine, "kaleem-dr-test-second", &on_network);
        refused(&by_label, "kaleem-dr-test-published (running), kaleem-dr-test-second (running)");
        drop(published);
        // Without a published port, at its own address.
        reached(&by_label);
        engine.docker(["pause", "kaleem-dr-test-second"]);
        refused(&by_label, "it is paused");
        engine.docker(["unpause", "kaleem-dr-test-second"]);
        engine.docker(["kill", "kaleem-dr-test-second"]);
        refused(&by_label, "it is not running (exited)");
        drop(second);
    }
    let elsewhere = Site::new();
    let secret = elsewhere.secret("mongo.uri", "mongodb://localhost/kaleem");
    let elsewhere = elsewhere.with(&format!(
        "[source.mongo]\ntype = \"mongodb\"\nuri = {{ file = \"{}\" }}\ndocker = {{ container = \"m\", socket = \"/nowhere.sock\" }}",
        secret.display()
    ));
    refused(&elsewhere, "the socket /nowhere.sock does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handbooks_docker_mode_is_taken_over_with_the_real_engine() {
    let Some(engine) = Engine::running() else { return };
    let network = Network::new(&engine, "kaleem-dr-test-migrate");
    let container = "kaleem-dr-test-migrate-mongo";
    let mongo = MongoContainer::start(&engine, container, &["--network", network.name]);
    let client = Client::with_uri_str(mongo.uri()).await.expect("a valid address");
    let users = client.database("kaleem").collection::<Document>("users");
    users.insert_one(doc! { "_id": 1 }).await.expect("a document can be inserted");
    let machine = tempfile::tempdir().expect("a temporary directory can be made");
    let write = |name: &str, content: &str, mode: u32| {
        let path = machine.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    write("etc/restic.pass", "old-password\n", 0o600);
    write(
        "etc/kaleem-backups.env",
        &format!(
            "MONGO_MODE=docker\nMONGO_CONTAINER={container}\nMONGO_URI=\"mongodb://127.0.0.1:27017/kaleem\"\nN8N_ENABLED=0\n"
        ),
        0o600,
    );
    write(
        "etc/cron.d/kaleem-backups",
        "0 3 * * * root /bin/bash -lc \". /etc/kaleem-backups.env; BACKUP_ROOT=/backups RESTIC_REPO=/backups/restic-local \
         RESTIC_PASSWORD_FILE=/etc/restic.pass /opt/kaleem/scripts/kaleem-backup.v2.1.sh\"\n",
        0o644,
    );
    write(
        "opt/kaleem/scripts/kaleem-backup.v2.1.sh",
        "#!/usr/bin/env bash\ndocker exec \"$MONGO_CONTAINER\" mongodump --archive --gzip >\"$BACKUP_ROOT/mongo/m.archive.gz\"\n\
         restic -r \"$RESTIC_REPO\" backup \"$BACKUP_ROOT/mongo\"\n",
        0o755,
    );
    let restic = Restic::on_directory(&machine.path().join("backups/restic-local"), "old-password");
    restic.init(2);
    let root = machine.path().to_str().expect("UTF-8");
    let applied = engine.on_host(["migrate", "--root", root, "--apply"]);
    assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
    let config = machine.path().join("etc/kaleem-dr/kaleem-dr.toml");
    let written = fs::read_to_string(&config).expect("the config is written");
    assert!(written.contains(&format!("docker = {{ container = \"{container}\" }}")), "{written}");
    restic.check_read_data();
    let saved = |restic: &Restic| restic.snapshots().len();
    let first = saved(&restic);
    assert!(first >= 2, "mongo and configs are saved");

    // The same variables without a config.
    let variables = machine.path().join("variables");
    let env = fs::read_to_string(machine.path().join("etc/kaleem-backups.env"))
        .expect("it stays where it was");
    fs::write(
        &variables,
        format!(
            "{env}RESTIC_REPOSITORY={root}/backups/restic-local\nRESTIC_PASSWORD_FILE={root}/etc/restic.pass\n\
             KALEEM_DR_STATE_DIRECTORY={root}/state\nRESTIC_CACHE_DIR={root}/cache\n"
        ),
    )
    .expect("a file can be written");
    let again = engine.on_host(["--env-file", variables.to_str().expect("UTF-8"), "backup"]);
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert_eq!(saved(&restic), first + 1);
    drop(mongo);
    let stopped = engine.on_host(["--env-file", variables.to_str().expect("UTF-8"), "backup"]);
    assert_ne!(stopped.code, Some(0), "a container that is gone is not a success");
}
