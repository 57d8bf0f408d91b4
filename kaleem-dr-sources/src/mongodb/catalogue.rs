//! The list of collections that a capture leaves in the manifest, so that a restore can be planned without reading artifacts.

use kaleem_dr_core::{
    manifest::{ArtifactRecord, Manifest},
    source::SourceError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{listing::CollectionSpec, metadata};

/// Its key among the manifest's details.
pub(crate) const KEY: &str = "collections";

/// One collection, view or time series of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogued {
    pub(crate) database: String,
    /// Path of its `.metadata.json`.
    pub(crate) metadata: String,
    /// Path of its `.bson`; views have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Its metadata as text: the order of keys counts in an index, and a JSON object in the manifest would not keep it.
    pub(crate) specification: String,
}

/// A collection of a recovery point, ready to be restored.
#[derive(Clone, Debug)]
pub(crate) struct StoredCollection {
    pub(crate) spec: CollectionSpec,
    pub(crate) entry: Catalogued,
    /// Its data in the manifest; none for views.
    pub(crate) data: Option<ArtifactRecord>,
}

/// The list as it goes into the manifest.
pub(crate) fn to_value(catalogue: &[Catalogued]) -> Value {
    catalogue.iter().map(|entry| serde_json::to_value(entry).unwrap_or(Value::Null)).collect()
}

/// Reads the list back.
///
/// # Errors
/// When the manifest is not one of this source, or its list and its artifacts do not belong together.
pub(crate) fn read(manifest: &Manifest) -> Result<Vec<StoredCollection>, SourceError> {
    let odd = |why: String| SourceError::Point(why.into());
    let listed = manifest.details.get(KEY).ok_or_else(|| odd("its manifest lists no collections".to_owned()))?;
    let listed: Vec<Catalogued> =
        Vec::deserialize(listed).map_err(|error| odd(format!("its list of collections is malformed: {error}")))?;
    listed
        .into_iter()
        .map(|entry| {
            let spec = metadata::from_json(&entry.database, &entry.specification)
                .map_err(|why| odd(format!("the specification of {} is malformed: {why}", entry.metadata)))?;
            let record = |path: &String| {
                manifest
                    .artifact(path)
                    .cloned()
                    .ok_or_else(|| odd(format!("the collection {} lacks its artifact {path}", spec.namespace())))
            };
            record(&entry.metadata)?;
            let data = entry.data.as_ref().map(record).transpose()?;
            Ok(StoredCollection { spec, entry, data })
        })
        .collect()
}
