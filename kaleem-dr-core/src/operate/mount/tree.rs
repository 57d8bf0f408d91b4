//! The directories above the snapshots: one for each source, and in it one for each snapshot.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    engine::repository::{Repository, RepositoryError, Snapshot, SnapshotReader},
    ground::host::HostScope,
    recovery::view::RepositoryView,
};

/// Time for which the list of snapshots is not read again.
const FRESH: Duration = Duration::from_mins(1);
/// The name of the newest snapshot's directory.
const LATEST: &str = "latest";
/// The directory of snapshots that other programs made.
const OTHERS: &str = "other programs";

/// The part of the tree that a path leads to.
pub(super) enum Found {
    /// A directory above the snapshots, with the names in it.
    Above(Vec<String>),
    /// A path in a snapshot.
    Within(Box<SnapshotReader>, PathBuf),
}

/// The snapshots of a repository as directories.
#[derive(Clone)]
pub(crate) struct SnapshotTree {
    repository: Repository,
    scope: HostScope,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// A listing, and the time at which it was read.
type Kept = (Instant, Arc<Listing>);

struct Listing {
    view: RepositoryView,
    /// Source, name and snapshot, oldest first.
    places: Vec<(String, String, Snapshot)>,
}

impl SnapshotTree {
    pub(crate) fn new(repository: Repository, scope: HostScope) -> Self {
        Self { repository, scope, kept: Arc::default() }
    }

    /// Reads the snapshots and the index, if that was not done recently.
    pub(crate) async fn refresh(&self) -> Result<(), RepositoryError> {
        self.listing().await.map(drop)
    }

    async fn listing(&self) -> Result<Arc<Listing>, RepositoryError> {
        let mut kept = self.kept.lock().await;
        if let Some((at, listing)) = &*kept
            && at.elapsed() < FRESH
        {
            return Ok(listing.clone());
        }
        let listing = Arc::new(self.read().await?);
        *kept = Some((Instant::now(), listing.clone()));
        Ok(listing)
    }

    async fn read(&self) -> Result<Listing, RepositoryError> {
        let view = RepositoryView::of(&self.repository);
        let snapshots = view.snapshots().await?.iter();
        let wanted = snapshots
            .filter(|snapshot| !snapshot.is_record() && self.scope.includes(snapshot.host()));
        let places = wanted.map(|snapshot| {
            let source =
                snapshot.source().map_or_else(|| OTHERS.to_owned(), |source| source.to_string());
            let host = if self.scope == HostScope::Any {
                format!(" {}", snapshot.host())
            } else {
                String::new()
            };
            let time = snapshot.time().timestamp().strftime("%Y-%m-%d %H.%M.%S UTC");
            let name = format!("{time} {}{host}", snapshot.id().short()).replace('/', "_");
            (source, name, snapshot.clone())
        });
        Ok(Listing { places: places.collect(), view })
    }

    /// The path's part of the tree; `None` if it does not exist.
    pub(super) async fn find(&self, path: &Path) -> Result<Option<Found>, RepositoryError> {
        let listing = self.listing().await?;
        match listing.place(path) {
            None => Ok(None),
            Some(Place::Above(names)) => Ok(Some(Found::Above(names))),
            Some(Place::Within(snapshot, path)) => {
                Ok(Some(Found::Within(Box::new(listing.view.read(&snapshot).await?), path)))
            }
        }
    }
}

/// As [`Found`], with a snapshot that has not been opened.
enum Place {
    Above(Vec<String>),
    Within(Box<Snapshot>, PathBuf),
}

impl Listing {
    fn place(&self, path: &Path) -> Option<Place> {
        let mut components = path.components();
        let Some(source) = components.next() else {
            let mut sources: Vec<String> =
                self.places.iter().map(|(source, ..)| source.clone()).collect();
            sources.sort();
            sources.dedup();
            return Some(Place::Above(sources));
        };
        let is_wanted = |name: &String| source.as_os_str() == OsStr::new(name);
        let of_source: Vec<_> = self.places.iter().filter(|(name, ..)| is_wanted(name)).collect();
        let newest = of_source.last()?;
        let Some(wanted) = components.next() else {
            let mut names: Vec<String> =
                of_source.iter().map(|(_, name, _)| name.clone()).collect();
            names.push(LATEST.to_owned());
            return Some(Place::Above(names));
        };
        let wanted = wanted.as_os_str();
        let (_, _, snapshot) = if wanted == LATEST {
            newest
        } else {
            of_source.iter().find(|(_, name, _)| wanted == OsStr::new(name))?
        };
        Some(Place::Within(Box::new(snapshot.clone()), Path::new("/").join(components.as_path())))
    }
}
