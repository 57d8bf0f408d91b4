//! Saves a slice of a source's change log, and proves it by reading it back.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    CancellationToken,
    engine::{
        artifact::Capture,
        change_log::{LogBreak, LogPosition, LogSpan},
        repository::{
            Lock, LockKind, Repository, RepositoryError, SaveError, SaveOptions, Snapshot,
            SnapshotId, tags_for,
        },
        source::{Probe, Source},
    },
    ground::{
        Exit, RunId, SourceError, SourceName, error_chain, host::HostName, progress::ProgressSink,
    },
    recovery::{
        point::PointReader,
        source::{ChangeLog, LogExtent, Restorable, SliceStart, change_log},
    },
};

/// Options of one slice.
#[derive(Clone)]
#[non_exhaustive]
pub struct SliceJob {
    /// Id of the run.
    pub run: RunId,
    /// Host that the slice belongs to.
    pub host: HostName,
    /// Repository to save to.
    pub repository: Repository,
    /// Source with a change log.
    pub source: Arc<dyn Restorable>,
    /// Additional tags for the snapshot.
    pub tags: Vec<String>,
    /// Maximum wait for another program's lock.
    pub patience: Duration,
}

impl SliceJob {
    /// A slice without additional tags that does not wait for locks.
    #[must_use]
    pub fn new(repository: Repository, source: Arc<dyn Restorable>, host: HostName) -> Self {
        let (run, tags, patience) = (RunId::new(), Vec::new(), Duration::ZERO);
        Self { run, host, repository, source, tags, patience }
    }
}

/// The result of one slice.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SliceReport {
    /// Id of the run.
    pub run: RunId,
    /// The source.
    pub source: SourceName,
    /// Location of the repository, without credentials.
    pub repository: String,
    /// Start of the work.
    pub started: Timestamp,
    /// End of the work.
    pub finished: Timestamp,
    /// The slice; `None` if the log has no new entry.
    pub snapshot: Option<SnapshotId>,
    /// Last position that was saved before.
    pub after: LogPosition,
    /// Last position that is saved now.
    pub to: LogPosition,
    /// Entries in the slice.
    pub entries: u64,
    /// Data added to the repository, in bytes.
    pub added_bytes: u64,
    /// The part of the log that the server has.
    pub extent: LogExtent,
    /// The reason why the slice does not continue the one before it.
    pub gap: Option<String>,
    /// Entries that no replay can follow.
    pub breaks: Vec<LogBreak>,
    /// Exit status: 3 with a gap or a break.
    pub exit: Exit,
}

/// Saves the entries since the last slice of this host and source, reads the snapshot back, and compares it with what was
/// captured. The caller records the result, as [`Site::oplog`](crate::Site::oplog) does.
///
/// # Errors
/// If the source has no change log, or it cannot be read; if the repository cannot be locked or written; if the slice reads back
/// otherwise than it was captured.
pub async fn save_slice(
    job: &SliceJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<SliceReport, SaveError> {
    let started = Timestamp::now();
    let log = change_log(&*job.source)?;
    let extent = log.extent().await?;
    let lock = job.repository.lock(LockKind::Shared, job.patience).await?;
    let saved = save_locked(job, log, extent, &lock, progress, cancel).await;
    let released = lock.release().await;
    let mut report = saved?;
    released?;
    (report.started, report.finished) = (started, Timestamp::now());
    Ok(report)
}

async fn save_locked(
    job: &SliceJob,
    log: &dyn ChangeLog,
    extent: LogExtent,
    lock: &Lock,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<SliceReport, SaveError> {
    let start = start(job, log, extent, progress, cancel).await?;
    let now = Timestamp::now();
    let mut report = SliceReport {
        run: job.run,
        source: job.source.name().clone(),
        repository: job.repository.location(),
        started: now,
        finished: now,
        snapshot: None,
        after: start.after,
        to: start.after,
        entries: 0,
        added_bytes: 0,
        extent,
        gap: None,
        breaks: Vec::new(),
        exit: Exit::Done,
    };
    if start.anchor.is_some() && extent.newest <= start.after {
        // After an election, a new primary may know for a moment less of what a majority has.
        return if extent.newest == start.after {
            Ok(report)
        } else {
            Err(behind(job, &start, extent))
        };
    }
    let options = SaveOptions {
        tags: tags_for(&job.tags, job.host.as_str()),
        is_slice: true,
        ..SaveOptions::new(job.run, job.host.clone())
    };
    let slice = Slice { of: &*job.source, log, start };
    let saved = job.repository.save(&slice, &options, lock, progress, cancel).await?;
    let span = saved.manifest.change_log.unwrap_or_default();
    let Some(id) = saved.snapshot else { return Ok(report) };
    let listed = job.repository.snapshots().await?;
    let saved_slice = listed
        .iter()
        .find(|snapshot| snapshot.id() == id)
        .ok_or_else(|| RepositoryError::NoSnapshot { wanted: id.to_string() })?;
    let point = open(&job.repository, saved_slice, progress, cancel).await?;
    report.entries = log.inspect_slice(&point).await?;
    report.snapshot = Some(id);
    report.added_bytes = saved.added_bytes;
    (report.to, report.gap, report.breaks) = (span.to, span.gap, span.breaks);
    if report.gap.is_some() || !report.breaks.is_empty() {
        report.exit = Exit::Partial;
    }
    Ok(report)
}

async fn open(
    repository: &Repository,
    snapshot: &Snapshot,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<PointReader, RepositoryError> {
    PointReader::open(repository.read(snapshot).await?, progress.clone(), cancel.clone()).await
}

fn behind(job: &SliceJob, start: &SliceStart, extent: LogExtent) -> SaveError {
    SaveError::Source(SourceError::Unsupported(format!(
        "the change log of {} ends at {} ({}), before the end of the last slice, {} ({}): a new primary may not be ready yet, or the server is \
         another one than before. Run it again in a minute; if the error stays, check the address of the source",
        job.source.name(),
        extent.newest.time(),
        extent.newest,
        start.after.time(),
        start.after
    )))
}

/// The start of the next slice: the end of the newest readable slice, so that the new one also covers a damaged one; for the first
/// one, the position from which the newest point needs the log, or else the end of the log.
async fn start(
    job: &SliceJob,
    log: &dyn ChangeLog,
    extent: LogExtent,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<SliceStart, RepositoryError> {
    let (snapshots, scope, name) =
        (job.repository.snapshots().await?, log.scope(), job.source.name());
    let spans = |fits: &dyn Fn(&Snapshot) -> bool| -> Vec<(&Snapshot, LogSpan)> {
        snapshots
            .iter()
            .filter(|snapshot| {
                snapshot.host() == job.host.as_str() && snapshot.is_whole() && fits(snapshot)
            })
            .filter_map(|snapshot| Some((snapshot, snapshot.log_span()?)))
            .filter(|(_, span)| span.scope == scope)
            .collect()
    };
    let mut slices = spans(&|snapshot| snapshot.sliced().as_ref() == Some(name));
    slices.sort_by_key(|(_, span)| std::cmp::Reverse(span.to));
    for (slice, span) in slices {
        match open(&job.repository, slice, progress, cancel).await {
            Ok(point) => {
                let anchor = point.manifest().change_log.as_ref().map(|span| span.anchor.clone());
                return Ok(SliceStart { after: span.to, anchor });
            }
            Err(error @ RepositoryError::Damaged { .. }) => {
                tracing::warn!(
                    slice = %slice.id().short(), error = %error_chain(&error),
                    "a slice is damaged; the next one covers its entries again, if the server still has them"
                );
            }
            Err(error) => return Err(error),
        }
    }
    let bases = spans(&|snapshot| snapshot.is_ours() && snapshot.source().as_ref() == Some(name));
    let newest = bases.into_iter().map(|(_, span)| span.after).max();
    let after = newest.filter(|after| *after >= extent.oldest && *after <= extent.newest);
    Ok(SliceStart::first(after.unwrap_or(extent.newest)))
}

/// A slice as a source that a repository saves.
struct Slice<'a> {
    of: &'a dyn Restorable,
    log: &'a dyn ChangeLog,
    start: SliceStart,
}

#[async_trait]
impl Source for Slice<'_> {
    fn name(&self) -> &SourceName {
        self.of.name()
    }

    fn kind(&self) -> &'static str {
        self.of.kind()
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![self.log.root()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        self.of.probe().await
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        self.log.capture_slice(&self.start, out).await
    }
}
