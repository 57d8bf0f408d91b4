//! Proves that a repository is intact: always its structure, and on request every byte.
//!
//! Only observed damage is a finding. If a store cannot be reached or the operator cancels, the check ends with an error, because
//! neither shows anything about the data. Damage is reported by object, not by blob.

mod packs;

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::{
    Repository, RepositoryError,
    backend::Gate,
    lock::Lock,
    names,
    reach::{Lost, Reach},
    snapshot::Snapshot,
    survey::{Survey, pack_key},
};
use crate::{
    CancellationToken,
    engine::repository::object_key,
    ground::{
        digest::ByteDigest,
        finding::Finding,
        progress::{ProgressSink, Unit},
    },
};

/// Number of keys read in parallel.
const OBJECTS_AT_ONCE: usize = 8;
/// Limit for findings of one kind that are listed by name; the rest is counted.
const NAMED: usize = 30;

/// The part of the packs to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReadData {
    /// Nothing: only lists, index and trees. A flipped byte in a pack is not detected.
    Nothing,
    /// Every pack is read, decrypted and compared.
    All,
    /// About this share, drawn at random: `10%`.
    Percent(f64),
    /// About this many bytes, drawn at random.
    Bytes(u64),
    /// Part n of m by pack id: n = 1 … m cover everything.
    Part {
        /// Number of the part, from 1.
        n: u32,
        /// Number of parts.
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
            return if percent > 0.0 && percent <= 100.0 {
                Ok(Self::Percent(percent))
            } else {
                Err(invalid())
            };
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
        number
            .checked_mul(1 << shift)
            .filter(|&bytes| bytes > 0)
            .map(Self::Bytes)
            .ok_or_else(invalid)
    }
}

/// A subset that is neither `n/m`, a percentage, nor a size.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a subset; use a share (`10%`), a size (`500M`) or a part (`2/5`)")]
pub struct InvalidSubset(String);

/// The result of a check.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Errors and warnings, listed by object.
    pub findings: Vec<Finding>,
    /// Repairs that may help, in this order.
    pub remedies: BTreeSet<Remedy>,
}

/// A repair for a damaged repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// A mirror has the objects that are damaged or missing.
    FromMirror,
    /// Rebuild the index from the packs.
    RepairIndex,
    /// Rewrite snapshots without what is lost; the next backup stores it again.
    RepairSnapshots,
}

impl CheckReport {
    /// Number of findings that are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// Adds errors of one kind: the first ones by name, the rest as a count.
    fn add(&mut self, remedies: &[Remedy], what: &str, errors: Vec<String>) {
        if errors.is_empty() {
            return;
        }
        self.remedies.extend(remedies);
        let more = errors.len().saturating_sub(NAMED);
        self.findings.extend(errors.into_iter().take(NAMED).map(Finding::error));
        if more > 0 {
            self.findings.push(Finding::error(format!("{more} more {what}")));
        }
    }
}

impl Repository {
    /// Checks the repository: always keys, index files, snapshots, the list of packs, and all trees; and the packs' content as
    /// requested by `read`.
    ///
    /// # Errors
    /// If the check cannot be completed: on cancellation, a lost lock, or an error of the store that does not concern an object.
    /// Damage of the repository is in the report.
    pub async fn check(
        &self,
        read: ReadData,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<CheckReport, RepositoryError> {
        let mut report = CheckReport::default();
        report.add(&[Remedy::FromMirror], "keys are damaged", self.damaged_keys(cancel).await?);
        let listing = self.snapshot_listing().await?;
        let unreadable = listing
            .unreadable
            .iter()
            .map(|lost| format!("{} is damaged: {}", lost.object, lost.why))
            .collect();
        report.add(
            &[Remedy::FromMirror, Remedy::RepairSnapshots],
            "snapshots are damaged",
            unreadable,
        );
        let survey = self.survey(cancel).await?;
        report.add_survey(&survey);
        self.check_trees(&mut report, &survey, listing.snapshots, lock, progress, cancel).await?;
        if read != ReadData::Nothing {
            let damaged = self.damaged_packs(read, &survey, lock, progress, cancel).await?;
            report.add(&[Remedy::FromMirror], "packs are damaged", damaged);
        }
        lock.confirm().await?;
        Ok(report)
    }

    async fn damaged_keys(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, RepositoryError> {
        let store = &self.0.store;
        let checks = futures::stream::iter(names::objects(&**store, "keys").await?)
            .map(|object| async move {
                if cancel.is_cancelled() {
                    return Err(RepositoryError::Cancelled);
                }
                let bytes = match store.read(&object.key, None).await {
                    Ok(bytes) => bytes,
                    Err(error) if error.is_not_found() => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                let changed = (ByteDigest::of(&bytes) != object_key::id_of(&object.key))
                    .then(|| "its content does not hash to its name".to_owned());
                let why = changed.or(super::key::vet(&bytes).err());
                Ok(why.map(|why| format!("{} is damaged: {why}", object.key)))
            })
            .buffered(OBJECTS_AT_ONCE);
        let found: Vec<Option<String>> = checks.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Walks the trees of all snapshots.
    async fn check_trees(
        &self,
        report: &mut CheckReport,
        survey: &Survey,
        snapshots: Vec<Snapshot>,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        let lost: Arc<BTreeSet<rustic_core::Id>> = Arc::new(survey.lost.keys().copied().collect());
        let stop = cancel.clone();
        let bar = progress.begin("checking snapshots", Unit::Items, Some(snapshots.len() as u64));
        let found = self
            .guarded(lock, cancel, move |repository, _| {
                // Without the cache, because the repository itself is checked.
                let engine = repository
                    .without_cache()
                    .indexed(Gate::open(stop.clone()), &super::silent())?;
                let mut reach = Reach::default();
                let mut found = Vec::new();
                for snapshot in snapshots {
                    let what = reach.walk(
                        &engine,
                        snapshot.file.tree,
                        &|pack| lost.contains(pack),
                        &stop,
                    )?;
                    if !what.is_empty() {
                        found.push((snapshot, what));
                    }
                    bar.advance(1);
                }
                bar.finish();
                Ok(found)
            })
            .await?;
        let damaged: BTreeSet<String> =
            found.iter().flat_map(|(_, lost)| lost.damaged.iter().cloned()).collect();
        let damaged = damaged.into_iter().map(|tree| format!("{tree} is damaged")).collect();
        report.add(&[Remedy::FromMirror], "trees are damaged", damaged);
        let told = found.iter().map(|(snapshot, lost)| of_snapshot(snapshot, lost)).collect();
        let remedies: &[Remedy] = if survey.damaged.is_empty() && survey.unindexed.is_empty() {
            &[Remedy::FromMirror, Remedy::RepairSnapshots]
        } else {
            &[Remedy::FromMirror, Remedy::RepairIndex, Remedy::RepairSnapshots]
        };
        report.add(remedies, "snapshots have lost something", told);
        Ok(())
    }
}

fn of_snapshot(snapshot: &Snapshot, lost: &Lost) -> String {
    let of = snapshot.source().map_or_else(String::new, |source| format!(" of source {source}"));
    format!(
        "snapshot {}{of} of {}: {lost}",
        snapshot.id().short(),
        snapshot.time().strftime("%Y-%m-%d %H:%M")
    )
}

impl CheckReport {
    fn add_survey(&mut self, survey: &Survey) {
        let damaged =
            survey.damaged.iter().map(|(key, why)| format!("{key} is damaged: {why}")).collect();
        self.add(&[Remedy::FromMirror, Remedy::RepairIndex], "index files are damaged", damaged);
        let lost = survey
            .lost
            .iter()
            .map(|(id, loss)| format!("pack {} is lost: {loss}", pack_key(id)))
            .collect();
        self.add(&[Remedy::FromMirror, Remedy::RepairIndex], "packs are lost", lost);
        if !survey.unindexed.is_empty() {
            let bytes: u64 = survey.unindexed.values().sum();
            self.findings.push(Finding::warning(format!(
                "{} packs of {} are in no index; runs that were cut short leave such, and prune removes them",
                survey.unindexed.len(),
                bytesize::ByteSize(bytes)
            )));
        }
    }
}
