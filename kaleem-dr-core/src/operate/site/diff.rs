//! `diff`: the differences between two points.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{Site, SiteError, parts::of_repository};
use crate::{
    engine::repository::{PointSelector, RepositoryError, Snapshot, SnapshotReader},
    ground::{SourceError, SourceName, error_chain},
    recovery::{
        look::{ChangeCounts, TreeChange, changes, named, newest_of_each},
        point::PointReader,
        source::{EachItem, ItemChange, PartDiff, artifact_differences},
        view::RepositoryView,
    },
};

/// Options of [`Site::diff`]: two points.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Diff {
    /// The older point: the name of a source, a run or a snapshot, or `latest~1` for every source.
    pub old: String,
    /// The newer point.
    pub new: String,
    /// Only this source; `None` for all that the points contain.
    pub source: Option<SourceName>,
}

impl Diff {
    /// From one point to another.
    pub fn between(old: impl Into<String>, new: impl Into<String>) -> Self {
        Self { old: old.into(), new: new.into(), source: None }
    }
}

/// An item of a comparison.
#[derive(Clone, Copy, Debug)]
pub enum Compared<'a> {
    /// Two snapshots, whose changes follow.
    Snapshots(&'a Snapshot, &'a Snapshot),
    /// A change of a file between them.
    Change(&'a TreeChange),
    /// A change of an item of their source: a document, a queue.
    Item(ItemChange<'a>),
}

/// The differences between two snapshots, counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotDiff {
    /// The older snapshot.
    pub old: Snapshot,
    /// The newer snapshot.
    pub new: Snapshot,
    /// Files, directories and the rest that differ.
    pub files: ChangeCounts,
    /// Parts of the source that differ, with the number of their items; empty if the snapshots are not of one source.
    pub parts: Vec<PartDiff>,
    /// Unreadable parts, as one sentence each: directories, and with them what is below, or the content of the source.
    pub damaged: Vec<String>,
}

/// The result of [`Site::diff`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DiffReport {
    /// One comparison for each source of both points.
    pub compared: Vec<SnapshotDiff>,
    /// The snapshots of sources that only the older point has.
    pub only_old: Vec<Snapshot>,
    /// The snapshots of sources that only the newer point has.
    pub only_new: Vec<Snapshot>,
    /// Warnings about the choice of snapshots.
    pub notes: Vec<String>,
}

/// Snapshots by host and source.
type BySource = BTreeMap<(String, Option<SourceName>), Snapshot>;

impl Site {
    /// Compares the files and the content of two points, source by source. `each` receives every change and may end
    /// the comparison.
    ///
    /// # Errors
    /// If a point does not exist, or the two have no source in common. Damaged directories are in
    /// the report: the caller must check [`SnapshotDiff::damaged`].
    pub async fn diff(
        &self,
        wanted: &Diff,
        mut each: impl FnMut(Compared<'_>) -> ControlFlow<()> + Send,
    ) -> Result<DiffReport, SiteError> {
        let comparing = self.looking(async |view: &RepositoryView| {
            let mut report = DiffReport::default();
            for (old, new) in self.snapshots_to_compare(view, wanted, &mut report).await? {
                if each(Compared::Snapshots(&old, &new)).is_break() {
                    break;
                }
                let (from, to) = (view.read(&old).await?, view.read(&new).await?);
                let mut diff = SnapshotDiff {
                    old,
                    new,
                    files: ChangeCounts::default(),
                    parts: Vec::new(),
                    damaged: Vec::new(),
                };
                let mut walk = changes(Some(&from), &to, true);
                let mut is_over = false;
                while let Some(change) = walk.next().await {
                    match change {
                        Ok(change) => {
                            diff.files.add(&change);
                            is_over = each(Compared::Change(&change)).is_break();
                        }
                        Err(error @ RepositoryError::Damaged { .. }) => {
                            diff.damaged.push(error_chain(&error));
                        }
                        Err(error) => return Err(error.into()),
                    }
                    if is_over {
                        break;
                    }
                }
                if !is_over {
                    let item = &mut |item: ItemChange<'_>| {
                        // A comparison of content ends with the content.
                        let _ = each(Compared::Item(item));
                    };
                    self.compare_content(&from, &to, &mut diff, item).await?;
                }
                report.compared.push(diff);
                if is_over {
                    break;
                }
            }
            Ok(report)
        });
        self.until_cancelled(Box::pin(comparing)).await
    }

    /// Compares the content of two snapshots of a source, as the source knows it.
    async fn compare_content(
        &self,
        old: &SnapshotReader,
        new: &SnapshotReader,
        diff: &mut SnapshotDiff,
        each: &mut EachItem<'_>,
    ) -> Result<(), SiteError> {
        let Some(name) = diff.new.source().filter(|_| diff.new.is_ours() && diff.old.is_ours())
        else {
            return Ok(());
        };
        if diff.old.source().as_ref() != Some(&name) || diff.old.id() == diff.new.id() {
            return Ok(());
        }
        let work = self.staged_work();
        let comparing = async {
            let open = |reader: &SnapshotReader| {
                PointReader::open(reader.clone(), work.progress.clone(), work.cancel.clone())
            };
            let (old, new) = (open(old).await?, open(new).await?);
            let is_of_kind =
                |kind: &str| old.manifest().kind == kind && new.manifest().kind == kind;
            match self.source(&name) {
                Ok(source) if is_of_kind(source.kind()) => {
                    source.compare_points(&old, &new, &work, each).await.map_err(of_repository)
                }
                // A source that the config no longer has, or that cannot be made without its secret.
                _ => Ok(artifact_differences(old.manifest(), new.manifest(), |_| true)),
            }
        };
        match comparing.await {
            Ok(parts) => diff.parts = parts,
            Err(
                error @ (SiteError::Repository(RepositoryError::Damaged { .. })
                | SiteError::Source(SourceError::Point(_))),
            ) => diff.damaged.push(error_chain(&error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The snapshots to compare with each other.
    async fn snapshots_to_compare(
        &self,
        view: &RepositoryView,
        wanted: &Diff,
        report: &mut DiffReport,
    ) -> Result<Vec<(Snapshot, Snapshot)>, SiteError> {
        let (mut old, is_one_old) = self.side(view, &wanted.old, wanted, report).await?;
        let (mut new, is_one_new) = self.side(view, &wanted.new, wanted, report).await?;
        if is_one_old && is_one_new {
            // Two snapshots that were named are compared whatever they are of.
            return Ok(old.into_values().zip(new.into_values()).collect());
        }
        let keys: Vec<_> = old.keys().filter(|key| new.contains_key(*key)).cloned().collect();
        if keys.is_empty() {
            return Err(SiteError::NothingMatches(format!(
                "{} and {} have no source in common",
                wanted.old, wanted.new
            )));
        }
        let pairs = keys.iter().filter_map(|key| Some((old.remove(key)?, new.remove(key)?)));
        let pairs = pairs.collect();
        if !is_one_old && !is_one_new {
            report.only_old = old.into_values().collect();
            report.only_new = new.into_values().collect();
        }
        Ok(pairs)
    }

    /// The snapshots of one side by source, and whether a single snapshot was named.
    async fn side(
        &self,
        view: &RepositoryView,
        text: &str,
        wanted: &Diff,
        report: &mut DiffReport,
    ) -> Result<(BySource, bool), SiteError> {
        let (all, hosts) = (view.snapshots().await?, &self.identity.scope);
        let (now, source) = (jiff::Timestamp::now(), wanted.source.as_ref());
        let newest = match PointSelector::parse(text) {
            Ok(PointSelector::Newest(newest)) => Some(newest),
            _ => None,
        };
        let (found, is_one) = if let Some(newest) = newest {
            (newest_of_each(all, newest, source, hosts, now)?, false)
        } else {
            let mut found = named(all, text, hosts, now)?;
            if let Some(source) = source {
                found.snapshots.retain(|one| one.source().as_ref() == Some(source));
            }
            if found.snapshots.is_empty() {
                let wanted = format!("{text} of the selected source");
                return Err(RepositoryError::NoSnapshot { wanted }.into());
            }
            let is_one = found.snapshots.len() == 1;
            (found, is_one)
        };
        report.notes.extend(found.notes);
        let key = |snapshot: &Snapshot| (snapshot.host().to_owned(), snapshot.source());
        Ok((found.snapshots.into_iter().map(|one| (key(&one), one)).collect(), is_one))
    }
}
