//! Two points compared, and points chosen by time, by number and by id.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::PermissionsExt as _,
    },
    path::Path,
};

use kaleem_dr_core::jiff::{Timestamp, ToSpan as _};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::{Value, json};

use crate::{
    look::{site, text},
    support::{
        seed,
        servers::{MongoServer, RabbitmqServer},
        site::Site,
    },
};

#[test]
fn a_diff_names_exactly_what_was_changed() {
    let site = site("db1");
    let tree = site.path("tree");
    let at = |path: &str| tree.join(path);
    fs::write(at("becomes a directory"), "file").expect("a file");
    site.succeed(["backup"]);

    let mut log: BTreeSet<(char, OsString)> = BTreeSet::new();
    let mut logged = |letter: char, path: &str| {
        log.insert((letter, at(path).into_os_string()));
    };
    fs::write(at("etc/nginx/nginx.conf"), "worker_processes 8;\n").expect("a file");
    logged('M', "etc/nginx/nginx.conf");
    fs::set_permissions(at("--help"), fs::Permissions::from_mode(0o600)).expect("our file");
    logged('U', "--help");
    fs::remove_file(at("dangling")).expect("our link");
    logged('-', "dangling");
    fs::remove_dir_all(at("etc/nginx/conf.d")).expect("our directory");
    logged('-', "etc/nginx/conf.d");
    logged('-', "etc/nginx/conf.d/default.conf");
    logged('U', "etc/nginx");
    fs::create_dir(at("new")).expect("a directory");
    fs::write(at("new/file"), "new").expect("a file");
    logged('+', "new");
    logged('+', "new/file");
    fs::remove_file(at("becomes a directory")).expect("our file");
    fs::create_dir(at("becomes a directory")).expect("a directory");
    fs::write(at("becomes a directory/inner"), "inner").expect("a file");
    logged('T', "becomes a directory");
    logged('+', "becomes a directory/inner");
    fs::write(at("empty/").join(OsStr::from_bytes(b"\xff")), "").expect("a file");
    log.insert(('+', OsString::from_vec([at("empty/").as_os_str().as_bytes(), b"\xff"].concat())));
    log.insert(('U', at("empty").into_os_string()));
    log.insert(('U', tree.clone().into_os_string()));
    site.succeed(["backup"]);

    let output = site
        .command()
        .args(["--quiet", "diff", "latest~1", "latest"])
        .output()
        .expect("the program runs");
    assert!(output.status.success());
    let counts = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "added: 3 files (8 B), 1 directories, 0 others",
        "removed: 1 files (22 B), 1 directories, 1 others",
        "content changed: 1",
        "only attributes changed: ",
        "of another type: 1",
    ] {
        assert!(counts.contains(line), "{line}: {counts}");
    }
    assert!(!counts.contains("nginx"), "names need --verbose: {counts}");
    let named = site
        .command()
        .args(["--verbose", "diff", "configs~1", "configs"])
        .output()
        .expect("the program runs")
        .stdout;
    let found: BTreeSet<(char, OsString)> = named
        .split(|byte| *byte == b'\n')
        .filter(|line| line.get(1..5) == Some(b"    "))
        .map(|line| (char::from(line[0]), OsString::from_vec(line[5..].to_vec())))
        .filter(|(_, path)| Path::new(path).starts_with(&tree))
        .collect();
    assert_eq!(found, log);

    let ids: Vec<String> =
        site.snapshots().iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect();
    let (outcome, json) = site.json(["diff", &ids[0], &ids[1]]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let statistics = json.last().expect("a line");
    assert_eq!(
        (&statistics["message_type"], &statistics["changed_files"]),
        (&"statistics".into(), &1.into())
    );
    let changes = json.iter().filter(|line| {
        line["path"].as_str().is_some_and(|path| Path::new(path).starts_with(&tree))
    });
    assert_eq!(changes.count(), log.len());
    let same = site.succeed(["diff", &ids[1], &ids[1]]).stdout;
    assert!(same.contains("no differences"), "{same}");
    site.succeed(["backup"]);
    let same = site.succeed(["diff", "latest~1", "latest"]).stdout;
    assert!(!same.contains("content") && !same.contains("added"), "not our own files: {same}");
}

#[test]
fn a_point_is_chosen_by_time_by_number_and_an_ambiguous_id_lists_what_it_matches() {
    let site = site("db1");
    let whose = site.path("tree/whose");
    for day in ["first", "second", "third"] {
        fs::write(&whose, day).expect("a file");
        site.succeed(["backup"]);
    }
    let snapshots = site.snapshots();
    let time = |at: usize| -> Timestamp {
        snapshots[at]["time"].as_str().expect("a time").parse().expect("a time")
    };
    let path = text(whose.clone());
    let content = |args: &[&str]| {
        let begin = ["dump", "configs", &path];
        site.succeed(begin.iter().chain(args).copied()).stdout
    };
    assert_eq!(content(&[]), "third");
    let at = (time(1) + 1.millisecond()).to_string();
    assert_eq!(content(&["--at", &at]), "second");
    assert_eq!(site.succeed(["dump", "configs~2", &path]).stdout, "first");

    for (number, args) in [
        vec!["restore", "configs", "--at", &at],
        vec!["restore", "configs", "--point", "latest~1"],
        vec!["restore", "files", "--snapshot", "latest~1"],
    ]
    .into_iter()
    .enumerate()
    {
        let target = site.path(&format!("restored-{number}"));
        let to = text(target.clone());
        site.succeed(args.iter().copied().chain(["--to", &to]));
        let restored = target.join(whose.strip_prefix("/").expect("absolute"));
        assert_eq!(fs::read_to_string(restored).expect("the file"), "second", "{args:?}");
    }
    let (_, verified) = site.json(["verify", "configs", "--point", "latest~1"]);
    assert_eq!(verified[0]["snapshot"], snapshots[1]["id"]);
    let (_, verified) = site.json(["verify", "configs", "--at", &at]);
    assert_eq!(verified[0]["snapshot"], snapshots[1]["id"]);
    let exported = text(site.path("out.tar"));
    site.succeed(["export", "configs", "--at", &at, "--output", &exported]);

    let early = site.run(["restore", "configs", "--at", "2001-09-09 01:46"]);
    assert_eq!(early.code, Some(1), "{}", early.stdout);
    assert!(early.stderr.contains("3 exist, the oldest of"), "{}", early.stderr);
    assert_eq!(site.run(["ls", "configs", "--at", "yesterday"]).code, Some(2));
    // The ids of runs begin with their time.
    let run = snapshots[0]["run"].as_str().expect("a run");
    let ambiguous = site.run(["restore", "configs", "--dry-run", "--point", &run[..3]]);
    assert_eq!(ambiguous.code, Some(1), "{}", ambiguous.stdout);
    for snapshot in &snapshots {
        let id = snapshot["short_id"].as_str().expect("an id");
        assert!(ambiguous.stderr.contains(id), "{id}: {}", ambiguous.stderr);
    }
    assert!(ambiguous.stderr.contains("configs on db1"), "{}", ambiguous.stderr);
}

/// The parts of a source that differ between its two newest points, and the changes of items.
fn content(site: &Site, source: &str) -> (Value, BTreeSet<String>) {
    let (outcome, lines) = site.json(["diff", &format!("{source}~1"), source]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let items = lines.iter().filter(|line| line["message_type"] == "item").map(|line| {
        let word = |key: &str| line[key].as_str().expect("text").to_owned();
        format!("{} {}: {}", word("modifier"), word("part"), word("item"))
    });
    let items = items.collect();
    (lines.last().expect("the statistics")["parts"].clone(), items)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_of_mongodb_names_exactly_the_changed_documents() {
    let server = MongoServer::start();
    let client = Client::with_uri_str(server.uri()).await.expect("a valid address");
    let database = client.database("kaleem");
    let (users, orders) =
        (database.collection::<Document>("users"), database.collection::<Document>("orders"));
    let people = (0..3000).map(|n| doc! { "_id": n, "name": format!("مستخدم {n}"), "n": n });
    users.insert_many(people).await.expect("documents");
    orders.insert_one(doc! { "_id": "o1", "total": 7 }).await.expect("a document");
    database
        .collection::<Document>("dropped")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("a document");
    let uri = format!("{}/kaleem", server.uri().trim_end_matches('/'));
    let site = Site::new().named("db1").with_mongo("mongo", &uri).initialised();
    site.succeed(["backup"]);

    let mut log = BTreeSet::new();
    for n in [5, 17, 2999] {
        users.delete_one(doc! { "_id": n }).await.expect("it is deleted");
        log.insert(format!("- collection kaleem.users: {n}"));
    }
    for n in [0, 1500, 1501] {
        let change = doc! { "$set": { "name": "changed" } };
        users.update_one(doc! { "_id": n }, change).await.expect("it is changed");
        log.insert(format!("M collection kaleem.users: {n}"));
    }
    for n in [-1, 3000, 4000] {
        users.insert_one(doc! { "_id": n, "name": "new" }).await.expect("it is added");
        log.insert(format!("+ collection kaleem.users: {n}"));
    }
    orders.insert_one(doc! { "_id": "o2", "total": 8 }).await.expect("a document");
    log.insert("+ collection kaleem.orders: \"o2\"".to_owned());
    database.collection::<Document>("dropped").drop().await.expect("it is dropped");
    database
        .collection::<Document>("created")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("a document");
    // The dropped collection raises an alarm.
    assert_eq!(site.run(["backup"]).code, Some(3));

    let (parts, items) = content(&site, "mongo");
    assert_eq!(items, log);
    let part = |name: &str| {
        let what = format!("collection kaleem.{name}");
        let mut parts = parts.as_array().expect("parts").iter();
        parts.find(|part| part["what"] == what).unwrap_or_else(|| panic!("{name}: {parts:?}"))
    };
    assert_eq!(part("users")["items"], json!({ "added": 3, "removed": 3, "changed": 3 }));
    assert_eq!(
        (&part("users")["old_items"], &part("users")["new_items"]),
        (&json!(3000), &json!(3000))
    );
    assert_eq!(part("dropped")["change"], "removed");
    assert_eq!(part("created")["change"], "added");
    let people = site.succeed(["diff", "mongo~1", "mongo"]).stdout;
    let line = "collection kaleem.users: 3 added, 3 removed, 3 changed, 3000 items";
    assert!(people.contains(line) && !people.contains(": 1500"), "{people}");
    site.succeed(["alarm", "acknowledge"]);
    site.succeed(["backup"]);
    let (parts, items) = content(&site, "mongo");
    assert!(items.is_empty() && parts == json!([]), "{parts} {items:?}");
}

#[test]
fn a_diff_of_n8n_names_exactly_the_changed_rows() {
    let site = Site::new().named("db1");
    let home = site.path(".n8n");
    fs::create_dir(&home).expect("a directory can be made");
    fs::write(home.join("config"), r#"{"encryptionKey":"fXc2Zl7g3Kp0n8nkey"}"#)
        .expect("a file can be written");
    let database = home.join("database.sqlite");
    let run = |statements: &str| {
        let database = rusqlite::Connection::open(&database).expect("the database opens");
        database.execute_batch(statements).expect("the statements run");
    };
    run("CREATE TABLE workflow_entity (id TEXT PRIMARY KEY, name TEXT);
         CREATE TABLE credentials_entity (id TEXT PRIMARY KEY, data TEXT);
         CREATE TABLE shared (workflow TEXT, user INTEGER, role TEXT, PRIMARY KEY (user, workflow));
         CREATE TABLE log (line TEXT);
         CREATE TABLE gone (id INTEGER);
         INSERT INTO workflow_entity VALUES ('a', 'orders'), ('b', 'bills'), ('c', 'mail');
         INSERT INTO credentials_entity VALUES ('k', 'U2FsdGVkX1s3cret');
         INSERT INTO shared VALUES ('a', 1, 'owner'), ('b', 1, 'owner');
         INSERT INTO log VALUES ('same'), ('same'), ('once');");
    let site = site
        .with(&format!("[source.n8n]\ntype = \"n8n\"\ndirectory = '{}'", home.display()))
        .initialised();
    site.succeed(["backup"]);
    run("UPDATE workflow_entity SET name = 'invoices' WHERE id = 'b';
         DELETE FROM workflow_entity WHERE id = 'c';
         INSERT INTO workflow_entity VALUES ('d', 'طلبات');
         UPDATE credentials_entity SET data = 'U2FsdGVkX1other';
         UPDATE shared SET role = 'editor' WHERE workflow = 'b';
         DELETE FROM log WHERE rowid = 1;
         ALTER TABLE shared ADD COLUMN since TEXT;
         DROP TABLE gone;
         CREATE TABLE come (id INTEGER);");
    // A dropped table is suspicious.
    let changed = site.run(["backup"]);
    assert!(matches!(changed.code, Some(0 | 3)), "{}", changed.stderr);

    let (parts, items) = content(&site, "n8n");
    let expected = [
        "M table workflow_entity: b",
        "- table workflow_entity: c",
        "+ table workflow_entity: d",
        "M table credentials_entity: k",
        // With another column, each row is another one.
        "M table shared: 1/a",
        "M table shared: 1/b",
        "- table log: same",
    ];
    assert_eq!(items, BTreeSet::from(expected.map(str::to_owned)), "{parts}");
    let parts = parts.as_array().expect("parts");
    let part = |what: &str| {
        parts
            .iter()
            .find(|part| part["what"] == what)
            .unwrap_or_else(|| panic!("{what}: {parts:?}"))
    };
    assert_eq!(part("table shared")["note"], "its columns or keys differ");
    assert_eq!(part("table gone")["change"], "removed");
    assert_eq!(part("table come")["change"], "added");
    assert_eq!(part("table log")["items"], json!({ "added": 0, "removed": 1, "changed": 0 }));
    assert_eq!(parts.len(), 6, "{parts:?}");
    let shown = site.succeed(["diff", "n8n~1", "n8n", "--verbose"]).stdout;
    assert!(shown.contains("workflow_entity") && !shown.contains("U2FsdGVkX1"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_of_rabbitmq_names_exactly_the_changed_definitions() {
    let broker = RabbitmqServer::start();
    broker.import(&seed::definitions("shop")).await;
    let site = Site::new().named("db1").with_rabbitmq_at("rabbitmq", &broker.server).initialised();
    site.succeed(["backup"]);
    broker
        .import(&json!({
            "queues": [{"name": "returns", "vhost": "shop", "durable": true, "auto_delete": false,
                "arguments": {"x-queue-type": "classic"}}],
            "policies": [{"vhost": "shop", "name": "expire", "pattern": "^orders\\.", "apply-to": "queues",
                "priority": 4, "definition": {"message-ttl": 1_000}}],
        }))
        .await;
    site.succeed(["backup"]);
    let (parts, items) = content(&site, "rabbitmq");
    let expected =
        ["+ queues: queue returns in shop", "M policies: policy expire in shop"].map(str::to_owned);
    assert_eq!(items, BTreeSet::from(expected));
    assert_eq!(parts.as_array().expect("parts").len(), 2, "{parts}");
}
