//! Copies one object from a store to another, and compares it with its name on the way.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::inventory::{Named, ObjectKind};
use crate::{
    CancellationToken,
    engine::repository::{
        RepositoryError,
        store::{ObjectStore, StoreErrorKind},
    },
    ground::{digest::ByteDigest, error_chain, progress::StageProgress},
};

/// Objects up to this size, in bytes, are read into memory and written with one request; larger ones in pieces.
const WHOLE_BYTES: u64 = 48 << 20;
/// Limit for the total size of objects in memory, in bytes.
const BUDGET_BYTES: u64 = 64 << 20;
/// The minimum share of the budget for an object, in bytes, so that not too many small ones are transferred at once.
const SHARE_BYTES: u64 = 64 << 10;
pub(crate) const AT_ONCE: usize = 16;
/// Size of the pieces in which a large object is read, in bytes.
const PIECE_BYTES: u64 = 8 << 20;
/// restic's key files have less than 1 KiB.
const LONGEST_KEY_BYTES: u64 = 64 << 10;
/// Limit for the memory that a key file may require, in bytes: rustic's need 128 MiB, restic's at most 60 MiB.
const MOST_KEY_MEMORY: u128 = 1 << 30;
/// Attempts to fetch an object whose content does not match its name.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// The result of the transfer of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    /// It is stored on the other side and matches its name.
    Whole,
    /// It must not be stored there, for this reason.
    Refused(String),
}

/// Copies objects within a memory budget.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    pub(crate) from: Arc<dyn ObjectStore>,
    pub(crate) to: Arc<dyn ObjectStore>,
    pub(crate) cancel: CancellationToken,
    budget: Arc<Semaphore>,
}

impl Carrier {
    pub(crate) fn new(
        from: Arc<dyn ObjectStore>,
        to: Arc<dyn ObjectStore>,
        cancel: CancellationToken,
    ) -> Self {
        let kibibytes = usize::try_from(BUDGET_BYTES >> 10).unwrap_or(usize::MAX);
        Self { from, to, cancel, budget: Arc::new(Semaphore::new(kibibytes)) }
    }

    /// Copies one object. It becomes visible at the destination only if its content hashes to its name.
    pub(crate) async fn bring(
        &self,
        object: &Named,
        bar: &dyn StageProgress,
    ) -> Result<Brought, RepositoryError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let brought = tokio::select! {
                () = self.cancel.cancelled() => return Err(RepositoryError::Cancelled),
                brought = self.try_bring(object, bar) => brought,
            };
            match brought {
                // An object that arrived damaged, or was rejected for its content, may have been changed on the way.
                Err(error) if tries > 0 && may_pass(&error) => {
                    tracing::warn!(object = %object.key(), why = %error_chain(&error), "trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                brought => return brought,
            }
        }
    }

    async fn try_bring(
        &self,
        object: &Named,
        bar: &dyn StageProgress,
    ) -> Result<Brought, RepositoryError> {
        let key = object.key();
        if object.kind == ObjectKind::Key && object.size_bytes > LONGEST_KEY_BYTES {
            return Ok(Brought::Refused(format!(
                "a file of {} bytes is not a key file",
                object.size_bytes
            )));
        }
        if object.size_bytes > WHOLE_BYTES {
            return self.stream(object, &key, bar).await.map(|()| Brought::Whole);
        }
        let share = u32::try_from(object.size_bytes.max(SHARE_BYTES) >> 10).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _held =
            self.budget.acquire_many(share).await.map_err(|_| RepositoryError::Cancelled)?;
        let bytes = self.from.read(&key, None).await?;
        let hashed = {
            let bytes = bytes.clone();
            crate::engine::repository::blocking(move || Ok(ByteDigest::of(&bytes))).await?
        };
        expect(object, &key, &hashed, bytes.len() as u64)?;
        if let (ObjectKind::Key, Some(why)) = (object.kind, hostile_key(&bytes)) {
            return Ok(Brought::Refused(why));
        }
        self.to.write(&key, vec![bytes]).await?;
        bar.advance(object.size_bytes);
        Ok(Brought::Whole)
    }

    async fn stream(
        &self,
        object: &Named,
        key: &str,
        bar: &dyn StageProgress,
    ) -> Result<(), RepositoryError> {
        let share = u32::try_from(BUDGET_BYTES >> 10).unwrap_or(u32::MAX);
        let _held =
            self.budget.acquire_many(share).await.map_err(|_| RepositoryError::Cancelled)?;
        let mut writer = self.to.writer(key).await?;
        let sent = async {
            let (mut digest, mut at) = (ByteDigest::default(), 0);
            while at < object.size_bytes {
                let end = object.size_bytes.min(at + PIECE_BYTES);
                let piece = self.from.read(key, Some(at..end)).await?;
                digest.update(&piece);
                writer.write(piece).await?;
                bar.advance(end - at);
                at = end;
            }
            expect(object, key, &digest.finish(), at)
        }
        .await;
        match sent {
            Ok(()) => Ok(writer.finish().await?),
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }
}

/// The reason why this key would harm a program that opens a repository with it; `None` if it is a valid key, or not recognisable
/// as one.
fn hostile_key(file: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Cost {
        #[serde(rename = "N")]
        n: u64,
        r: u64,
        p: u64,
    }
    let Cost { n, r, p } = serde_json::from_slice(file).ok()?;
    let memory = 128 * u128::from(n) * u128::from(r);
    let work = memory * u128::from(p);
    (memory > MOST_KEY_MEMORY || work > 16 * MOST_KEY_MEMORY).then(|| {
        format!(
            "its scrypt parameters (N = {n}, r = {r}, p = {p}) would take {} MiB of memory",
            memory >> 20
        )
    })
}

fn may_pass(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Damaged { .. } => true,
        RepositoryError::Store(error) => {
            matches!(error.kind(), StoreErrorKind::Other | StoreErrorKind::Short)
        }
        _ => false,
    }
}

fn expect(object: &Named, key: &str, hashed: &str, length: u64) -> Result<(), RepositoryError> {
    if hashed == object.name {
        return Ok(());
    }
    Err(RepositoryError::Damaged {
        object: key.to_owned(),
        why: format!("its {length} bytes hash to {hashed} and not to its name"),
    })
}
