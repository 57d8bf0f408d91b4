//! Rebuilds the index from the existing packs.
//!
//! The header of a pack describes its content, so a lost or damaged index file costs only reading those headers. New index files
//! are written before old ones are removed.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use rustic_core::{
    Id,
    repofile::{IndexFile, IndexPack},
};
use serde::Serialize;

use super::super::{
    Repository, RepositoryError, blocking,
    lock::Lock,
    pack::{LENGTH_BYTES, header_length, parse_header},
    survey::{Loss, Survey, pack_key},
};
use crate::{
    CancellationToken,
    ground::{
        error_chain,
        progress::{ProgressSink, Unit},
    },
};

/// Number of packs whose headers are read in parallel.
const AT_ONCE: usize = 8;
/// Limit for the blobs in one index file, as in restic and rustic.
const BLOBS: usize = 50_000;

/// The damage of the index, and its repair.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct IndexRepair {
    /// Damaged index files: they are removed, because everything that they can have named is read from the packs.
    pub damaged: Vec<String>,
    /// Lost packs that the index names: key, and kind of the loss. They are removed from the index.
    pub dropped: BTreeMap<String, String>,
    /// Existing packs that are in no index, and are added.
    pub added: Vec<String>,
    /// Packs whose header cannot be read: key, and reason. They are kept, but in no index.
    pub unreadable: BTreeMap<String, String>,
    /// Number of blobs in the added packs.
    pub blobs_added: usize,
    #[serde(skip)]
    survey: Survey,
    #[serde(skip)]
    headers: Vec<IndexPack>,
}

impl IndexRepair {
    /// Reports whether anything needs to be repaired.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !(self.damaged.is_empty() && self.dropped.is_empty() && self.added.is_empty())
    }
}

impl Repository {
    /// Determines the damage of the index. Changes nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if none of the packs exists; if the store fails, or on cancellation.
    pub async fn plan_index_repair(
        &self,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<IndexRepair, RepositoryError> {
        let survey = self.survey(cancel).await?;
        survey.guard(&self.location())?;
        let other_length = survey.lost.iter().filter_map(|(id, loss)| match loss {
            Loss::Length(found, _) => Some((*id, *found)),
            Loss::Missing => None,
        });
        let to_read: Vec<(Id, u64)> =
            survey.unindexed.iter().map(|(id, size)| (*id, *size)).chain(other_length).collect();
        let bar =
            progress.begin("reading headers of packs", Unit::Items, Some(to_read.len() as u64));
        let mut plan = IndexRepair::default();
        let mut reads =
            futures::stream::iter(to_read)
                .map(|(id, size)| async move {
                    self.header_of(&id, size).await.map(|header| (id, header))
                })
                .buffer_unordered(AT_ONCE);
        while let Some((id, header)) = reads.try_next().await? {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            bar.advance(1);
            match header {
                Ok(pack) => {
                    plan.added.push(pack_key(&id));
                    plan.blobs_added += pack.blobs.len();
                    plan.headers.push(pack);
                }
                Err(why) => {
                    plan.unreadable.insert(pack_key(&id), why);
                }
            }
        }
        drop(reads);
        bar.finish();
        plan.added.sort();
        plan.damaged = survey.damaged.iter().map(|(key, _)| key.clone()).collect();
        plan.dropped = survey
            .lost
            .iter()
            .map(|(id, loss)| (pack_key(id), loss.to_string()))
            .filter(|(key, _)| !plan.added.contains(key))
            .collect();
        plan.survey = survey;
        Ok(plan)
    }

    /// Executes a plan. The lock must be exclusive, and held since the plan was made.
    ///
    /// # Errors
    /// If something cannot be written or removed; another run continues from there.
    pub async fn repair_index(
        &self,
        plan: &IndexRepair,
        lock: &Lock,
    ) -> Result<(), RepositoryError> {
        let mut file = IndexFile::default();
        let mut blobs = 0;
        for pack in &plan.headers {
            blobs += pack.blobs.len();
            file.packs.push(pack.clone());
            if blobs >= BLOBS {
                self.replace_index(Some(std::mem::take(&mut file)), &[], lock).await?;
                blobs = 0;
            }
        }
        self.replace_index(Some(file), &[], lock).await?;
        self.drop_from_index(&plan.survey, lock).await?;
        self.replace_index(None, &plan.damaged, lock).await
    }

    /// The content of a pack according to its header; the inner error describes a defect of the pack.
    async fn header_of(
        &self,
        id: &Id,
        size: u64,
    ) -> Result<Result<IndexPack, String>, RepositoryError> {
        let store = &self.0.store;
        let key = pack_key(id);
        let read = async |from: u64, to: u64| match store.read(&key, Some(from..to)).await {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(error) if error.kind().is_loss() => Ok(Err(error_chain(&error))),
            Err(error) => Err(RepositoryError::from(error)),
        };
        if size <= LENGTH_BYTES {
            return Ok(Err(format!("it is {size} bytes long")));
        }
        let end = size - LENGTH_BYTES;
        let length = match read(end, size).await? {
            Ok(tail) => header_length(&tail, size),
            Err(why) => Err(why),
        };
        let length = match length {
            Ok(length) => length,
            Err(why) => return Ok(Err(why)),
        };
        let encrypted = match read(end - length, end).await? {
            Ok(encrypted) => encrypted,
            Err(why) => return Ok(Err(why)),
        };
        let (key, name) = (self.0.key.clone(), id.to_hex().to_string());
        blocking(move || {
            Ok(key.decrypt(&encrypted).map_err(|error| format!("its header: {error}")).and_then(
                |header| {
                    let pack = parse_header(&name, &header, size)?;
                    serde_json::from_value(pack).map_err(|error| error.to_string())
                },
            ))
        })
        .await
    }
}
