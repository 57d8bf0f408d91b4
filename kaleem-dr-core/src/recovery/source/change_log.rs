//! Sources with a change log, which can be restored to any moment.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use super::Restorable;
use crate::{
    engine::{artifact::Capture, change_log::LogPosition},
    ground::SourceError,
    recovery::point::PointReader,
};

/// The part of a change log that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogExtent {
    /// The oldest entry.
    pub oldest: LogPosition,
    /// The newest entry that cannot be rolled back.
    pub newest: LogPosition,
}

impl LogExtent {
    /// The part between these two entries.
    #[must_use]
    pub fn new(oldest: LogPosition, newest: LogPosition) -> Self {
        Self { oldest, newest }
    }
}

/// The start of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SliceStart {
    /// Position of the last entry that is saved already.
    pub after: LogPosition,
    /// SHA-256 of that entry, 64 hex digits; `None` for the first slice.
    pub anchor: Option<String>,
}

impl SliceStart {
    /// The first slice: it begins with the entry at this position.
    #[must_use]
    pub fn first(after: LogPosition) -> Self {
        Self { after, anchor: None }
    }

    /// Continues after the entry at this position with this SHA-256.
    #[must_use]
    pub fn after(after: LogPosition, anchor: String) -> Self {
        Self { after, anchor: Some(anchor) }
    }
}

/// The change log of a source.
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// The path in a slice that contains its entries. It differs from all of [`Source::roots`](crate::engine::source::Source::roots).
    fn root(&self) -> PathBuf;

    /// Identifies what the source captures: slices extend only points that were captured with the same selection.
    fn scope(&self) -> String;

    /// The part of the log that the server has. Writes nothing.
    ///
    /// # Errors
    /// If the server cannot be reached, keeps no log, or does not allow to read it.
    async fn extent(&self) -> Result<LogExtent, SourceError>;

    /// Emits the entries from a start, which is included, to the newest one that cannot be rolled back, and records their
    /// [span](Capture::set_change_log). If the server no longer has the start, or has another entry there, the slice begins with
    /// the oldest entry that it has, and its span says so as a gap.
    ///
    /// # Errors
    /// If the log cannot be read.
    async fn capture_slice(&self, start: &SliceStart, out: &mut Capture)
    -> Result<(), SourceError>;

    /// Reads a saved slice completely, and parses each entry. Returns the number of entries.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was captured.
    async fn inspect_slice(&self, slice: &PointReader) -> Result<u64, SourceError>;
}

/// The change log of a source.
///
/// # Errors
/// [`SourceError::Unsupported`] if it keeps none.
pub fn change_log(source: &dyn Restorable) -> Result<&dyn ChangeLog, SourceError> {
    source.change_log().ok_or_else(|| {
        SourceError::Unsupported(format!(
            "source {} has no change log: a source of kind {} cannot be restored to any moment, only to its points",
            source.name(),
            source.kind()
        ))
    })
}
