//! Judges whether a night's snapshots look normal: compares each with the last normal one of its
//! source in the repository.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use crate::{
    engine::{
        manifest::Manifest,
        repository::{
            LockKind, RecordKind, Repository, RepositoryError, Snapshot, SnapshotId, SnapshotReader,
        },
    },
    ground::{RunId, SourceName, host::HostName},
    operate::tripwire::{
        Alarm, AlarmError, Alarms, History, Observed, RecordedAlarm, Tripwire, Volume,
    },
};

/// A snapshot that this run has saved.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) source: SourceName,
    pub(super) snapshot: SnapshotId,
    pub(super) manifest: Manifest,
    pub(super) new_blob_bytes: u64,
}

/// Why a snapshot cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Alarms(#[from] AlarmError),
}

/// A repository whose new snapshots are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched<'a> {
    pub(super) repository: &'a Repository,
    pub(super) host: &'a HostName,
    /// Directory of this host's alarms.
    pub(super) state_directory: &'a Path,
    pub(super) patience: Duration,
}

/// Judges what a run saved in a repository, and raises an alarm for suspicious snapshots, on this
/// host and in the repository.
pub(super) async fn watch(
    of: &Watched<'_>,
    tripwire: &Tripwire,
    run: RunId,
    saved: &[Fresh],
) -> Result<(), WatchError> {
    if saved.is_empty() || !tripwire.enabled {
        return Ok(());
    }
    let Watched { repository, host, state_directory, .. } = *of;
    let snapshots = repository.snapshots().await?;
    Alarms::reconcile(state_directory, repository.id(), &Alarm::recorded(&snapshots))?;
    let mut reader: Option<SnapshotReader> = None;
    for fresh in saved {
        let earlier: Vec<&Snapshot> = snapshots
            .iter()
            .filter(|snapshot| {
                snapshot.is_ours()
                    && snapshot.is_whole()
                    && snapshot.host() == host.as_str()
                    && snapshot.source().as_ref() == Some(&fresh.source)
                    && snapshot.id() != fresh.snapshot
            })
            .collect();
        let alarms = Alarms::load(state_directory)?;
        let known = alarms.normal(repository.id(), &fresh.source);
        // The last snapshot is not enough: a run that died before it could judge its snapshot must
        // not have made it normal.
        let normal = earlier
            .iter()
            .find(|snapshot| known == Some(snapshot.id().to_string().as_str()))
            .or(earlier.last());
        let mut history = History {
            normal: None,
            volumes: earlier.iter().filter_map(|snapshot| volume(snapshot)).collect(),
        };
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
            host: host.to_string(),
            run,
            time: Timestamp::now(),
            snapshot: fresh.snapshot.to_string(),
            normal: normal.map(|snapshot| snapshot.id().to_string()),
            is_recorded: false,
            suspicions: tripwire.judge(observed, &history),
        };
        Alarms::note(state_directory, alarm)?;
    }
    record(of, &Alarm::recorded(&snapshots)).await
}

/// Writes a record of each alarm that the repository does not hold yet.
async fn record(of: &Watched<'_>, recorded: &[RecordedAlarm]) -> Result<(), WatchError> {
    let unrecorded = Alarms::reconcile(of.state_directory, of.repository.id(), recorded)?;
    if unrecorded.is_empty() {
        return Ok(());
    }
    let lock = of.repository.lock(LockKind::Shared, of.patience).await?;
    let written = async {
        for alarm in &unrecorded {
            // Plain fields only, so serialisation cannot fail.
            let body = serde_json::to_value(alarm).unwrap_or_default();
            of.repository
                .add_record(RecordKind::Alarm, of.host, &alarm.source, &body, &lock)
                .await?;
            Alarms::note_recorded(of.state_directory, alarm)?;
        }
        Ok(())
    }
    .await;
    lock.release().await?;
    written
}

fn volume(snapshot: &Snapshot) -> Option<Volume> {
    Some(Volume { new_bytes: snapshot.new_blob_bytes()?, size_bytes: snapshot.size_bytes()? })
}
