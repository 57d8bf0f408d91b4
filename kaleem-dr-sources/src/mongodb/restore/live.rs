//! A collection in the target of a restore, and what is known of its content.

use kaleem_dr_core::ground::digest::MultisetDigest;

use super::placement::Placed;
use crate::mongodb::server::listing::{CollectionKind, CollectionSpec};

/// A collection, view or time series that a restore made, and what it must come to.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// Database and name in the point. They follow renames of the oplog.
    pub(crate) source: (String, String),
    /// Its UUID on the server it was captured from, 32 hex digits.
    pub(crate) uuid: Option<String>,
    /// Name, options and indexes in the target; the indexes are built last.
    pub(crate) spec: CollectionSpec,
    /// Its documents, as they were compared when they were loaded, and as a replay changed them since.
    pub(crate) content: MultisetDigest,
    /// Whether a replay wrote to it.
    pub(crate) is_touched: bool,
    /// Whether a replay removed it.
    pub(crate) is_gone: bool,
    /// Whether it was merged into what was there.
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

    /// One that a replay makes: empty.
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

    /// Whether its documents can be told from what a replay should have made of them: a capped collection drops some by itself.
    pub(crate) fn is_comparable(&self) -> bool {
        self.spec.kind != CollectionKind::View && !self.spec.is_capped()
    }
}
