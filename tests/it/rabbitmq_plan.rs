//! A broker that lost everything is restored, and the plan announces every change before anything
//! is written.

use kaleem_dr_sources::rabbitmq::definitions::Definitions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    seed,
    servers::{Rabbitmq, RabbitmqServer},
    site::Site,
};

async fn api(
    server: &Rabbitmq,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, Vec<u8>) {
    let mut request = reqwest::Client::new()
        .request(method, format!("{}api/{path}", server.url))
        .basic_auth(&server.username, Some(&server.password));
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.expect("the broker answers");
    (
        response.status().as_u16(),
        response.bytes().await.expect("the broker ends its answer").to_vec(),
    )
}

async fn definitions(server: &Rabbitmq) -> Definitions {
    Definitions::parse(&api(server, Method::GET, "definitions", None).await.1).expect("definitions")
}

/// Three virtual hosts with users, policies and parameters, 200 queues and as many bindings.
fn large() -> Value {
    let mut all = seed::definitions("shop");
    all["global_parameters"] = json!([{"name": "greeting", "value": {"text": "سلام"}}]);
    for vhost in ["/", "billing"] {
        let one = seed::definitions(vhost);
        for (key, list) in one.as_object().expect("an object") {
            let list = list.as_array().expect("a list").clone();
            all[key].as_array_mut().expect("a list").extend(list);
        }
    }
    for n in 0..200 {
        let vhost = ["/", "billing", "shop"][n % 3];
        let queue = format!("work.{n}");
        all["queues"].as_array_mut().expect("a list").push(json!({
            "name": queue, "vhost": vhost, "durable": true, "auto_delete": false, "arguments": {"x-max-length": n},
        }));
        all["bindings"].as_array_mut().expect("a list").push(json!({
            "source": "orders", "vhost": vhost, "destination": queue, "destination_type": "queue",
            "routing_key": format!("key.{n}"), "arguments": {},
        }));
    }
    for vhost in ["/", "billing", "shop"] {
        // The seed limits queues to 100.
        all["parameters"]
            .as_array_mut()
            .expect("a list")
            .retain(|parameter| parameter["vhost"] != vhost);
        all["parameters"].as_array_mut().expect("a list").push(json!({
            "vhost": vhost, "component": "vhost-limits", "name": "limits", "value": {"max-queues": 1000},
        }));
    }
    all
}

/// Deletes everything except the user that we log in as.
async fn wipe(server: &Rabbitmq) {
    let (_, vhosts) = api(server, Method::GET, "vhosts", None).await;
    for vhost in serde_json::from_slice::<Value>(&vhosts).expect("JSON").as_array().expect("a list")
    {
        let name = vhost["name"].as_str().expect("a name").replace('/', "%2F");
        assert_eq!(api(server, Method::DELETE, &format!("vhosts/{name}"), None).await.0, 204);
    }
    let (_, users) = api(server, Method::GET, "users", None).await;
    for user in serde_json::from_slice::<Value>(&users).expect("JSON").as_array().expect("a list") {
        let name = user["name"].as_str().expect("a name");
        if name != server.username {
            let name = name.replace('/', "%2F").replace(' ', "%20");
            assert_eq!(api(server, Method::DELETE, &format!("users/{name}"), None).await.0, 204);
        }
    }
    api(server, Method::DELETE, "global-parameters/greeting", None).await;
}

#[tokio::test]
async fn a_broker_that_lost_everything_is_restored_equal_and_conflicts_are_reported_before_anything_is_written()
 {
    for broker in RabbitmqServer::each() {
        let server = &broker.server;
        let (status, answer) = api(server, Method::POST, "definitions", Some(&large())).await;
        assert_eq!(status, 204, "{}", String::from_utf8_lossy(&answer));
        let site = Site::new().with_rabbitmq_at("rabbitmq", server).initialised();
        site.succeed(["backup"]);
        let before = definitions(server).await;
        assert!(before.counts()["queues"] >= 200 && before.counts()["vhosts"] == 3, "{before:?}");

        wipe(server).await;
        let lost = definitions(server).await;
        assert_eq!(
            (lost.counts()["vhosts"], lost.counts()["queues"], lost.counts()["users"]),
            (0, 0, 1)
        );
        let (restored, lines) = site.json(["restore", "rabbitmq", "--in-place", "--yes"]);
        assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
        assert_eq!(lines[0]["equal"], true);
        let after = definitions(server).await;
        let unequal: Vec<_> = before
            .against(&after)
            .filter(|(_, standing)| {
                *standing != kaleem_dr_sources::rabbitmq::definitions::Standing::Equal
            })
            // The log's exchange belongs to the server, which declares it when it starts.
            .filter(|(identity, _)| identity.name() != "amq.rabbitmq.log")
            .map(|(identity, standing)| format!("{identity}: {standing:?}"))
            // A restoring user without permissions on a virtual host gets none.
            .collect();
        assert_eq!(unequal, [""; 0]);

        // Each kind of change, and its line in the plan.
        let put = async |path: &str, body: Value| {
            let status = api(server, Method::PUT, path, Some(&body)).await.0;
            assert!(matches!(status, 201 | 204), "PUT {path}: {status}");
        };
        for path in [
            "queues/shop/work.2",
            "exchanges/billing/unrouted",
            "policies/shop/expire",
            "queues/shop/work.5",
        ] {
            assert_eq!(api(server, Method::DELETE, path, None).await.0, 204, "{path}");
        }
        put("queues/shop/work.2", json!({"durable": true, "arguments": {"x-max-length": 77}}))
            .await;
        put("exchanges/billing/unrouted", json!({"type": "direct", "durable": true})).await;
        put(
            "policies/shop/expire",
            json!({"pattern": ".*", "definition": {"max-length": 5}, "apply-to": "all"}),
        )
        .await;
        put("users/shop%20user", json!({"password": "other", "tags": ""})).await;
        put("queues/shop/only.here", json!({"durable": true})).await;

        let changed = definitions(server).await;
        let (planned, lines) = site.json(["restore", "rabbitmq", "--in-place", "--dry-run"]);
        assert_eq!(planned.code, Some(0), "{}", planned.stderr);
        let actions: Vec<String> = lines[0]["actions"]
            .as_array()
            .expect("actions")
            .iter()
            .map(|action| {
                let text = |key: &str| action[key].as_str().unwrap_or_default().to_owned();
                format!("{} {}: {}", text("change"), text("what"), text("why"))
            })
            .collect();
        for (begins, holds) in [
            ("conflict queue work.2 in shop", "exists with other arguments; RabbitMQ ignores it"),
            ("conflict exchange unrouted in billing", "type"),
            ("overwrite policy expire in shop", "definition"),
            ("overwrite user shop user", "password_hash"),
            ("create queue in shop", ""),
            ("leave queue in shop, not in the point", ""),
        ] {
            assert!(
                actions.iter().any(|line| line.starts_with(begins) && line.contains(holds)),
                "{begins}: {actions:#?}"
            );
        }
        assert_eq!(
            definitions(server).await.to_bytes(),
            changed.to_bytes(),
            "a plan writes nothing"
        );

        let (restored, lines) = site.json(["restore", "rabbitmq", "--in-place", "--yes"]);
        assert_eq!(restored.code, Some(4), "what the broker ignored is not a success");
        let differs: Vec<&str> = lines[0]["differences"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|line| line["what"].as_str())
            .collect();
        assert!(differs.contains(&"queue work.2 in shop: arguments"), "{differs:?}");
        assert!(differs.contains(&"exchange unrouted in billing: type"), "{differs:?}");
        let after = definitions(server).await;
        assert!(
            after.to_bytes().windows(12).any(|bytes| bytes == b"\"only.here\","),
            "what is not in the point stays"
        );
    }
}

#[tokio::test]
async fn one_virtual_host_of_many_is_restored_alone_and_a_rehearsal_leaves_none() {
    for broker in RabbitmqServer::each() {
        let server = &broker.server;
        assert_eq!(api(server, Method::POST, "definitions", Some(&large())).await.0, 204);
        let site = Site::new().with_rabbitmq_at("rabbitmq", server).initialised();
        site.succeed(["backup"]);
        let proven = site.succeed(["verify", "rabbitmq", "--level", "restored"]);
        assert!(proven.stdout.contains("restored is proven"), "{}", proven.stdout);
        let after = definitions(server).await;
        assert_eq!(
            after.vhosts().collect::<Vec<_>>(),
            ["/", "billing", "shop"],
            "a rehearsal leaves nothing"
        );
        wipe(server).await;

        let unknown = site.run(["restore", "rabbitmq", "--in-place", "--yes", "--only", "nowhere"]);
        assert_eq!(unknown.code, Some(5));
        assert!(unknown.stderr.contains("it has: /, billing, shop"), "{}", unknown.stderr);

        // Its permissions need its user.
        assert_eq!(
            api(
                server,
                Method::PUT,
                "users/billing%20user",
                Some(&json!({"password": "x", "tags": ""}))
            )
            .await
            .0,
            201
        );
        let restored = site.run(["restore", "rabbitmq", "--in-place", "--yes", "--only", "bill*"]);
        assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
        let after = definitions(server).await;
        assert_eq!(after.vhosts().collect::<Vec<_>>(), ["billing"]);
    }
}
