//! Tripwires: if too much vanished, shrank or was rewritten in one night, forget and prune stop
//! until the operator has checked.
//!
//! A loss, or an encryption by an attacker, is saved like any other change, and retention would
//! then remove the last good snapshots. So each new snapshot is compared with the last normal one;
//! a suspicious one raises an alarm, which stays active in the state directory until it is
//! acknowledged. This module judges and remembers; it deletes nothing, and needs no repository.

mod alarms;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::alarms::refusal;
pub use self::alarms::{Alarm, AlarmError, Alarms, RecordedAlarm, Removal, protected_by};
use crate::engine::manifest::Manifest;

/// Number of items below which a loss is ignored, because a handful of small collections come and
/// go.
const FEW_ITEMS: u64 = 10;
/// Share of new bytes up to which a source counts as one that changes little.
const QUIET_PERCENT: u64 = 20;
/// Number of earlier snapshots from which the normal share of new bytes is computed.
const ENOUGH_HISTORY: usize = 3;
/// Maximum number of names in a sentence.
const NAMES: usize = 5;

/// Limits above which a snapshot is suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tripwire {
    /// Enables the tripwires [default: true].
    pub enabled: bool,
    /// Maximum share of a source's items or files that may be gone since the last normal snapshot,
    /// in percent.
    pub max_shrink_percent: u64,
    /// Maximum share of new bytes, in percent, for a source that usually has less than a fifth.
    pub max_new_percent: u64,
    /// Size in bytes below which the share of new bytes is ignored.
    pub min_bytes: u64,
}

impl Default for Tripwire {
    fn default() -> Self {
        Self { enabled: true, max_shrink_percent: 50, max_new_percent: 60, min_bytes: 16 << 20 }
    }
}

/// A new snapshot, as its save reported it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Observed<'a> {
    /// Its manifest, as saved with it.
    pub manifest: &'a Manifest,
    /// Uncompressed size of the blobs that were new to the repository, in bytes.
    pub new_blob_bytes: u64,
}

impl<'a> Observed<'a> {
    /// A snapshot by its manifest, and the uncompressed size of its new blobs, in bytes.
    #[must_use]
    pub fn new(manifest: &'a Manifest, new_blob_bytes: u64) -> Self {
        Self { manifest, new_blob_bytes }
    }
}

/// A source's earlier whole snapshots of the same host.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct History {
    /// Manifest of the last normal snapshot; `None` compares with nothing.
    pub normal: Option<Manifest>,
    /// New and total uncompressed bytes of each, where its maker recorded them.
    pub volumes: Vec<Volume>,
}

/// The share of new data in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// Uncompressed size of the blobs that were new to the repository, in bytes.
    pub new_bytes: u64,
    /// Total size of its data, in bytes.
    pub size_bytes: u64,
}

impl Volume {
    /// New bytes of all bytes.
    #[must_use]
    pub fn new(new_bytes: u64, size_bytes: u64) -> Self {
        Self { new_bytes, size_bytes }
    }

    /// The share of new bytes, in percent. May exceed 100, because trees count as new bytes but not
    /// as content.
    fn percent(self) -> Option<u64> {
        (self.size_bytes > 0).then(|| self.new_bytes.saturating_mul(100) / self.size_bytes)
    }
}

/// A suspicion about a snapshot: an exceeded limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Suspicion {
    /// The observation: `2 artifacts are gone: /mongo/kaleem/users.bson, …`.
    pub what: String,
    /// Why it counts: the earlier value and the limit.
    pub why: String,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

impl Tripwire {
    /// Compares a new snapshot with the normal ones. Returns an empty list if nothing is
    /// suspicious.
    #[must_use]
    pub fn judge(&self, new: Observed<'_>, history: &History) -> Vec<Suspicion> {
        if !self.enabled {
            return Vec::new();
        }
        let shrunk = history.normal.as_ref().into_iter().flat_map(|normal| {
            let items = (items(normal), items(new.manifest));
            let files = (normal.tree.files, new.manifest.tree.files);
            [
                vanished(normal, new.manifest),
                self.shrunk("items", items),
                self.shrunk("files", files),
            ]
        });
        shrunk.flatten().chain(self.rewritten(new, &history.volumes)).collect()
    }

    fn shrunk(&self, of: &str, (before, now): (u64, u64)) -> Option<Suspicion> {
        let gone = before.saturating_sub(now);
        (gone >= FEW_ITEMS
            && gone.saturating_mul(100) > before.saturating_mul(self.max_shrink_percent))
        .then(|| Suspicion {
            what: format!("{gone} of {before} {of} are gone"),
            why: format!("more than {} percent", self.max_shrink_percent),
        })
    }

    fn rewritten(&self, new: Observed<'_>, volumes: &[Volume]) -> Option<Suspicion> {
        let now = Volume { new_bytes: new.new_blob_bytes, size_bytes: new.manifest.size_bytes() };
        if now.size_bytes < self.min_bytes {
            return None;
        }
        let percent = now.percent()?;
        let mut usual: Vec<u64> = volumes.iter().filter_map(|volume| volume.percent()).collect();
        usual.sort_unstable();
        let median = *usual.get(usual.len() / 2).filter(|_| usual.len() >= ENOUGH_HISTORY)?;
        (percent > self.max_new_percent && median < QUIET_PERCENT).then(|| Suspicion {
            what: format!("{} percent of the data are new", percent.min(100)),
            why: format!(
                "usually {median} percent are, and the limit is {} percent: were they encrypted?",
                self.max_new_percent
            ),
        })
    }
}

fn items(manifest: &Manifest) -> u64 {
    manifest.artifacts.iter().filter_map(|artifact| artifact.items).sum()
}

fn vanished(before: &Manifest, now: &Manifest) -> Option<Suspicion> {
    let gone: Vec<&str> = before
        .artifacts
        .iter()
        .map(|artifact| artifact.path.as_str())
        .filter(|path| now.artifact(path).is_none())
        .collect();
    let more = if gone.len() > NAMES { ", …" } else { "" };
    (!gone.is_empty()).then(|| Suspicion {
        what: format!(
            "{} artifacts are gone: {}{more}",
            gone.len(),
            gone[..gone.len().min(NAMES)].join(", ")
        ),
        why: format!("they were in run {}", before.run),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::engine::manifest::ArtifactRecord;

    fn manifest(collections: &[(&str, u64)], files: u64, size_bytes: u64) -> Manifest {
        let mut manifest = Manifest::of_file("s", "k", Timestamp::UNIX_EPOCH);
        manifest.artifacts = collections
            .iter()
            .map(|&(path, items)| ArtifactRecord {
                path: path.to_owned(),
                size_bytes: 0,
                sha256: String::new(),
                items: Some(items),
                content_digest: None,
            })
            .collect();
        manifest.tree.files = files;
        manifest.tree.size_bytes = size_bytes;
        manifest
    }

    fn seen(
        now: &Manifest,
        new_blob_bytes: u64,
        normal: Option<Manifest>,
        percents: &[u64],
    ) -> Vec<String> {
        let volumes = percents
            .iter()
            .map(|&percent| Volume { new_bytes: percent, size_bytes: 100 })
            .collect();
        let found = Tripwire::default()
            .judge(Observed { manifest: now, new_blob_bytes }, &History { normal, volumes });
        found.into_iter().map(|suspicion| suspicion.what).collect()
    }

    const MIB: u64 = 1 << 20;

    /// Artifacts, files, and what is suspicious of them.
    type Case<'a> = (&'a [(&'a str, u64)], u64, &'a [&'a str]);

    #[test]
    fn what_vanished_or_shrank_beyond_the_limit_is_seen() {
        let before = manifest(&[("/a", 60), ("/b", 40)], 30, 0);
        let cases: [Case<'_>; 7] = [
            (&[("/a", 60), ("/b", 40)], 30, &[]),
            (&[("/a", 61), ("/b", 44), ("/c", 1)], 31, &[]),
            (&[("/a", 60)], 30, &["1 artifacts are gone: /b"]),
            (&[("/a", 10), ("/b", 40)], 30, &[]),
            (&[("/a", 9), ("/b", 40)], 30, &["51 of 100 items are gone"]),
            (&[("/a", 60), ("/b", 40)], 15, &[]),
            (&[("/a", 60), ("/b", 40)], 14, &["16 of 30 files are gone"]),
        ];
        for (collections, files, expected) in cases {
            assert_eq!(
                seen(&manifest(collections, files, 0), 0, Some(before.clone()), &[]),
                expected,
                "{collections:?} {files}"
            );
        }
        // Nine of nine is a handful; a first snapshot is compared with nothing.
        assert!(seen(&manifest(&[], 0, 0), 0, Some(manifest(&[], 9, 0)), &[]).is_empty());
        assert!(seen(&manifest(&[], 0, 0), 0, None, &[]).is_empty());
    }

    #[test]
    fn much_new_where_little_was_is_seen_in_large_sources_with_a_history() {
        let large = manifest(&[], 1, 16 * MIB);
        assert_eq!(seen(&large, 10 * MIB, None, &[100, 1, 0]), ["62 percent of the data are new"]);
        for (manifest, new, percents) in [
            (&large, 9 * MIB, &[100, 1, 0][..]),
            (&large, 16 * MIB, &[100, 1]),
            (&large, 16 * MIB, &[100, 20, 20]),
            (&manifest(&[], 1, 16 * MIB - 1), 16 * MIB, &[100, 1, 0]),
        ] {
            assert!(seen(manifest, new, None, percents).is_empty(), "{new} {percents:?}");
        }
    }
}
