//! Completes a server's export: what one of RabbitMQ's releases leaves out of it, and another needs for an import.
//!
//! 4.x exports bindings of internal exchanges without the exchanges, so that no server imports the document. 3.8 to 3.12 export
//! virtual hosts without description, tags and default queue type. 3.x exports the type of a queue only if the queue was declared
//! with one; there, every other queue is classic, whereas a newer server would choose its default type.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::definitions::{Definitions, InvalidDefinitions, Kind};

/// The fields of an exchange that belong to its definition.
const EXCHANGE: [&str; 7] =
    ["name", "vhost", "type", "durable", "auto_delete", "internal", "arguments"];
/// The fields of a virtual host that belong to its metadata.
const METADATA: [&str; 4] =
    ["description", "tags", "default_queue_type", "protected_from_deletion"];

/// A virtual host as `GET /api/vhosts` lists it.
#[derive(Deserialize)]
pub(super) struct VhostDetails {
    name: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// Adds to `definitions` what the lists of exchanges and virtual hosts have in addition.
pub(super) fn complete(
    definitions: &mut Definitions,
    exchanges: Vec<Map<String, Value>>,
    vhosts: &[VhostDetails],
) -> Result<(), InvalidDefinitions> {
    for mut exchange in exchanges.into_iter().filter(is_internal) {
        exchange.retain(|field, _| EXCHANGE.contains(&field.as_str()));
        // Created since the export, in a virtual host that it does not contain.
        let vhost = exchange.get("vhost").and_then(Value::as_str).unwrap_or_default();
        if definitions.has_vhost(vhost) {
            definitions.complete(Kind::Exchanges, exchange)?;
        }
    }
    for details in vhosts {
        let found = definitions
            .of_kind_mut(Kind::Vhosts)
            .find(|(identity, _)| identity.vhost() == Some(details.name.as_str()));
        if let Some((_, vhost)) = found {
            add_metadata(vhost, &details.fields);
        }
    }
    if !definitions.of_kind(Kind::Queues).any(|(_, queue)| queue.contains_key("type")) {
        for (_, queue) in definitions.of_kind_mut(Kind::Queues) {
            if queue.get("arguments").and_then(|arguments| arguments.get("x-queue-type")).is_none()
            {
                queue.insert("type".into(), "classic".into());
            }
        }
    }
    Ok(())
}

/// Reports whether an exchange is internal and not the server's own.
fn is_internal(exchange: &Map<String, Value>) -> bool {
    let name = exchange.get("name").and_then(Value::as_str).unwrap_or_default();
    exchange.get("internal") == Some(&Value::Bool(true))
        && !name.is_empty()
        && !name.starts_with("amq.")
}

/// Adds to the metadata of a virtual host what they lack. The defaults of fields that a release does not know stay out.
pub(super) fn add_metadata(vhost: &mut Map<String, Value>, known: &Map<String, Value>) {
    let mut metadata = match vhost.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    for field in METADATA {
        let nested = known.get("metadata").and_then(|metadata| metadata.get(field));
        let Some(value) = known.get(field).or(nested) else { continue };
        let is_unset = value == "undefined" || value == &Value::Bool(false) || value.is_null();
        if !is_unset && !vhost.contains_key(field) && !metadata.contains_key(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    // Written in the order of their keys, wherever they came from.
    let sorted: std::collections::BTreeMap<_, _> = metadata.into_iter().collect();
    if !sorted.is_empty() {
        vhost.insert("metadata".into(), sorted.into_iter().collect::<Map<_, _>>().into());
    }
    let sorted: std::collections::BTreeMap<_, _> = std::mem::take(vhost).into_iter().collect();
    vhost.extend(sorted);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(export: &Value, exchanges: &Value, vhosts: &Value) -> Value {
        let mut definitions = Definitions::parse(export.to_string().as_bytes()).unwrap();
        complete(
            &mut definitions,
            serde_json::from_value(exchanges.clone()).unwrap(),
            &serde_json::from_value::<Vec<VhostDetails>>(vhosts.clone()).unwrap(),
        )
        .unwrap();
        serde_json::from_slice(&definitions.to_bytes()).unwrap()
    }

    #[test]
    fn internal_exchanges_come_from_the_list_without_its_statistics() {
        let all = completed(
            &json!({"vhosts": [{"name": "v"}], "exchanges": [{"name": "e", "vhost": "v"}]}),
            &json!([
                {"name": "in", "vhost": "v", "type": "topic", "internal": true, "durable": true, "policy": "p", "message_stats": {}},
                {"name": "e", "vhost": "v", "internal": false, "policy": "p"},
                {"name": "amq.rabbitmq.log", "vhost": "v", "internal": true},
                {"name": "late", "vhost": "created since", "internal": true},
            ]),
            &json!([]),
        );
        assert_eq!(
            all["exchanges"],
            json!([
                {"name": "e", "vhost": "v"},
                {"name": "in", "vhost": "v", "type": "topic", "internal": true, "durable": true},
            ])
        );
    }

    #[test]
    fn metadata_are_merged_and_the_exports_own_have_precedence() {
        let all = completed(
            &json!({"vhosts": [{"name": "old"}, {"name": "new", "metadata": {"description": "own", "tags": []}}]}),
            &json!([]),
            &json!([
                {"name": "old", "description": "d", "tags": ["t"], "default_queue_type": "quorum", "tracing": false, "messages": 3},
                {"name": "new", "description": "other", "tags": ["t"], "default_queue_type": "undefined", "protected_from_deletion": false},
            ]),
        );
        assert_eq!(
            all["vhosts"],
            json!([
                {"name": "new", "metadata": {"description": "own", "tags": []}},
                {"name": "old", "metadata": {"description": "d", "tags": ["t"], "default_queue_type": "quorum"}},
            ])
        );
    }

    #[test]
    fn a_queue_without_a_type_is_classic_only_where_no_queue_has_one() {
        let queues = |export: Value| completed(&export, &json!([]), &json!([]))["queues"].clone();
        let plain = json!({"name": "q", "vhost": "v", "arguments": {}});
        let quorum = json!({"name": "r", "vhost": "v", "arguments": {"x-queue-type": "quorum"}});
        let old = queues(json!({"vhosts": [{"name": "v"}], "queues": [plain, quorum]}));
        assert_eq!((&old[0]["type"], &old[1]["type"]), (&json!("classic"), &Value::Null));
        let typed = json!({"name": "s", "vhost": "v", "type": "stream"});
        let new = queues(json!({"vhosts": [{"name": "v"}], "queues": [plain, typed]}));
        assert_eq!(new[0]["type"], Value::Null);
    }
}
