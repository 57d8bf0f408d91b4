//! The description of a collection in a point, in addition to its snapshot: `<name>.json`.
//!
//! The snapshot file itself does not record the server's version, the shard keys of an uploaded
//! collection, or the points that a restore should contain.

use kaleem_dr_core::{
    ground::{ArtifactPath, SourceError},
    recovery::source::Difference,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    api::{LiveCollection, Shard},
    names::file_stem,
    points::Content,
};

/// Limit for a description, in bytes.
pub(super) const LIMIT_BYTES: u64 = 64 << 20;
/// The directory of collections in a snapshot; the file of aliases is in its parent.
pub(super) const DIRECTORY: [&str; 2] = ["qdrant", "collections"];
pub(super) const ALIASES: [&str; 2] = ["qdrant", "aliases.json"];

/// The settings of a collection that a restore must reproduce.
const SETTINGS: [&str; 7] = [
    "params",
    "hnsw_config",
    "optimizer_config",
    "wal_config",
    "quantization_config",
    "strict_mode_config",
    "metadata",
];

/// The description of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the collection, as in Qdrant.
    pub name: String,
    /// Version of the Qdrant server that it was captured from, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Its settings, as returned by Qdrant.
    pub config: Value,
    /// Its payload indexes, without their counts.
    pub payload_schema: Map<String, Value>,
    /// Its shards, sorted by id.
    pub shards: Vec<Shard>,
    /// The points in the snapshot, as far as they are known.
    pub points: Points,
}

/// The known facts about the points of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "known")]
pub enum Points {
    /// Every point was read before and after the snapshot, without a change.
    Content {
        /// Number of points.
        count: u64,
        /// Digest over ids, vectors, payloads and shard keys, in hex.
        content_digest: String,
    },
    /// The points were counted before and after the snapshot, with the same result, but not read.
    Count {
        /// Number of points.
        count: u64,
    },
    /// Nothing that a comparison could use.
    Nothing {
        /// The reason, in one sentence.
        why: String,
        /// Number of points just before the snapshot, if they were counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<u64>,
    },
}

impl Points {
    /// The number of points, if it is certain.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Content { count, .. } | Self::Count { count } => Some(*count),
            Self::Nothing { .. } => None,
        }
    }

    /// The approximate number of points.
    pub(super) fn about(&self) -> Option<u64> {
        match self {
            Self::Nothing { about, .. } => *about,
            _ => self.count(),
        }
    }

    /// The digest, if it is certain.
    pub(super) fn content_digest(&self) -> Option<&str> {
        match self {
            Self::Content { content_digest, .. } => Some(content_digest),
            _ => None,
        }
    }

    /// Combines two reads around a snapshot: equal ones prove that nothing was written in between,
    /// others leave open which of the changes the snapshot contains.
    pub(super) fn between(before: Content, after: &Content) -> Self {
        if before == *after {
            Self::Content { count: before.points, content_digest: before.digest }
        } else {
            Self::written_to(before.points)
        }
    }

    /// Combines two counts around a snapshot.
    pub(super) fn between_counts(before: u64, after: u64) -> Self {
        if before == after { Self::Count { count: before } } else { Self::written_to(before) }
    }

    fn written_to(about: u64) -> Self {
        Self::Nothing {
            why: "it was modified while its snapshot was taken, so no count and no digest is certain to be the snapshot's"
                .into(),
            about: Some(about),
        }
    }
}

impl Description {
    /// One that knows only its name, and so its paths.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            server_version: None,
            config: Value::Null,
            payload_schema: Map::new(),
            shards: Vec::new(),
            points: Points::Nothing { why: "it was not read".into(), about: None },
        }
    }

    /// From the server's description, before its points are known.
    pub(super) fn new(
        name: &str,
        version: &str,
        live: &LiveCollection,
        shards: Vec<Shard>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            server_version: Some(version.to_owned()),
            config: live.config.clone(),
            payload_schema: indexes(&live.payload_schema),
            shards,
            points: Points::Nothing { why: "it was not read".into(), about: live.points_count },
        }
    }

    /// The path in a snapshot of this description.
    pub(super) fn path(&self) -> ArtifactPath {
        artifact(&format!("{}.json", file_stem(&self.name)))
    }

    /// The path in a snapshot of the collection's snapshot file.
    pub(super) fn snapshot_path(&self) -> ArtifactPath {
        artifact(&format!("{}.snapshot", file_stem(&self.name)))
    }

    /// The path in a snapshot of one shard's snapshot file, in a point of a cluster.
    pub(super) fn shard_path(&self, shard: u32) -> ArtifactPath {
        let directory = format!("{}.shards", file_stem(&self.name));
        // The stem has no slash, so the two are components.
        ArtifactPath::join(
            DIRECTORY.into_iter().chain([&*directory, &*format!("{shard}.snapshot")]),
        )
        .expect("an escaped name makes a path")
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Map keys are strings and numbers are finite, so this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).expect("a description is plain JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Parses a description.
    ///
    /// # Errors
    /// If the bytes are not a description.
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| {
            SourceError::Point(
                format!("{path} is not a description of a collection: {error}").into(),
            )
        })
    }

    /// Reports whether its shards are created by key.
    pub(super) fn is_sharded_by_key(&self) -> bool {
        self.config["params"]["sharding_method"] == "custom"
    }

    /// The requests that create its payload indexes: each field with its schema. A plain index is
    /// requested by its type alone, because Qdrant would build one anew that is spelt otherwise.
    pub(super) fn index_requests(&self) -> Vec<(&str, Value)> {
        fn one<'a>((field, index): (&'a String, &Value)) -> (&'a str, Value) {
            let kind = index["type"].clone();
            let mut schema = index["params"].as_object().cloned().unwrap_or_default();
            if schema.is_empty() {
                return (field, kind);
            }
            schema.insert("type".into(), kind);
            (field, without_nulls(&Value::Object(schema)))
        }
        self.payload_schema.iter().map(one).collect()
    }

    /// The change of the settings that a new collection cannot have from the beginning.
    pub(super) fn late_settings(&self) -> Option<Value> {
        let params = self.config["params"].as_object()?;
        let late: Map<String, Value> = ["read_fan_out_factor", "read_fan_out_delay_ms"]
            .iter()
            .filter_map(|&key| Some((key.to_owned(), params.get(key)?.clone())))
            .filter(|(_, value)| !value.is_null())
            .collect();
        (!late.is_empty()).then(|| json!({ "params": late }))
    }

    /// The request that creates an empty collection with the same settings. A collection created
    /// from a snapshot takes its settings from there; only one whose shards must exist first needs
    /// this.
    pub(super) fn definition(&self) -> Value {
        let mut definition = self.config["params"].as_object().cloned().unwrap_or_default();
        for (from, to) in [
            ("hnsw_config", "hnsw_config"),
            ("optimizer_config", "optimizers_config"),
            ("wal_config", "wal_config"),
            ("quantization_config", "quantization_config"),
            ("strict_mode_config", "strict_mode_config"),
            ("metadata", "metadata"),
        ] {
            definition.insert(to.into(), self.config[from].clone());
        }
        without_nulls(&Value::Object(definition))
    }

    /// Reports whether a snapshot's own settings match these.
    pub(super) fn is_of(&self, config: &Value) -> bool {
        without_nulls(&self.config["params"]) == without_nulls(&config["params"])
    }

    /// This description and a collection of another release, reduced to the settings that both have;
    /// and the names of those that only one has.
    pub(super) fn known_to_both(
        &self,
        live: &LiveCollection,
    ) -> (Self, LiveCollection, Vec<String>) {
        let (mut own, mut other, mut only_one) = (self.clone(), live.clone(), Vec::new());
        for key in SETTINGS {
            let (expected, found) =
                (without_nulls(&self.config[key]), without_nulls(&live.config[key]));
            (own.config[key], other.config[key]) = common(key, &expected, &found, &mut only_one);
        }
        (own, other, only_one)
    }

    /// Compares settings and indexes of a restored collection with these.
    pub(super) fn compare_settings(&self, live: &LiveCollection) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |what: String, expected: &Value, found: &Value| {
            let (expected, found) = (without_nulls(expected), without_nulls(found));
            if expected != found {
                let said =
                    |value: &Value| if value.is_null() { "none".into() } else { value.to_string() };
                differences.push(Difference::new(what, said(&expected), said(&found)));
            }
        };
        for key in SETTINGS {
            compare(
                format!("collection {}: {key}", self.name),
                &self.config[key],
                &live.config[key],
            );
        }
        let found = indexes(&live.payload_schema);
        for field in self
            .payload_schema
            .keys()
            .chain(found.keys().filter(|field| !self.payload_schema.contains_key(*field)))
        {
            let of = |schema: &Map<String, Value>| schema.get(field).cloned().unwrap_or_default();
            compare(
                format!("collection {}: index of {field}", self.name),
                &of(&self.payload_schema),
                &of(&found),
            );
        }
        differences
    }
}

fn artifact(file: &str) -> ArtifactPath {
    // The stem has no slash and no NUL, and with the extension it is neither empty nor dots.
    ArtifactPath::join(DIRECTORY.into_iter().chain([file])).expect("an escaped name makes a path")
}

/// The path of the aliases.
pub(super) fn aliases_path() -> ArtifactPath {
    // Neither component is empty, a dot or contains a slash.
    ArtifactPath::join(ALIASES).expect("two plain names make a path")
}

/// Normalises payload indexes: the server adds the number of points that they cover, which changes
/// by itself, and omits the details of a plain index.
fn indexes(schema: &Value) -> Map<String, Value> {
    let one = |index: &Value| {
        let kind = index.get("data_type").or_else(|| index.get("type")).unwrap_or(index).clone();
        let mut params =
            index.get("params").unwrap_or(index).as_object().cloned().unwrap_or_default();
        for known in ["type", "data_type", "points"] {
            params.remove(known);
        }
        json!({ "type": kind, "params": params })
    };
    schema
        .as_object()
        .map(|fields| fields.iter().map(|(field, index)| (field.clone(), one(index))).collect())
        .unwrap_or_default()
}

/// The indexes of a snapshot's own `payload_index.json`.
pub(super) fn indexes_of_file(document: &Value) -> Map<String, Value> {
    indexes(&document["schema"])
}

/// Both values without the keys that only one has, whose names are added to `only_one`.
fn common(at: &str, one: &Value, other: &Value, only_one: &mut Vec<String>) -> (Value, Value) {
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        return (one.clone(), other.clone());
    };
    let (mut own, mut others) = (Map::new(), Map::new());
    for (key, value) in one {
        let name = format!("{at}.{key}");
        if let Some(found) = other.get(key) {
            let (value, found) = common(&name, value, found, only_one);
            own.insert(key.clone(), value);
            others.insert(key.clone(), found);
        } else {
            only_one.push(name);
        }
    }
    let added = other.keys().filter(|key| !one.contains_key(*key));
    only_one.extend(added.map(|key| format!("{at}.{key}")));
    (Value::Object(own), Value::Object(others))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, item)| !item.is_null())
            .map(|(key, item)| (key.clone(), without_nulls(item)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(shards: &Value) -> Description {
        let live: LiveCollection = serde_json::from_value(json!({
            "status": "green", "points_count": 3,
            "config": {
                "params": {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1, "sharding_method": "custom"},
                "optimizer_config": {"deleted_threshold": 0.2, "max_segment_size": null},
                "quantization_config": null,
            },
            "payload_schema": {"tenant": {"data_type": "keyword", "params": {"type": "keyword", "is_tenant": true}, "points": 3}},
        }))
        .unwrap();
        Description::new("docs", "1.18.2", &live, serde_json::from_value(shards.clone()).unwrap())
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        let mut description = described(&json!([{"shard_id": 0, "shard_key": "a"}]));
        for points in [
            Points::Content { count: 3, content_digest: "00".into() },
            Points::Count { count: 3 },
            Points::Nothing { why: "no".into(), about: None },
        ] {
            description.points = points;
            assert_eq!(
                Description::parse(&description.to_bytes(), "docs.json").unwrap(),
                description
            );
        }
        assert_eq!(description.path().as_str(), "/qdrant/collections/docs.json");
        assert_eq!(description.snapshot_path().as_str(), "/qdrant/collections/docs.snapshot");
    }

    #[test]
    fn only_two_equal_readings_make_a_digest_certain() {
        let content = |points, digest: &str| Content { points, digest: digest.into() };
        assert_eq!(Points::between(content(3, "a"), &content(3, "a")).content_digest(), Some("a"));
        for after in [content(3, "b"), content(4, "b")] {
            let points = Points::between(content(3, "a"), &after);
            assert_eq!(
                (points.count(), points.content_digest(), points.about()),
                (None, None, Some(3))
            );
        }
        assert_eq!(Points::between_counts(3, 3).count(), Some(3));
        assert_eq!(Points::between_counts(3, 4).count(), None);
    }

    #[test]
    fn an_index_is_requested_with_all_of_its_parameters() {
        let mut description = described(&json!([]));
        description.payload_schema.extend(indexes_of_file(&json!({"schema": {"n": "integer"}})));
        let tenant = json!({"type": "keyword", "is_tenant": true});
        assert_eq!(description.index_requests(), [("n", json!("integer")), ("tenant", tenant)]);
        assert_eq!(description.late_settings(), None);
    }

    #[test]
    fn an_empty_collection_of_the_same_settings_has_no_nulls() {
        let definition = described(&json!([])).definition();
        assert_eq!(definition["sharding_method"], "custom");
        assert_eq!(definition["vectors"]["size"], 4);
        assert_eq!(definition["optimizers_config"], json!({"deleted_threshold": 0.2}));
        assert!(definition.get("quantization_config").is_none());
    }

    #[test]
    fn a_setting_that_only_one_release_has_is_named_and_no_difference() {
        let description = described(&json!([]));
        let mut live = LiveCollection {
            status: "green".into(),
            points_count: None,
            config: description.config.clone(),
            payload_schema: json!({"tenant": {"data_type": "keyword", "params": {"type": "keyword", "is_tenant": true}}}),
        };
        live.config["params"]["vectors"]["memory"] = json!("cold");
        live.config["optimizer_config"] = json!({});
        let (own, other, only_one) = description.known_to_both(&live);
        assert_eq!(own.compare_settings(&other), []);
        assert_eq!(only_one, ["params.vectors.memory", "optimizer_config.deleted_threshold"]);
        live.config["params"]["vectors"]["size"] = json!(5);
        let (own, other, _) = description.known_to_both(&live);
        assert_eq!(own.compare_settings(&other).len(), 1);
    }

    #[test]
    fn an_index_is_the_same_in_every_form_and_a_lost_one_is_detected() {
        let description = described(&json!([]));
        let from_file =
            indexes_of_file(&json!({"schema": {"tenant": {"type": "keyword", "is_tenant": true}}}));
        assert_eq!(description.payload_schema, from_file);
        assert_eq!(
            indexes(&json!({"n": {"data_type": "integer", "points": 1}})),
            indexes_of_file(&json!({"schema": {"n": "integer"}}))
        );
        let mut live = LiveCollection {
            status: "green".into(),
            points_count: None,
            config: description.config.clone(),
            payload_schema: json!({"tenant": {"data_type": "keyword", "params": {"type": "keyword", "is_tenant": true}, "points": 9}}),
        };
        assert!(description.compare_settings(&live).is_empty());
        live.payload_schema = json!({});
        live.config["params"]["vectors"]["size"] = json!(5);
        let differences = description.compare_settings(&live);
        let whats: Vec<_> = differences.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(whats, ["collection docs: params", "collection docs: index of tenant"]);
    }
}
