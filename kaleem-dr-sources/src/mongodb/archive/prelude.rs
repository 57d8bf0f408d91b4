//! The namespaces of an archive, and the lookup from a block to its namespace.

use std::collections::HashMap;

use bson::{Bson, Document, doc};

use super::format::{Entry, Header};
use crate::mongodb::{
    dump::metadata,
    server::listing::{BUCKETS, CollectionKind, CollectionSpec},
};

/// The entry of the oplog, which belongs to no database.
pub(super) const OPLOG: &str = "oplog";
/// mongodump's names for a database's users, its roles, and their schema version.
pub(super) const ACCOUNTS: [&str; 3] =
    ["$admin.system.users", "$admin.system.roles", "$admin.system.version"];

/// The names of the same three in a dump of a whole server: the collections of `admin`, with metadata of their own. They are
/// never written as collections.
pub(super) const SERVER_ACCOUNTS: [&str; 3] = ["system.users", "system.roles", "system.version"];

/// All that comes before the documents.
#[derive(Clone, Debug)]
pub(super) struct Prelude {
    pub(super) header: Header,
    pub(super) namespaces: Vec<Namespace>,
}

#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) database: String,
    pub(super) collection: String,
    /// The description of a collection, view or time series; `None` for the oplog and for users and
    /// roles.
    pub(super) described: Option<Described>,
}

/// A collection and its metadata text.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) spec: CollectionSpec,
    /// In the form that mongodump 100 writes: with the name and the type.
    pub(super) json: String,
}

impl Namespace {
    /// Converts an entry of the prelude.
    ///
    /// # Errors
    /// The reason why the entry is invalid.
    pub(super) fn of_entry(entry: Entry) -> Result<Self, String> {
        let Entry { database, collection, metadata, kind } = entry;
        let special = if database.is_empty() {
            collection == OPLOG
        } else {
            ACCOUNTS.contains(&collection.as_str())
        };
        let of_server = database == "admin" && SERVER_ACCOUNTS.contains(&collection.as_str());
        if of_server || (special && metadata.is_empty()) {
            return Ok(Self { database, collection, described: None });
        }
        if database.is_empty() {
            return Err(format!("{collection} belongs to no database, which only the oplog may"));
        }
        let described = describe(&database, &collection, &metadata, &kind)?;
        Ok(Self { database, collection, described: Some(described) })
    }

    /// The name shown to the operator.
    pub(super) fn name(&self) -> String {
        if self.database.is_empty() {
            self.collection.clone()
        } else {
            format!("{}.{}", self.database, self.collection)
        }
    }

    pub(super) fn kind(&self) -> Option<CollectionKind> {
        self.described.as_ref().map(|described| described.spec.kind)
    }
}

/// Parses a collection's metadata. Older releases omit the text, or write it without name and type:
/// these are filled in.
fn describe(database: &str, collection: &str, json: &str, kind: &str) -> Result<Described, String> {
    let name = format!("{database}.{collection}");
    let odd = |why: String| format!("the metadata of {name}: {why}");
    let mut document: Document = match json {
        "" => Document::new(),
        json => serde_json::from_str(json)
            .map_err(|error| odd(format!("it is not extended JSON: {error}")))?,
    };
    let complete = document.contains_key("collectionName") && document.contains_key("type");
    document.entry("indexes".to_owned()).or_insert_with(|| Bson::Array(Vec::new()));
    document.entry("collectionName".to_owned()).or_insert_with(|| collection.into());
    if document.get_array("indexes").is_ok_and(Vec::is_empty) && json.is_empty() {
        // Old tools omit the indexes altogether; every collection has this one.
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        document.insert("indexes", vec![id]);
    }
    // Before 100.5, mongodump wrote no type: the options identify views and time series.
    let has_option = |name: &str| {
        document.get_document("options").is_ok_and(|options| options.contains_key(name))
    };
    let kind_of_options = if has_option("viewOn") {
        "view"
    } else if has_option("timeseries") {
        "timeseries"
    } else {
        "collection"
    };
    document
        .entry("type".to_owned())
        .or_insert_with(|| if kind.is_empty() { kind_of_options.into() } else { kind.into() });
    let json = if complete { json.to_owned() } else { metadata::canonical(&document) };
    let spec = metadata::from_json(database, &json).map_err(odd)?;
    if spec.name != collection {
        return Err(odd(format!("it belongs to `{}`", spec.name)));
    }
    if !kind.is_empty() && kind != spec.kind.as_str() {
        return Err(odd(format!(
            "its type is {} in the metadata, but {kind} in the archive",
            spec.kind.as_str()
        )));
    }
    Ok(Described { spec, json })
}

/// Finds the namespace of a block.
#[derive(Debug, Default)]
pub(super) struct Blocks(HashMap<(String, String), usize>);

impl Blocks {
    /// # Errors
    /// The reason, if two entries have the same name.
    pub(super) fn add(&mut self, at: usize, namespace: &Namespace) -> Result<(), String> {
        let mut names = vec![namespace.collection.clone()];
        if namespace.kind() == Some(CollectionKind::TimeSeries) {
            // Servers before 8.3 store, and dump, its data under this name.
            names.push(format!("{BUCKETS}{}", namespace.collection));
        }
        for name in names {
            if self.0.insert((namespace.database.clone(), name), at).is_some() {
                return Err(format!("{} is listed twice", namespace.name()));
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, database: String, collection: String) -> Option<usize> {
        self.0.get(&(database, collection)).copied()
    }
}
