//! Definitions fitted to targets of several releases, without a server.

use serde_json::json;

use super::*;

fn parse(document: &Value) -> Definitions {
    Definitions::parse(document.to_string().as_bytes()).unwrap()
}

fn target(version: &str) -> Target {
    Target::of_version("mq:1", "admin", version)
}

/// The fitted document, and everything that was left out or said.
fn fitted(document: &Value, live: &Value, target: &Target) -> (Value, String) {
    let fitted = fit(parse(document), &parse(live), target, true).unwrap();
    let said = format!("{:?} {:?}", fitted.not_restored, fitted.warnings);
    (serde_json::from_slice(&fitted.definitions.to_bytes()).unwrap(), said)
}

fn nothing() -> Value {
    json!({"vhosts": []})
}

#[test]
fn a_queue_keeps_its_type_where_the_virtual_host_has_another_default() {
    let document = json!({
        "vhosts": [{"name": "v", "metadata": {"default_queue_type": "quorum"}}],
        "queues": [{"name": "q", "vhost": "v", "type": "classic", "arguments": {}}, {"name": "by hand", "vhost": "v", "arguments": []}],
    });
    let (newer, _) = fitted(&document, &nothing(), &target("4.3.6"));
    assert_eq!(newer["queues"][1]["arguments"], json!({"x-queue-type": "classic"}));
    assert_eq!(newer["queues"][0]["arguments"], json!([]), "the server chooses");
    let (older, _) = fitted(&document, &nothing(), &target("3.10.8"));
    assert_eq!(older["queues"][1]["arguments"], json!({}));
}

#[test]
fn mirroring_is_left_out_from_4_on_and_named() {
    let document = json!({
        "vhosts": [{"name": "v"}],
        "policies": [
            {"vhost": "v", "name": "both", "pattern": ".*", "definition": {"ha-mode": "all", "max-length": 1}},
            {"vhost": "v", "name": "only", "pattern": ".*", "definition": {"ha-mode": "all"}},
        ],
        "parameters": [{"vhost": "v", "component": "operator_policy", "name": "o", "value": {"definition": {"ha-mode": "all", "expires": 1}}}],
    });
    let (newer, said) = fitted(&document, &nothing(), &target("4.0.1"));
    assert_eq!(newer["policies"].as_array().unwrap().len(), 1);
    assert_eq!(newer["policies"][0]["definition"], json!({"max-length": 1}));
    assert_eq!(newer["parameters"][0]["value"]["definition"], json!({"expires": 1}));
    for named in
        ["policy both in v: ha-mode", "policy only in v", "parameter operator_policy o in v"]
    {
        assert!(said.contains(named), "{named}: {said}");
    }
    let (older, said) = fitted(&document, &nothing(), &target("3.13.7"));
    assert_eq!(older["policies"].as_array().unwrap().len(), 2);
    assert_eq!(said, "[] []");
}

#[test]
fn transient_queues_are_left_out_with_their_bindings_where_they_are_denied() {
    let document = json!({
        "vhosts": [{"name": "v"}],
        "queues": [{"name": "t", "vhost": "v", "durable": false, "arguments": {}}],
        "bindings": [{"source": "amq.fanout", "vhost": "v", "destination": "t", "destination_type": "queue", "routing_key": "", "arguments": {}}],
    });
    let (kept, _) = fitted(&document, &nothing(), &target("4.3.6"));
    assert_eq!(kept["queues"].as_array().unwrap().len(), 1);
    let mut denies = target("4.3.6");
    denies.takes_transient_queues = false;
    let (left, said) = fitted(&document, &nothing(), &denies);
    assert_eq!((&left["queues"], &left["bindings"]), (&json!([]), &json!([])));
    assert!(said.contains("queue t in v") && said.contains("binding of amq.fanout to t"), "{said}");
}

#[test]
fn bindings_of_the_log_are_sent_only_where_the_server_has_that_exchange() {
    let document = json!({
        "vhosts": [{"name": "/"}],
        "exchanges": [{"name": "amq.rabbitmq.log", "vhost": "/", "type": "topic", "arguments": {}}],
        "queues": [{"name": "q", "vhost": "/", "arguments": {}}],
        "bindings": [{"source": "amq.rabbitmq.log", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "#", "arguments": {}}],
    });
    let (with, said) = fitted(&document, &document, &target("4.3.6"));
    assert_eq!((with["bindings"].as_array().unwrap().len(), said.as_str()), (1, "[] []"));
    assert_eq!(with["exchanges"], json!([]), "the server's own exchange is left alone");
    let (without, said) = fitted(&document, &nothing(), &target("4.3.6"));
    assert_eq!(without["bindings"], json!([]));
    assert!(said.contains("amq.rabbitmq.log"), "{said}");
}

#[test]
fn an_import_does_not_reset_the_metadata_of_an_existing_virtual_host() {
    let document = json!({"vhosts": [{"name": "v"}, {"name": "new"}]});
    let live = json!({"vhosts": [{"name": "v", "metadata": {"description": "d", "tags": ["t"], "default_queue_type": "quorum"}}]});
    let (sent, _) = fitted(&document, &live, &target("4.3.6"));
    assert_eq!(sent["vhosts"][1]["metadata"], live["vhosts"][0]["metadata"]);
    assert_eq!(sent["vhosts"][0], json!({"name": "new"}));
}

#[test]
fn limits_are_a_parameter_and_tags_are_text_before_3_9() {
    let document = json!({
        "vhosts": [{"name": "v", "limits": {"max-queues": 3}}, {"name": "w", "limits": {"max-queues": 4}}],
        "parameters": [{"vhost": "w", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 4}}],
        "users": [{"name": "u", "tags": ["a", "b"]}],
    });
    let (sent, _) = fitted(&document, &nothing(), &target("3.8.9"));
    assert_eq!(sent["vhosts"], json!([{"name": "v"}, {"name": "w"}]));
    assert_eq!(sent["parameters"].as_array().unwrap().len(), 2);
    assert_eq!(sent["parameters"][0]["value"], json!({"max-queues": 3}));
    assert_eq!(sent["users"][0]["tags"], "a,b");
    let (sent, _) = fitted(&document, &nothing(), &target("3.9.0"));
    assert_eq!(sent["users"][0]["tags"], json!(["a", "b"]));
}

#[test]
fn a_plugin_or_exchange_type_that_is_not_there_is_refused_unless_that_is_unknown() {
    let document = json!({
        "vhosts": [{"name": "v"}],
        "exchanges": [{"name": "e", "vhost": "v", "type": "x-random", "arguments": {}}],
        "parameters": [{"vhost": "v", "component": "federation-upstream", "name": "f", "value": {}}],
        "policies": [{"vhost": "v", "name": "p", "pattern": ".*", "definition": {"federation-upstream-set": "all"}}],
    });
    let unknown = target("4.3.6");
    assert!(fit(parse(&document), &parse(&nothing()), &unknown, true).is_ok());
    let mut bare = target("4.3.6");
    bare.plugins = Some(BTreeSet::from(["rabbitmq_management".to_owned()]));
    bare.exchange_types = BTreeSet::from(["topic".to_owned()]);
    let refused = fit(parse(&document), &parse(&nothing()), &bare, true).unwrap_err().to_string();
    for named in [
        "rabbitmq_federation (for parameter federation-upstream f in v, policy p in v)",
        "rabbitmq_random_exchange (for exchange e in v)",
    ] {
        assert!(refused.contains(named), "{named}: {refused}");
    }
    // 4.1 and later split the plugin.
    bare.plugins = Some(BTreeSet::from(["rabbitmq_federation_common".to_owned()]));
    bare.exchange_types.insert("x-random".to_owned());
    assert!(fit(parse(&document), &parse(&nothing()), &bare, true).is_ok());
}
