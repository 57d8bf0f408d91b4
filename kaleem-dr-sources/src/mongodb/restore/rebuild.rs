//! The commands that recreate a collection, a view and their indexes from the dump, with
//! mongorestore's corrections for specifications that a server lists but does not accept.

use bson::{Bson, Document, doc};

use crate::mongodb::server::{
    index::{is_clustered, is_id},
    listing::{CollectionKind, CollectionSpec},
};

/// Options that `listCollections` returns but `create` refuses, in this or in newer servers.
const NOT_FOR_CREATE: [&str; 3] = ["recordIdsReplicated", "autoIndexId", "uuid"];

/// The `create` command: the options of the dump, and for a collection its original index on `_id`.
pub(crate) fn create_command(spec: &CollectionSpec, concern: &Document) -> Document {
    let mut command = doc! { "create": &spec.name };
    for (key, value) in &spec.options {
        if !NOT_FOR_CREATE.contains(&key.as_str()) {
            command.insert(key, value.clone());
        }
    }
    let clustered = spec.options.contains_key("clusteredIndex");
    if spec.kind == CollectionKind::Collection
        && !clustered
        && let Some(id) = spec.indexes.iter().find(|index| is_id(index))
    {
        let mut id = id.clone();
        id.remove("ns");
        command.insert("idIndex", id);
    }
    command.insert("writeConcern", concern);
    command
}

/// The `createIndexes` command of a collection; `None` if `create` makes all of its indexes.
pub(crate) fn indexes_command(spec: &CollectionSpec, concern: &Document) -> Option<Document> {
    let indexes: Vec<Bson> = index_specifications(spec).into_iter().map(Bson::Document).collect();
    (!indexes.is_empty()).then(|| create_indexes(spec, indexes, concern))
}

/// The command that creates these indexes of a collection.
pub(crate) fn create_indexes(
    spec: &CollectionSpec,
    indexes: Vec<Bson>,
    concern: &Document,
) -> Document {
    doc! {
        "createIndexes": &spec.name,
        "indexes": indexes,
        // Unknown options of an older server are dropped instead of failing; the comparison
        // afterwards reports them.
        "ignoreUnknownIndexOptions": true,
        "writeConcern": concern,
    }
}

/// The indexes that `create` does not make, in the form for `createIndexes`.
pub(crate) fn index_specifications(spec: &CollectionSpec) -> Vec<Document> {
    // An index created without a collation inherits the collection's; one without a collation in
    // the dump had none.
    let collated = spec
        .options
        .get_document("collation")
        .is_ok_and(|collation| collation.get_str("locale").is_ok_and(|locale| locale != "simple"));
    spec.indexes
        .iter()
        .filter(|index| !is_id(index) && !is_clustered(index))
        .map(|index| {
            let mut index = index.clone();
            index.remove("v");
            index.remove("ns");
            if collated && !index.contains_key("collation") {
                index.insert("collation", doc! { "locale": "simple" });
            }
            if is_2dsphere(&index) && !index.contains_key("2dsphereIndexVersion") {
                index.insert("2dsphereIndexVersion", 1);
            }
            index
        })
        .collect()
}

fn is_2dsphere(index: &Document) -> bool {
    index
        .get_document("key")
        .is_ok_and(|key| key.values().any(|value| value.as_str() == Some("2dsphere")))
}

/// Reports whether documents of this collection expire.
pub(crate) fn expires(spec: &CollectionSpec) -> bool {
    spec.options.contains_key("expireAfterSeconds")
        || spec.indexes.iter().any(|index| index.contains_key("expireAfterSeconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: Document, indexes: Vec<Document>) -> CollectionSpec {
        CollectionSpec {
            database: "d".into(),
            name: "c".into(),
            kind: CollectionKind::Collection,
            options,
            indexes,
            uuid: None,
        }
    }

    fn majority() -> Document {
        doc! { "w": "majority" }
    }

    #[test]
    fn a_collection_is_made_with_its_options_and_its_id_index() {
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_", "ns": "d.c" };
        let capped = spec(
            doc! { "capped": true, "size": 4096, "autoIndexId": false, "recordIdsReplicated": true },
            vec![id],
        );
        assert_eq!(
            create_command(&capped, &majority()),
            doc! {
                "create": "c", "capped": true, "size": 4096, "idIndex": { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
                "writeConcern": { "w": "majority" },
            }
        );
        assert_eq!(indexes_command(&capped, &majority()), None);
    }

    #[test]
    fn a_clustered_collection_gets_no_second_id_index() {
        let index =
            doc! { "v": 2, "key": { "_id": 1 }, "name": "cl", "unique": true, "clustered": true };
        let clustered = spec(
            doc! { "clusteredIndex": { "v": 2, "key": { "_id": 1 }, "name": "cl", "unique": true } },
            vec![index],
        );
        assert!(!create_command(&clustered, &majority()).contains_key("idIndex"));
        assert_eq!(indexes_command(&clustered, &majority()), None);
    }

    #[test]
    fn indexes_are_cured_as_mongorestore_cures_them() {
        let indexes = vec![
            doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
            doc! { "v": 2, "key": { "w": 1 }, "name": "w_simple", "ns": "d.c" },
            doc! { "v": 2, "key": { "x": 1 }, "name": "x_fr", "collation": { "locale": "fr" } },
            doc! { "v": 2, "key": { "geo": "2dsphere" }, "name": "geo" },
            doc! { "v": 2, "key": { "_id": "hashed" }, "name": "_id_hashed" },
        ];
        let command =
            indexes_command(&spec(doc! { "collation": { "locale": "fr" } }, indexes), &majority())
                .unwrap();
        let simple = doc! { "locale": "simple" };
        assert_eq!(
            command.get_array("indexes").unwrap(),
            &vec![
                Bson::Document(
                    doc! { "key": { "w": 1 }, "name": "w_simple", "collation": &simple }
                ),
                Bson::Document(
                    doc! { "key": { "x": 1 }, "name": "x_fr", "collation": { "locale": "fr" } }
                ),
                Bson::Document(
                    doc! { "key": { "geo": "2dsphere" }, "name": "geo", "collation": &simple, "2dsphereIndexVersion": 1 }
                ),
                Bson::Document(
                    doc! { "key": { "_id": "hashed" }, "name": "_id_hashed", "collation": &simple }
                ),
            ]
        );
        assert!(command.get_bool("ignoreUnknownIndexOptions").unwrap());
    }
}
