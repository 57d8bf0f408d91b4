//! The content of snapshots, directory by directory and page by page. What was read is kept for a
//! while: a snapshot never changes.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::operate::{
    document::Entry,
    site::{ListFiles, Listed, Overview, Site, SiteError},
};

/// Entries on a page.
pub(super) const PAGE: u64 = 200;
/// Listings that are kept.
const KEPT: usize = 64;
/// Listings that are read at the same time; more would use much memory.
const AT_ONCE: usize = 2;
/// Time limit for a listing.
const LIMIT: Duration = Duration::from_secs(20);

/// An entry with its exact path.
pub(super) struct Row {
    pub(super) path: PathBuf,
    pub(super) entry: Entry,
}

/// A page of a directory.
pub(super) struct Directory {
    /// The entries of this page.
    pub(super) rows: Vec<Row>,
    /// Number of entries on all pages.
    pub(super) total: u64,
    /// Parts that cannot be read, one sentence each.
    pub(super) damaged: Vec<String>,
}

type Key = (String, PathBuf, u64);

/// Reads directories, and keeps what was read.
pub(super) struct Files {
    site: Site,
    kept: Mutex<VecDeque<(Key, Arc<Directory>)>>,
    permits: Semaphore,
}

impl Files {
    pub(super) fn new(site: Site) -> Self {
        Self { site, kept: Mutex::new(VecDeque::new()), permits: Semaphore::new(AT_ONCE) }
    }

    /// The entries of a directory from `offset` on, or the entry itself if it is not a directory.
    /// `None` if reading takes too long.
    pub(super) async fn list(
        &self,
        view: &Overview,
        snapshot: &str,
        path: &Path,
        offset: u64,
    ) -> Result<Option<Arc<Directory>>, SiteError> {
        let key = (snapshot.to_owned(), path.to_path_buf(), offset);
        let reading = async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            if let Some(kept) = self.kept(&key) {
                return Ok(kept);
            }
            let directory = Arc::new(self.read(view, &key).await?);
            self.keep(key.clone(), directory.clone());
            Ok(directory)
        };
        if let Some(kept) = self.kept(&key) {
            return Ok(Some(kept));
        }
        tokio::time::timeout(LIMIT, reading).await.ok().transpose()
    }

    async fn read(
        &self,
        view: &Overview,
        (snapshot, path, offset): &Key,
    ) -> Result<Directory, SiteError> {
        let wanted = ListFiles {
            of: Some(snapshot.clone()),
            paths: vec![path.clone()],
            ..ListFiles::default()
        };
        let (mut rows, mut total) = (Vec::new(), 0u64);
        let page = *offset..offset.saturating_add(PAGE);
        let each = |item: Listed<'_>| {
            if let Listed::Entry(_, entry) = item {
                // The directory itself comes before its content.
                if entry.path == *path && entry.kind().as_str() == "dir" {
                    return ControlFlow::Continue(());
                }
                if page.contains(&total) {
                    rows.push(Row { path: entry.path.clone(), entry: Entry::from(entry) });
                }
                total += 1;
            }
            ControlFlow::Continue(())
        };
        let listing = self.site.list_in(&view.view, &wanted, each).await?;
        Ok(Directory { rows, total, damaged: listing.damaged })
    }

    fn kept(&self, key: &Key) -> Option<Arc<Directory>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(of, _)| of == key).map(|(_, directory)| directory.clone())
    }

    fn keep(&self, key: Key, directory: Arc<Directory>) {
        // Damage may be repaired.
        if !directory.damaged.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((key, directory));
        kept.truncate(KEPT);
    }
}
