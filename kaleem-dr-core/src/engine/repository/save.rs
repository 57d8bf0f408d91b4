//! Captures one source into one snapshot.
//!
//! An archiver runs on blocking threads behind a gate that withholds the snapshot file, while the source feeds it
//! through the artifact pipe. Only if both have succeeded does [`super::commit`] release the snapshot.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::{JoinError, JoinHandle};

use super::{
    Repository, RepositoryError,
    backend::Gate,
    backpressure::Backpressure,
    blocking, commit,
    feed::Feed,
    lock::Lock,
    prepared::{Archived, CaptureBar, PROGRAM, Prepared, Way, snapshot_file},
    snapshot,
    snapshot::{Content, SnapshotId},
};
use crate::{
    CancellationToken,
    engine::{
        artifact::{Capture, CaptureOutcome, CaptureState},
        change_log::LogSpan,
        manifest::{Enclosure, MANIFEST_FORMAT, Manifest},
        source::Source,
    },
    ground::{
        Exit, RunId, SourceError, SourceName, error_chain, host::HostName, progress::ProgressSink,
    },
};

/// Time for a source to remove what it created on its server, after the repository has failed.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The same after a cancellation: every command then ends within two seconds.
const LAST_WORDS_CANCELLED: Duration = Duration::from_millis(800);

/// Options for saving a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The run this belongs to.
    pub run: RunId,
    /// The host that the snapshot is of.
    pub host: HostName,
    /// Additional tags for the snapshot.
    pub tags: Vec<String>,
    /// Read and digest everything; write nothing.
    pub dry_run: bool,
    /// Content of `/RESTORE.md`; `None` for the general instructions.
    pub restore_text: Option<Arc<str>>,
    /// Further files for the directory of the manifest, sorted by name.
    pub enclosures: Vec<Enclosure>,
    /// The snapshot is a slice of the source's change log and no recovery point.
    pub(crate) is_slice: bool,
}

impl SaveOptions {
    /// Options without additional tags, with the general text in `/RESTORE.md`.
    #[must_use]
    pub fn new(run: RunId, host: HostName) -> Self {
        Self {
            run,
            host,
            tags: Vec::new(),
            dry_run: false,
            restore_text: None,
            enclosures: Vec::new(),
            is_slice: false,
        }
    }
}

impl SaveOptions {
    /// The tags of the snapshot, with those of its span in the change log.
    fn snapshot_tags(&self, source: &SourceName, is_whole: bool, span: Option<&LogSpan>) -> String {
        let more: Vec<String> =
            self.tags.iter().cloned().chain(span.into_iter().flat_map(LogSpan::tags)).collect();
        let content = if self.is_slice { Content::Slice } else { Content::Data };
        snapshot::tags(content, &self.run, source, is_whole, &more)
    }
}

/// The result of saving a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Saved {
    /// The snapshot; `None` after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The manifest of the new snapshot.
    pub manifest: Manifest,
    /// Bytes added to the repository: packs and index files, compressed and encrypted.
    pub added_bytes: u64,
    /// Files that were read because they are new or changed (artifacts among them).
    pub files_new: u64,
    /// Number of files that differ from the parent snapshot's.
    pub files_changed: u64,
    /// Number of files reused from the parent snapshot without reading them.
    pub files_unmodified: u64,
    /// Uncompressed size of new blobs, in bytes.
    pub new_blob_bytes: u64,
    /// Damage of the last snapshot that was found: nothing that it affects was reused, but read, and lost data stored again.
    pub healed: Option<String>,
}

/// The reason why a source was not saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// An error of the source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An error of the repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<&SaveError> for Exit {
    fn from(error: &SaveError) -> Self {
        match error {
            SaveError::Source(error) => error.into(),
            SaveError::Repository(error) => error.into(),
        }
    }
}

impl Repository {
    /// Captures a source into one snapshot, under a lock that the caller holds.
    ///
    /// # Errors
    /// The first failure of the source, the repository or the commit. After an error there is no snapshot.
    pub async fn save(
        &self,
        source: &dyn Source,
        options: &SaveOptions,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Saved, SaveError> {
        let stop = cancel.child_token();
        let backpressure = Backpressure::new(self.0.store.is_remote());
        let gate = Gate::capturing(stop.clone(), backpressure.clone());
        let mut repository_bytes = 0;
        if !options.dry_run {
            let mended = self.mended(lock, cancel).await?;
            repository_bytes = mended.stored_bytes;
            gate.hide(mended.damaged);
        }
        let bar = CaptureBar::of(source.name(), progress);
        let mut prepared = self.prepared(source, options, gate.clone(), bar, &stop).await?;
        prepared.repository_bytes = repository_bytes;

        let (capture, entries, state) = Capture::begin(gate.poison.clone(), stop.clone());
        let archive = {
            let (state, roots, dry_run, host) =
                (state.clone(), source.roots(), options.dry_run, options.host.clone());
            let tags = options.snapshot_tags(source.name(), true, None);
            let label = source.name().to_string();
            tokio::task::spawn_blocking(move || {
                let file = snapshot_file((&host, label), &tags)?;
                if prepared.way == Way::Files {
                    return prepared.archive_files(entries, &state, (&roots, file), dry_run);
                }
                let feed = Feed { entries: Mutex::new(Some(entries)), state, backpressure };
                prepared.archive(&feed, (&roots, file), dry_run)
            })
        };
        let ends = Ends { lock, cancel, stop: &stop };
        let (captured, archived) =
            tokio::join!(ends.capture(source, capture, &state), ends.archive(archive));
        let Archived { engine, mut file, reach, healed } =
            ends.agree(captured, archived, &state).await?;
        if let Some(healed) = &healed {
            tracing::warn!(source = %source.name(), "{healed}");
        }
        let outcome = state.conclude().map_err(RepositoryError::NotCommitted)?;
        let summary = file.summary.clone().unwrap_or_default();
        let followers = outcome.artifacts.len() as u64;
        all_arrived(outcome.entries, summary.total_files_processed.saturating_sub(followers))?;
        let manifest = manifest(source, options, &state, outcome.clone());
        let mut saved = Saved {
            snapshot: None,
            added_bytes: gate.written_bytes(),
            files_new: summary.files_new.saturating_sub(followers),
            files_changed: summary.files_changed,
            files_unmodified: summary.files_unmodified,
            new_blob_bytes: summary.data_added,
            healed,
            manifest,
        };
        if options.dry_run {
            return Ok(saved);
        }
        let (is_whole, span) =
            (saved.manifest.incomplete.is_empty(), saved.manifest.change_log.as_ref());
        if !is_whole || span.is_some() {
            file.tags = options
                .snapshot_tags(source.name(), is_whole, span)
                .parse()
                .map_err(|_| RepositoryError::NotCommitted("a tag is not valid".into()))?;
        }
        let release = commit::Release {
            engine,
            file,
            outcome,
            restore_text: options.restore_text.clone(),
            enclosures: options.enclosures.clone(),
            reach,
            stop,
        };
        let (id, added) = release.run(self, &saved.manifest, lock).await?;
        saved.added_bytes += added;
        saved.snapshot = Some(id);
        Ok(saved)
    }

    /// Opens the engine with the parent of the next snapshot, in a thread that may block.
    async fn prepared(
        &self,
        source: &dyn Source,
        options: &SaveOptions,
        gate: Arc<Gate>,
        bar: Arc<CaptureBar>,
        stop: &CancellationToken,
    ) -> Result<Prepared, RepositoryError> {
        let (repository, stop) = (self.clone(), stop.clone());
        let (host, name, roots) = (options.host.clone(), source.name().clone(), source.roots());
        let has_only_files = source.has_only_files();
        // A slice has nothing in common with an earlier snapshot.
        let snapshots = if options.is_slice { Vec::new() } else { self.snapshots().await? };
        blocking(move || {
            let (of, roots) = ((&host, &name), (&roots[..], has_only_files));
            Prepared::new(&repository, gate, &bar, &snapshots, of, roots, &stop)
        })
        .await
    }
}

/// The events that can end a capture early.
struct Ends<'a> {
    lock: &'a Lock,
    cancel: &'a CancellationToken,
    /// Stops both halves of a capture.
    stop: &'a CancellationToken,
}

impl Ends<'_> {
    /// Captures a source until it has ended, the lock is lost, or the run is cancelled.
    async fn capture(
        &self,
        source: &dyn Source,
        mut capture: Capture,
        state: &CaptureState,
    ) -> Result<(), SourceError> {
        let lost = self.lock.lost();
        let captured = {
            let mut capturing = source.capture(&mut capture);
            let cut_short = tokio::select! {
                captured = &mut capturing => Ok(captured),
                () = lost.cancelled() => Err((SourceError::Aborted, LAST_WORDS)),
                () = self.cancel.cancelled() => Err((SourceError::Cancelled, LAST_WORDS_CANCELLED)),
            };
            match cut_short {
                Ok(captured) => captured,
                Err((error, last_words)) => {
                    // It may have created objects on its server that it must remove. Its result no longer matters.
                    self.stop.cancel();
                    let _ = tokio::time::timeout(last_words, capturing).await;
                    Err(error)
                }
            }
        };
        if let Err(error) = &captured {
            state.spoil(error_chain(error));
        }
        // Ends the archiver's stream of entries.
        drop(capture);
        captured
    }

    /// Waits for the archiver. The source may have handed over its last entry long before the archiver has read it: a loss of the
    /// lock must reach the source too.
    async fn archive<T>(&self, mut archive: JoinHandle<T>) -> Result<T, JoinError> {
        let lost = self.lock.lost();
        tokio::select! {
            archived = &mut archive => archived,
            () = lost.cancelled() => {
                self.stop.cancel();
                archive.await
            }
        }
    }

    /// Returns the archiver's result, if neither half has failed.
    async fn agree(
        &self,
        captured: Result<(), SourceError>,
        archived: Result<Result<Archived, RepositoryError>, JoinError>,
        state: &CaptureState,
    ) -> Result<Archived, SaveError> {
        if self.cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled.into());
        }
        if self.lock.lost().is_cancelled() {
            self.lock.confirm().await?;
        }
        let archived = archived
            .map_err(|panic| RepositoryError::Engine { action: "write to", cause: panic.into() })?;
        match captured {
            // The failure of the repository interrupted the source, so its own error adds nothing.
            Err(SourceError::Aborted) if archived.is_err() => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                if let Some(why) = state.spoiled() {
                    return Err(RepositoryError::NotCommitted(why).into());
                }
            }
        }
        Ok(archived?)
    }
}

/// rustic_core logs an entry's failure and continues: check that everything captured has reached the repository.
fn all_arrived(captured: u64, arrived: u64) -> Result<(), RepositoryError> {
    if captured == arrived {
        return Ok(());
    }
    Err(RepositoryError::NotCommitted(format!(
        "{captured} entries were captured but {arrived} reached the repository"
    )))
}

fn manifest(
    source: &dyn Source,
    options: &SaveOptions,
    state: &CaptureState,
    outcome: CaptureOutcome,
) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        run: options.run.to_string(),
        source: source.name().to_string(),
        kind: source.kind().to_owned(),
        host: options.host.to_string(),
        tool: PROGRAM.to_owned(),
        started: state.started,
        finished: jiff::Timestamp::now(),
        server: outcome.server,
        consistency: outcome.consistency,
        artifacts: outcome.artifacts,
        tree: outcome.tree,
        incomplete: outcome.incomplete,
        details: outcome.details,
        change_log: outcome.change_log,
    }
}
