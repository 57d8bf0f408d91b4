//! Reads the points from the snapshot file of a Qdrant collection with Qdrant's own engine, without a server.
//!
//! ```text
//! kaleem-dr-qdrant-engine < docs-….snapshot
//! ```
//!
//! It reads the file from standard input and unpacks it below `TMPDIR`. Each line of standard output is a page of points in the format of
//! Qdrant's scroll API, with its shard; a collection without points gives no lines. Exit code 0 means that every shard was loaded and read.
//!
//! `kaleem-dr verify` runs it for each collection of a source whose `engine` is its path, and compares its output with the capture.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use qdrant_edge::{EdgeShard, Payload, PointId, ScrollRequest, VectorStructPersisted, WithPayloadInterface, WithVector};
use serde::Serialize;
use serde_json::{Value, json};

/// Number of points per page.
const PAGE_POINTS: usize = 256;

/// A line of output. Serialized directly and never through a `Value`, which would print a 32-bit component with other digits.
#[derive(Serialize)]
struct Line<'a> {
    shard: u32,
    result: Page<'a>,
}

#[derive(Serialize)]
struct Page<'a> {
    points: Vec<Point<'a>>,
    next_page_offset: Option<PointId>,
}

#[derive(Serialize)]
struct Point<'a> {
    id: PointId,
    payload: Option<Payload>,
    vector: Option<VectorStructPersisted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_key: Option<&'a Value>,
}

fn main() -> ExitCode {
    match run(&mut BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::Builder::new().prefix("kaleem-dr-qdrant-engine-").tempdir()?;
    let collection = scratch.path().join("collection");
    tar::Archive::new(io::stdin().lock()).unpack(&collection)?;
    let keys = shard_keys(&collection.join("shard_key_mapping.json"))?;
    let mut shards = BTreeMap::new();
    for entry in fs::read_dir(&collection)? {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
            shards.insert(id, entry.path());
        }
    }
    if shards.is_empty() {
        return Err("it holds no shard: it is not the snapshot of a collection".into());
    }
    for (id, directory) in shards {
        read_shard(id, &directory, keys.get(&id), scratch.path(), out).map_err(|error| format!("shard {id}: {error}"))?;
    }
    Ok(out.flush()?)
}

/// Converts the files below a shard's number in the collection's snapshot to the snapshot of one shard, a tar, which the engine expects.
fn read_shard(id: u32, directory: &Path, key: Option<&Value>, scratch: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (packed, unpacked) = (scratch.join("shard.tar"), scratch.join("shard"));
    let mut file = tar::Builder::new(File::create(&packed)?);
    file.append_dir_all(".", directory)?;
    file.finish()?;
    fs::remove_dir_all(directory)?;
    EdgeShard::unpack_snapshot(&packed, &unpacked)?;
    fs::remove_file(&packed)?;
    let shard = EdgeShard::load(&unpacked, None)?;
    let mut offset: Option<PointId> = None;
    loop {
        let (records, next) = shard.scroll(ScrollRequest {
            offset,
            limit: Some(PAGE_POINTS),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(true),
            ..ScrollRequest::default()
        })?;
        let points: Vec<_> = records
            .into_iter()
            .map(|record| Point {
                id: record.id,
                payload: record.payload,
                vector: record.vector.map(VectorStructPersisted::from),
                shard_key: key,
            })
            .collect();
        if !points.is_empty() {
            serde_json::to_writer(&mut *out, &Line { shard: id, result: Page { points, next_page_offset: next } })?;
            out.write_all(b"\n")?;
        }
        offset = next;
        if offset.is_none() {
            break;
        }
    }
    drop(shard);
    Ok(fs::remove_dir_all(&unpacked)?)
}

/// The shard key of each shard, if the collection is sharded by key: a list of keys with their shards, or a map of them (before Qdrant 1.15).
fn shard_keys(mapping: &Path) -> Result<BTreeMap<u32, Value>, Box<dyn Error>> {
    let mapping: Value = match fs::read(mapping) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => serde_json::from_slice(&read?)?,
    };
    let pairs: Vec<(Value, &Value)> = match &mapping {
        Value::Array(pairs) => pairs.iter().map(|pair| (pair["key"].clone(), &pair["shard_ids"])).collect(),
        Value::Object(keys) => keys.iter().map(|(key, ids)| (json!(key), ids)).collect(),
        _ => Vec::new(),
    };
    let ids = |ids: &Value| -> Vec<u32> { serde_json::from_value(ids.clone()).unwrap_or_default() };
    Ok(pairs.into_iter().flat_map(|(key, shards)| ids(shards).into_iter().map(move |id| (id, key.clone()))).collect())
}
