//! The normal form of a definition, in which the spellings of RabbitMQ 3.8 to 4.3, of `rabbitmqctl` and of hand-written files are
//! equal. Comparisons use it; documents keep what the server wrote.
//!
//! Releases differ in the defaults that they leave out (`internal` from 4.0 on), in types (`tags` was text before 3.9, an empty
//! object may be written as `[]`), and in the place of a field (a virtual host's description).

use serde_json::{Map, Value, json};

use super::kind::Kind;

/// The fields of a virtual host that are equally valid next to its `metadata` and in it.
const METADATA: [&str; 4] =
    ["description", "tags", "default_queue_type", "protected_from_deletion"];

/// Converts a definition to its normal form.
pub(super) fn normal(kind: Kind, item: &Map<String, Value>) -> Map<String, Value> {
    let mut item: Map<_, _> =
        item.iter().map(|(field, value)| (field.clone(), without_empty_objects(value))).collect();
    match kind {
        Kind::Users => tags_as_list(&mut item),
        Kind::Vhosts => lift_metadata(&mut item),
        Kind::Queues => queue_type(&mut item),
        _ => {}
    }
    item.retain(|_, value| !value.is_null());
    item
}

/// The value that a server assumes for a field that a definition leaves out. `None` if it has no fixed default: then the server
/// chooses, and no value is a difference.
pub(super) fn default_of(kind: Kind, field: &str) -> Option<Value> {
    Some(match (kind, field) {
        (_, "arguments") | (Kind::Users | Kind::Vhosts, "limits" | "tags") => json!([]),
        (Kind::Queues | Kind::Exchanges, "auto_delete")
        | (Kind::Exchanges, "internal")
        | (Kind::Queues, "exclusive")
        | (Kind::Vhosts, "protected_from_deletion" | "tracing") => json!(false),
        (Kind::Queues | Kind::Exchanges, "durable") => json!(true),
        // Before 3.10, every virtual host had this type; later releases always export theirs.
        (Kind::Queues, "type") | (Kind::Vhosts, "default_queue_type") => json!("classic"),
        (Kind::Vhosts, "description") => json!(""),
        (Kind::Policies, "apply-to") => json!("all"),
        (Kind::Policies, "priority") => json!(0),
        (Kind::Users, "hashing_algorithm") => json!("rabbit_password_hashing_sha256"),
        _ => return None,
    })
}

/// Reports whether a definition without this field asks for the default: an import then sets it. In the other fields, such as a queue's
/// type, the server chooses.
pub(super) fn is_default_wanted(kind: Kind, field: &str) -> bool {
    matches!(
        (kind, field),
        (Kind::Exchanges | Kind::Queues, "durable" | "auto_delete" | "internal" | "arguments")
            | (Kind::Policies, "apply-to" | "priority")
    )
}

/// Writes empty objects as empty lists, at every depth: Erlang does not distinguish them.
pub(super) fn without_empty_objects(value: &Value) -> Value {
    match value {
        Value::Object(entries) if entries.is_empty() => json!([]),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), without_empty_objects(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_empty_objects).collect(),
        other => other.clone(),
    }
}

/// A list since 3.9, text with commas before; sorted in both cases.
fn tags_as_list(item: &mut Map<String, Value>) {
    let Some(tags) = item.get_mut("tags") else { return };
    let mut list: Vec<Value> = match &*tags {
        Value::String(text) => {
            text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Value::from).collect()
        }
        Value::Array(list) => list.clone(),
        _ => return,
    };
    list.sort_by_cached_key(Value::to_string);
    *tags = list.into();
}

/// Moves the known keys of `metadata` next to the name, where hand-written files and older releases have them. A field there has
/// precedence, as in an import.
fn lift_metadata(item: &mut Map<String, Value>) {
    if let Some(Value::Object(mut metadata)) = item.remove("metadata") {
        for field in METADATA {
            if let Some(value) = metadata.remove(field) {
                item.entry(field).or_insert(value);
            }
        }
        if !metadata.is_empty() {
            item.insert("metadata".into(), metadata.into());
        }
    }
    tags_as_list(item);
    if let Some(kind) = item.remove("default_queue_type").as_ref().and_then(Value::as_str)
        && let Some(kind) = short_type(kind)
    {
        item.insert("default_queue_type".into(), kind.into());
    }
}

/// Moves the type of a queue from its arguments to the field `type`.
fn queue_type(item: &mut Map<String, Value>) {
    if let Some(Value::Object(arguments)) = item.get_mut("arguments")
        && let Some(Value::String(kind)) = arguments.remove("x-queue-type")
    {
        if arguments.is_empty() {
            item.insert("arguments".into(), json!([]));
        }
        item.insert("type".into(), kind.into());
    }
    if let Some(kind) = item.get("type").and_then(Value::as_str).and_then(short_type) {
        item.insert("type".into(), kind.into());
    }
}

/// The short name of a queue type; `None` for the ways in which releases write that there is none.
fn short_type(kind: &str) -> Option<&str> {
    match kind {
        "" | "undefined" | "null" | "nil" => None,
        "rabbit_classic_queue" => Some("classic"),
        "rabbit_quorum_queue" => Some("quorum"),
        "rabbit_stream_queue" => Some("stream"),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(kind: Kind, item: &Value) -> Value {
        normal(kind, item.as_object().expect("an object")).into()
    }

    #[test]
    fn spellings_of_every_release_are_equal() {
        for (kind, older, newer) in [
            (
                Kind::Users,
                json!({"name": "u", "tags": "policymaker, monitoring"}),
                json!({"name": "u", "tags": ["monitoring", "policymaker"]}),
            ),
            (Kind::Users, json!({"name": "u", "tags": ""}), json!({"name": "u", "tags": []})),
            (
                Kind::Vhosts,
                json!({"name": "v", "description": "d", "tags": "b,a", "limits": [], "default_queue_type": "rabbit_quorum_queue"}),
                json!({"name": "v", "limits": {}, "metadata": {"description": "d", "tags": ["a", "b"], "default_queue_type": "quorum"}}),
            ),
            (
                Kind::Vhosts,
                json!({"name": "v", "default_queue_type": "undefined"}),
                json!({"name": "v"}),
            ),
            (
                Kind::Queues,
                json!({"name": "q", "type": "rabbit_quorum_queue", "arguments": {}}),
                json!({"name": "q", "type": "quorum", "arguments": {"x-queue-type": "quorum"}}),
            ),
            (
                Kind::Parameters,
                json!({"name": "p", "value": {"definition": []}}),
                json!({"name": "p", "value": {"definition": {}}}),
            ),
        ] {
            assert_eq!(form(kind, &older), form(kind, &newer));
        }
    }
}
