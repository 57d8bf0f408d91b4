//! The content of a repository, object by object, as its store lists it. This needs no password.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::engine::repository::{RepositoryError, store::ObjectStore};

/// The kinds of objects that a mirror contains. Locks are excluded: they apply to one location only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// Key files: `keys/<id>`, deleted only if they were removed here on purpose.
    Key,
    /// Packs: `data/<2 digits>/<id>`, the bulk of the bytes.
    Pack,
    /// Index files: `index/<id>`, which name the packs' blobs.
    Index,
    /// Snapshot files: `snapshots/<id>`, copied last and deleted first.
    Snapshot,
}

impl ObjectKind {
    /// All kinds, in the order in which objects are written: an object comes before those that refer to it.
    pub const WRITTEN: [Self; 4] = [Self::Key, Self::Pack, Self::Index, Self::Snapshot];
    /// All kinds, in the order in which objects are deleted: keys last, because without one nothing can be read.
    pub const DELETED: [Self; 4] = [Self::Snapshot, Self::Index, Self::Pack, Self::Key];

    /// The directory of objects of this kind; packs are in subdirectories of two hex digits.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Pack => "data",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
        }
    }

    /// The key of an object of this kind with this name.
    pub(crate) fn key(self, name: &str) -> String {
        match self {
            Self::Pack => format!("data/{}/{name}", &name[..2]),
            kind => format!("{}/{name}", kind.directory()),
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "keys",
            Self::Pack => "packs",
            Self::Index => "index files",
            Self::Snapshot => "snapshots",
        })
    }
}

/// One object, by its kind and its name: the SHA-256 of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: ObjectKind,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
}

impl Named {
    pub(crate) fn key(&self) -> String {
        self.kind.key(&self.name)
    }
}

/// The objects of one kind: name and length.
pub(crate) type Objects = BTreeMap<String, u64>;

/// All objects of a repository that a mirror contains too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    kinds: BTreeMap<ObjectKind, Objects>,
    /// The service's ETags, by object name.
    etags: HashMap<String, String>,
}

impl Inventory {
    /// Lists a repository, each directory once. Snapshots come first and packs last: everything that a listed snapshot needs is
    /// then listed too, because writers work in the opposite order.
    pub(crate) async fn of(store: &dyn ObjectStore) -> Result<Self, RepositoryError> {
        let mut inventory = Self::default();
        for kind in ObjectKind::DELETED {
            let (objects, etags) = list_with_etags(store, kind).await?;
            inventory.kinds.insert(kind, objects);
            inventory.etags.extend(etags);
        }
        Ok(inventory)
    }

    pub(crate) fn etag(&self, name: &str) -> Option<&str> {
        self.etags.get(name).map(String::as_str)
    }

    pub(crate) fn kind(&self, kind: ObjectKind) -> &Objects {
        const NONE: &Objects = &Objects::new();
        self.kinds.get(&kind).unwrap_or(NONE)
    }

    pub(crate) fn names(&self, kind: ObjectKind) -> BTreeSet<String> {
        self.kind(kind).keys().cloned().collect()
    }

    /// The objects of one kind, by their keys.
    pub(crate) fn keys(&self, kind: ObjectKind) -> impl Iterator<Item = String> {
        self.kind(kind).keys().map(move |name| kind.key(name))
    }

    /// Reports whether an object with this key exists.
    pub(crate) fn has(&self, key: &str) -> bool {
        let (directory, name) =
            (key.split('/').next().unwrap_or_default(), key.rsplit('/').next().unwrap_or_default());
        let kind = ObjectKind::WRITTEN.into_iter().find(|kind| kind.directory() == directory);
        kind.is_some_and(|kind| self.kind(kind).contains_key(name))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Named> {
        self.kinds.iter().flat_map(|(&kind, objects)| {
            objects.iter().map(move |(name, &size_bytes)| Named {
                kind,
                name: name.clone(),
                size_bytes,
            })
        })
    }

    /// The objects of `self` that `other` lacks, or has with another length.
    pub(crate) fn beyond(&self, other: &Self, kind: ObjectKind) -> Vec<Named> {
        let there = other.kind(kind);
        self.kind(kind)
            .iter()
            .filter(|(name, size)| there.get(*name) != Some(size))
            .map(|(name, &size_bytes)| Named { kind, name: name.clone(), size_bytes })
            .collect()
    }

    /// The objects of `self` whose names `other` lacks.
    pub(crate) fn surplus(&self, other: &Self, kind: ObjectKind) -> Vec<Named> {
        let there = other.kind(kind);
        self.kind(kind)
            .iter()
            .filter(|(name, _)| !there.contains_key(*name))
            .map(|(name, &size_bytes)| Named { kind, name: name.clone(), size_bytes })
            .collect()
    }
}

/// The objects of one kind. Files with other names (incomplete ones of other tools) are ignored; a missing directory counts as
/// empty.
pub(crate) async fn list(
    store: &dyn ObjectStore,
    kind: ObjectKind,
) -> Result<Objects, RepositoryError> {
    Ok(list_with_etags(store, kind).await?.0)
}

async fn list_with_etags(
    store: &dyn ObjectStore,
    kind: ObjectKind,
) -> Result<(Objects, HashMap<String, String>), RepositoryError> {
    let (mut objects, mut etags) = (Objects::new(), HashMap::new());
    let listed = match store.list(kind.directory()).await {
        Ok(listed) => listed,
        Err(error) if error.is_not_found() => return Ok((objects, etags)),
        Err(error) => return Err(error.into()),
    };
    for object in listed {
        let Some(name) = object.key.rsplit('/').next().filter(|name| is_name(name)) else {
            continue;
        };
        let named = Named { kind, name: name.to_owned(), size_bytes: object.size_bytes };
        // No program finds a pack in the wrong directory.
        if named.key() == object.key {
            etags.extend(object.etag.map(|etag| (named.name.clone(), etag)));
            objects.insert(named.name, named.size_bytes);
        }
    }
    Ok((objects, etags))
}

/// The config of a repository as stored: encrypted, the same in every mirror. `None` if it does not exist.
///
/// It is the only object whose name is not its hash, so it is read until two reads agree.
pub(crate) async fn config(store: &dyn ObjectStore) -> Result<Option<Bytes>, RepositoryError> {
    const READS: u32 = 5;
    let mut before: Option<Bytes> = None;
    for _ in 0..READS {
        match store.read("config", None).await {
            Ok(bytes) if before.as_ref() == Some(&bytes) => return Ok(before),
            Ok(bytes) => before = Some(bytes),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Err(RepositoryError::Damaged {
        object: "config".to_owned(),
        why: format!("{} gives another one at every reading", store.location()),
    })
}

/// Names of locks that may be alive: written within restic's half hour, or at a time that the store does not report. Files with
/// other names are not locks.
pub(crate) async fn live_locks(
    store: &dyn ObjectStore,
    now: Timestamp,
) -> Result<Vec<String>, RepositoryError> {
    const STALE_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);
    match store.list("locks").await {
        Ok(locks) => Ok(locks
            .into_iter()
            .filter(|lock| {
                lock.modified.is_none_or(|modified| now.duration_since(modified) < STALE_AFTER)
            })
            .filter_map(|lock| lock.key.rsplit('/').next().map(str::to_owned))
            .filter(|name| is_name(name))
            .collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn is_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
