//! Whether a night's snapshots look normal: each is compared with the last normal one of its source, out of the repository.

use std::path::Path;

use jiff::Timestamp;

use super::RunId;
use crate::{
    host,
    manifest::Manifest,
    repository::{Repository, RepositoryError, Snapshot, SnapshotId, SnapshotReader},
    source::SourceName,
    tripwire::{Alarm, AlarmError, Alarms, History, Observed, Tripwire, Volume},
};

/// A snapshot that this run has saved.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) source: SourceName,
    pub(super) snapshot: SnapshotId,
    pub(super) manifest: Manifest,
    pub(super) new_blob_bytes: u64,
}

/// Why nobody can tell whether a snapshot is normal.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Alarms(#[from] AlarmError),
}

/// Judges what a run saved into a repository, and raises an alarm for what is suspicious.
pub(super) async fn watch(
    repository: &Repository,
    tripwire: &Tripwire,
    state_directory: &Path,
    run: RunId,
    saved: &[Fresh],
) -> Result<(), WatchError> {
    if saved.is_empty() || !tripwire.enabled {
        return Ok(());
    }
    let (snapshots, host) = (repository.snapshots().await?, host::name());
    let mut reader: Option<SnapshotReader> = None;
    for fresh in saved {
        let earlier: Vec<&Snapshot> = snapshots
            .iter()
            .filter(|snapshot| {
                snapshot.is_ours()
                    && snapshot.is_whole()
                    && snapshot.host() == host
                    && snapshot.source().as_ref() == Some(&fresh.source)
                    && snapshot.id() != fresh.snapshot
            })
            .collect();
        let alarms = Alarms::load(state_directory)?;
        let known = alarms.normal(repository.id(), &fresh.source);
        // A run that died before it could judge its snapshot must not have made it normal: so it is not just the last one.
        let normal = earlier.iter().find(|snapshot| known == Some(snapshot.id().to_string().as_str())).or(earlier.last());
        let mut history = History { normal: None, volumes: earlier.iter().filter_map(|snapshot| volume(snapshot)).collect() };
        if let Some(normal) = normal {
            let opened = match &reader {
                Some(reader) => reader.at(normal),
                None => repository.read(normal).await?,
            };
            history.normal = opened.manifest().await?;
            reader = Some(opened);
        }
        let observed = Observed { manifest: &fresh.manifest, new_blob_bytes: fresh.new_blob_bytes };
        let alarm = Alarm {
            repository: repository.id().to_owned(),
            source: fresh.source.clone(),
            host: host.clone(),
            run,
            time: Timestamp::now(),
            snapshot: fresh.snapshot.to_string(),
            suspicions: tripwire.judge(observed, &history),
        };
        Alarms::note(state_directory, alarm)?;
    }
    Ok(())
}

fn volume(snapshot: &Snapshot) -> Option<Volume> {
    Some(Volume { new_bytes: snapshot.new_blob_bytes()?, size_bytes: snapshot.size_bytes()? })
}
