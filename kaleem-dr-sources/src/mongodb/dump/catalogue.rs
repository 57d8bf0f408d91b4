//! The list of collections in the manifest, which allows a restore to be planned without reading
//! artifacts.

use kaleem_dr_core::{
    engine::manifest::{ArtifactRecord, Manifest},
    ground::SourceError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metadata;
use crate::mongodb::server::listing::CollectionSpec;

/// Its key in the manifest's details.
pub(crate) const KEY: &str = "collections";

/// A collection, view or time series of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogued {
    pub(crate) database: String,
    /// Path of its `.metadata.json`.
    pub(crate) metadata: String,
    /// Path of its `.bson`; views have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Its metadata as text: the order of keys is significant in an index, and a JSON object in the
    /// manifest would not preserve it.
    pub(crate) specification: String,
}

/// A collection of a recovery point, ready to be restored.
#[derive(Clone, Debug)]
pub(crate) struct StoredCollection {
    pub(crate) spec: CollectionSpec,
    pub(crate) entry: Catalogued,
    /// Its data in the manifest; `None` for views.
    pub(crate) data: Option<ArtifactRecord>,
}

/// Encodes the list for the manifest.
pub(crate) fn to_value(catalogue: &[Catalogued]) -> Value {
    catalogue.iter().map(|entry| serde_json::to_value(entry).unwrap_or(Value::Null)).collect()
}

/// Decodes the list.
///
/// # Errors
/// If the manifest belongs to another kind of source, or its list does not match its artifacts.
pub(crate) fn read(manifest: &Manifest) -> Result<Vec<StoredCollection>, SourceError> {
    let odd = |why: String| SourceError::Point(why.into());
    let listed = manifest
        .details
        .get(KEY)
        .ok_or_else(|| odd("its manifest lists no collections".to_owned()))?;
    let listed: Vec<Catalogued> = Vec::deserialize(listed)
        .map_err(|error| odd(format!("its list of collections is malformed: {error}")))?;
    listed
        .into_iter()
        .map(|entry| {
            let spec =
                metadata::from_json(&entry.database, &entry.specification).map_err(|why| {
                    odd(format!("the specification of {} is malformed: {why}", entry.metadata))
                })?;
            let record = |path: &String| {
                manifest.artifact(path).cloned().ok_or_else(|| {
                    odd(format!("the collection {} has no artifact {path}", spec.namespace()))
                })
            };
            record(&entry.metadata)?;
            let data = entry.data.as_ref().map(record).transpose()?;
            Ok(StoredCollection { spec, entry, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(artifacts: &[&str], entry: &Catalogued) -> Manifest {
        let artifact = |path: &&str| ArtifactRecord::new((*path).to_owned(), 0, "").with_items(3);
        let mut manifest = Manifest::of_file("", "mongodb", jiff::Timestamp::UNIX_EPOCH);
        manifest.artifacts = artifacts.iter().map(artifact).collect();
        manifest.details = [(KEY.to_owned(), to_value(std::slice::from_ref(entry)))].into();
        manifest
    }

    #[test]
    fn the_order_of_an_indexs_keys_survives_the_manifest() {
        let specification = r#"{"indexes":[{"key":{"z":{"$numberInt":"1"},"a":{"$numberInt":"-1"}},"name":"za"}],"collectionName":"c","type":"collection"}"#;
        let entry = Catalogued {
            database: "d".into(),
            metadata: "/mongo/d/c.metadata.json".into(),
            data: Some("/mongo/d/c.bson".into()),
            specification: specification.into(),
        };
        let written = manifest(&["/mongo/d/c.bson", "/mongo/d/c.metadata.json"], &entry);
        let stored =
            read(&serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap())
                .unwrap();
        let key = stored[0].spec.indexes[0].get_document("key").unwrap();
        assert_eq!(key.keys().collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(stored[0].data.as_ref().unwrap().items, Some(3));

        let error = read(&manifest(&["/mongo/d/c.metadata.json"], &entry)).unwrap_err();
        let SourceError::Point(cause) = error else { panic!("{error:?}") };
        assert!(cause.to_string().contains("has no artifact /mongo/d/c.bson"), "{cause}");
    }
}
