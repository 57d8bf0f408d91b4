//! A collection in the target of a restore, and its expected content.

use kaleem_dr_core::ground::digest::MultisetDigest;

use super::placement::Placed;
use crate::mongodb::server::listing::{CollectionKind, CollectionSpec};

/// A collection, view or time series that a restore created, with its expected state.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// Database and name in the point; renames in the oplog change them.
    pub(crate) source: (String, String),
    /// UUID on the captured server, 32 hex digits.
    pub(crate) uuid: Option<String>,
    /// Name, options and indexes in the target; the indexes are built last.
    pub(crate) spec: CollectionSpec,
    /// The digest of its documents, as compared after loading and as changed by a replay since.
    pub(crate) content: MultisetDigest,
    /// A replay wrote to it.
    pub(crate) is_touched: bool,
    /// A replay removed it.
    pub(crate) is_gone: bool,
    /// It existed before and was merged into.
    pub(crate) is_merged: bool,
}

impl Live {
    /// A collection of the point that was just loaded.
    pub(crate) fn of(placed: &Placed, content: MultisetDigest, is_merged: bool) -> Self {
        let stored = &placed.stored.spec;
        Self {
            source: (stored.database.clone(), stored.name.clone()),
            uuid: stored.uuid.clone(),
            spec: placed.target.clone(),
            content,
            is_touched: false,
            is_gone: false,
            is_merged,
        }
    }

    /// An empty collection that a replay creates.
    pub(crate) fn new(
        source: (String, String),
        uuid: Option<String>,
        spec: CollectionSpec,
    ) -> Self {
        Self {
            source,
            uuid,
            spec,
            content: MultisetDigest::default(),
            is_touched: true,
            is_gone: false,
            is_merged: false,
        }
    }

    /// Reports whether its documents can be compared with the expected ones: a capped collection drops some by itself.
    pub(crate) fn is_comparable(&self) -> bool {
        self.spec.kind != CollectionKind::View && !self.spec.is_capped()
    }
}
