//! Records that all hosts of a repository share: each is a snapshot of its own that contains one small JSON file and no data of a
//! source.
//!
//! The text of the record is also in the snapshot's description, so that listing the snapshots reads it. Stock restic can list a
//! record, check it and restore its file (`/.kaleem-dr/alarm.json`). A record does not have our tag, so it is not a recovery
//! point, and no policy forgets it. The code that writes records of a kind also removes those that it no longer needs.

use std::sync::Arc;

use jiff::{Timestamp, Zoned};
use rustic_core::{
    SnapshotOptions,
    repofile::{Metadata, Node, NodeType, Tree},
};
use serde_json::Value;

use super::{
    Repository, RepositoryError,
    commit::{self, document, encrypted_objects},
    lock::Lock,
    pack::{BlobKind, PackWriter},
    prepared::PROGRAM,
    snapshot::{RECORD_TAG, SOURCE_PREFIX, Snapshot, SnapshotId},
    tree_entry::go_mode,
};
use crate::{
    CancellationToken,
    ground::{SourceName, host::HostName, progress::ProgressSink},
};

/// The subject of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// The alarm of a tripwire, which blocks forget and prune.
    Alarm,
    /// The proofs that a verification or a drill has shown.
    Proof,
    /// The report of a drill, byte for byte as in its host's chain.
    Report,
    /// The last prune of a repository that several hosts share.
    Prune,
}

impl RecordKind {
    /// The name of its tag and of its file.
    fn word(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Proof => "proof",
            Self::Report => "report",
            Self::Prune => "prune",
        }
    }
}

/// A record of a repository.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The snapshot that contains it.
    pub snapshot: SnapshotId,
    /// The host that wrote it.
    pub host: String,
    /// Time at which it was written, by its host's clock.
    pub time: Timestamp,
    /// The content, as its writer provided it; `null` if it cannot be parsed.
    pub body: Value,
    /// The text of the content, byte for byte.
    pub text: String,
}

impl Record {
    /// The records of this kind among a repository's snapshots, oldest first.
    #[must_use]
    pub fn among(snapshots: &[Snapshot], kind: RecordKind) -> Vec<Self> {
        let of_kind =
            |snapshot: &&Snapshot| snapshot.is_record() && snapshot.file.tags.contains(kind.word());
        let mut records: Vec<Self> = snapshots
            .iter()
            .filter(of_kind)
            .map(|snapshot| Self {
                snapshot: snapshot.id(),
                host: snapshot.host().to_owned(),
                time: snapshot.time().timestamp(),
                body: snapshot
                    .file
                    .description
                    .as_deref()
                    .and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or_default(),
                text: snapshot.file.description.clone().unwrap_or_default(),
            })
            .collect();
        records.sort_by_key(|record| record.time);
        records
    }
}

impl Repository {
    /// Writes a record about a source, under a lock that the caller holds.
    ///
    /// # Errors
    /// If it cannot be written; then it does not exist.
    pub async fn add_record(
        &self,
        kind: RecordKind,
        host: &HostName,
        source: &SourceName,
        body: &Value,
        lock: &Lock,
    ) -> Result<SnapshotId, RepositoryError> {
        let source = format!("{SOURCE_PREFIX}{source}");
        self.write_record(kind, host, Some(&source), body.to_string(), lock).await
    }

    /// Writes a record that concerns no single source, under a lock that the caller holds. `text` is JSON, and is kept byte for byte.
    /// The record has no tag of a source, so that stock restic's `latest` with such a tag still finds data.
    ///
    /// # Errors
    /// If it cannot be written; then it does not exist.
    pub async fn add_host_record(
        &self,
        kind: RecordKind,
        host: &HostName,
        text: String,
        lock: &Lock,
    ) -> Result<SnapshotId, RepositoryError> {
        self.write_record(kind, host, None, text, lock).await
    }

    async fn write_record(
        &self,
        kind: RecordKind,
        host: &HostName,
        source_tag: Option<&str>,
        text: String,
        lock: &Lock,
    ) -> Result<SnapshotId, RepositoryError> {
        let (now, word) = (Timestamp::now(), kind.word());
        let tags: Vec<&str> = [RECORD_TAG, word].into_iter().chain(source_tag).collect();
        let mut file = SnapshotOptions::default()
            .host(Some(host.to_string()))
            .label(word.to_owned())
            .time(Zoned::now())
            .add_tags(&tags.join(","))
            .and_then(|options| options.to_snapshot())
            .map_err(RepositoryError::engine("write a record to"))?;
        PROGRAM.clone_into(&mut file.program_version);
        let name = format!("{word}.json");
        file.paths = format!("/.kaleem-dr/{name}").parse().map_err(|_| {
            RepositoryError::NotCommitted(format!("`{name}` cannot be a path of a snapshot"))
        })?;
        let objects = {
            let (key, version) = (&self.0.key, self.0.version);
            let mut data = PackWriter::new(key, version, BlobKind::Data);
            let mut trees = PackWriter::new(key, version, BlobKind::Tree);
            let mut inner = Tree::default();
            inner.nodes.push(document(&name, text.as_bytes(), &mut data, now, &|_| false));
            let meta = Metadata {
                mode: Some(0o700 | go_mode::DIRECTORY),
                mtime: Some(now),
                ..Metadata::default()
            };
            let mut directory = Node::new_node(".kaleem-dr".as_ref(), NodeType::Dir, meta);
            directory.subtree = Some(trees.tree(&inner)?);
            let mut root = Tree::default();
            root.nodes.push(directory);
            file.tree = trees.tree(&root)?;
            encrypted_objects(key, [data, trees])?
        };
        file.description = Some(text);
        for object in objects {
            self.0.store.write(&object.key, vec![object.bytes]).await?;
        }
        Ok(commit::publish(self, &file, lock).await?.0)
    }

    /// Removes records. The lock must be exclusive.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub async fn remove_records(
        &self,
        records: &[SnapshotId],
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        self.forget_snapshots(records, lock, progress, cancel).await
    }
}
