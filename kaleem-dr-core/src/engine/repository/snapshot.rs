//! Snapshots as the rest of the library sees them.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use jiff::{SignedDuration, Timestamp, Zoned};
use rustic_core::repofile::SnapshotFile;

use super::{
    crypto::RepositoryKey,
    error::{HostNewest, RepositoryError},
    selector::{Newest, PointSelector},
};
pub use crate::ground::SnapshotId;
use crate::{
    engine::change_log::LogSpan,
    ground::{RunId, SourceName, digest::ByteDigest, host::HostScope},
};

/// Tag on every snapshot of ours. Retention does not touch snapshots without it.
pub const OWN_TAG: &str = "kaleem-dr";
/// Tag on a snapshot whose source could not provide everything (an unreadable file).
pub const INCOMPLETE_TAG: &str = "incomplete";
/// A snapshot dated further in the future cannot be explained by the drift of a clock.
const FUTURE_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);
/// Tag on a snapshot that no policy may forget.
pub const PINNED_TAG: &str = "pinned";
/// Tag on a snapshot that contains one of our records (an alarm) and no data of a source. See [`super::record`].
pub(super) const RECORD_TAG: &str = "kaleem-dr-record";
/// Tag on a snapshot that contains a slice of a change log. It extends recovery points but is not one, so it does not
/// have our tag, and retention keeps it as long as a point needs it. See [`crate::engine::change_log`].
const SLICE_TAG: &str = "kaleem-dr-slice";
/// Limit for the matches that an error lists.
const LISTED: usize = 10;
const RUN_PREFIX: &str = "run:";
pub(super) const SOURCE_PREFIX: &str = "source:";
const SLICE_PREFIX: &str = "slice-of:";

/// Reports whether this time is later than a clock's drift can explain.
#[must_use]
pub fn is_of_the_future(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > FUTURE_TOLERANCE
}

/// A snapshot of a repository, as listed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) file: SnapshotFile,
}

impl Snapshot {
    pub(crate) fn new(file: SnapshotFile) -> Self {
        Self { file }
    }

    /// Parses a snapshot file.
    ///
    /// # Errors
    /// The defect of the file.
    pub(super) fn open(
        key: &RepositoryKey,
        id: SnapshotId,
        encrypted: &[u8],
    ) -> Result<Self, String> {
        if encrypted.is_empty() {
            return Err("it is empty".into());
        }
        if ByteDigest::of(encrypted) != id.to_string() {
            return Err("its content does not hash to its name".into());
        }
        let json = key.decrypt_file(encrypted).map_err(|error| error.to_string())?;
        let mut file: SnapshotFile = serde_json::from_slice(&json)
            .map_err(|error| format!("it is not a snapshot: {error}"))?;
        file.id = id.0;
        // As in rustic_core: a snapshot that is neither a copy nor a rewritten one is its own original.
        file.original.get_or_insert(id.0);
        Ok(Self::new(file))
    }

    /// The id of the snapshot.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        SnapshotId(self.file.id)
    }

    /// The snapshot that it was copied or rewritten from; `None` where it is its own original.
    #[must_use]
    pub fn original(&self) -> Option<SnapshotId> {
        self.file.original.filter(|original| *original != self.file.id).map(SnapshotId)
    }

    /// Time of the snapshot, with its maker's time zone.
    #[must_use]
    pub fn time(&self) -> &Zoned {
        &self.file.time
    }

    /// Name of the host that captured it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.file.hostname
    }

    /// The paths recorded in the snapshot.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.file.paths.iter().map(PathBuf::from).collect()
    }

    /// The tags, sorted; those that begin with `run:` or `source:` are ours.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        self.file.tags.iter().cloned().collect()
    }

    /// Reports whether kaleem-dr made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.file.tags.contains(OWN_TAG)
    }

    /// Reports whether the source could provide everything.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.file.tags.contains(INCOMPLETE_TAG)
    }

    /// Reports whether it is dated later than a clock's drift can explain: the clock was wrong when it was taken, or is wrong
    /// now. Such a snapshot never counts as the newest, and policies that would keep it must not run.
    #[must_use]
    pub fn is_of_the_future(&self, now: Timestamp) -> bool {
        is_of_the_future(self.time().timestamp(), now)
    }

    /// Reports whether it must not be deleted.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.is_pinned() || self.file.must_keep(&Zoned::now())
    }

    /// Reports whether it is pinned, so that no policy forgets it.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.file.tags.contains(PINNED_TAG)
    }

    /// Reports whether it contains one of our records and no data of a source.
    #[must_use]
    pub fn is_record(&self) -> bool {
        self.file.tags.contains(RECORD_TAG)
    }

    /// The source whose change log this is a slice of; `None` for other snapshots.
    #[must_use]
    pub fn sliced(&self) -> Option<SourceName> {
        self.file.tags.contains(SLICE_TAG).then(|| self.tagged(SLICE_PREFIX)).flatten()
    }

    /// Reports whether it contains data of a source by itself: it is neither a record nor a slice.
    #[must_use]
    pub fn is_data(&self) -> bool {
        !self.is_record() && !self.file.tags.contains(SLICE_TAG)
    }

    /// The span of the source's change log that it covers, without reasons and anchor.
    #[must_use]
    pub fn log_span(&self) -> Option<LogSpan> {
        let tags: Vec<&str> = self.file.tags.iter().map(String::as_str).collect();
        LogSpan::of_tags(&tags)
    }

    /// The source of the snapshot, if kaleem-dr made it.
    #[must_use]
    pub fn source(&self) -> Option<SourceName> {
        self.tagged(SOURCE_PREFIX)
    }

    /// The run that created it, if kaleem-dr made it.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        self.tagged(RUN_PREFIX)
    }

    /// Size of the content before deduplication, in bytes; `None` if the tool that made it did not record the size.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        self.file.summary.as_ref().map(|summary| summary.total_bytes_processed)
    }

    /// Data that it added to the repository, as stored, in bytes.
    #[must_use]
    pub fn added_bytes(&self) -> Option<u64> {
        self.file.summary.as_ref().map(|summary| summary.data_added_packed)
    }

    /// Uncompressed size of the blobs that it added to the repository, in bytes.
    #[must_use]
    pub fn new_blob_bytes(&self) -> Option<u64> {
        self.file.summary.as_ref().map(|summary| summary.data_added)
    }

    /// Name of the program that made it.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.file.program_version
    }

    /// Its source, or the program that made it.
    #[must_use]
    pub fn maker(&self) -> String {
        match self.source() {
            Some(source) => source.to_string(),
            // restic before 0.17 does not record its version.
            None if self.program().is_empty() => "another program".to_owned(),
            None => self.program().to_owned(),
        }
    }

    fn tagged<T: FromStr>(&self, prefix: &str) -> Option<T> {
        self.file.tags.iter().find_map(|tag| tag.strip_prefix(prefix)?.parse().ok())
    }
}

/// The kinds of snapshots that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// All data of a source: a recovery point.
    Data,
    /// A slice of its change log.
    Slice,
}

/// The tags of one of our snapshots.
pub(crate) fn tags(
    content: Content,
    run: &RunId,
    source: &SourceName,
    whole: bool,
    more: &[String],
) -> String {
    let (own, prefix) = match content {
        Content::Data => (OWN_TAG, SOURCE_PREFIX),
        Content::Slice => (SLICE_TAG, SLICE_PREFIX),
    };
    let mut tags = vec![own.to_owned(), format!("{RUN_PREFIX}{run}"), format!("{prefix}{source}")];
    if !whole {
        tags.push(INCOMPLETE_TAG.to_owned());
    }
    tags.extend_from_slice(more);
    tags.join(",")
}

/// A snapshot as [`crate::operate::job::backup`] would make it, whose id ends with `number`.
impl RepositoryError {
    /// The error if none of these snapshots belongs to the selected hosts; it names the hosts that they belong to.
    pub(crate) fn no_point(
        of: &str,
        hosts: &HostScope,
        snapshots: &[&Snapshot],
        future: Option<String>,
    ) -> Self {
        let mut newest: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for snapshot in snapshots {
            let time = snapshot.time().timestamp();
            newest
                .entry(snapshot.host())
                .and_modify(|known| *known = time.max(*known))
                .or_insert(time);
        }
        let others = newest
            .into_iter()
            .map(|(host, newest)| HostNewest { host: host.to_owned(), newest })
            .collect();
        Self::NoPoint { of: of.to_owned(), hosts: hosts.to_string(), others, future }
    }
}

/// A base or a slice of a source on a host, with this span.
#[cfg(test)]
pub(crate) fn snapshot_for_tests_with(
    is_slice: bool,
    (host, source): (&str, &str),
    time: &Zoned,
    number: u8,
    span: &LogSpan,
) -> Snapshot {
    let content = if is_slice { Content::Slice } else { Content::Data };
    let mut snapshot = snapshot_for_tests(host, source, time, true, number);
    let source = source.parse().unwrap();
    let tags = tags(content, &RunId::new(), &source, true, &span.tags());
    snapshot.file.tags = tags.parse().unwrap();
    snapshot
}

#[cfg(test)]
pub(crate) fn snapshot_for_tests(
    host: &str,
    source: &str,
    time: &Zoned,
    whole: bool,
    number: u8,
) -> Snapshot {
    let tags = if source.is_empty() {
        "restic".to_owned()
    } else {
        tags(Content::Data, &RunId::new(), &source.parse().unwrap(), whole, &[])
    };
    let options = rustic_core::SnapshotOptions::default()
        .host(Some(host.into()))
        .time(time.clone())
        .add_tags(&tags)
        .unwrap();
    let mut file = options.to_snapshot().unwrap();
    file.id = format!("{number:02x}{}{number:02x}", "0".repeat(60))
        .parse::<rustic_core::Id>()
        .unwrap()
        .into();
    Snapshot::new(file)
}

impl Newest {
    /// Reports whether a snapshot is early enough.
    #[must_use]
    pub fn permits(&self, snapshot: &Snapshot) -> bool {
        self.until.is_none_or(|until| snapshot.time().timestamp() <= until)
    }

    /// The selected one of these snapshots, in any order.
    pub(crate) fn of<'a>(
        &self,
        snapshots: impl Iterator<Item = &'a Snapshot>,
    ) -> Option<&'a Snapshot> {
        let permitted = snapshots.filter(|snapshot| self.permits(snapshot));
        if self.back == 0 {
            return permitted.max_by_key(|snapshot| snapshot.time().timestamp());
        }
        let mut permitted: Vec<&Snapshot> = permitted.collect();
        permitted.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time().timestamp()));
        permitted.get(self.back).copied()
    }

    /// The error if it selects none of these snapshots of `of`, although there are some.
    pub(crate) fn out_of_reach(&self, of: &str, snapshots: &[&Snapshot]) -> RepositoryError {
        let oldest = snapshots.iter().map(|snapshot| snapshot.time().timestamp()).min();
        let oldest = oldest.map_or_else(String::new, |time| {
            format!(", the oldest of {}", time.strftime("%Y-%m-%d %H:%M:%S UTC"))
        });
        RepositoryError::NoSnapshot {
            wanted: format!("{self} of {of} ({} exist{oldest})", snapshots.len()),
        }
    }
}

impl RepositoryError {
    /// The error for an id that several snapshots match, which it lists.
    pub(crate) fn ambiguous(wanted: &str, found: &[&Snapshot]) -> Self {
        let digits = (wanted.len() + 4).max(8);
        let described = |snapshot: &&Snapshot| {
            let id = snapshot.id().to_string();
            format!(
                "{} ({} on {}, {})",
                id.get(..digits).unwrap_or(&id),
                snapshot.maker(),
                snapshot.host(),
                snapshot.time().strftime("%Y-%m-%d %H:%M:%S %Z")
            )
        };
        let mut matches: Vec<String> = found.iter().take(LISTED).map(described).collect();
        if found.len() > LISTED {
            matches.push(format!("{} more", found.len() - LISTED));
        }
        Self::Ambiguous { wanted: wanted.to_owned(), count: found.len(), matches }
    }
}

/// Selects a snapshot: `latest` of these hosts, or as [`PointSelector`] describes, or one of any host by the beginning of its id.
/// Records and slices are ignored, and a snapshot dated in the future is never the latest.
///
/// # Errors
/// If none matches, or several do.
pub fn select<'a>(
    snapshots: &'a [Snapshot],
    wanted: &str,
    hosts: &HostScope,
) -> Result<&'a Snapshot, RepositoryError> {
    let snapshots = snapshots.iter().filter(|snapshot| snapshot.is_data());
    let wanted = match PointSelector::parse(wanted)? {
        PointSelector::Id(wanted) => wanted,
        PointSelector::Newest(newest) => {
            let now = Timestamp::now();
            let past: Vec<&Snapshot> =
                snapshots.filter(|snapshot| !snapshot.is_of_the_future(now)).collect();
            let own: Vec<&Snapshot> =
                past.iter().copied().filter(|snapshot| hosts.includes(snapshot.host())).collect();
            if own.is_empty() {
                return Err(RepositoryError::no_point("any source", hosts, &past, None));
            }
            let found = newest.of(own.iter().copied());
            return found.ok_or_else(|| newest.out_of_reach(&hosts.to_string(), &own));
        }
    };
    let found: Vec<&Snapshot> = snapshots
        .filter(|_| !wanted.is_empty())
        .filter(|snapshot| snapshot.id().to_string().starts_with(&wanted))
        .collect();
    match found[..] {
        [] => Err(RepositoryError::NoSnapshot { wanted }),
        [only] => Ok(only),
        _ => Err(RepositoryError::ambiguous(&wanted, &found)),
    }
}
