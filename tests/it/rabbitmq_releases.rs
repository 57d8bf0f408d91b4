//! Definitions between the releases of RabbitMQ, on real brokers: from 3.10 to 4, and on 4 itself, whose export leaves out what its
//! import needs.
//!
//! Without a RabbitMQ 4, these tests do nothing; `dev/test` reports that.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    amqp_connection::AmqpConnection,
    seed,
    servers::{Rabbitmq, RabbitmqServer, rabbitmq, rabbitmq_4},
    site::Site,
};

async fn api(server: &Rabbitmq, method: Method, path: &str, body: Option<&Value>) -> Value {
    let mut request = reqwest::Client::new()
        .request(method.clone(), format!("{}api/{path}", server.url))
        .basic_auth(&server.username, Some(&server.password));
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.expect("the broker answers");
    let status = response.status();
    let answer = response.text().await.expect("the broker ends its answer");
    assert!(
        status.is_success() || (method == Method::DELETE && status == 404),
        "{path}: {status} {answer}"
    );
    serde_json::from_str(&answer).unwrap_or_default()
}

async fn import(server: &Rabbitmq, definitions: &Value) {
    api(server, Method::POST, "definitions", Some(definitions)).await;
}

/// The fields of an object that a comparison needs.
fn only(item: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), item[*field].clone())).collect()
}

/// A virtual host with everything that releases export in different ways.
fn rich(vhost: &str) -> Value {
    let mut all = seed::definitions(vhost);
    let mut add = |key: &str, mut item: Value| {
        item["vhost"] = vhost.into();
        all[key].as_array_mut().expect("a list").push(item);
    };
    for (name, arguments) in [("untyped", json!({})), ("events", json!({"x-queue-type": "stream"}))]
    {
        add(
            "queues",
            json!({"name": name, "durable": true, "auto_delete": false, "arguments": arguments}),
        );
    }
    add(
        "exchanges",
        json!({"name": "inner", "type": "topic", "durable": true, "auto_delete": false, "internal": true, "arguments": {}}),
    );
    for (source, destination, destination_type) in
        [("unrouted", "inner", "exchange"), ("inner", "untyped", "queue")]
    {
        add(
            "bindings",
            json!({"source": source, "destination": destination, "destination_type": destination_type, "routing_key": "k", "arguments": {}}),
        );
    }
    for (component, name, value) in [
        // Neither can connect, so neither moves a message.
        (
            "shovel",
            "move",
            json!({"src-uri": "amqp://127.0.0.1:1", "src-queue": "untyped", "dest-uri": "amqp://127.0.0.1:1", "dest-queue": "lazy"}),
        ),
        ("federation-upstream", "elsewhere", json!({"uri": "amqp://127.0.0.1:1"})),
        (
            "operator_policy",
            "limit",
            json!({"pattern": "^orders", "apply-to": "queues", "priority": 0, "definition": {"max-length": 50}}),
        ),
    ] {
        add("parameters", json!({"component": component, "name": name, "value": value}));
    }
    all["vhosts"][0]["metadata"]["default_queue_type"] = "quorum".into();
    all
}

/// Every fact about the topology that its clients depend on, as the server describes it, without statistics.
async fn observed(server: &Rabbitmq, vhost: &str) -> Value {
    let list = async |path: &str, columns: &str| {
        let Value::Array(mut items) =
            api(server, Method::GET, &format!("{path}?columns={columns}"), None).await
        else {
            panic!("{path}: no list")
        };
        items.retain(|item| {
            !item["name"].as_str().is_some_and(|name| name.is_empty() || name.starts_with("amq."))
        });
        for item in &mut items {
            // The one field that 4.0 and later add to a queue that was declared without a type.
            if let Some(arguments) = item["arguments"].as_object_mut() {
                arguments.remove("x-queue-type");
            }
            if let Some(tags) = item["tags"].as_array_mut() {
                tags.sort_by_key(ToString::to_string);
            }
        }
        items.sort_by_cached_key(Value::to_string);
        items
    };
    let name = vhost.replace('/', "%2F");
    json!({
        // 4 ignores the selection of columns here.
        "vhost": list("vhosts", "name,description,tags,default_queue_type").await.iter().find(|item| item["name"] == vhost)
            .map(|item| only(item, &["name", "description", "tags", "default_queue_type"])),
        "queues": list(&format!("queues/{name}"), "name,type,durable,auto_delete,arguments").await,
        "exchanges": list(&format!("exchanges/{name}"), "name,type,durable,auto_delete,internal,arguments").await,
        "bindings": list(&format!("bindings/{name}"), "source,destination,destination_type,routing_key,arguments").await,
        "policies": list(&format!("policies/{name}"), "name,pattern,definition,priority,apply-to").await,
        "operator policies": list(&format!("operator-policies/{name}"), "name,pattern,definition,priority,apply-to").await,
        "parameters": list(&format!("parameters/shovel/{name}"), "name,value").await,
        "permissions": list(&format!("vhosts/{name}/permissions"), "user,configure,write,read").await
            .into_iter().filter(|item| item["user"] != server.username).collect::<Vec<_>>(),
        "users": list("users", "name,password_hash,hashing_algorithm,tags").await.into_iter()
            .filter(|item| item["name"] != server.username).collect::<Vec<_>>(),
    })
}

/// What a restore of the newest backup would change now.
fn planned_changes(site: &Site) -> Vec<String> {
    let (outcome, lines) = site.json(["restore", "rabbitmq", "--in-place", "--dry-run"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let actions = lines[0]["actions"].as_array().expect("actions").clone();
    actions
        .iter()
        .filter(|action| action["change"] != "leave")
        .map(|action| format!("{} {}", action["change"], action["what"]))
        .collect()
}

#[tokio::test]
async fn a_broker_of_3_10_is_restored_on_4_and_that_on_another_4_with_nothing_changed() {
    let Some(newest) = RabbitmqServer::start_4() else { return };
    let oldest = RabbitmqServer::start();
    let mut all = rich("shop");
    // Of the time before queue types had a default: classic, although the virtual host's type is another one.
    all["queues"].as_array_mut().expect("a list").push(json!({
        "name": "lazy", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {"x-queue-mode": "lazy"},
    }));
    import(&oldest.server, &all).await;
    let before = observed(&oldest.server, "shop").await;
    assert_eq!(before["vhost"]["default_queue_type"], "quorum", "{before}");
    let site = Site::new().with_rabbitmq_at("rabbitmq", &oldest.server).initialised();
    site.succeed(["backup"]);

    // The same repository, but the source is now the newer server.
    let moved = |server: &Rabbitmq| {
        let config = fs::read_to_string(site.config_path()).expect("the config can be read");
        let moved = config
            .lines()
            .map(|line| {
                if line.starts_with("url = ") {
                    format!("url = {:?}", server.url)
                } else {
                    line.to_owned()
                }
            })
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(site.config_path(), moved).expect("the config can be written");
    };
    moved(&newest.server);
    let (restored, lines) = site.json(["restore", "rabbitmq", "--in-place", "--yes"]);
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    assert_eq!(lines[0]["equal"], true);
    assert_eq!(observed(&newest.server, "shop").await, before, "3.10 on 4");
    assert_eq!(planned_changes(&site), [""; 0]);

    // A virtual host that an import must not reset, and one that may not be deleted.
    let protected = json!({"vhosts": [{"name": "kept", "metadata": {"description": "d", "tags": ["t"], "protected_from_deletion": true}}]});
    import(&newest.server, &protected).await;
    site.succeed(["backup"]);
    let before = observed(&newest.server, "shop").await;
    for path in
        ["vhosts/shop", "users/shop%20user", "vhosts/kept/deletion/protection", "vhosts/kept"]
    {
        api(&newest.server, Method::DELETE, path, None).await;
    }
    let (restored, lines) = site.json(["restore", "rabbitmq", "--in-place", "--yes"]);
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    assert_eq!(lines[0]["equal"], true);
    assert_eq!(observed(&newest.server, "shop").await, before, "4 on 4");
    let vhosts = api(&newest.server, Method::GET, "vhosts/kept", None).await;
    assert_eq!(
        (&vhosts["protected_from_deletion"], &vhosts["description"], &vhosts["tags"]),
        (&json!(true), &json!("d"), &json!(["t"]))
    );
    assert_eq!(planned_changes(&site), [""; 0]);

    // And back, which a release four years older still accepts.
    moved(&oldest.server);
    api(&oldest.server, Method::DELETE, "vhosts/shop", None).await;
    let restored = site.run(["restore", "rabbitmq", "--in-place", "--yes", "--only", "shop"]);
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    assert_eq!(observed(&oldest.server, "shop").await["exchanges"], before["exchanges"]);
}

#[tokio::test]
async fn a_drill_on_4_is_proven_with_everything_that_its_export_and_import_treat_differently() {
    let Some(server) = rabbitmq_4() else { return };
    let vhost = "drilled";
    api(&server, Method::DELETE, "vhosts/drilled/deletion/protection", None).await;
    api(&server, Method::DELETE, "vhosts/drilled", None).await;
    let mut all = rich(vhost);
    all["vhosts"][0]["metadata"]["protected_from_deletion"] = true.into();
    import(&server, &all).await;
    // The log's exchange is in `/` only, and so must its queue be.
    let log_queue = "drilled log";
    import(
        &server,
        &json!({
            "vhosts": [{"name": "/"}],
            "queues": [{"name": log_queue, "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}],
            "bindings": [{"source": "amq.rabbitmq.log", "vhost": "/", "destination": log_queue, "destination_type": "queue",
                          "routing_key": "#", "arguments": {}}],
        }),
    )
    .await;
    let overview = api(&server, Method::GET, "overview", None).await;
    let port = overview["listeners"]
        .as_array()
        .expect("listeners")
        .iter()
        .find(|listener| listener["protocol"] == "amqp")
        .and_then(|listener| listener["port"].as_u64())
        .expect("an AMQP port");
    let login = (server.username.as_str(), server.password.as_str());
    let exclusive = AmqpConnection::with_exclusive_queue(
        port.try_into().expect("a port"),
        login,
        vhost,
        "unrouted",
        "reply.1",
    );
    let export = api(&server, Method::GET, "definitions", None).await;
    let text = export.to_string();
    for (premise, holds) in [
        ("the log's exchange is exported", text.contains("amq.rabbitmq.log")),
        ("internal exchanges are not", !export["exchanges"].to_string().contains("\"inner\"")),
        ("their bindings are", export["bindings"].to_string().contains("\"inner\"")),
    ] {
        assert!(holds, "{premise}: {text}");
    }

    let site = Site::new().with_rabbitmq_at("rabbitmq", &server).initialised();
    site.succeed(["backup"]);
    let stored = site.succeed(["verify", "rabbitmq", "--level", "parsed"]);
    assert!(stored.stdout.contains("is consistent"), "{}", stored.stdout);
    let drilled = site.succeed(["drill", "rabbitmq"]);
    assert!(drilled.stdout.contains("proven"), "{}{}", drilled.stdout, drilled.stderr);
    let left: Vec<_> = api(&server, Method::GET, "vhosts", None)
        .await
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|vhost| vhost["name"].as_str().map(str::to_owned))
        .filter(|name| name.starts_with("kdr_drill_"))
        .collect();
    assert_eq!(left, [""; 0], "a drill removes a copy of what is protected from deletion");
    drop(exclusive);
    for path in ["vhosts/drilled/deletion/protection", "vhosts/drilled", "queues/%2F/drilled%20log"]
    {
        api(&server, Method::DELETE, path, None).await;
    }
}

/// Restores a file of definitions next to the live ones, in the virtual hosts that the test owns.
fn restore_file(site: &Site, file: &[u8], arguments: &[&str]) -> crate::support::program::Outcome {
    let path = site.path("definitions.json");
    fs::write(&path, file).expect("a file can be written");
    let path = path.to_str().expect("UTF-8").to_owned();
    let all = ["restore", "rabbitmq", "--from", &path].into_iter().chain(arguments.iter().copied());
    site.run(all.collect::<Vec<_>>())
}

#[tokio::test]
async fn what_the_server_cannot_import_is_refused_or_left_out_before_anything_is_sent() {
    let Some(server) = rabbitmq_4() else { return };
    api(&server, Method::DELETE, "vhosts/unfit", None).await;
    let site = Site::new().with_rabbitmq_at("rabbitmq", &server).initialised();
    let in_place = ["--in-place", "--yes"];

    let needs = json!({
        "rabbit_version": "4.3.0", "vhosts": [{"name": "unfit"}],
        "exchanges": [{"name": "later", "vhost": "unfit", "type": "x-delayed-message", "durable": true, "arguments": {}}],
        "parameters": [{"vhost": "unfit", "component": "sharding", "name": "s", "value": {}}],
        "queues": [{"name": "q", "vhost": "unfit", "durable": true, "arguments": {}}],
    });
    let refused = restore_file(&site, needs.to_string().as_bytes(), &["--in-place", "--dry-run"]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    for named in [
        "the plugin rabbitmq_sharding (for parameter sharding s in unfit)",
        "the plugin rabbitmq_delayed_message_exchange (for exchange later in unfit)",
        "rabbitmq-plugins enable",
    ] {
        assert!(refused.stderr.contains(named), "{named}: {}", refused.stderr);
    }

    let partly = json!({
        "rabbit_version": "3.8.9", "vhosts": [{"name": "unfit"}],
        "policies": [{"vhost": "unfit", "name": "ha", "pattern": ".*", "definition": {"ha-mode": "all", "max-length": 7}, "priority": 0, "apply-to": "all"},
                     {"vhost": "unfit", "name": "only ha", "pattern": ".*", "definition": {"ha-mode": "all"}, "priority": 1, "apply-to": "all"}],
        "queues": [{"name": "old", "vhost": "unfit", "durable": true, "auto_delete": false, "arguments": {"x-queue-version": 1}},
                   {"name": "amq.gen-1", "vhost": "unfit", "durable": true, "auto_delete": false, "arguments": {}}],
        "bindings": [{"source": "amq.fanout", "vhost": "unfit", "destination": "gone", "destination_type": "queue", "routing_key": "", "arguments": []},
                     {"source": "amq.fanout", "vhost": "unfit", "destination": "amq.gen-1", "destination_type": "queue", "routing_key": "", "arguments": []},
                     {"source": "amq.fanout", "vhost": "unfit", "destination": "old", "destination_type": "queue", "routing_key": "", "arguments": []}],
    });
    let restored = restore_file(&site, partly.to_string().as_bytes(), &in_place);
    assert_eq!(restored.code, Some(3), "{}{}", restored.stdout, restored.stderr);
    let told = format!("{}{}", restored.stdout, restored.stderr);
    for named in [
        "policy ha in unfit: ha-mode",
        "policy only ha in unfit: ha-mode",
        "binding of amq.fanout to gone with key `` in unfit",
        "queue amq.gen-1 in unfit",
        "x-queue-version",
    ] {
        assert!(told.contains(named), "{named}: {told}");
    }
    let after = observed(&server, "unfit").await;
    assert_eq!(after["policies"].as_array().map(Vec::len), Some(1), "{after}");
    assert_eq!(after["policies"][0]["definition"], json!({"max-length": 7}));
    assert!(after["bindings"].to_string().contains("\"old\""), "{after}");
    api(&server, Method::DELETE, "vhosts/unfit", None).await;
}

#[tokio::test]
async fn hand_written_files_are_restored_on_each_release_and_no_password_is_shown() {
    for (release, server) in [Some(rabbitmq()), rabbitmq_4()].into_iter().flatten().enumerate() {
        let (vhost, user) = (format!("by hand {release}"), format!("by hand {release} user"));
        let remove = [
            format!("vhosts/{}", vhost.replace(' ', "%20")),
            format!("users/{}", user.replace(' ', "%20")),
        ];
        for path in &remove {
            api(&server, Method::DELETE, path, None).await;
        }
        let secret = "Sup3r-canary";
        // `[]` for an empty object, tags as text, fields that have a default left out, and a byte order mark.
        let document = json!({
            "users": [{"name": user, "password": secret, "tags": "monitoring"}],
            "vhosts": [{"name": vhost, "description": "written by hand", "tags": "a,b"}],
            "permissions": [{"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}],
            "exchanges": [{"name": "e", "vhost": vhost, "type": "direct", "durable": true, "auto_delete": false, "arguments": []}],
            "queues": [{"name": "q", "vhost": vhost, "durable": true, "auto_delete": false, "arguments": []}],
            "policies": [{"vhost": vhost, "name": "p", "pattern": "^q", "definition": {"max-length": 3}}],
            "bindings": [{"source": "e", "vhost": vhost, "destination": "q", "destination_type": "queue", "routing_key": "k", "arguments": []}],
        });
        let file = [b"\xef\xbb\xbf", document.to_string().as_bytes()].concat();
        let site = Site::new().with_rabbitmq_at("rabbitmq", &server).initialised();
        for arguments in [
            &["--in-place", "--dry-run"][..],
            &["--in-place", "--yes"],
            // The second time everything is equal, the password too.
            &["--in-place", "--yes", "--json"],
        ] {
            let restored = restore_file(&site, &file, arguments);
            let told = format!("{}{}", restored.stdout, restored.stderr);
            assert_eq!(restored.code, Some(0), "{arguments:?}: {told}");
            assert!(!told.contains(secret), "{told}");
        }
        let login = Rabbitmq { username: user.clone(), password: secret.into(), ..server.clone() };
        assert_eq!(api(&login, Method::GET, "whoami", None).await["name"], user.as_str());
        let changed = document.to_string().replace(secret, "another-canary");
        let planned = restore_file(&site, changed.as_bytes(), &["--in-place", "--dry-run"]);
        let told = format!("{}{}", planned.stdout, planned.stderr);
        assert!(told.contains(&format!("user {user}")) && told.contains("password"), "{told}");
        assert!(!told.contains("canary"), "{told}");
        for path in &remove {
            api(&server, Method::DELETE, path, None).await;
        }
    }
}

#[tokio::test]
async fn a_management_api_on_loopback_is_not_called_open() {
    for server in [Some(rabbitmq()), rabbitmq_4()].into_iter().flatten() {
        let site = Site::new().with_rabbitmq_at("rabbitmq", &server).initialised();
        let (_, lines) = site.json(["doctor"]);
        let told = Value::from(lines).to_string();
        assert!(told.contains("rabbitmq"), "doctor examined the broker: {told}");
        assert!(!told.contains("rabbitmq-management-open"), "{told}");
    }
}
