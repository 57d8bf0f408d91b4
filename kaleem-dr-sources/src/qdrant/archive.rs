//! The snapshot file of one collection, checked down to the files of its segments.
//!
//! It is a tar with `version.info`, `config.json`, `shard_key_mapping.json`, `payload_index.json`,
//! and for each shard `N/` with `segments/<id>.tar`, `wal/` and settings. Files of segments and
//! logs are GNU sparse entries, which are skipped without expanding them. Qdrant itself accepts
//! only regular files, directories and GNU sparse entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::Component,
};

use serde_json::Value;
use tar::{Archive, EntryType};

use super::api::Shard;

/// Limit for a settings file, in bytes.
const SETTINGS_BYTES: u64 = 64 << 20;
/// A tar ends with two blocks of zeros.
const END_BYTES: usize = 1024;

/// The result of checking the snapshot file of a collection.
#[derive(Debug, Default)]
pub(super) struct CollectionFile {
    pub(super) config: Value,
    pub(super) payload_index: Value,
    keys: Value,
    shards: BTreeMap<u32, ShardFiles>,
    /// The shard, if this is the snapshot of one.
    only: Option<u32>,
    has_version: bool,
    /// Its defects, one sentence each.
    pub(super) faults: Vec<String>,
}

#[derive(Debug, Default)]
struct ShardFiles {
    segments: u64,
    logs: u64,
    settings: BTreeSet<String>,
}

impl CollectionFile {
    /// Checks the whole file and reads it to its end.
    pub(super) fn walk(file: &mut dyn Read) -> Self {
        let mut found = Self::default();
        let mut file = EndWatch::new(file);
        if let Err(error) = found.entries(&mut file) {
            found.faults.push(format!("reading it failed after {} bytes: {error}", file.read));
        } else if let Err(error) = file.check_end() {
            found.faults.push(error.to_string());
        }
        found.check();
        found
    }

    /// Checks the snapshot file of one shard, which a peer of a cluster takes: it has the files of
    /// the directory `N/`, and no settings of the collection.
    pub(super) fn walk_shard(shard: u32, file: &mut dyn Read) -> Self {
        let mut found = Self { only: Some(shard), ..Self::default() };
        let mut file = EndWatch::new(file);
        if let Err(error) = found.entries(&mut file) {
            found.faults.push(format!("reading it failed after {} bytes: {error}", file.read));
        } else if let Err(error) = file.check_end() {
            found.faults.push(error.to_string());
        }
        found.shard(shard);
        found.check_shards();
        found
    }

    /// Total number of segments in all shards.
    pub(super) fn segments(&self) -> u64 {
        self.shards.values().map(|shard| shard.segments).sum()
    }

    /// The shards with their shard keys.
    pub(super) fn shards(&self) -> Vec<Shard> {
        let key_of = |id: u32| match &self.keys {
            Value::Array(pairs) => pairs
                .iter()
                .find(|pair| holds(&pair["shard_ids"], id))
                .map(|pair| pair["key"].clone()),
            // The format of Qdrant before 1.15.
            Value::Object(keys) => keys
                .iter()
                .find(|(_, ids)| holds(ids, id))
                .map(|(key, _)| Value::from(key.as_str())),
            _ => None,
        };
        self.shards
            .keys()
            .map(|&shard_id| Shard { shard_id, shard_key: key_of(shard_id) })
            .collect()
    }

    fn entries(&mut self, file: &mut dyn Read) -> io::Result<()> {
        let mut names = BTreeSet::new();
        for entry in Archive::new(file).entries()? {
            let mut entry = entry?;
            let Some(name) = self.plain_name(&entry, "") else { continue };
            let name = match self.only {
                Some(shard) => format!("{shard}/{name}"),
                None => name,
            };
            if !names.insert(name.clone()) {
                self.faults.push(format!("it contains {name} twice"));
            }
            match name.split('/').collect::<Vec<_>>()[..] {
                ["version.info"] => self.has_version = !text(&mut entry)?.trim().is_empty(),
                ["config.json"] => self.config = self.json(&name, &mut entry)?,
                ["shard_key_mapping.json"] => self.keys = self.json(&name, &mut entry)?,
                ["payload_index.json"] => self.payload_index = self.json(&name, &mut entry)?,
                [shard, ref rest @ ..] => {
                    let Ok(id) = shard.parse::<u32>() else { continue };
                    match *rest {
                        ["segments", segment] if segment.strip_suffix(".tar").is_some() => {
                            self.shard(id).segments += 1;
                            // Qdrant writes no end-of-archive marker into these.
                            if let Err(error) = self
                                .segment(&name, &mut entry)
                                .and_then(|()| only_zeros(&mut entry))
                            {
                                self.faults.push(format!("segment {name}: {error}"));
                            }
                        }
                        ["wal", _] => self.shard(id).logs += 1,
                        [settings] if settings.strip_suffix(".json").is_some() => {
                            self.json(&name, &mut entry)?;
                            self.shard(id).settings.insert(settings.to_owned());
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn segment(&mut self, segment: &str, file: &mut dyn Read) -> io::Result<()> {
        let mut directories = BTreeSet::new();
        let (mut settings, mut has_version, mut has_rocksdb) = (Value::Null, false, false);
        for entry in Archive::new(file).entries()? {
            let mut entry = entry?;
            let Some(name) = self.plain_name(&entry, segment) else { continue };
            has_rocksdb |= name.starts_with("snapshot/db_backup/");
            let Some(name) = name.strip_prefix("snapshot/files/") else { continue };
            if let Some((directory, _)) = name.split_once('/') {
                directories.insert(directory.to_owned());
            }
            match name {
                "version.info" => has_version = !text(&mut entry)?.trim().is_empty(),
                "segment.json" => settings = self.json(&format!("{segment}/{name}"), &mut entry)?,
                name if name.strip_suffix(".json").is_some() => {
                    drop(self.json(&format!("{segment}/{name}"), &mut entry)?);
                }
                _ => {}
            }
        }
        if !has_version || settings.is_null() {
            self.faults.push(format!("segment {segment} lacks its version.info or segment.json"));
        }
        for kind in ["vector_data", "sparse_vector_data"] {
            for (vector, about) in settings["config"][kind].as_object().into_iter().flatten() {
                let directory = if vector.is_empty() {
                    "vector_storage".to_owned()
                } else {
                    format!("vector_storage-{vector}")
                };
                let is_stored = match about["storage_type"].as_str() {
                    // A vector that was added to a segment which cannot change (Qdrant 1.18).
                    Some("Empty" | "empty") => true,
                    // In the segment's RocksDB (before Qdrant 1.17); the second is a sparse vector,
                    // for which it is the default.
                    Some("Memory" | "on_disk") => has_rocksdb || directories.contains(&directory),
                    None if kind == "sparse_vector_data" => {
                        has_rocksdb || directories.contains(&directory)
                    }
                    _ => directories.contains(&directory),
                };
                if !is_stored {
                    self.faults
                        .push(format!("segment {segment} lacks the storage of vector `{vector}`"));
                }
            }
        }
        Ok(())
    }

    /// The name of an entry that Qdrant would accept.
    fn plain_name<R: Read>(&mut self, entry: &tar::Entry<'_, R>, within: &str) -> Option<String> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned();
        let shown = if within.is_empty() { name.clone() } else { format!("{within}/{name}") };
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::GNUSparse) {
            self.faults
                .push(format!("{shown} is an entry of a type that Qdrant refuses ({kind:?})"));
            return None;
        }
        let plain = entry.path().is_ok_and(|path| {
            path.components()
                .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
        });
        if !plain {
            self.faults.push(format!("{shown} points outside the collection's directory"));
            return None;
        }
        (kind != EntryType::Directory).then(|| name.trim_start_matches("./").to_owned())
    }

    fn json(&mut self, name: &str, entry: &mut dyn Read) -> io::Result<Value> {
        match serde_json::from_str(&text(entry)?) {
            Ok(value) => Ok(value),
            Err(error) => {
                self.faults.push(format!("{name} is not JSON: {error}"));
                Ok(Value::Null)
            }
        }
    }

    fn shard(&mut self, id: u32) -> &mut ShardFiles {
        self.shards.entry(id).or_default()
    }

    fn check(&mut self) {
        if !self.has_version {
            self.faults.push("it lacks version.info".into());
        }
        if !self.config["params"].is_object() {
            self.faults.push("it lacks config.json with the collection's settings".into());
        }
        let by_key = self.config["params"]["sharding_method"] == "custom";
        let expected = self.config["params"]["shard_number"].as_u64();
        if let Some(expected) =
            expected.filter(|expected| !by_key && *expected != self.shards.len() as u64)
        {
            self.faults.push(format!(
                "it contains {} shards, but the collection has {expected}: was it taken from one peer of a cluster?",
                self.shards.len()
            ));
        }
        self.check_shards();
        if by_key {
            for shard in self.shards().into_iter().filter(|shard| shard.shard_key.is_none()) {
                self.faults
                    .push(format!("shard {} has no key in shard_key_mapping.json", shard.shard_id));
            }
        }
    }

    fn check_shards(&mut self) {
        for (id, shard) in &self.shards {
            if shard.segments == 0 {
                self.faults.push(format!("shard {id} has no segment"));
            }
            if shard.logs == 0 {
                self.faults.push(format!("shard {id} has no write-ahead log"));
            }
            for settings in ["shard_config.json", "replica_state.json"] {
                if !shard.settings.contains(settings) {
                    self.faults.push(format!("shard {id} lacks {settings}"));
                }
            }
        }
    }
}

fn holds(ids: &Value, id: u32) -> bool {
    ids.as_array().is_some_and(|ids| ids.iter().any(|known| known.as_u64() == Some(id.into())))
}

fn text(entry: &mut dyn Read) -> io::Result<String> {
    let mut text = String::new();
    if entry.take(SETTINGS_BYTES).read_to_string(&mut text)? as u64 == SETTINGS_BYTES {
        return Err(io::Error::other("a settings file is too long"));
    }
    Ok(text)
}

/// Reads the data after the last entry. A zeroed header ends a tar early, and hides everything
/// after it.
fn only_zeros(rest: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(()),
            taken if buffer[..taken].iter().all(|&byte| byte == 0) => {}
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "there are data after its apparent end",
                ));
            }
        }
    }
}

/// Remembers the last bytes of a tar: without checking the end-of-archive marker, a tar that was
/// truncated between two entries looks complete.
pub(super) struct EndWatch<'a> {
    inner: &'a mut dyn Read,
    pub(super) read: u64,
    last: Vec<u8>,
}

impl<'a> EndWatch<'a> {
    pub(super) fn new(inner: &'a mut dyn Read) -> Self {
        Self { inner, read: 0, last: Vec::new() }
    }

    /// Reads the rest, and checks the end.
    pub(super) fn check_end(&mut self) -> io::Result<()> {
        only_zeros(self)?;
        if self.last.len() == END_BYTES && self.last.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends after {} bytes, without an end-of-archive marker", self.read),
            ))
        }
    }
}

impl Read for EndWatch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.read += taken as u64;
        let tail = &buffer[taken.saturating_sub(END_BYTES)..taken];
        let kept = self.last.len().min(END_BYTES - tail.len());
        self.last.drain(..self.last.len() - kept);
        self.last.extend_from_slice(tail);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    const DOCS: &[u8] = include_bytes!("../../../tests/fixtures/qdrant/docs.snapshot");

    fn walk(bytes: &[u8]) -> CollectionFile {
        CollectionFile::walk(&mut { bytes })
    }

    /// The fixture with each entry as `change` leaves it; `None` drops it. Sparse entries are kept as they are in the file.
    fn changed(change: impl Fn(&str) -> Option<EntryType>) -> Vec<u8> {
        let mut out = Builder::new(Vec::new());
        let mut archive = Archive::new(DOCS);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let Some(kind) = change(&name) else { continue };
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_entry_type(kind);
            out.append_data(&mut header, &name, &content[..]).unwrap();
        }
        out.into_inner().unwrap()
    }

    #[test]
    fn a_real_snapshot_is_walked_down_to_its_segments() {
        let found = walk(DOCS);
        assert_eq!(found.faults, [] as [String; 0]);
        assert_eq!(
            (found.segments(), found.shards()),
            (1, vec![Shard { shard_id: 0, shard_key: None }])
        );
        assert_eq!(found.config["params"]["vectors"]["title"]["size"], 8);
        assert_eq!(found.payload_index["schema"]["tenant"]["type"], "keyword");
    }

    #[test]
    fn every_cut_is_seen() {
        for length in (0..DOCS.len()).step_by(512) {
            assert!(!walk(&DOCS[..length]).faults.is_empty(), "cut to {length} bytes");
        }
    }

    #[test]
    fn what_is_missing_or_of_a_wrong_kind_is_named() {
        for (missing, told) in [
            ("version.info", "version.info"),
            ("config.json", "config.json"),
            ("0/replica_state.json", "shard 0 lacks replica_state.json"),
            ("0/segments/8dbdae82-73b9-42a3-b0f3-2ca6171fe553.tar", "no segment"),
        ] {
            let faults =
                walk(&changed(|name| (name != missing).then_some(EntryType::Regular))).faults;
            assert!(faults.iter().any(|fault| fault.contains(told)), "{missing}: {faults:?}");
        }
        let faults = walk(&changed(|name| {
            Some(if name == "version.info" { EntryType::Symlink } else { EntryType::Regular })
        }))
        .faults;
        assert!(
            faults[0].contains("version.info is an entry of a type that Qdrant refuses"),
            "{faults:?}"
        );
    }

    #[test]
    fn the_snapshot_of_one_shard_is_checked_like_a_part_of_a_collections() {
        const SHARD: &[u8] =
            include_bytes!("../../../tests/fixtures/qdrant/cluster/tenants-shard-2.snapshot");
        let found = CollectionFile::walk_shard(2, &mut { SHARD });
        assert_eq!(found.faults, [] as [String; 0]);
        assert_eq!(found.shards(), [Shard { shard_id: 2, shard_key: None }]);
        assert_eq!(found.segments(), 1);
        for length in (0..SHARD.len()).step_by(512) {
            let found = CollectionFile::walk_shard(2, &mut &SHARD[..length]);
            assert!(!found.faults.is_empty(), "cut to {length} bytes");
        }
    }

    /// A segment with one vector of this storage type, and one other file.
    fn segment(kind: &str, storage: &str, file: &str) -> Vec<u8> {
        let mut out = Builder::new(Vec::new());
        let settings = format!(r#"{{"config":{{"{kind}":{{"v":{{"storage_type":{storage}}}}}}}}}"#);
        for (name, content) in [
            ("snapshot/files/segment.json", settings.as_str()),
            ("snapshot/files/version.info", "0.6.0"),
            (file, "x"),
        ] {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            out.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        out.into_inner().unwrap()
    }

    #[test]
    fn vectors_that_are_empty_or_in_rocksdb_need_no_directory_and_others_do() {
        let (dense, sparse) = ("vector_data", "sparse_vector_data");
        let (rocksdb, other) = ("snapshot/db_backup/meta/1", "snapshot/files/other");
        for (kind, storage, file, is_whole) in [
            (dense, r#""Empty""#, other, true),
            (sparse, r#""empty""#, other, true),
            (dense, r#""Memory""#, rocksdb, true),
            (sparse, r#""on_disk""#, rocksdb, true),
            (sparse, "null", rocksdb, true),
            (dense, r#""Memory""#, other, false),
            (sparse, r#""on_disk""#, other, false),
            (dense, r#""ChunkedMmap""#, rocksdb, false),
            (sparse, r#""mmap""#, other, false),
            (sparse, r#""mmap""#, "snapshot/files/vector_storage-v/x", true),
        ] {
            let mut found = CollectionFile::default();
            found.segment("s", &mut &segment(kind, storage, file)[..]).unwrap();
            assert_eq!(
                found.faults.is_empty(),
                is_whole,
                "{kind} {storage} {file}: {:?}",
                found.faults
            );
        }
    }

    #[test]
    fn a_wiped_header_hides_nothing() {
        for name in [&b"snapshot/files/segment.json"[..], b"config.json"] {
            let at = DOCS.windows(name.len()).rposition(|window| window == name).unwrap();
            let mut bytes = DOCS.to_vec();
            bytes[at..at + 512].fill(0);
            let faults = walk(&bytes).faults;
            assert!(
                faults.iter().any(|fault| fault.contains("there are data after its apparent end")),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_damaged_segment_is_named() {
        let segment = b"snapshot/files/segment.json";
        let at = DOCS.windows(segment.len()).position(|window| window == segment).unwrap();
        for (offset, byte) in [(at, b'x'), (at + 512, b'!')] {
            let mut bytes = DOCS.to_vec();
            bytes[offset] = byte;
            let faults = walk(&bytes).faults;
            assert!(
                faults.iter().any(|fault| fault.contains("0/segments/8dbdae82")),
                "byte {offset}: {faults:?}"
            );
        }
    }
}
