//! Fits definitions to the server that receives them.
//!
//! An import is not atomic, and it stops at the first definition that the server rejects. So everything that a release is known to
//! reject is left out and named, and what needs a plugin that is not enabled is refused before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use kaleem_dr_core::{ground::SourceError, recovery::source::Uncompared};
use serde_json::{Map, Value};

use super::{
    completion::add_metadata,
    definitions::{Definitions, Identity, Kind},
    target::Target,
};

/// Limit for the number of names in one message.
const NAMED: usize = 5;

/// The plugins that provide a component of parameters: one of them is enough.
const COMPONENTS: [(&str, &[&str]); 4] = [
    ("shovel", &["rabbitmq_shovel"]),
    ("federation-upstream", FEDERATION),
    ("federation-upstream-set", FEDERATION),
    ("sharding", &["rabbitmq_sharding"]),
];
/// The plugins that provide settings of policies, by the beginning of the setting's name.
const SETTINGS: [(&str, &[&str]); 2] =
    [("federation-", FEDERATION), ("shards-per-node", &["rabbitmq_sharding"])];
/// From 4.1 on, two plugins and their common part, in addition to the one that contains both.
const FEDERATION: &[&str] = &["rabbitmq_federation", "rabbitmq_federation_common"];
/// The plugins that provide exchange types, for the advice.
const EXCHANGE_TYPES: [(&str, &str); 7] = [
    ("x-consistent-hash", "rabbitmq_consistent_hash_exchange"),
    ("x-delayed-message", "rabbitmq_delayed_message_exchange"),
    ("x-federation-upstream", "rabbitmq_federation"),
    ("x-jms-topic", "rabbitmq_jms_topic_exchange"),
    ("x-modulus-hash", "rabbitmq_sharding"),
    ("x-random", "rabbitmq_random_exchange"),
    ("x-recent-history", "rabbitmq_recent_history_exchange"),
];

/// Definitions that a server can import.
#[derive(Debug)]
pub(super) struct Fitted {
    pub definitions: Definitions,
    /// The parts that the server does not accept.
    pub not_restored: Vec<Uncompared>,
    pub warnings: Vec<String>,
}

/// Fits definitions to the target, whose own are `live`. `in_place` is false for new virtual hosts.
///
/// # Errors
/// [`SourceError::Refused`] if they need plugins or exchange types that the target does not have.
pub(super) fn fit(
    definitions: Definitions,
    live: &Definitions,
    target: &Target,
    in_place: bool,
) -> Result<Fitted, SourceError> {
    refuse_missing_plugins(&definitions, target)?;
    let mut fitted = Fitted { definitions, not_restored: Vec::new(), warnings: Vec::new() };
    fitted.limits_as_parameters()?;
    fitted.leave_out_reserved_names();
    fitted.leave_out_transient_queues(target);
    fitted.leave_out_removed_settings(target);
    fitted.adapt_fields(target);
    if in_place {
        fitted.keep_metadata(live);
    }
    fitted.leave_out_dangling_bindings(live, in_place);
    Ok(fitted)
}

impl Fitted {
    /// The limits of a virtual host are a parameter. Newer releases export them in the virtual host as well, where no import reads
    /// them.
    fn limits_as_parameters(&mut self) -> Result<(), SourceError> {
        let mut limits = Vec::new();
        for (identity, vhost) in self.definitions.of_kind_mut(Kind::Vhosts) {
            if let Some(Value::Object(value)) = vhost.remove("limits")
                && !value.is_empty()
            {
                limits.push((identity.name().to_owned(), value));
            }
        }
        for (vhost, value) in limits {
            let fields = [
                ("vhost", vhost.into()),
                ("component", "vhost-limits".into()),
                ("name", "limits".into()),
                ("value", Value::Object(value)),
            ];
            let parameter = fields.map(|(field, value)| (field.to_owned(), value));
            self.definitions
                .complete(Kind::Parameters, parameter.into_iter().collect())
                .map_err(|error| SourceError::Point(error.into()))?;
        }
        Ok(())
    }

    /// An import skips names that begin with `amq.`: the server creates them itself.
    fn leave_out_reserved_names(&mut self) {
        let reserved = |identity: &Identity| {
            matches!(identity.kind(), Kind::Exchanges | Kind::Queues)
                && identity.name().starts_with("amq.")
        };
        let queues: BTreeSet<_> = self
            .definitions
            .of_kind(Kind::Queues)
            .filter(|(identity, _)| reserved(identity))
            .map(|(identity, _)| identity.clone())
            .collect();
        if !queues.is_empty() {
            let names: Vec<_> = queues.iter().map(Identity::to_string).collect();
            self.warnings.push(format!(
                "{} with a name that the server generated are left out with their bindings, because no import accepts them: {}",
                counted(names.len(), "queue", "queues"),
                listed(&names)
            ));
        }
        let ends: BTreeSet<_> =
            queues.iter().map(|queue| (queue.vhost().unwrap_or_default(), queue.name())).collect();
        let bindings: BTreeSet<_> = self
            .definitions
            .of_kind(Kind::Bindings)
            .filter(|(identity, binding)| {
                text(binding, "destination_type") == "queue"
                    && ends.contains(&(
                        identity.vhost().unwrap_or_default(),
                        text(binding, "destination"),
                    ))
            })
            .map(|(identity, _)| identity.clone())
            .collect();
        self.definitions = self
            .definitions
            .filtered(|identity| !reserved(identity) && !bindings.contains(identity));
    }

    fn leave_out_transient_queues(&mut self, target: &Target) {
        if target.takes_transient_queues {
            return;
        }
        let transient: BTreeSet<_> = self
            .definitions
            .of_kind(Kind::Queues)
            .filter(|(_, queue)| queue.get("durable") == Some(&Value::Bool(false)))
            .map(|(identity, _)| identity.clone())
            .collect();
        self.not_restored.extend(transient.iter().map(|identity| Uncompared::new(identity.to_string(), "the server rejects transient queues; set `deprecated_features.permit.transient_nonexcl_queues = true` on every node")));
        self.definitions = self.definitions.filtered(|identity| !transient.contains(identity));
    }

    /// Classic mirroring was removed in 4.0, and the first format of classic queues in 4.3.
    fn leave_out_removed_settings(&mut self, target: &Target) {
        if target.is_at_least((4, 0)) {
            let mut empty = BTreeSet::new();
            for kind in [Kind::Policies, Kind::Parameters] {
                for (identity, item) in self.definitions.of_kind_mut(kind) {
                    let Some(settings) = settings_mut(kind, identity, item) else { continue };
                    let removed: Vec<_> =
                        settings.keys().filter(|key| key.starts_with("ha-")).cloned().collect();
                    if removed.is_empty() {
                        continue;
                    }
                    settings.retain(|key, _| !key.starts_with("ha-"));
                    if settings.is_empty() {
                        empty.insert(identity.clone());
                    }
                    self.not_restored.push(Uncompared::new(
                        format!("{identity}: {}", removed.join(", ")),
                        "RabbitMQ 4.0 removed classic mirroring; use quorum queues",
                    ));
                }
            }
            self.definitions = self.definitions.filtered(|identity| !empty.contains(identity));
        }
        if target.is_at_least((4, 3)) {
            let mut converted = 0;
            for (_, queue) in self.definitions.of_kind_mut(Kind::Queues) {
                if let Some(Value::Object(arguments)) = queue.get_mut("arguments")
                    && arguments.get("x-queue-version").is_some_and(|version| *version == 1)
                {
                    arguments.remove("x-queue-version");
                    converted += 1;
                }
            }
            if converted > 0 {
                self.warnings.push(format!(
                    "{} `x-queue-version: 1`, which 4.3 rejects; the argument is left out",
                    counted(converted, "queue has", "queues have")
                ));
            }
        }
    }

    /// Writes fields as the target's release reads them.
    fn adapt_fields(&mut self, target: &Target) {
        if target.is_at_least((4, 0)) {
            // It adds the argument to every queue, with the virtual host's default instead of the queue's own type.
            for (_, queue) in self.definitions.of_kind_mut(Kind::Queues) {
                let Some(own) = queue.get("type").and_then(Value::as_str).map(str::to_owned) else {
                    continue;
                };
                let mut arguments = match queue.remove("arguments") {
                    Some(Value::Object(arguments)) => arguments,
                    _ => Map::new(),
                };
                arguments.entry("x-queue-type").or_insert_with(|| own.into());
                queue.insert("arguments".into(), arguments.into());
            }
        }
        if target.release().is_some_and(|release| release < (3, 9)) {
            for (_, user) in self.definitions.of_kind_mut(Kind::Users) {
                if let Some(Value::Array(tags)) = user.get("tags") {
                    let tags: Vec<_> = tags.iter().filter_map(Value::as_str).collect();
                    user.insert("tags".into(), tags.join(",").into());
                }
            }
        }
    }

    /// An import resets the description, the tags and the default queue type of an existing virtual host that the document contains
    /// without them.
    fn keep_metadata(&mut self, live: &Definitions) {
        for (identity, vhost) in self.definitions.of_kind_mut(Kind::Vhosts) {
            if let Some((_, known)) =
                live.of_kind(Kind::Vhosts).find(|(found, _)| *found == identity)
            {
                add_metadata(vhost, known);
            }
        }
    }

    fn leave_out_dangling_bindings(&mut self, live: &Definitions, in_place: bool) {
        // Only a server with `log.exchange` has this exchange, in one virtual host.
        let log = |binding: &Map<String, Value>| text(binding, "source") == "amq.rabbitmq.log";
        let has_log = |vhost: Option<&str>| {
            in_place
                && live.of_kind(Kind::Exchanges).any(|(identity, _)| {
                    identity.vhost() == vhost && identity.name() == "amq.rabbitmq.log"
                })
        };
        let of_log: BTreeSet<_> = self
            .definitions
            .of_kind(Kind::Bindings)
            .filter(|(identity, binding)| log(binding) && !has_log(identity.vhost()))
            .map(|(identity, _)| identity.clone())
            .collect();
        if !of_log.is_empty() {
            let names: Vec<_> = of_log.iter().map(Identity::to_string).collect();
            self.warnings.push(format!(
                "{} of the server's own exchange amq.rabbitmq.log left out, because the target has none: {}",
                counted(names.len(), "binding is", "bindings are"),
                listed(&names)
            ));
        }
        let kept = self.definitions.filtered(|identity| !of_log.contains(identity));
        // New virtual hosts contain nothing yet.
        let nothing = Definitions::default();
        let (kept, dangling) =
            kept.without_dangling_bindings(if in_place { live } else { &nothing });
        self.not_restored.extend(dangling.into_iter().map(|identity| {
            Uncompared::new(
                identity.to_string(),
                "its exchange or queue does not exist, such as the queue of a closed connection",
            )
        }));
        self.definitions = kept;
    }
}

/// Everything that needs a plugin, by the plugin that the target lacks.
fn refuse_missing_plugins(definitions: &Definitions, target: &Target) -> Result<(), SourceError> {
    let mut missing = BTreeMap::<String, Vec<String>>::new();
    let mut need = |plugins: &[&str], identity: &Identity| {
        if !target.may_have(plugins) {
            missing
                .entry(format!("the plugin {}", plugins[0]))
                .or_default()
                .push(identity.to_string());
        }
    };
    for (identity, item) in definitions.iter() {
        if identity.kind() == Kind::Parameters {
            for (component, plugins) in COMPONENTS {
                if text(item, "component") == component {
                    need(plugins, identity);
                }
            }
        }
        for key in settings(identity, item).into_iter().flat_map(Map::keys) {
            for (prefix, plugins) in SETTINGS {
                if key.starts_with(prefix) {
                    need(plugins, identity);
                }
            }
        }
    }
    for (identity, exchange) in definitions.of_kind(Kind::Exchanges) {
        let exchange_type = text(exchange, "type");
        if !target.may_have_type(exchange_type) && !identity.name().starts_with("amq.") {
            let plugin = EXCHANGE_TYPES.iter().find(|(name, _)| *name == exchange_type);
            let needed = plugin.map_or_else(
                || format!("a plugin with the exchange type {exchange_type}"),
                |(_, plugin)| format!("the plugin {plugin}"),
            );
            missing.entry(needed).or_default().push(identity.to_string());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let needs: Vec<_> =
        missing.iter().map(|(needed, users)| format!("{needed} (for {})", listed(users))).collect();
    Err(SourceError::Refused(format!(
        "{} lacks {}; an import would stop there with only a part imported: enable it with `rabbitmq-plugins enable`",
        target.address,
        needs.join(" and ")
    )))
}

/// The settings of a policy or of an operator policy.
fn settings<'a>(
    identity: &Identity,
    item: &'a Map<String, Value>,
) -> Option<&'a Map<String, Value>> {
    match identity.kind() {
        Kind::Policies => item.get("definition")?.as_object(),
        Kind::Parameters if text(item, "component") == "operator_policy" => {
            item.get("value")?.get("definition")?.as_object()
        }
        _ => None,
    }
}

fn settings_mut<'a>(
    kind: Kind,
    identity: &Identity,
    item: &'a mut Map<String, Value>,
) -> Option<&'a mut Map<String, Value>> {
    settings(identity, item)?;
    let holder =
        if kind == Kind::Policies { Some(item) } else { item.get_mut("value")?.as_object_mut() };
    holder?.get_mut("definition")?.as_object_mut()
}

fn text<'a>(item: &'a Map<String, Value>, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
