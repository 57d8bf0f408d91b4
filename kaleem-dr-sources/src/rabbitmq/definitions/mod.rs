//! RabbitMQ's definitions in a canonical form, and how one set of them stands to another.
//!
//! The server writes its definitions in no lasting order and with its own version among them. Here every definition has an
//! identity and an order, so that an unchanged topology gives identical bytes: it costs nothing in the repository, and
//! `diff` shows what changed, one definition a line. What is written here imports as it is, with `rabbitmqctl
//! import_definitions` too.

mod identity;
mod kind;
mod standing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

pub use self::{
    identity::Identity,
    kind::Kind,
    standing::{FieldDifference, Standing},
};

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
