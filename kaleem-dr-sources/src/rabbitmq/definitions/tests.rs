//! Documents in any order, secrets that stay hidden, and virtual hosts under other names.

use serde_json::json;

use super::*;

fn sample() -> Value {
    json!({
        "rabbit_version": "3.10.8", "explanation": "at 12:00", "rabbitmq_definition_format": "cluster",
        "vhosts": [{"name": "b"}, {"name": "/"}],
        "users": [{"name": "u", "tags": ["z", "a"], "password_hash": "canary"}],
        "global_parameters": [{"name": "internal_cluster_id", "value": "x"}, {"name": "cluster_name", "value": "c"}],
        "parameters": [
            {"vhost": "/", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://u:canary@h", "ack-mode": "on"}},
            {"vhost": "/", "component": "operator_policy", "name": "p", "value": {}},
        ],
        "queues": [
            {"name": "q", "vhost": "b", "arguments": {"x-b": 1, "x-a": [2, 1]}},
            {"name": "q", "vhost": "/", "arguments": {}},
        ],
        "bindings": [
            {"source": "e", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "k", "arguments": {"n": 2}},
            {"source": "e", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "k", "arguments": {"n": 1}},
        ],
        "things_of_tomorrow": [{"b": 1}, {"a": 2}],
    })
}

fn parse(document: &Value) -> Definitions {
    Definitions::parse(document.to_string().as_bytes()).unwrap()
}

/// The same document with every list and every object reversed.
fn reversed(value: &Value, top: bool) -> String {
    match value {
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .rev()
                .map(|(key, value)| {
                    format!("{}:{}", Value::from(key.as_str()), reversed(value, top))
                })
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Array(items) if top => {
            let items: Vec<_> = items.iter().rev().map(|item| reversed(item, false)).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn the_canonical_form_depends_on_no_order_and_is_its_own() {
    let bytes = parse(&sample()).to_bytes();
    assert_eq!(Definitions::parse(&bytes).unwrap().to_bytes(), bytes);
    assert_eq!(Definitions::parse(reversed(&sample(), true).as_bytes()).unwrap().to_bytes(), bytes);
}

#[test]
fn the_canonical_form_is_one_definition_a_line_without_what_changes_by_itself() {
    let text = String::from_utf8(parse(&sample()).to_bytes()).unwrap();
    for gone in ["rabbit_version", "explanation", "internal_cluster_id"] {
        assert!(!text.contains(gone), "{text}");
    }
    assert!(
        text.contains(
            "\n{\"arguments\":{\"x-a\":[2,1],\"x-b\":1},\"name\":\"q\",\"vhost\":\"b\"}\n]"
        ),
        "{text}"
    );
    assert!(text.contains("\"things_of_tomorrow\":[{\"a\":2},{\"b\":1}]"), "{text}");
    serde_json::from_str::<Value>(&text).unwrap();
}

#[test]
fn each_definition_is_ordered_by_its_identity_and_secrets_are_not_shown() {
    let point = parse(&sample());
    let mut live = sample();
    live["users"][0]["password_hash"] = "other canary".into();
    live["parameters"][0]["value"]["src-uri"] = "amqp://v:canary@h".into();
    live["queues"][0]["arguments"]["x-b"] = 2.into();
    live["queues"][1]["name"] = "only here".into();
    live["vhosts"][0]["written_by"] = "a newer release".into();
    let live = parse(&live);
    let unequal: BTreeMap<_, _> = point
        .against(&live)
        .filter(|(_, s)| *s != Standing::Equal)
        .map(|(id, s)| (id.to_string(), format!("{s:?}")))
        .collect();
    let names: Vec<_> = unequal.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "parameter shovel s in /",
            "queue only here in /",
            "queue q in /",
            "queue q in b",
            "user u"
        ]
    );
    assert_eq!(unequal["queue q in /"], "Missing");
    assert_eq!(unequal["queue only here in /"], "Extra");
    assert!(unequal["queue q in b"].contains("x-b"), "{unequal:?}");
    assert!(!format!("{unequal:?} {point:?}").contains("canary"), "{unequal:?} {point:?}");
}

#[test]
fn renaming_takes_virtual_hosts_and_their_topology_only() {
    let renamed = parse(&sample()).renamed(&BTreeMap::from([("/".into(), "copy".into())])).unwrap();
    let identities: Vec<_> = renamed.items.keys().map(ToString::to_string).collect();
    assert_eq!(
        identities,
        [
            "virtual host copy",
            "parameter operator_policy p in copy",
            "parameter shovel s in copy",
            "queue q in copy",
            "binding of e to q with key `k` in copy",
            "binding of e to q with key `k` in copy",
        ]
    );
    assert_eq!(renamed.filtered(|identity| !Definitions::moves_messages(identity)).len(), 5);
    let both = BTreeMap::from([("/".into(), "copy".into()), ("b".into(), "copy".into())]);
    assert!(matches!(parse(&sample()).renamed(&both), Err(InvalidDefinitions::Twice(_))));
}

#[test]
fn invalid_documents_of_definitions_are_distinguished() {
    let error = |text: &str| Definitions::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error("<html>"), "the definitions are not JSON");
    assert!(error("{}").contains("no list of virtual hosts"));
    assert!(
        error(r#"{"rabbitmq_definition_format": "single_virtual_host", "vhosts": []}"#)
            .contains("a single virtual host")
    );
    assert_eq!(error(r#"{"vhosts": [], "queues": {}}"#), "`queues` is not a list of objects");
    assert_eq!(
        error(r#"{"vhosts": [{"name": "a"}, {"name": "a"}]}"#),
        "virtual host a occurs twice"
    );
    assert_eq!(error(r#"{"vhosts": [], "queues": [{"vhost": "/"}]}"#), "a queue lacks its `name`");
}

#[test]
fn a_field_that_is_left_out_has_its_default_and_what_a_server_adds_is_no_difference() {
    let queue = |item: Value| parse(&json!({"vhosts": [], "queues": [item]}));
    let equal = |wanted: &Definitions, found: &Definitions| {
        wanted.against(found).all(|(_, standing)| standing == Standing::Equal)
    };
    let by_hand = queue(json!({"name": "q", "vhost": "v", "arguments": []}));
    let quorum = queue(
        json!({"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "type": "quorum", "arguments": {"x-queue-type": "quorum"}}),
    );
    assert!(equal(&by_hand, &quorum));
    let classic = queue(json!({"name": "q", "vhost": "v", "type": "classic", "arguments": {}}));
    assert!(!equal(&classic, &quorum));
    assert!(equal(&classic, &by_hand));

    let exchange = |item: Value| parse(&json!({"vhosts": [], "exchanges": [item]}));
    let older = exchange(json!({"name": "e", "vhost": "v", "internal": false, "arguments": {}}));
    let newer = exchange(json!({"name": "e", "vhost": "v"}));
    let inner = exchange(json!({"name": "e", "vhost": "v", "internal": true}));
    assert!(equal(&older, &newer) && equal(&newer, &older));
    assert!(!equal(&newer, &inner) && !equal(&inner, &newer));
}

#[test]
fn a_byte_order_mark_and_empty_lists_for_objects_are_accepted() {
    let document = json!({
        "vhosts": [{"name": "/", "limits": []}],
        "bindings": [{"source": "e", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "k", "arguments": []}],
    });
    let marked = [b"\xef\xbb\xbf", document.to_string().as_bytes()].concat();
    let by_hand = Definitions::parse(&marked).unwrap();
    let mut exported = document;
    exported["bindings"][0]["arguments"] = json!({});
    let exported = parse(&exported);
    assert!(by_hand.against(&exported).all(|(_, standing)| standing == Standing::Equal));
}

#[test]
fn the_password_of_a_hand_written_file_is_compared_with_the_hash_and_never_shown() {
    let user = |item: Value| parse(&json!({"vhosts": [], "users": [item]}));
    let live = user(json!({
        "name": "u", "tags": [], "hashing_algorithm": "rabbit_password_hashing_sha256",
        "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
    }));
    let standing = |password: &str| {
        let wanted = user(json!({"name": "u", "password": password, "tags": ""}));
        wanted.against(&live).next().unwrap().1
    };
    assert_eq!(standing("test12"), Standing::Equal);
    let other = standing("canary");
    assert!(matches!(&other, Standing::Different(fields) if fields[0].field == "password"));
    assert!(!format!("{other:?}").contains("canary"), "{other:?}");
}
