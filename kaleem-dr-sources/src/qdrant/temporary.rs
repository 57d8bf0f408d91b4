//! Snapshots on the server: taken for a capture, and deleted again.
//!
//! A snapshot stays on the server's disk until it is deleted. Names of snapshots have one-second
//! resolution, and two snapshots of the same subject within one second destroy each other; so those
//! of one subject are kept apart. If the reply to a request is lost, because a proxy gave up or the
//! connection broke, the server still finishes the file: it is found in the list of snapshots.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use kaleem_dr_core::{
    CancellationToken,
    engine::artifact::Capture,
    ground::{SourceError, error_chain},
};
use reqwest::StatusCode;
use tokio::{sync::Mutex, time::Instant};

use super::{
    api::{SnapshotFile, Subject},
    client::QdrantClient,
};

/// Minimum time between two snapshots of one subject.
const APART: Duration = Duration::from_secs(2);
/// Time between two looks for a snapshot whose name was not received.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Number of looks that may fail in a row.
const FAILED_LOOKS: u32 = 3;

/// When this process last took a snapshot of each subject. Locked while a snapshot is taken, so
/// that there is one at a time.
pub(super) type Pace = Mutex<HashMap<Subject, Instant>>;

/// A snapshot on a server.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) client: &'a QdrantClient,
    pub(super) file: SnapshotFile,
}

/// The snapshots of one capture that must be deleted.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    pace: &'a Pace,
    cancel: CancellationToken,
    held: BTreeMap<Subject, Held<'a>>,
    /// Snapshots that could not be deleted: each with the reason.
    left: Vec<(String, String)>,
}

impl<'a> Temporary<'a> {
    pub(super) fn new(pace: &'a Pace, cancel: CancellationToken) -> Self {
        Self { pace, cancel, held: BTreeMap::new(), left: Vec::new() }
    }

    /// The snapshot of this subject, if one was taken.
    pub(super) fn of(&self, subject: &Subject) -> Option<&Held<'a>> {
        self.held.get(subject)
    }

    /// Takes a snapshot. Not interrupted by a cancellation: the server would still finish the file.
    ///
    /// # Errors
    /// If the server fails to take it, or it cannot be found afterwards.
    pub(super) async fn take(
        &mut self,
        client: &'a QdrantClient,
        subject: &Subject,
    ) -> Result<(), SourceError> {
        let mut pace = self.pace.lock().await;
        if let Some(last) = pace.get(subject) {
            let waiting = tokio::time::sleep_until(*last + APART);
            self.cancel.run_until_cancelled(waiting).await.ok_or(SourceError::Cancelled)?;
        }
        let before = names(&client.snapshots(subject).await?);
        let mut unheard_of = UnheardOf { subject, is_possible: true };
        let taken = client.create_snapshot(subject).await;
        pace.insert(subject.clone(), Instant::now());
        drop(pace);
        let found = match &taken {
            Ok(_) => None,
            Err(error) => match patience(client, error) {
                None => None,
                Some(patience) => {
                    let found = self.find(client, subject, &before, patience).await?;
                    if found.is_none() {
                        self.left.push(unfound(client, subject, error));
                    }
                    found
                }
            },
        };
        unheard_of.is_possible = false;
        let file = found.map_or(taken, Ok)?;
        self.held.insert(subject.clone(), Held { client, file });
        Ok(())
    }

    /// Looks for the snapshot that was not there before. `None` if there is none in time, or more
    /// than one: another program may take snapshots too, and those must stay.
    async fn find(
        &self,
        client: &QdrantClient,
        subject: &Subject,
        before: &BTreeSet<String>,
        patience: Duration,
    ) -> Result<Option<SnapshotFile>, SourceError> {
        let (began, mut failed) = (Instant::now(), 0);
        let mut last: Option<SnapshotFile> = None;
        loop {
            match client.snapshots(subject).await {
                Ok(listed) => {
                    failed = 0;
                    let new = listed.into_iter().filter(|file| !before.contains(&file.name));
                    let mut new: Vec<_> = new.collect();
                    let found = new.pop();
                    if !new.is_empty() {
                        return Ok(None);
                    }
                    // Twice the same: it is not being written any more.
                    if found.is_some() && found == last {
                        tracing::info!(snapshot = %subject, "found a snapshot whose name was not received");
                        return Ok(found);
                    }
                    last = found;
                }
                Err(error @ (SourceError::Unreachable { .. } | SourceError::Server { .. })) => {
                    failed += 1;
                    tracing::debug!(snapshot = %subject, error = %error_chain(&error), "cannot list snapshots");
                }
                Err(error) => return Err(error),
            }
            if failed >= FAILED_LOOKS || (last.is_none() && began.elapsed() > patience) {
                return Ok(None);
            }
            let waiting = tokio::time::sleep(BETWEEN_LOOKS);
            self.cancel.run_until_cancelled(waiting).await.ok_or(SourceError::Cancelled)?;
        }
    }

    /// Deletes a snapshot now, to free the server's disk. A failure is retried, and reported, at
    /// the end.
    pub(super) async fn discard(&mut self, subject: &Subject) {
        if let Some(Held { client, file }) = self.held.get(subject)
            && client.delete_snapshot(subject, &file.name).await.is_ok()
        {
            self.held.remove(subject);
        }
    }

    /// Deletes all snapshots that are left, and reports those that cannot be deleted: every night
    /// would leave another file until the server's disk is full, so the run must not look
    /// successful.
    pub(super) async fn clear(mut self, out: &mut Capture) {
        for (subject, Held { client, file }) in std::mem::take(&mut self.held) {
            if let Err(error) = client.delete_snapshot(&subject, &file.name).await {
                let (what, server) = (&file.name, client.server());
                self.left.push((
                    format!("removal of the temporary snapshot {what} from {server}"),
                    error_chain(&error),
                ));
            }
        }
        for (what, why) in self.left {
            tracing::warn!(what, why, "a temporary snapshot may be left on the server");
            out.incomplete(what, why);
        }
    }
}

/// The report of a snapshot that the server may still finish after this error.
fn unfound(client: &QdrantClient, subject: &Subject, error: &SourceError) -> (String, String) {
    (
        format!("removal of a temporary snapshot of {subject} from {}", client.server()),
        format!(
            "the server may still finish it: look for it and delete it ({})",
            error_chain(error)
        ),
    )
}

fn names(files: &[SnapshotFile]) -> BTreeSet<String> {
    files.iter().map(|file| file.name.clone()).collect()
}

/// The time in which a snapshot may still appear after this error; `None` if the server itself answered that
/// it takes none.
fn patience(client: &QdrantClient, error: &SourceError) -> Option<Duration> {
    match QdrantClient::status_of(error) {
        // A proxy gave up waiting, but the server goes on.
        Some(StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT) => {
            Some(client.snapshot_timeout())
        }
        Some(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) => Some(client.timeout()),
        // Of a proxy in front of the server (Cloudflare).
        Some(status) if (520..=527).contains(&status.as_u16()) => Some(client.snapshot_timeout()),
        Some(_) => None,
        None => matches!(error, SourceError::Unreachable { .. }).then(|| client.timeout()),
    }
}

/// A snapshot that the server may still finish, but whose name we never received. Reported even if
/// the capture is dropped.
struct UnheardOf<'a> {
    subject: &'a Subject,
    is_possible: bool,
}

impl Drop for UnheardOf<'_> {
    fn drop(&mut self) {
        if self.is_possible {
            tracing::warn!(
                snapshot = %self.subject,
                "the server may still finish a snapshot; look for it on the server and delete it"
            );
        }
    }
}
