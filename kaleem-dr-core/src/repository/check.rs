//! Proving that a repository is whole: structure always, every byte on demand.

use std::{str::FromStr, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use rustic_core::{CheckOptions, ReadSubsetOption};
use serde::Serialize;

use super::{Repository, RepositoryError, hashes_to_name, lock::Lock};
use crate::{
    CancellationToken,
    finding::Finding,
    progress::{ProgressSink, Silent},
    sentence,
};

/// Small objects that are read at once.
const OBJECTS_AT_ONCE: usize = 8;

/// How much of the packs is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReadData {
    /// Nothing: lists, index and trees only. A flipped byte in a pack goes unseen.
    Nothing,
    /// Everything.
    All,
    /// About this share, drawn at random: `10%`.
    Percent(f64),
    /// About this many bytes, drawn at random.
    Bytes(u64),
    /// Part n of m by pack id: n = 1 … m cover everything.
    Part {
        /// Which part, from 1.
        n: u32,
        /// Of how many.
        of: u32,
    },
}

impl FromStr for ReadData {
    type Err = InvalidSubset;

    /// restic's forms: `10%`, `500M`, `2/5`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSubset(text.to_owned());
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| invalid())?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(invalid()) };
        }
        if let Some((n, of)) = text.split_once('/') {
            let (n, of) = (n.parse().map_err(|_| invalid())?, of.parse().map_err(|_| invalid())?);
            return if n >= 1 && n <= of { Ok(Self::Part { n, of }) } else { Err(invalid()) };
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).map(Self::Bytes).ok_or_else(invalid)
    }
}

/// A subset that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no subset; use a share (`10%`), a size (`500M`) or a part (`2/5`)")]
pub struct InvalidSubset(String);

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// What was found, errors and warnings.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// How many findings are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error).count()
    }
}

impl Repository {
    /// Keys, index files and snapshots whose content does not hash to their names.
    async fn damaged_small_objects(&self, cancel: &CancellationToken) -> Result<Vec<Finding>, RepositoryError> {
        let store = &self.0.store;
        let mut objects = Vec::new();
        for directory in ["keys", "index", "snapshots"] {
            objects.extend(store.list(directory).await?);
        }
        let checks = futures::stream::iter(objects)
            .map(|object| async move {
                hashes_to_name(&**store, &object.key, object.size_bytes, &Silent, cancel).await.map(|found| (object.key, found))
            })
            .buffer_unordered(OBJECTS_AT_ONCE);
        let found: Vec<(String, Result<(), String>)> = checks.try_collect().await?;
        let sentence = |(key, found): (String, Result<(), String>)| {
            let why = found.err()?;
            Some(Finding::error(format!("{key} is damaged: {why}; `kaleem-dr repair --from MIRROR` puts it back")))
        };
        Ok(found.into_iter().filter_map(sentence).collect())
    }

    /// Checks the repository.
    ///
    /// # Errors
    /// When it cannot be checked at all. What is wrong with it is in the report.
    pub async fn check(
        &self,
        read: ReadData,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<CheckReport, RepositoryError> {
        let damaged = self.damaged_small_objects(cancel).await?;
        if !damaged.is_empty() {
            // Without its index and snapshots in order, there is nothing to hold the rest against.
            return Ok(CheckReport { findings: damaged });
        }
        let progress = progress.clone();
        let report = self.guarded(lock, cancel, move |repository, gate| {
            let engine = repository.engine(gate, &progress)?;
            let subset = match read {
                ReadData::Nothing | ReadData::All => ReadSubsetOption::All,
                ReadData::Percent(percent) => ReadSubsetOption::Percentage(percent),
                ReadData::Bytes(bytes) => ReadSubsetOption::Size(bytes),
                ReadData::Part { n, of } => ReadSubsetOption::IdSubSet((n, of)),
            };
            let options = CheckOptions::default().read_data(read != ReadData::Nothing).read_data_subset(subset);
            let results = engine.check(options).map_err(RepositoryError::engine("check"))?;
            let findings = results
                .0
                .iter()
                .map(|(level, error)| Finding {
                    // The level's type is not exported; its name is all there is.
                    is_error: format!("{level:?}") == "Error",
                    message: sentence(error),
                })
                .collect();
            Ok(CheckReport { findings })
        });
        let report = report.await?;
        // What could not be read because the gate was closed looks like damage.
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        if lock.lost().is_cancelled() {
            lock.confirm().await?;
        }
        Ok(report)
    }
}
