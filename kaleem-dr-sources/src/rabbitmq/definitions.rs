//! RabbitMQ's definitions in a canonical form, and how one set of them stands to another.
//!
//! The server writes its definitions in no lasting order and with its own version among them. Here every definition has an
//! identity and an order, so that an unchanged topology gives identical bytes: it costs nothing in the repository, and
//! `diff` shows what changed, one definition a line. What is written here imports as it is, with `rabbitmqctl
//! import_definitions` too.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// What the document says of its writer and not of the topology. RabbitMQ imports a document without them.
const VOLATILE: [&str; 6] = [
    "explanation",
    "original_cluster_name",
    "product_name",
    "product_version",
    "rabbit_version",
    "rabbitmq_version",
];

/// What the document of one virtual host says it is.
const ONE_VHOST: &str = "single_virtual_host";

/// The identity of the cluster itself, which another cluster must not take over.
const CLUSTER_ID: &str = "internal_cluster_id";

/// A kind of definitions. The order is that in which RabbitMQ imports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Users, with the hashes of their passwords.
    Users,
    /// Virtual hosts.
    Vhosts,
    /// What a user may do in a virtual host.
    Permissions,
    /// What a user may do with topics.
    TopicPermissions,
    /// Settings of plugins and limits, for the whole cluster.
    GlobalParameters,
    /// Settings of plugins and limits, for a virtual host.
    Parameters,
    /// Policies.
    Policies,
    /// Exchanges.
    Exchanges,
    /// Queues, without their messages.
    Queues,
    /// Bindings of exchanges to queues and exchanges.
    Bindings,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Users,
        Self::Vhosts,
        Self::Permissions,
        Self::TopicPermissions,
        Self::GlobalParameters,
        Self::Parameters,
        Self::Policies,
        Self::Exchanges,
        Self::Queues,
        Self::Bindings,
    ];

    /// Its key in the document.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Vhosts => "vhosts",
            Self::Permissions => "permissions",
            Self::TopicPermissions => "topic_permissions",
            Self::GlobalParameters => "global_parameters",
            Self::Parameters => "parameters",
            Self::Policies => "policies",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::Bindings => "bindings",
        }
    }

    /// One of it in words, or many.
    #[must_use]
    pub fn noun(self, many: bool) -> &'static str {
        match (self, many) {
            (Self::Users, false) => "user",
            (Self::Users, true) => "users",
            (Self::Vhosts, false) => "virtual host",
            (Self::Vhosts, true) => "virtual hosts",
            (Self::Permissions, false) => "permission",
            (Self::Permissions, true) => "permissions",
            (Self::TopicPermissions, false) => "topic permission",
            (Self::TopicPermissions, true) => "topic permissions",
            (Self::GlobalParameters, false) => "global parameter",
            (Self::GlobalParameters, true) => "global parameters",
            (Self::Parameters, false) => "parameter",
            (Self::Parameters, true) => "parameters",
            (Self::Policies, false) => "policy",
            (Self::Policies, true) => "policies",
            (Self::Exchanges, false) => "exchange",
            (Self::Exchanges, true) => "exchanges",
            (Self::Queues, false) => "queue",
            (Self::Queues, true) => "queues",
            (Self::Bindings, false) => "binding",
            (Self::Bindings, true) => "bindings",
        }
    }

    /// Whether it lies in a virtual host and is no matter of users.
    #[must_use]
    pub fn is_topology(self) -> bool {
        matches!(
            self,
            Self::Parameters | Self::Policies | Self::Exchanges | Self::Queues | Self::Bindings
        )
    }

    /// Whether an import leaves one that exists as it is, without a word (rabbitmq-management#627).
    #[must_use]
    pub fn is_immutable(self) -> bool {
        matches!(self, Self::Exchanges | Self::Queues | Self::Bindings)
    }

    /// Whether a field may hold a password's hash, or a URI with a password.
    fn is_secret(self, field: &str) -> bool {
        match self {
            Self::Users => field == "password_hash",
            Self::Parameters | Self::GlobalParameters => field == "value",
            _ => false,
        }
    }

    /// The fields that tell one from another; of a binding its arguments too, see [`Identity`].
    fn identifying(self) -> &'static [&'static str] {
        match self {
            Self::Users | Self::Vhosts | Self::GlobalParameters => &["name"],
            Self::Permissions => &["vhost", "user"],
            Self::TopicPermissions => &["vhost", "user", "exchange"],
            Self::Parameters => &["vhost", "component", "name"],
            Self::Policies | Self::Exchanges | Self::Queues => &["vhost", "name"],
            Self::Bindings => {
                &["vhost", "source", "destination_type", "destination", "routing_key"]
            }
        }
    }
}

/// What tells one definition from the others of its kind: the values of its identifying fields, the virtual host first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    kind: Kind,
    fields: Vec<String>,
}

impl Identity {
    fn of(kind: Kind, item: &Map<String, Value>) -> Result<Self, InvalidDefinitions> {
        let text = |field: &&str| item.get(*field).and_then(Value::as_str).map(str::to_owned);
        let missing =
            |field: &&str| InvalidDefinitions::NoIdentity { kind, field: (*field).to_owned() };
        let mut fields = kind
            .identifying()
            .iter()
            .map(|field| text(field).ok_or_else(|| missing(field)))
            .collect::<Result<Vec<_>, _>>()?;
        if kind == Kind::Bindings {
            // Two bindings may differ in nothing but these.
            fields.push(item.get("arguments").map(Value::to_string).unwrap_or_default());
        }
        Ok(Self { kind, fields })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is the user of that name.
    #[must_use]
    pub fn is_user(&self, name: &str) -> bool {
        self.kind == Kind::Users && self.fields[0] == name
    }

    /// The virtual host it lies in, or is.
    #[must_use]
    pub fn vhost(&self) -> Option<&str> {
        (!matches!(self.kind, Kind::Users | Kind::GlobalParameters))
            .then(|| self.fields[0].as_str())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.kind.noun(false);
        match (self.kind, self.fields.as_slice()) {
            (Kind::Bindings, [vhost, source, _, destination, key, ..]) => {
                write!(f, "{noun} of {source} to {destination} with key `{key}` in {vhost}")
            }
            (Kind::Permissions | Kind::TopicPermissions, [vhost, user, ..]) => {
                write!(f, "{noun} of {user} in {vhost}")
            }
            (Kind::Parameters, [vhost, component, name]) => {
                write!(f, "{noun} {component} {name} in {vhost}")
            }
            (_, [vhost, name]) => write!(f, "{noun} {name} in {vhost}"),
            (_, fields) => write!(f, "{noun} {}", fields.join(" ")),
        }
    }
}

/// Definitions of a cluster. Equal topologies are equal values and give equal bytes.
#[derive(Clone, Default, PartialEq)]
pub struct Definitions {
    items: BTreeMap<Identity, Map<String, Value>>,
    /// What this release does not know; kept, so that a restore loses nothing that a newer server exports.
    rest: BTreeMap<String, Value>,
}

/// Shows counts only: definitions hold hashes and URIs with passwords.
impl fmt::Debug for Definitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counts()).finish()
    }
}

impl Definitions {
    /// Reads the definitions of a cluster, in any order; or of one virtual host, which then become those of a cluster that has
    /// only this one.
    ///
    /// # Errors
    /// When this is no such document: not JSON, without virtual hosts, of a virtual host that it does not name, with a definition
    /// that lacks its name or is there twice.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidDefinitions> {
        let mut document: Map<String, Value> = serde_json::from_slice(document)?;
        if document.get("rabbitmq_definition_format").is_some_and(|format| format == ONE_VHOST) {
            document = of_cluster(document)?;
        } else if document
            .get("rabbitmq_definition_format")
            .is_some_and(|format| format != "cluster")
        {
            return Err(InvalidDefinitions::UnknownFormat);
        }
        if !document.contains_key(Kind::Vhosts.key()) {
            return Err(InvalidDefinitions::NoVhosts);
        }
        let mut definitions = Self::default();
        for kind in Kind::ALL {
            let items = match document.remove(kind.key()) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(items)) => items,
                Some(_) => return Err(InvalidDefinitions::NoList(kind)),
            };
            for item in items {
                let Value::Object(item) = canonical(item) else {
                    return Err(InvalidDefinitions::NoList(kind));
                };
                definitions.insert(kind, item)?;
            }
        }
        for (key, value) in
            document.into_iter().filter(|(key, _)| !VOLATILE.contains(&key.as_str()))
        {
            let mut value = canonical(value);
            if let Value::Array(items) = &mut value {
                items.sort_by_cached_key(Value::to_string);
            }
            definitions.rest.insert(key, value);
        }
        Ok(definitions)
    }

    fn insert(
        &mut self,
        kind: Kind,
        mut item: Map<String, Value>,
    ) -> Result<(), InvalidDefinitions> {
        if kind == Kind::Users
            && let Some(Value::Array(tags)) = item.get_mut("tags")
        {
            tags.sort_by_cached_key(Value::to_string);
        }
        let identity = Identity::of(kind, &item)?;
        if kind == Kind::GlobalParameters && identity.fields[0] == CLUSTER_ID {
            return Ok(());
        }
        match self.items.insert(identity.clone(), item) {
            None => Ok(()),
            Some(_) => Err(InvalidDefinitions::Twice(identity)),
        }
    }

    /// Writes the canonical document: keys in order, definitions by identity and one a line, a line break at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let lists = Kind::ALL.into_iter().map(|kind| {
            let items: Vec<_> = self
                .of_kind(kind)
                .map(|(_, item)| format!("\n{}", Value::Object(item.clone())))
                .collect();
            let end = if items.is_empty() { "" } else { "\n" };
            (kind.key(), format!("[{}{end}]", items.join(",")))
        });
        let rest = self.rest.iter().map(|(key, value)| (key.as_str(), value.to_string()));
        let entries: BTreeMap<_, _> = lists.chain(rest).collect();
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key)))
            .collect();
        format!("{{\n{}\n}}\n", entries.join(",\n")).into_bytes()
    }

    /// How many definitions there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many there are of each kind, by the kind's key.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        Kind::ALL.into_iter().map(|kind| (kind.key(), self.of_kind(kind).count() as u64)).collect()
    }

    /// Whether there is a virtual host of that name.
    #[must_use]
    pub fn has_vhost(&self, name: &str) -> bool {
        self.vhosts().any(|vhost| vhost == name)
    }

    /// The names of the virtual hosts.
    pub fn vhosts(&self) -> impl Iterator<Item = &str> {
        self.of_kind(Kind::Vhosts).filter_map(|(identity, _)| identity.vhost())
    }

    /// The virtual hosts in which there is more than permissions, once for each definition.
    pub fn topology_vhosts(&self) -> impl Iterator<Item = &str> {
        self.items.keys().filter(|identity| identity.kind.is_topology()).filter_map(Identity::vhost)
    }

    /// Those definitions that pass a test. What this release does not know stays.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&Identity) -> bool) -> Self {
        let items = self
            .items
            .iter()
            .filter(|(identity, _)| keep(identity))
            .map(|(identity, item)| (identity.clone(), item.clone()));
        Self { items: items.collect(), rest: self.rest.clone() }
    }

    /// Whether a parameter belongs to a plugin that moves messages as soon as it is set.
    #[must_use]
    pub fn moves_messages(identity: &Identity) -> bool {
        identity.kind == Kind::Parameters
            && identity.fields.get(1).is_some_and(|component| {
                component == "shovel" || component.starts_with("federation-")
            })
    }

    /// Only these virtual hosts with all that lies in them, permissions too; without what belongs to the whole server.
    #[must_use]
    pub fn of_vhosts(&self, wanted: impl Fn(&str) -> bool) -> Self {
        self.filtered(|identity| identity.vhost().is_some_and(&wanted))
    }

    /// Each definition with its fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Identity, &Map<String, Value>)> {
        self.items.iter()
    }

    /// The virtual hosts and what lies in them under other names, without what is not in `names`, and without all that belongs to
    /// the whole server.
    ///
    /// # Errors
    /// When two virtual hosts would fall together.
    pub fn renamed(&self, names: &BTreeMap<String, String>) -> Result<Self, InvalidDefinitions> {
        let mut renamed = Self::default();
        for (identity, item) in &self.items {
            let kind = identity.kind;
            let field = if kind == Kind::Vhosts { "name" } else { "vhost" };
            if kind != Kind::Vhosts && !kind.is_topology() {
                continue;
            }
            if let Some(name) = identity.vhost().and_then(|vhost| names.get(vhost)) {
                let mut item = item.clone();
                item.insert(field.into(), name.as_str().into());
                renamed.insert(kind, item)?;
            }
        }
        Ok(renamed)
    }

    /// How each of these definitions stands to those of a live server, and which the server has besides.
    pub fn against<'a>(&'a self, live: &'a Self) -> impl Iterator<Item = (&'a Identity, Standing)> {
        let wanted = self.items.iter().map(|(identity, wanted)| {
            let standing = match live.items.get(identity) {
                None => Standing::Missing,
                Some(found) => Standing::of(identity.kind, wanted, found),
            };
            (identity, standing)
        });
        let extra = live
            .items
            .keys()
            .filter(|identity| !self.items.contains_key(identity))
            .map(|identity| (identity, Standing::Extra));
        wanted.chain(extra)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Identity, &Map<String, Value>)> {
        self.items.iter().filter(move |(identity, _)| identity.kind == kind)
    }
}

/// How a definition stands to the live server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server lacks it.
    Missing,
    /// The server has it just so.
    Equal,
    /// The server has another of the same identity.
    Different(Vec<FieldDifference>),
    /// Only the server has it.
    Extra,
}

impl Standing {
    /// Fields that only the server has are no difference: a newer release writes more of them.
    fn of(kind: Kind, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Self {
        let shown = |field: &str, value: Option<&Value>, secret: &str| match value {
            None => "none".to_owned(),
            Some(_) if kind.is_secret(field) => format!("{secret} (not shown)"),
            Some(value) => value.to_string(),
        };
        let differences: Vec<_> = wanted
            .iter()
            .filter(|(field, value)| found.get(field.as_str()) != Some(value))
            .map(|(field, value)| FieldDifference {
                field: field.clone(),
                wanted: shown(field, Some(value), "as captured"),
                found: shown(field, found.get(field), "another"),
            })
            .collect();
        if differences.is_empty() { Self::Equal } else { Self::Different(differences) }
    }
}

/// One field of a definition that is not as it should be. Values that may hold secrets are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// The field.
    pub field: String,
    /// Its value in the recovery point.
    pub wanted: String,
    /// Its value on the server.
    pub found: String,
}

/// Why a document is not one of definitions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDefinitions {
    /// It is not JSON.
    #[error("the definitions are not JSON")]
    NotJson(#[from] serde_json::Error),
    /// It is of a format that this release does not know.
    #[error("its `rabbitmq_definition_format` is neither `cluster` nor `{ONE_VHOST}`")]
    UnknownFormat,
    /// It was exported from one virtual host and does not say which.
    #[error(
        "these are the definitions of one virtual host, and it is not said which: add \"original_vhost_name\": \"NAME\" to them"
    )]
    NoVhostName,
    /// It names no virtual hosts.
    #[error("the document holds no list of virtual hosts, so it is not one of definitions")]
    NoVhosts,
    /// A kind is no list of objects.
    #[error("`{}` is not a list of objects", .0.key())]
    NoList(Kind),
    /// A definition lacks a field by which it is known.
    #[error("a {} lacks its `{field}`", kind.noun(false))]
    NoIdentity {
        /// Its kind.
        kind: Kind,
        /// The field.
        field: String,
    },
    /// The same definition is there twice.
    #[error("{0} is there twice")]
    Twice(Identity),
}

/// The document of one virtual host as one of a cluster: each definition says again where it lies.
fn of_cluster(mut document: Map<String, Value>) -> Result<Map<String, Value>, InvalidDefinitions> {
    let Some(Value::String(name)) = document.remove("original_vhost_name") else {
        return Err(InvalidDefinitions::NoVhostName);
    };
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_topology()) {
        for item in document.get_mut(kind.key()).and_then(Value::as_array_mut).into_iter().flatten()
        {
            let Value::Object(item) = item else { return Err(InvalidDefinitions::NoList(kind)) };
            item.insert("vhost".into(), name.as_str().into());
        }
    }
    let mut vhost = Map::from_iter([("name".to_owned(), name.into())]);
    vhost.extend(
        ["metadata", "limits"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), document.remove(key)?))),
    );
    document.remove("description");
    document.remove("default_queue_type");
    document.insert("rabbitmq_definition_format".into(), "cluster".into());
    document.insert(Kind::Vhosts.key().into(), vec![Value::Object(vhost)].into());
    Ok(document)
}

/// Puts the keys of every object in order. Whether `serde_json` keeps them so depends on its features elsewhere in the build.
fn canonical(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(canonical).collect()),
        Value::Object(entries) => {
            let entries: BTreeMap<_, _> =
                entries.into_iter().map(|(key, value)| (key, canonical(value))).collect();
            Value::Object(entries.into_iter().collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
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

    /// The same document with every list and every object of it turned about.
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
        assert_eq!(
            Definitions::parse(reversed(&sample(), true).as_bytes()).unwrap().to_bytes(),
            bytes
        );
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
    fn each_definition_stands_by_its_identity_and_secrets_are_not_shown() {
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
        let renamed =
            parse(&sample()).renamed(&BTreeMap::from([("/".into(), "copy".into())])).unwrap();
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
    fn what_is_no_document_of_definitions_is_told_apart() {
        let error = |text: &str| Definitions::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("<html>"), "the definitions are not JSON");
        assert!(error("{}").contains("no list of virtual hosts"));
        assert!(
            error(r#"{"rabbitmq_definition_format": "single_virtual_host", "vhosts": []}"#)
                .contains("one virtual host")
        );
        assert_eq!(error(r#"{"vhosts": [], "queues": {}}"#), "`queues` is not a list of objects");
        assert_eq!(
            error(r#"{"vhosts": [{"name": "a"}, {"name": "a"}]}"#),
            "virtual host a is there twice"
        );
        assert_eq!(
            error(r#"{"vhosts": [], "queues": [{"vhost": "/"}]}"#),
            "a queue lacks its `name`"
        );
    }
}
