//! The collection that documents are put into, and how its server takes them.

use bson::{cstr, raw::CStr};

use super::writes::Writes;
use crate::mongodb::{
    dump::DataPlace,
    server::{
        ServerFacts,
        listing::{CollectionKind, CollectionSpec},
    },
};

/// Documents in one insert of a merge.
const MERGE_DOCUMENTS: usize = 1000;

/// Where documents go, and how.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) database: String,
    /// The name of the collection as `insert` takes it.
    pub(crate) collection: String,
    /// Keep the order of the stream, one insert after the other: for capped collections.
    pub(super) ordered: bool,
    /// Fields of the command that are set to true.
    pub(super) flags: Vec<&'static CStr>,
    /// Documents that are there already, by their `_id`, stay and are looked at.
    pub(super) merge: bool,
    /// The time series whose buckets these are.
    pub(super) series: Option<String>,
    pub(super) writes: Writes,
}

impl Destination {
    /// A collection that was just made.
    pub(crate) fn new(
        spec: &CollectionSpec,
        place: &DataPlace,
        facts: &ServerFacts,
        writes: &Writes,
    ) -> Self {
        let flags = [
            // What the validator refuses was there, so it is put back. This takes a right of its own: it is asked for only where
            // there is a validator.
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
            series: (spec.kind == CollectionKind::TimeSeries).then(|| spec.name.clone()),
            writes: writes.clone(),
        }
    }

    /// Whether a time series' buckets are meant rather than its measurements.
    pub(super) fn has_raw_data(&self) -> bool {
        self.flags.contains(&cstr!("rawData"))
    }

    /// The fields of a command that are set to true; a deletion takes fewer.
    pub(super) fn flags(&self, is_deletion: bool) -> impl Iterator<Item = &'static CStr> + '_ {
        let raw = cstr!("rawData");
        self.flags.iter().copied().filter(move |flag| !is_deletion || *flag == raw)
    }

    /// A collection that is there. `validated` says whether it has a validator: what that refuses was there when it was captured.
    pub(crate) fn merging(mut self, validated: bool) -> Self {
        let bypass = cstr!("bypassDocumentValidation");
        if validated && !self.flags.contains(&bypass) {
            self.flags.push(bypass);
        }
        self.merge = true;
        // Each refused document comes back with a reason, and its `_id` is asked for: a reply has 16 MiB for all of them.
        self.writes.batch_documents = self.writes.batch_documents.min(MERGE_DOCUMENTS);
        self
    }
}
