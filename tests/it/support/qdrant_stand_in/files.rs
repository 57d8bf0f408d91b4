//! The files of snapshots: Qdrant's tars, with the points as a file that only the stand-in reads, and the recorded ones.

use std::{collections::BTreeMap, io::Read as _};

use bytes::Bytes;
use serde_json::Value;

use super::{DOCS, collection::Collection, exchanges};

pub(in crate::support) const SESSIONS: &[u8] =
    include_bytes!("../../../fixtures/qdrant/sessions.snapshot");

pub(in crate::support) const FULL: &[u8] = include_bytes!("../../../fixtures/qdrant/full.snapshot");

/// The stand-in's own file in a segment of a snapshot that it made.
pub(in crate::support) const POINTS: &str = "snapshot/files/stand-in-points.dat";

pub(in crate::support) type Points = BTreeMap<(u64, String), Value>;

/// The points in the snapshot of a shard; `None` if the bytes are not one.
pub(in crate::support) fn points_of_shard(bytes: &[u8]) -> Option<Points> {
    let mut points = Points::new();
    let mut is_shard = false;
    for entry in tar::Archive::new(bytes).entries().ok()? {
        let mut entry = entry.ok()?;
        let name = entry.path().ok()?.to_str()?.to_owned();
        is_shard |= name == "replica_state.json";
        if !(name.starts_with("segments/") && name.ends_with(".tar")) {
            continue;
        }
        let mut segment = Vec::new();
        entry.read_to_end(&mut segment).ok()?;
        if let Some(recorded) = recorded_points(&segment) {
            points.extend(recorded);
            continue;
        }
        for file in tar::Archive::new(&segment[..]).entries().ok()? {
            let mut file = file.ok()?;
            if file.path().ok()?.to_str()? == POINTS {
                // Kept as they were stored: nothing is rounded twice.
                let own: Vec<Value> = serde_json::from_reader(&mut file).ok()?;
                points.extend(own.into_iter().map(|point| (key(&point["id"]), point)));
            }
        }
    }
    is_shard.then_some(points)
}

/// The points of a recorded segment, whatever the times in its headers.
pub(in crate::support) fn recorded_points(segment: &[u8]) -> Option<Points> {
    let timeless = timeless(segment);
    let (name, _) = recorded_files().into_iter().find(|(_, file)| {
        segments(file).iter().any(|recorded| self::timeless(recorded) == timeless)
    })?;
    let seed = |path: String| exchanges().iter().find(move |it| it["request"]["path"] == path);
    let mut collection = Collection::created(
        &seed(format!("/collections/{name}")).expect("it is recorded")["request"]["json"],
    );
    let points = seed(format!("/collections/{name}/points?wait=true")).expect("it is recorded");
    for point in points["request"]["json"]["points"].as_array().expect("points") {
        collection.upsert(point, &Value::Null);
    }
    Some(collection.points)
}

/// The tars of segments in the snapshot of a collection or shard.
pub(in crate::support) fn segments(file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(file).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        if name.contains("segments/") && name.ends_with(".tar") {
            let mut segment = Vec::new();
            entry.read_to_end(&mut segment).expect("memory takes all");
            found.push(segment);
        }
    }
    found
}

/// The bytes with the time of every header set to `time`, here and in tars inside.
pub(in crate::support) fn at_time(bytes: &[u8], time: u64) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for block in changed.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let mut header = tar::Header::from_byte_slice(block).clone();
            header.set_mtime(time);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    changed
}

pub(in crate::support) fn timeless(bytes: &[u8]) -> Vec<u8> {
    at_time(bytes, 0)
}

/// Every recorded snapshot of a collection; those in the full snapshot were taken separately, and
/// are other files.
pub(in crate::support) fn recorded_files() -> [(&'static str, &'static [u8]); 4] {
    let in_full = |offset: usize, length: usize| &FULL[offset..offset + length];
    [
        ("docs", DOCS),
        ("sessions", SESSIONS),
        ("docs", in_full(512, DOCS.len())),
        ("sessions", in_full(512 + DOCS.len() + 512, SESSIONS.len())),
    ]
}

pub(in crate::support) fn key(id: &Value) -> (u64, String) {
    match id.as_u64() {
        Some(number) => (number, String::new()),
        None => (u64::MAX, id.as_str().expect("an id is a number or a text").to_owned()),
    }
}

#[derive(Default)]
pub(in crate::support) struct Tar(Option<tar::Builder<Vec<u8>>>);

impl Tar {
    pub(in crate::support) fn add(&mut self, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let builder = self.0.get_or_insert_with(|| tar::Builder::new(Vec::new()));
        builder.append_data(&mut header, name, content).expect("memory takes all");
    }

    pub(in crate::support) fn finish(self) -> Bytes {
        self.0.expect("a tar has files").into_inner().expect("memory takes all").into()
    }
}
