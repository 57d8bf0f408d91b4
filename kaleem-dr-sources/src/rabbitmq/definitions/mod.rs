//! RabbitMQ's definitions in a canonical form, and comparisons between two sets of them.
//!
//! The server writes its definitions in an unstable order and includes its own version. Here every
//! definition has an identity and a place, so that an unchanged topology gives identical bytes: it
//! costs nothing in the repository, and `diff` shows changes, one definition a line. The result can
//! be imported unchanged, with `rabbitmqctl import_definitions` too.

mod identity;
mod kind;
mod normal;
mod password;
mod references;
mod standing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

pub use self::{
    identity::Identity,
    kind::Kind,
    references::Dangling,
    standing::{FieldDifference, Standing},
};

/// Fields about the writer of the document rather than the topology. RabbitMQ imports a document
/// without them.
const VOLATILE: [&str; 6] = [
    "explanation",
    "original_cluster_name",
    "product_name",
    "product_version",
    "rabbit_version",
    "rabbitmq_version",
];

/// The format name in the document of a single virtual host.
const ONE_VHOST: &str = "single_virtual_host";

/// Some editors, and PowerShell's redirections, write it at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The definitions of a cluster. Equal topologies are equal values with equal bytes.
#[derive(Clone, Default, PartialEq)]
pub struct Definitions {
    items: BTreeMap<Identity, Map<String, Value>>,
    /// Keys unknown to this release; kept, so that a restore loses nothing that a newer server
    /// exports.
    rest: BTreeMap<String, Value>,
}

/// Shows counts only: definitions contain hashes and URIs with passwords.
impl fmt::Debug for Definitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counts()).finish()
    }
}

impl Definitions {
    /// Parses the definitions of a cluster, in any order; those of a single virtual host become
    /// those of a cluster that has only this one. A byte order mark is ignored.
    ///
    /// # Errors
    /// If this is not such a document: not JSON, without virtual hosts, from an unnamed virtual
    /// host, or with a definition that lacks its name or occurs twice.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidDefinitions> {
        let document = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
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
        if identity.is_internal() {
            return Ok(());
        }
        match self.items.insert(identity.clone(), item) {
            None => Ok(()),
            Some(_) => Err(InvalidDefinitions::Twice(identity)),
        }
    }

    /// Writes the canonical document: sorted keys, definitions sorted by identity and one a line,
    /// with a final line break.
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

    /// Number of definitions.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Reports whether there are no definitions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of definitions by key of the kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        Kind::ALL.into_iter().map(|kind| (kind.key(), self.of_kind(kind).count() as u64)).collect()
    }

    /// Reports whether there is a virtual host with this name.
    #[must_use]
    pub fn has_vhost(&self, name: &str) -> bool {
        self.vhosts().any(|vhost| vhost == name)
    }

    /// The names of the virtual hosts.
    pub fn vhosts(&self) -> impl Iterator<Item = &str> {
        self.of_kind(Kind::Vhosts).filter_map(|(identity, _)| identity.vhost())
    }

    /// The virtual hosts that contain more than permissions, once for each definition.
    pub fn topology_vhosts(&self) -> impl Iterator<Item = &str> {
        self.items.keys().filter(|identity| identity.kind.is_topology()).filter_map(Identity::vhost)
    }

    /// The definitions that satisfy `keep`. Unknown keys stay.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&Identity) -> bool) -> Self {
        let items = self
            .items
            .iter()
            .filter(|(identity, _)| keep(identity))
            .map(|(identity, item)| (identity.clone(), item.clone()));
        Self { items: items.collect(), rest: self.rest.clone() }
    }

    /// Reports whether a parameter belongs to a plugin that moves messages as soon as it is set.
    #[must_use]
    pub fn moves_messages(identity: &Identity) -> bool {
        identity.kind == Kind::Parameters
            && identity.fields.get(1).is_some_and(|component| {
                component == "shovel" || component.starts_with("federation-")
            })
    }

    /// Only these virtual hosts with their content, including permissions; without definitions of
    /// the whole server.
    #[must_use]
    pub fn of_vhosts(&self, wanted: impl Fn(&str) -> bool) -> Self {
        self.filtered(|identity| identity.vhost().is_some_and(&wanted))
    }

    /// Each definition with its fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Identity, &Map<String, Value>)> {
        self.items.iter()
    }

    /// The virtual hosts in `names` and their content under new names, without other virtual hosts
    /// and definitions of the whole server.
    ///
    /// # Errors
    /// If two virtual hosts would get the same name.
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

    /// Compares each of these definitions with a live server's, and adds those that only the server
    /// has.
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

    /// Adds a definition that the server's export left out. Does nothing if there is one with its identity.
    pub(crate) fn complete(
        &mut self,
        kind: Kind,
        item: Map<String, Value>,
    ) -> Result<(), InvalidDefinitions> {
        if let Value::Object(item) = canonical(item.into()) {
            let identity = Identity::of(kind, &item)?;
            self.items.entry(identity).or_insert(item);
        }
        Ok(())
    }

    /// The fields of each definition of a kind, to be changed. Identifying fields must stay.
    pub(crate) fn of_kind_mut(
        &mut self,
        kind: Kind,
    ) -> impl Iterator<Item = (&Identity, &mut Map<String, Value>)> {
        self.items.iter_mut().filter(move |(identity, _)| identity.kind == kind)
    }

    pub(crate) fn of_kind(
        &self,
        kind: Kind,
    ) -> impl Iterator<Item = (&Identity, &Map<String, Value>)> {
        self.items.iter().filter(move |(identity, _)| identity.kind == kind)
    }
}

/// The reason why a document is not one of definitions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDefinitions {
    /// The document is not JSON.
    #[error("the definitions are not JSON")]
    NotJson(#[from] serde_json::Error),
    /// The format is unknown to this release.
    #[error("its `rabbitmq_definition_format` is neither `cluster` nor `{ONE_VHOST}`")]
    UnknownFormat,
    /// It was exported from an unnamed virtual host.
    #[error(
        "these are the definitions of a single virtual host without its name: add \"original_vhost_name\": \"NAME\" to them"
    )]
    NoVhostName,
    /// It has no list of virtual hosts.
    #[error("the document has no list of virtual hosts, so it does not contain definitions")]
    NoVhosts,
    /// The value of a kind is not a list of objects.
    #[error("`{}` is not a list of objects", .0.key())]
    NoList(Kind),
    /// A definition lacks an identifying field.
    #[error("a {} lacks its `{field}`", kind.noun(false))]
    NoIdentity {
        /// The kind of the definition.
        kind: Kind,
        /// Name of the field.
        field: String,
    },
    /// The same definition occurs twice.
    #[error("{0} occurs twice")]
    Twice(Identity),
}

/// Converts the document of a virtual host to that of a cluster: adds the virtual host to each
/// definition.
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
    vhost.extend(
        ["description", "tags", "default_queue_type"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), document.remove(key)?))),
    );
    document.insert("rabbitmq_definition_format".into(), "cluster".into());
    document.insert(Kind::Vhosts.key().into(), vec![Value::Object(vhost)].into());
    Ok(document)
}

/// Sorts the keys of every object. Whether `serde_json` does so depends on features enabled
/// elsewhere in the build.
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
