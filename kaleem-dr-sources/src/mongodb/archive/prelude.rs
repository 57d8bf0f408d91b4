//! The name spaces of an archive: which there are, what each is, and which blocks belong to it.

use std::collections::HashMap;

use bson::{Bson, Document, doc};

use super::format::{Entry, Header};
use crate::mongodb::{
    dump::metadata,
    server::listing::{BUCKETS, CollectionKind, CollectionSpec},
};

/// The entry of the oplog, which belongs to no database.
pub(super) const OPLOG: &str = "oplog";
/// How mongodump calls a database's users, its roles, and the version of their form.
pub(super) const ACCOUNTS: [&str; 3] =
    ["$admin.system.users", "$admin.system.roles", "$admin.system.version"];

/// How a dump of a whole server calls them: the collections of `admin`, with metadata of their own. They are never written like
/// collections.
pub(super) const SERVER_ACCOUNTS: [&str; 3] = ["system.users", "system.roles", "system.version"];

/// All that comes before the documents.
#[derive(Clone, Debug)]
pub(super) struct Prelude {
    pub(super) header: Header,
    pub(super) namespaces: Vec<Namespace>,
}

/// One name space.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) database: String,
    pub(super) collection: String,
    /// What makes it a collection, view or time series; none for the oplog and for users and roles.
    pub(super) described: Option<Described>,
}

/// A collection and the text it is described by.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) spec: CollectionSpec,
    /// As mongodump 100 writes it: with the name and the type in it.
    pub(super) json: String,
}

impl Namespace {
    /// What an entry of the prelude says.
    ///
    /// # Errors
    /// A sentence.
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
            return Err(format!("{collection} belongs to no database, and only the oplog may"));
        }
        let described = describe(&database, &collection, &metadata, &kind)?;
        Ok(Self { database, collection, described: Some(described) })
    }

    /// Its name, as an operator knows it.
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

/// Reads a collection's metadata. Such a text as older releases leave out or write without name and type is completed.
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
        // Old tools say nothing at all; every collection has this one.
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        document.insert("indexes", vec![id]);
    }
    // Before 100.5 mongodump wrote no type: what a view or a time series is, its options say.
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
        return Err(odd(format!("it is that of `{}`", spec.name)));
    }
    if !kind.is_empty() && kind != spec.kind.as_str() {
        return Err(odd(format!("its type is {} there and {kind} here", spec.kind.as_str())));
    }
    Ok(Described { spec, json })
}

/// Finds the name space a block belongs to.
#[derive(Debug, Default)]
pub(super) struct Blocks(HashMap<(String, String), usize>);

impl Blocks {
    /// # Errors
    /// A sentence, when two entries have one name.
    pub(super) fn add(&mut self, at: usize, namespace: &Namespace) -> Result<(), String> {
        let mut names = vec![namespace.collection.clone()];
        if namespace.kind() == Some(CollectionKind::TimeSeries) {
            // Servers before 8.3 keep, and have dumped, its data under this name.
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
