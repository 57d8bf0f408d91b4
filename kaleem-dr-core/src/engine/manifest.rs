//! The description inside a snapshot: its artifacts, their digests and counts, the server they came from.
//!
//! The commit writes it into the snapshot as `/.kaleem-dr/manifest.json`, after every artifact has ended successfully. A restore
//! compares its result with it. It contains no secret.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change_log::LogSpan;

/// Path of the manifest in each snapshot.
pub const MANIFEST_PATH: &str = "/.kaleem-dr/manifest.json";
/// Directory of the manifest and of the [enclosures](Enclosure) in each snapshot.
pub const OWN_DIRECTORY: &str = "/.kaleem-dr";
/// Path of the instructions in each snapshot.
const INSTRUCTIONS_PATH: &str = "/RESTORE.md";

/// Reports whether a path in a snapshot is that of a file or directory that a commit adds.
#[must_use]
pub fn is_own_path(path: &Path) -> bool {
    path.starts_with(OWN_DIRECTORY) || path == Path::new(INSTRUCTIONS_PATH)
}

/// A small file that a commit adds to a snapshot, next to the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enclosure {
    /// Name of the file in [`OWN_DIRECTORY`].
    pub name: &'static str,
    /// Content of the file; the same content is stored once, however many snapshots have it.
    pub content: Arc<[u8]>,
}

impl Enclosure {
    /// A file with this name and content.
    pub fn new(name: &'static str, content: impl Into<Arc<[u8]>>) -> Self {
        Self { name, content: content.into() }
    }
}

/// The format that this release writes. Readers accept any manifest with the same or a smaller number.
pub const MANIFEST_FORMAT: u32 = 1;

/// The description inside a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of this format, [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The ULID of the run that created the snapshot.
    pub run: String,
    /// The source's name in the config.
    pub source: String,
    /// The kind of the source: `mongodb`, `rabbitmq`, `files`, or one defined by an embedder.
    pub kind: String,
    /// Host that ran the capture.
    pub host: String,
    /// Program and version that wrote the manifest.
    pub tool: String,
    /// Start of the capture, by its host's clock.
    pub started: Timestamp,
    /// Time at which its last artifact ended.
    pub finished: Timestamp,
    /// Product and version of the server that the data came from, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerInfo>,
    /// The extent to which the artifacts belong to one moment.
    pub consistency: Consistency,
    /// Every byte stream of the source, in path order.
    pub artifacts: Vec<ArtifactRecord>,
    /// Totals of the captured trees; all zero for sources that only emit artifacts.
    #[serde(default)]
    pub tree: TreeTotals,
    /// Parts that could not be captured although the snapshot was kept, such as an unreadable file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Incomplete>,
    /// Facts that only the source itself interprets (index specifications, options, topology counts).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
    /// The span of the source's change log that the snapshot covers, if the source keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_log: Option<LogSpan>,
}

/// Product and version of a captured server.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Product name, such as `MongoDB`.
    pub product: String,
    /// Version as the server reports it.
    pub version: String,
}

impl ServerInfo {
    /// A product and its version.
    pub fn new(product: impl Into<String>, version: impl Into<String>) -> Self {
        Self { product: product.into(), version: version.into() }
    }
}

/// The consistency of a snapshot's artifacts: the extent to which they belong to one moment, and that moment.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consistency {
    /// The best grade that holds for all artifacts.
    pub grade: ConsistencyGrade,
    /// Time that the data represent: the time of a point-in-time read, otherwise the start of the capture.
    pub at: Timestamp,
    /// The reason why the grade is not better, or how it was reached, as one sentence for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Consistency {
    /// A grade, and the time that the data represent; without a note.
    #[must_use]
    pub fn new(grade: ConsistencyGrade, at: Timestamp) -> Self {
        Self { grade, at, note: None }
    }

    /// Adds the reason for the grade, as one sentence for the operator.
    #[must_use]
    pub fn because(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// The grades of consistency, best first.
#[derive(
    Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ConsistencyGrade {
    /// All artifacts belong to one moment.
    PointInTime,
    /// Each collection (table, queue list) is consistent only in itself.
    PerCollection,
    /// Each file was read as it was found.
    PerFile,
}

/// One artifact of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactRecord {
    /// Path in the snapshot, such as `/mongo/kaleem/users.bson`.
    pub path: String,
    /// Length of the stream, in bytes.
    pub size_bytes: u64,
    /// SHA-256 over the stream, 64 hex digits.
    pub sha256: String,
    /// Number of items (documents, definitions) in the stream, if the source counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Order-independent digest of the items ([`crate::ground::digest::MultisetDigest`]), if the source computes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<String>,
}

impl ArtifactRecord {
    /// A record of a stream whose items were not counted. `sha256` has 64 hex digits.
    pub fn new(path: impl Into<String>, size_bytes: u64, sha256: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            size_bytes,
            sha256: sha256.into(),
            items: None,
            content_digest: None,
        }
    }

    /// Sets the number of items, if the source counts them.
    #[must_use]
    pub fn with_items(self, items: impl Into<Option<u64>>) -> Self {
        Self { items: items.into(), ..self }
    }

    /// Adds the number of items and their digest ([`MultisetDigest`](crate::ground::digest::MultisetDigest)).
    #[must_use]
    pub fn with_content(self, items: u64, digest: impl Into<String>) -> Self {
        Self { items: Some(items), content_digest: Some(digest.into()), ..self }
    }
}

/// Counts of everything in captured file trees.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeTotals {
    /// Number of regular files; each name of a hard-linked file counts.
    pub files: u64,
    /// Number of directories at any depth.
    pub directories: u64,
    /// Number of links, pipes, sockets and devices.
    pub others: u64,
    /// Bytes of the regular files as read.
    pub size_bytes: u64,
}

/// A part that a capture had to leave out.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[non_exhaustive]
pub struct Incomplete {
    /// The missing part: a path, decoded with replacement characters if it is not UTF-8.
    pub what: String,
    /// The reason why it was left out, as text.
    pub why: String,
}

impl Incomplete {
    /// A missing part, and the reason.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

impl Manifest {
    /// The manifest of a staged file of which only source, kind and time of creation are known.
    #[must_use]
    pub fn of_file(source: impl Into<String>, kind: &str, made: Timestamp) -> Self {
        Self {
            format: MANIFEST_FORMAT,
            run: String::new(),
            source: source.into(),
            kind: kind.to_owned(),
            host: String::new(),
            tool: String::new(),
            started: made,
            finished: made,
            server: None,
            consistency: Consistency {
                grade: ConsistencyGrade::PerCollection,
                at: made,
                note: Some("the file does not record if its data belong to one moment".into()),
            },
            artifacts: Vec::new(),
            tree: TreeTotals::default(),
            incomplete: Vec::new(),
            details: BTreeMap::new(),
            change_log: None,
        }
    }

    /// The record of one artifact.
    #[must_use]
    pub fn artifact(&self, path: &str) -> Option<&ArtifactRecord> {
        self.artifacts.iter().find(|artifact| artifact.path == path)
    }

    /// Total size of all artifacts and files, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.tree.size_bytes
            + self.artifacts.iter().map(|artifact| artifact.size_bytes).sum::<u64>()
    }
}
