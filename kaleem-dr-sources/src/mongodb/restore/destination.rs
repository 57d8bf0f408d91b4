//! The target collection of inserts, and the server-specific options for them.

use bson::{cstr, raw::CStr};

use super::writes::Writes;
use crate::mongodb::{
    dump::DataPlace,
    server::{
        ServerFacts,
        listing::{CollectionKind, CollectionSpec},
    },
};

/// Documents per insert of a merge.
const MERGE_DOCUMENTS: usize = 1000;

/// The target collection and its insert options.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) database: String,
    /// The collection name for `insert`.
    pub(crate) collection: String,
    /// Keep the order of the stream, one insert after another: for capped collections.
    pub(super) ordered: bool,
    /// Options of the command that are set to true.
    pub(super) flags: Vec<&'static CStr>,
    /// Keep existing documents with the same `_id`, and compare them.
    pub(super) merge: bool,
    /// The time series that the buckets belong to.
    pub(super) series: Option<String>,
    /// Continue an interrupted restore.
    pub(super) arrived: Option<Arrived>,
    pub(super) writes: Writes,
}

/// Documents that an interrupted restore inserted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// This many from the start of the stream exist, and are not sent again. Of the others, some may exist.
    pub(super) first: u64,
}

impl Destination {
    /// For a newly created collection.
    pub(crate) fn new(
        spec: &CollectionSpec,
        place: &DataPlace,
        facts: &ServerFacts,
        writes: &Writes,
    ) -> Self {
        let flags = [
            // Documents that the validator rejects existed before, so they are restored. This needs
            // a permission of its own, so it is only requested if there is a validator.
            (cstr!("bypassDocumentValidation"), spec.options.contains_key("validator")),
            (cstr!("bypassEmptyTsReplacement"), facts.release >= (8, 0)),
            (cstr!("rawData"), place.raw_data),
        ];
        Self {
            database: spec.database.clone(),
            collection: place.collection.clone(),
            ordered: spec.is_capped(),
            flags: flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag).collect(),
            merge: false,
            arrived: None,
            series: (spec.kind == CollectionKind::TimeSeries).then(|| spec.name.clone()),
            writes: writes.clone(),
        }
    }

    /// Changes the destination to a plain collection with this many documents of an interrupted restore. At most one batch of each
    /// worker was under way, so the documents before these are complete.
    pub(crate) fn continued(mut self, documents: u64) -> Self {
        let under_way = self.writes.workers.get().saturating_mul(self.writes.batch_documents);
        let under_way = u64::try_from(under_way).unwrap_or(u64::MAX);
        self.arrived = Some(Arrived { first: documents.saturating_sub(under_way) });
        self
    }

    /// Reports whether inserts write the buckets of a time series rather than measurements.
    pub(super) fn has_raw_data(&self) -> bool {
        self.flags.contains(&cstr!("rawData"))
    }

    /// The fields of a command that are set to true; a deletion supports fewer.
    pub(super) fn flags(&self, is_deletion: bool) -> impl Iterator<Item = &'static CStr> + '_ {
        let raw = cstr!("rawData");
        self.flags.iter().copied().filter(move |flag| !is_deletion || *flag == raw)
    }

    /// Changes the destination to a merge into an existing collection. `validated` is true if it has a validator: documents that
    /// this rejects existed when they were captured.
    pub(crate) fn merging(mut self, validated: bool) -> Self {
        let bypass = cstr!("bypassDocumentValidation");
        if validated && !self.flags.contains(&bypass) {
            self.flags.push(bypass);
        }
        self.merge = true;
        // Each rejected document is reported with a reason and queried by `_id`, and a reply is
        // limited to 16 MiB.
        self.writes.batch_documents = self.writes.batch_documents.min(MERGE_DOCUMENTS);
        self
    }
}
