//! `ls` and `find`: list the files of snapshots, and find files by their names.

use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf};

use jiff::Timestamp;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::repository::{
        Newest, PointSelector, Repository, RepositoryError, Snapshot, SnapshotReader, TreeEntry,
    },
    ground::{SourceName, error_chain},
    recovery::{
        look::{FileVersion, Named, Patterns, history, named, newest_of_each},
        view::RepositoryView,
    },
};

/// Options of [`Site::list_files`]. By default, all files of the newest whole point of each source.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListFiles {
    /// The name of a source, or a snapshot or run; `None` for every source. See [`named`].
    pub of: Option<String>,
    /// Without `of`, `latest` or an older point, as [`PointSelector`] describes; `latest` if empty.
    pub point: String,
    /// Paths to list, with the content of those that are directories; everything if empty.
    pub paths: Vec<PathBuf>,
    /// Lists directories below `paths` at every depth.
    pub recursive: bool,
}

/// Options of [`Site::find_files`]. By default, in the newest whole point of each source.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FindFiles {
    /// Globs, of which a path has to match one. See [`Patterns`].
    pub patterns: Vec<String>,
    /// Ignores the case of letters.
    pub ignore_case: bool,
    /// Only this source; `None` for all.
    pub source: Option<SourceName>,
    /// Snapshot or run to search, or `latest` or an older point, as [`PointSelector`] describes;
    /// `latest` if empty.
    pub point: String,
}

/// An item of a listing.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'a> {
    /// A snapshot, whose entries follow.
    Snapshot(&'a Snapshot),
    /// An entry of this snapshot.
    Entry(&'a Snapshot, &'a TreeEntry),
}

/// The result of a listing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// Number of entries.
    pub entries: u64,
    /// Length of the files among them, in bytes.
    pub size_bytes: u64,
    /// Directories that could not be read, as one sentence each: their entries are missing.
    pub damaged: Vec<String>,
    /// Warnings about the choice of snapshots.
    pub notes: Vec<String>,
}

impl Site {
    /// Lists files of snapshots, of any program. `each` receives every item and may end the listing.
    ///
    /// # Errors
    /// If the snapshot or a path does not exist, or the repository cannot be read. Damaged
    /// directories are in the report: the caller must check [`Listing::damaged`].
    pub async fn list_files(
        &self,
        wanted: &ListFiles,
        mut each: impl FnMut(Listed<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Listing, SiteError> {
        let listing =
            self.looking(async |view: &RepositoryView| self.list_in(view, wanted, &mut each).await);
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Lists files as [`Site::list_files`] does, in a view that is open already and without a lock.
    ///
    /// # Errors
    /// As [`Site::list_files`].
    pub async fn list_in(
        &self,
        view: &RepositoryView,
        wanted: &ListFiles,
        mut each: impl FnMut(Listed<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Listing, SiteError> {
        let named = self.looked_into(view, wanted.of.as_deref(), &wanted.point, None).await?;
        let mut listing = Listing { notes: named.notes, ..Listing::default() };
        let mut missing = None;
        for snapshot in &named.snapshots {
            let reader = view.read(snapshot).await?;
            if each(Listed::Snapshot(snapshot)).is_break() {
                break;
            }
            let mut walk = reader.entries(&wanted.paths, wanted.recursive);
            while let Some(entry) = walk.next().await {
                let entry = match entry {
                    Err(error @ RepositoryError::NoPath { .. }) => {
                        missing = Some(error);
                        continue;
                    }
                    entry => entry,
                };
                let Some(entry) = listing.entry(snapshot, entry)? else { continue };
                if each(Listed::Entry(snapshot, &entry)).is_break() {
                    return Ok(listing);
                }
            }
        }
        match missing {
            // Of several snapshots, it is enough that one contains the path.
            Some(error) if named.snapshots.len() == 1 || listing.entries == 0 => Err(error.into()),
            _ => Ok(listing),
        }
    }

    /// Finds the entries whose paths match a pattern. `each` receives every snapshot that is
    /// searched and every entry that is found, and may end the search.
    ///
    /// # Errors
    /// As [`Site::list_files`]; [`RepositoryError::InvalidPattern`].
    pub async fn find_files(
        &self,
        wanted: &FindFiles,
        mut each: impl FnMut(Listed<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Listing, SiteError> {
        let patterns = Patterns::parse(&wanted.patterns, wanted.ignore_case)?;
        let finding = self.looking(async |view: &RepositoryView| {
            let source = wanted.source.as_ref();
            let named = self.looked_into(view, None, &wanted.point, source).await?;
            let mut listing = Listing { notes: named.notes, ..Listing::default() };
            for snapshot in &named.snapshots {
                if each(Listed::Snapshot(snapshot)).is_break() {
                    break;
                }
                let mut walk = view.read(snapshot).await?.entries(&[], true);
                while let Some(entry) = walk.next().await {
                    let entry = match entry {
                        Ok(entry) if !patterns.matches(&entry.path) => continue,
                        entry => entry,
                    };
                    let Some(entry) = listing.entry(snapshot, entry)? else { continue };
                    if each(Listed::Entry(snapshot, &entry)).is_break() {
                        return Ok(listing);
                    }
                }
            }
            Ok(listing)
        });
        self.until_cancelled(Box::pin(finding)).await
    }

    /// Finds the versions of matching entries in all snapshots of the selected hosts, of any
    /// program. `wanted.point` is ignored.
    ///
    /// # Errors
    /// As [`Site::find_files`].
    pub async fn find_versions(
        &self,
        wanted: &FindFiles,
        mut each: impl FnMut(&FileVersion) -> ControlFlow<()> + Send,
    ) -> Result<Listing, SiteError> {
        let patterns = Patterns::parse(&wanted.patterns, wanted.ignore_case)?;
        let finding = self.looking(async |view: &RepositoryView| {
            let mut series: BTreeMap<_, Vec<Snapshot>> = BTreeMap::new();
            for snapshot in view.snapshots().await? {
                let source = snapshot.source();
                let is_wanted = snapshot.is_data()
                    && self.identity.scope.includes(snapshot.host())
                    && wanted.source.as_ref().is_none_or(|one| Some(one) == source.as_ref());
                if is_wanted {
                    // Without a source, as restic groups them.
                    let paths = if source.is_some() { Vec::new() } else { snapshot.paths() };
                    let key = (snapshot.host().to_owned(), source, paths);
                    series.entry(key).or_default().push(snapshot.clone());
                }
            }
            if series.is_empty() {
                return Err(SiteError::NothingMatches(format!(
                    "{} has no snapshot to search",
                    self.identity.scope
                )));
            }
            let mut listing = Listing::default();
            for snapshots in series.values() {
                let Some(first) = snapshots.first() else { continue };
                let reader: SnapshotReader = view.read(first).await?;
                let damaged = &mut listing.damaged;
                let versions =
                    history(&reader, snapshots, &patterns, damaged, &self.cancel).await?;
                for version in &versions {
                    listing.entries += 1;
                    if each(version).is_break() {
                        return Ok(listing);
                    }
                }
            }
            Ok(listing)
        });
        self.until_cancelled(Box::pin(finding)).await
    }

    /// Looks into the selected repository under a shared lock.
    pub(super) async fn looking<T>(
        &self,
        work: impl AsyncFnOnce(&RepositoryView) -> Result<T, SiteError>,
    ) -> Result<T, SiteError> {
        let repository: Repository = self.repository().await?;
        // A shared lock, so that no prune deletes what is read.
        let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
        let view = RepositoryView::of(&repository);
        let done = work(&view).await;
        released(lock, done).await
    }

    /// The snapshots that are looked into.
    pub(super) async fn looked_into(
        &self,
        view: &RepositoryView,
        of: Option<&str>,
        point: &str,
        source: Option<&SourceName>,
    ) -> Result<Named, SiteError> {
        let (snapshots, hosts) = (view.snapshots().await?, &self.identity.scope);
        let now = Timestamp::now();
        if let Some(of) = of {
            return Ok(named(snapshots, of, hosts, now)?);
        }
        let selector = if point.is_empty() { None } else { Some(PointSelector::parse(point)?) };
        let mut named = match selector {
            Some(PointSelector::Id(_)) => named(snapshots, point, hosts, now)?,
            Some(PointSelector::Newest(newest)) => {
                newest_of_each(snapshots, newest, source, hosts, now)?
            }
            None => newest_of_each(snapshots, Newest::default(), source, hosts, now)?,
        };
        if let Some(source) = source {
            named.snapshots.retain(|snapshot| snapshot.source().as_ref() == Some(source));
        }
        if named.snapshots.is_empty() {
            return Err(RepositoryError::NoSnapshot { wanted: point.to_owned() }.into());
        }
        Ok(named)
    }
}

impl Listing {
    /// Counts an entry; `None` for a damaged directory.
    fn entry(
        &mut self,
        snapshot: &Snapshot,
        entry: Result<TreeEntry, RepositoryError>,
    ) -> Result<Option<TreeEntry>, SiteError> {
        match entry {
            Ok(entry) => {
                self.entries += 1;
                self.size_bytes += entry.size_bytes();
                Ok(Some(entry))
            }
            Err(error @ RepositoryError::Damaged { .. }) => {
                let id = snapshot.id().short();
                self.damaged.push(format!("snapshot {id}: {}", error_chain(&error)));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
