//! Packs that are lost on the near side and that the far side never had.
//!
//! An index file that refers to such a pack must not reach the mirror: a program that reads it there may look for a blob in the
//! lost pack although another pack has it too, and fail to restore an older snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};

use super::inventory::{Inventory, Named, ObjectKind};
use crate::engine::repository::{
    Access, IndexedPacks, Repository, RepositoryError, store::ObjectStore,
};

/// Limit for the names listed in a message; the rest is counted.
const LISTED: usize = 3;
/// Index files that are read at once.
const READ_AT_ONCE: usize = 8;

/// The result of the comparison of new index files with the packs of both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    /// Packs that neither side has, and that new index files refer to.
    packs: BTreeSet<String>,
    /// Names of these index files.
    indexes: BTreeSet<String>,
    /// Packs that exist on the near side but were written after it was listed.
    pub(super) written_since: Vec<Named>,
    /// Number of index files that were not read, because the password is missing or wrong.
    pub(super) unread: usize,
}

impl Lost {
    /// Reads the index files that the far side lacks. Finds nothing if the password is missing or wrong: then no index can be
    /// read. Damaged index files are left to the copy, which reports them.
    pub(super) async fn search(
        from: &Arc<dyn ObjectStore>,
        access: Option<&Access>,
        (near, far): (&Inventory, &Inventory),
        new_indexes: &[Named],
    ) -> Result<Self, RepositoryError> {
        let unread = Self { unread: new_indexes.len(), ..Self::default() };
        let (Some(access), false) = (access, new_indexes.is_empty()) else { return Ok(unread) };
        let repository = match Repository::open_in(from.clone(), access).await {
            Err(RepositoryError::WrongPassword { .. }) => return Ok(unread),
            opened => opened?,
        };
        let has = |pack: &String| {
            near.kind(ObjectKind::Pack).contains_key(pack)
                || far.kind(ObjectKind::Pack).contains_key(pack)
        };
        let mut absent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut reading: Vec<BoxFuture<'_, Result<(&str, IndexedPacks), RepositoryError>>> =
            Vec::new();
        for index in new_indexes {
            let read = repository.indexed_packs(&**from, vec![index.key()]);
            reading.push(Box::pin(async { Ok((&*index.name, unless_damaged(read.await)?)) }));
        }
        let mut read = futures::stream::iter(reading).buffer_unordered(READ_AT_ONCE);
        while let Some((index, named)) = read.try_next().await? {
            for pack in named.live.into_iter().filter(|pack| !has(pack)) {
                absent.entry(pack).or_default().insert(index.to_owned());
            }
        }
        let mut lost = Self::default();
        for (pack, indexes) in absent {
            // Its absence from a listing proves nothing: a backup may have written it, then its index file, in between.
            let mut pack = Named { kind: ObjectKind::Pack, name: pack, size_bytes: 0 };
            if let Some(size_bytes) = from.size(&pack.key()).await? {
                pack.size_bytes = size_bytes;
                lost.written_since.push(pack);
            } else {
                lost.packs.insert(pack.name);
                lost.indexes.extend(indexes);
            }
        }
        for index in &lost.indexes {
            // A prune removes an index file before the packs that it refers to.
            if from.size(&ObjectKind::Index.key(index)).await?.is_none() {
                return Err(RepositoryError::Changing { location: from.location() });
            }
        }
        Ok(lost)
    }

    /// Reports whether nothing is lost.
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Reports whether neither side has a pack.
    pub(super) fn has(&self, pack: &str) -> bool {
        self.packs.contains(pack)
    }

    /// Names of the index files that refer to lost packs.
    pub(super) fn indexes(&self) -> &BTreeSet<String> {
        &self.indexes
    }

    /// The lost packs, for a message: their number, and the first names.
    pub(super) fn packs_in_words(&self) -> String {
        let listed: Vec<String> =
            self.packs.iter().take(LISTED).map(|name| format!("{}…", &name[..8])).collect();
        let more = if self.packs.len() > LISTED { ", …" } else { "" };
        format!("{} pack(s) ({}{more})", self.packs.len(), listed.join(", "))
    }

    /// Removes what must not be copied from the objects that the far side lacks, which are in the order of
    /// [`ObjectKind::WRITTEN`]: the index files that refer to lost packs, and all snapshots, which may need them.
    pub(super) fn hold_back(&self, missing: &mut [Vec<Named>]) {
        if self.packs.is_empty() {
            return;
        }
        for object in missing {
            object.retain(|object| match object.kind {
                ObjectKind::Index => !self.indexes.contains(&object.name),
                ObjectKind::Snapshot => false,
                ObjectKind::Key | ObjectKind::Pack => true,
            });
        }
    }

    /// Describes the loss, with its remedy; `None` if nothing is lost.
    pub(super) fn sentence(&self, near: &str) -> Option<String> {
        if self.packs.is_empty() {
            return None;
        }
        Some(format!(
            "{} that the index of {near} refers to are missing there and were never copied: {} index file(s) and all new \
             snapshots were not copied, and nothing was deleted. Run `kaleem-dr check`; `kaleem-dr repair index` removes the missing packs from \
             the index, and so does the next backup. Then replicate again",
            self.packs_in_words(),
            self.indexes.len()
        ))
    }
}

/// A damaged index file refers to nothing here: its copy reports it.
fn unless_damaged(
    read: Result<IndexedPacks, RepositoryError>,
) -> Result<IndexedPacks, RepositoryError> {
    match read {
        Err(RepositoryError::Damaged { .. }) => Ok(IndexedPacks::default()),
        read => read,
    }
}
