//! Test data: unusual types, names, options and indexes.

use std::sync::Arc;

use bson::{
    Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc,
    oid::ObjectId, spec::BinarySubtype,
};
use bytes::Bytes;

use super::server::{destination, pieces};
use crate::mongodb::{
    restore::load,
    server::{
        Connection,
        listing::{CollectionKind, CollectionSpec},
    },
};

/// A document with a value of every type that a server stores unchanged.
fn every_type() -> Document {
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    doc! {
        "_id": ObjectId::from_bytes([1; 12]), "double": 1.5, "nan": f64::NAN, "minus_zero": -0.0, "infinite": f64::NEG_INFINITY,
        "text": "نص 東京 😀 \u{0}", "nested": { "a": { "b": [1, [2, { "c": Bson::Null }]] } }, "empty": {}, "none": [],
        "generic": binary(BinarySubtype::Generic, b"\x00\xff"), "uuid": binary(BinarySubtype::Uuid, &[7; 16]),
        "old": binary(BinarySubtype::BinaryOld, b"old"), "md5": binary(BinarySubtype::Md5, &[9; 16]),
        "own": binary(BinarySubtype::UserDefined(0x80), b"own"), "yes": true, "date": DateTime::from_millis(-62_135_596_800_000),
        "regex": Bson::RegularExpression(Regex { pattern: "^a/b".try_into().unwrap(), options: "imx".try_into().unwrap() }),
        "code": Bson::JavaScriptCode("return 1".into()), "symbol": Bson::Symbol("sym".into()), "undefined": Bson::Undefined,
        "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "x": 1 } }),
        "int": i32::MIN, "long": i64::MAX, "stamp": Bson::Timestamp(Timestamp { time: 0, increment: 0 }),
        "decimal": Bson::Decimal128("1E+6144".parse().unwrap()), "min": Bson::MinKey, "max": Bson::MaxKey,
    }
}

async fn create(connection: &Connection, database: &str, command: Document) {
    connection.run(database, command, "create").await.unwrap();
}

pub(super) async fn insert(
    connection: &Connection,
    database: &str,
    collection: &str,
    documents: Vec<Document>,
) {
    for chunk in documents.chunks(1000) {
        connection
            .run(
                database,
                doc! { "insert": collection, "documents": chunk, "bypassEmptyTsReplacement": true },
                "insert",
            )
            .await
            .unwrap();
    }
}

/// Inserts documents as raw bytes.
async fn insert_raw(
    connection: &Arc<Connection>,
    database: &str,
    collection: &str,
    documents: Bytes,
) {
    let spec = CollectionSpec {
        database: database.into(),
        name: collection.into(),
        kind: CollectionKind::Collection,
        options: doc! {},
        indexes: vec![],
        uuid: None,
    };
    load::load(
        connection,
        &destination(connection, &spec).await,
        pieces(&documents, 1 << 20),
        |_| (),
    )
    .await
    .unwrap();
}

/// Fills a database with unusual types, names, options and indexes.
pub(super) async fn seed(connection: &Arc<Connection>, database: &str) {
    let people: Vec<Document> = (0..300)
        .map(|n| {
            let place = doc! { "type": "Point", "coordinates": [ f64::from(n) / 10.0, 1.0 ] };
            doc! { "_id": n, "name": format!("n{n}"), "email": format!("e{n}"), "age": n % 90, "at": DateTime::now(), "place": place }
        })
        .collect();
    insert(connection, database, "people", people).await;
    let indexes = doc! { "createIndexes": "people", "indexes": [
        { "key": { "email": 1 }, "name": "email_u", "unique": true },
        { "key": { "name": 1, "age": -1 }, "name": "compound" },
        { "key": { "age": -1, "name": 1 }, "name": "compound_reversed" },
        { "key": { "tags": 1 }, "name": "sparse", "sparse": true },
        { "key": { "age": 1 }, "name": "partial", "partialFilterExpression": { "age": { "$gte": 18 } } },
        { "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 2_000_000_000 },
        { "key": { "place": "2dsphere" }, "name": "geo" },
        { "key": { "name": 1 }, "name": "german", "collation": { "locale": "de", "strength": 2 } },
    ] };
    create(connection, database, indexes).await;
    insert(
        connection,
        database,
        "types",
        vec![every_type(), doc! { "_id": Bson::MinKey }, doc! { "_id": { "a": 1 }, "": "" }],
    )
    .await;
    // A DBPointer, which is deprecated and which drivers no longer create, but which exists in
    // stored data. And two fields with the same name.
    let mut odd = b"\0\0\0\0\x10_id\0\x07\0\0\0\x0cptr\0\x05\0\0\0d.ns\0".to_vec();
    odd.extend_from_slice(&[3; 12]);
    odd.extend_from_slice(b"\x0aa\0\x0aa\0\0");
    odd[0] = u8::try_from(odd.len()).unwrap();
    insert_raw(connection, database, "types", odd.into()).await;
    create(connection, database, doc! { "create": "empty" }).await;
    create(
        connection,
        database,
        doc! { "create": "log", "capped": true, "size": 1 << 20, "max": 500 },
    )
    .await;
    insert(
        connection,
        database,
        "log",
        (0..50).rev().map(|n| doc! { "_id": n, "line": "x".repeat(50) }).collect(),
    )
    .await;
    create(
        connection,
        database,
        doc! { "create": "collated", "collation": { "locale": "fr", "strength": 2 } },
    )
    .await;
    let indexes = doc! { "createIndexes": "collated", "indexes": [
        { "key": { "v": 1 }, "name": "inherits" },
        { "key": { "w": 1 }, "name": "simple", "collation": { "locale": "simple" } },
    ] };
    create(connection, database, indexes).await;
    insert(connection, database, "strict", vec![doc! { "_id": 1, "n": "not a number" }]).await;
    create(
        connection,
        database,
        doc! { "collMod": "strict", "validator": { "n": { "$type": "int" } } },
    )
    .await;
    create(
        connection,
        database,
        doc! { "create": "adults", "viewOn": "people", "pipeline": [ { "$match": { "age": { "$gte": 18 } } } ] },
    )
    .await;
    for name in [
        "weird näme",
        "a.b.c",
        "perc%25ent",
        "sl/ash",
        "uni_東京_😀",
        "plus+and&eq=",
        &"L".repeat(180),
    ] {
        insert(connection, database, name, vec![doc! { "_id": 1, "of": name }]).await;
    }
    let filler = "f".repeat(16_777_216 - 40);
    insert(
        connection,
        database,
        "large",
        vec![doc! { "_id": 1, "f": filler }, doc! { "_id": 2, "f": "small" }],
    )
    .await;
}
