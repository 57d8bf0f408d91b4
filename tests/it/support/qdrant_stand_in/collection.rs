//! A collection of the stand-in: its points, settings, descriptions and snapshots.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    PEER,
    files::{POINTS, Points, Tar, key},
};

#[derive(Clone, Default)]
pub(in crate::support) struct Collection {
    pub(in crate::support) config: Value,
    pub(in crate::support) schema: serde_json::Map<String, Value>,
    /// By id: numbers before strings.
    pub(in crate::support) points: Points,
    pub(in crate::support) shards: Vec<(u32, Value)>,
    pub(in crate::support) broken: bool,
    /// The recorded file, as long as the collection is unchanged.
    pub(in crate::support) recorded: Option<&'static [u8]>,
}

impl Collection {
    pub(in crate::support) fn created(body: &Value) -> Self {
        let sharded_by_key = body["sharding_method"] == "custom";
        let shards = body["shard_number"].as_u64().unwrap_or(1);
        let mut params = json!({
            "vectors": body["vectors"],
            "shard_number": shards,
            "replication_factor": body["replication_factor"].as_u64().unwrap_or(1),
            "write_consistency_factor": 1,
            "on_disk_payload": true,
        });
        for key in ["sparse_vectors", "sharding_method"] {
            if !body[key].is_null() {
                params[key] = body[key].clone();
            }
        }
        let merged = |defaults: Value, given: &Value| {
            let mut settings = defaults;
            for (key, value) in given.as_object().into_iter().flatten() {
                settings[key] = value.clone();
            }
            settings
        };
        let config = json!({
            "params": params,
            "hnsw_config": merged(
                json!({ "m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": false }),
                &body["hnsw_config"],
            ),
            "optimizer_config": merged(
                json!({
                    "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 1, "max_segment_size": null,
                    "memmap_threshold": null, "indexing_threshold": 10000, "flush_interval_sec": 5, "max_optimization_threads": null,
                    "prevent_unoptimized": null,
                }),
                &body["optimizers_config"],
            ),
            "wal_config": merged(
                json!({ "wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1 }),
                &body["wal_config"],
            ),
            "quantization_config": null,
        });
        let ids = if sharded_by_key { 0 } else { u32::try_from(shards).expect("few shards") };
        Self { config, shards: (0..ids).map(|id| (id, Value::Null)).collect(), ..Self::default() }
    }

    pub(in crate::support) fn describe(&self) -> Value {
        let mut schema = self.schema.clone();
        for index in schema.values_mut() {
            index["points"] = self.points.len().into();
        }
        json!({
            "status": "green", "optimizer_status": "ok", "indexed_vectors_count": self.points.len(),
            "points_count": self.points.len(), "segments_count": 1, "config": self.config, "payload_schema": schema,
            "update_queue": { "length": 0 },
        })
    }

    pub(in crate::support) fn distribution(&self) -> Value {
        let shard = |(id, key): &(u32, Value)| {
            let mut shard =
                json!({ "shard_id": id, "points_count": self.points.len(), "state": "Active" });
            if !key.is_null() {
                shard["shard_key"] = key.clone();
            }
            shard
        };
        let shards: Vec<_> = self.shards.iter().map(shard).collect();
        json!({ "peer_id": PEER, "shard_count": shards.len(), "local_shards": shards, "remote_shards": [], "shard_transfers": [] })
    }

    /// Stores a point like Qdrant: 32-bit components, normalised for the cosine distance.
    pub(in crate::support) fn upsert(&mut self, point: &Value, shard_key: &Value) {
        let vectors = self.config["params"]["vectors"].clone();
        let mut vector = point["vector"].clone();
        if vectors["size"].is_u64() {
            vector = kept(&vector, &vectors["distance"]);
        } else if let Some(named) = vector.as_object_mut() {
            for (name, vector) in named {
                *vector = match vector.get("values") {
                    Some(values) => {
                        json!({ "indices": vector["indices"], "values": kept(values, &Value::Null) })
                    }
                    None => kept(vector, &vectors[name]["distance"]),
                };
            }
        }
        let mut stored =
            json!({ "id": point["id"], "payload": point["payload"], "vector": vector });
        if !shard_key.is_null() {
            stored["shard_key"] = shard_key.clone();
        }
        self.points.insert(key(&point["id"]), stored);
        self.recorded = None;
    }

    pub(in crate::support) fn scroll(&self, body: &Value) -> Value {
        let limit = usize::try_from(body["limit"].as_u64().unwrap_or(10)).expect("a limit");
        let from = if body["offset"].is_null() { (0, String::new()) } else { key(&body["offset"]) };
        let mut points: Vec<Value> =
            self.points.range(from..).take(limit + 1).map(|(_, point)| point.clone()).collect();
        let next = if points.len() > limit {
            points.pop().map_or(Value::Null, |point| point["id"].clone())
        } else {
            Value::Null
        };
        for point in &mut points {
            if body["with_vector"] != true {
                point["vector"] = Value::Null;
            }
            if body["with_payload"] != true {
                point["payload"] = Value::Null;
            }
        }
        json!({ "points": points, "next_page_offset": next })
    }

    pub(in crate::support) fn alter_vector(&mut self) {
        let point = self.points.values_mut().next().expect("a point");
        let vector = match &mut point["vector"] {
            Value::Object(named) => {
                named.values_mut().find(|vector| vector.is_array()).expect("a dense vector")
            }
            plain => plain,
        };
        vector[0] = json!(vector[0].as_f64().expect("a component") + 0.5);
        self.recorded = None;
    }

    /// The recorded file, or a tar in Qdrant's layout.
    pub(in crate::support) fn snapshot(&self) -> Bytes {
        if let Some(recorded) = self.recorded {
            return Bytes::from_static(recorded);
        }
        let mut file = Tar::default();
        for (at, (id, _)) in self.shards.iter().enumerate() {
            let points: Vec<_> = if at == 0 { self.points.values().collect() } else { Vec::new() };
            file.add(
                &format!("{id}/segments/00000000-0000-0000-0000-{id:012}.tar"),
                &self.segment(&json!(points)),
            );
            file.add(&format!("{id}/wal/open-1"), &[0; 4096]);
            file.add(&format!("{id}/replica_state.json"), br#"{"is_local":true}"#);
            file.add(&format!("{id}/shard_config.json"), br#"{"type":"ReplicaSet"}"#);
        }
        let mut keys: Vec<Value> = Vec::new();
        for (id, key) in self.shards.iter().filter(|(_, key)| !key.is_null()) {
            match keys.iter_mut().find(|pair| pair["key"] == *key) {
                Some(pair) => pair["shard_ids"].as_array_mut().expect("ids").push(json!(id)),
                None => keys.push(json!({ "key": key, "shard_ids": [id] })),
            }
        }
        let schema: serde_json::Map<_, _> = self
            .schema
            .iter()
            .map(|(field, index)| {
                (field.clone(), index.get("params").unwrap_or(&index["data_type"]).clone())
            })
            .collect();
        file.add("version.info", b"0.4.2");
        file.add("config.json", self.config.to_string().as_bytes());
        file.add("shard_key_mapping.json", json!(keys).to_string().as_bytes());
        file.add("payload_index.json", json!({ "schema": schema }).to_string().as_bytes());
        file.finish()
    }

    pub(in crate::support) fn segment(&self, points: &Value) -> Bytes {
        let mut file = Tar::default();
        let vectors = &self.config["params"]["vectors"];
        let named = if vectors["size"].is_u64() { json!({ "": vectors }) } else { vectors.clone() };
        for vector in named.as_object().expect("vectors").keys() {
            let storage = if vector.is_empty() {
                "vector_storage".to_owned()
            } else {
                format!("vector_storage-{vector}")
            };
            file.add(&format!("snapshot/files/{storage}/vectors/config.json"), b"{}");
        }
        file.add(
            "snapshot/files/segment.json",
            json!({ "version": 1, "config": { "vector_data": named } }).to_string().as_bytes(),
        );
        file.add("snapshot/files/version.info", b"0.6.0");
        file.add(POINTS, points.to_string().as_bytes());
        file.finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "Qdrant keeps 32-bit components")]
pub(in crate::support) fn kept(vector: &Value, distance: &Value) -> Value {
    let mut components: Vec<f32> = vector
        .as_array()
        .expect("a vector")
        .iter()
        .map(|component| component.as_f64().expect("a number") as f32)
        .collect();
    if distance == "Cosine" {
        let square = components.iter().map(|component| component * component).sum::<f32>();
        // A vector that is normalised already is kept as it is.
        if (square - 1.0).abs() > 1e-6 {
            components.iter_mut().for_each(|component| *component /= square.sqrt());
        }
    }
    // With the fewest digits that parse to the same 32-bit number, like Qdrant.
    let printed = |component: &f32| {
        component.to_string().parse::<f64>().expect("a printed number reads back")
    };
    components.iter().map(printed).map(Value::from).collect()
}
