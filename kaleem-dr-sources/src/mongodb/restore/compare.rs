//! Compares a restored collection with the captured one: count and content of its documents,
//! options, indexes.

use std::{collections::BTreeMap, sync::Arc};

use bson::{Bson, Document};
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{
        SourceError,
        digest::{ByteDigest, MultisetDigest},
    },
    recovery::source::Difference,
};

use crate::mongodb::{
    dump::{CollectionReader, DataPlace, Read, metadata},
    server::{
        Connection,
        listing::{CollectionKind, CollectionSpec},
    },
};

/// Count and digests of a collection's documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) items: u64,
    pub(crate) digest: String,
    /// The digest of the documents in any order, to which a replay applies its changes.
    pub(crate) multiset: MultisetDigest,
    /// SHA-256 over the documents in the order read; for collections whose order counts.
    pub(crate) in_order: Option<String>,
}

/// Reads a collection from the primary and digests its documents. `advance` receives the number of
/// bytes read.
pub(crate) async fn read_back(
    connection: &Arc<Connection>,
    spec: &CollectionSpec,
    place: &DataPlace,
    advance: impl Fn(u64),
) -> Result<Content, SourceError> {
    let mut reader = CollectionReader::open(Read::now(connection, spec, place), None).await?;
    let mut digest = MultisetDigest::default();
    let mut in_order = spec.is_capped().then(ByteDigest::default);
    let mut batch = reader.next().await?;
    while let Some(current) = batch {
        let mut bytes = 0;
        let odd = |why| connection.odd_answer(&format!("read {}", spec.namespace()), why);
        for document in current.documents().map_err(odd)? {
            let document = document.map_err(odd)?;
            digest.add(document);
            bytes += document.len() as u64;
            if let Some(in_order) = &mut in_order {
                in_order.update(document);
            }
        }
        advance(bytes);
        drop(current);
        batch = reader.next().await?;
    }
    Ok(Content {
        items: digest.items(),
        digest: digest.to_hex(),
        multiset: digest,
        in_order: in_order.map(ByteDigest::finish),
    })
}

/// Compares what was read back with the manifest. `label` names the collection.
pub(crate) fn documents(
    label: &str,
    expected: &ArtifactRecord,
    found: &Content,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, expected: String, found: String| {
        if expected != found {
            differences.push(Difference::new(format!("{label}: {what}"), expected, found));
        }
    };
    differ(
        "documents",
        expected.items.map_or_else(|| "not counted".to_owned(), |items| items.to_string()),
        found.items.to_string(),
    );
    differ(
        "content digest",
        expected.content_digest.clone().unwrap_or_else(|| "none".to_owned()),
        found.digest.clone(),
    );
    if let Some(in_order) = &found.in_order {
        differ("content in order", expected.sha256.clone(), in_order.clone());
    }
    differences
}

/// Compares what was read back with what should be in a collection by now.
pub(crate) fn changed(label: &str, expected: &MultisetDigest, found: &Content) -> Vec<Difference> {
    let what = |what: &str| format!("{label}: {what}");
    [
        ("documents", expected.items().to_string(), found.items.to_string()),
        ("content digest", expected.to_hex(), found.digest.clone()),
    ]
    .into_iter()
    .filter(|(_, expected, found)| expected != found)
    .map(|(name, expected, found)| Difference::new(what(name), expected, found))
    .collect()
}

/// Compares options (of a view: its definition) with those of the capture.
pub(crate) fn options(
    label: &str,
    expected: &CollectionSpec,
    found: &CollectionSpec,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    if expected.kind != found.kind {
        differences.push(Difference::new(
            format!("{label}: type"),
            expected.kind.as_str().to_owned(),
            found.kind.as_str().to_owned(),
        ));
    }
    let what = if expected.kind == CollectionKind::View { "definition" } else { "options" };
    let (expected, found) = (normal(&expected.options), normal(&found.options));
    if expected != found {
        differences.push(Difference::new(format!("{label}: {what}"), expected, found));
    }
    differences
}

/// Compares indexes with those of the capture, by name.
pub(crate) fn indexes(label: &str, expected: &[Document], found: &[Document]) -> Vec<Difference> {
    let by_name = |indexes: &[Document]| -> BTreeMap<String, String> {
        indexes
            .iter()
            .map(|index| (index.get_str("name").unwrap_or_default().to_owned(), normal(index)))
            .collect()
    };
    let (expected, found) = (by_name(expected), by_name(found));
    let mut names: Vec<&String> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let text = |index: Option<&String>| index.cloned().unwrap_or_else(|| NO_INDEX.to_owned());
    names
        .into_iter()
        .filter(|name| expected.get(*name) != found.get(*name))
        .map(|name| {
            Difference::new(
                format!("{label}: index {name}"),
                text(expected.get(name)),
                text(found.get(name)),
            )
        })
        .collect()
}

const NO_INDEX: &str = "no such index";

/// Reports whether a difference means that something is missing, rather than changed.
pub(crate) fn is_lack(difference: &Difference) -> bool {
    difference.found == NO_INDEX || difference.what.ends_with(": type")
}

/// Settings that the server chooses, or an upgrade changes, and that do not affect content.
const NOT_COMPARED: [&str; 6] =
    ["v", "ns", "background", "uuid", "recordIdsReplicated", "autoIndexId"];

/// Reports whether this is the simple collation, which is equivalent to none. Some servers list it
/// where others omit it.
fn is_simple(key: &str, value: &Bson) -> bool {
    key == "collation"
        && value.as_document().is_some_and(|collation| {
            collation.get_str("locale").is_ok_and(|locale| locale == "simple")
        })
}

/// Normalises a specification to text, so that equivalent ones are equal: its own keys sorted,
/// nested ones (the key of an index, a pipeline) in their original order, numbers by value.
fn normal(specification: &Document) -> String {
    let mut sorted: Vec<(&String, &Bson)> = specification
        .iter()
        .filter(|(key, value)| !NOT_COMPARED.contains(&key.as_str()) && !is_simple(key, value))
        .collect();
    sorted.sort_by_key(|(key, _)| *key);
    let normal: Document = sorted
        .into_iter()
        .map(|(key, value)| match value {
            // The version of the collation library belongs to the server, not to the collection.
            Bson::Document(collation) if key == "collation" => {
                let mut sorted: Vec<(String, Bson)> = collation
                    .iter()
                    .filter(|(key, _)| *key != "version")
                    .map(|(key, value)| (key.clone(), number(value)))
                    .collect();
                sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
                (key.clone(), Bson::Document(sorted.into_iter().collect()))
            }
            // The server fills in its own defaults here too, such as `v`.
            Bson::Document(clustered) if key == "clusteredIndex" => (
                key.clone(),
                Bson::Document(
                    clustered
                        .iter()
                        .filter(|(key, _)| *key != "v")
                        .map(|(k, v)| (k.clone(), number(v)))
                        .collect(),
                ),
            ),
            value => (key.clone(), number(value)),
        })
        .collect();
    metadata::canonical(&normal)
}

/// Maps numbers of different types with the same value to the same result.
fn number(value: &Bson) -> Bson {
    match value {
        Bson::Int32(number) => Bson::Int64(i64::from(*number)),
        #[allow(clippy::cast_possible_truncation)]
        // An integer within the range that a double represents exactly.
        Bson::Double(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            Bson::Int64(*number as i64)
        }
        Bson::Document(document) => Bson::Document(
            document.iter().map(|(key, value)| (key.clone(), number(value))).collect(),
        ),
        Bson::Array(values) => Bson::Array(values.iter().map(number).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_servers_own_touches_are_no_difference_but_the_order_of_keys_in_an_index_is() {
        let dumped = [
            doc! { "v": 1, "key": { "a": 1.0, "b": -1 }, "name": "ab", "ns": "old.c", "background": true },
            doc! { "v": 2, "key": { "t": 1 }, "name": "ttl", "expireAfterSeconds": 5_i64 },
        ];
        let listed = [
            doc! { "v": 2, "name": "ttl", "expireAfterSeconds": 5, "key": { "t": 1 }, "collation": { "locale": "simple" } },
            doc! { "v": 2, "key": { "a": 1, "b": -1 }, "name": "ab" },
        ];
        assert_eq!(indexes("c", &dumped, &listed), []);
        let swapped =
            [doc! { "v": 2, "key": { "b": -1, "a": 1 }, "name": "ab" }, listed[0].clone()];
        assert_eq!(indexes("c", &dumped, &swapped)[0].what, "c: index ab");
        assert_eq!(indexes("c", &dumped, &listed[..1])[0].found, "no such index");
        assert_eq!(indexes("c", &dumped[..1], &listed)[0].expected, "no such index");
    }

    #[test]
    fn options_are_compared_by_value() {
        let spec = |options| CollectionSpec {
            database: "d".into(),
            name: "c".into(),
            kind: CollectionKind::Collection,
            options,
            indexes: vec![],
            uuid: None,
        };
        let dumped = spec(
            doc! { "capped": true, "size": 4096, "collation": { "locale": "fr", "strength": 2, "version": "57.1" } },
        );
        let same = spec(
            doc! { "size": 4096.0, "collation": { "strength": 2_i64, "locale": "fr", "version": "60" }, "capped": true },
        );
        let other = spec(
            doc! { "capped": true, "size": 8192, "collation": { "locale": "fr", "strength": 2 } },
        );
        assert_eq!(options("c", &dumped, &same), []);
        assert_eq!(options("c", &dumped, &other)[0].what, "c: options");
    }

    #[test]
    fn documents_are_compared_by_count_content_and_where_it_counts_order() {
        let expected = ArtifactRecord::new("/mongo/d/c.bson", 10, "aa").with_content(2, "cc");
        let found = Content {
            items: 2,
            digest: "cc".into(),
            multiset: MultisetDigest::default(),
            in_order: None,
        };
        assert_eq!(documents("c", &expected, &found), []);
        assert_eq!(
            documents("c", &expected, &Content { items: 1, ..found.clone() })[0].what,
            "c: documents"
        );
        assert_eq!(
            documents("c", &expected, &Content { digest: "dd".into(), ..found.clone() })[0].what,
            "c: content digest"
        );
        assert_eq!(
            documents("c", &expected, &Content { in_order: Some("bb".into()), ..found })[0].what,
            "c: content in order"
        );
    }
}
