//! Continues an interrupted restore, collection by collection. A collection that equals the point's is kept. A plain one next to
//! the live data gets the documents that it lacks: they were inserted in the order of the point, a few batches at a time. Any
//! other is dropped and rebuilt.

use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{SourceError, digest::MultisetDigest},
    recovery::{point::PointReader, source::RestoreReport},
};

use super::{
    compare::{self, Content},
    destination::Destination,
    load,
    plan::label,
    rebuilder::Rebuilder,
    stream::pieces,
};
use crate::mongodb::{
    dump::DataPlace,
    server::listing::{CollectionKind, CollectionSpec},
};

impl Rebuilder<'_> {
    /// Makes an existing collection equal to the point's. `is_ours` if only the interrupted restore wrote to it. Returns the digest
    /// of its content.
    ///
    /// # Errors
    /// As of a new collection.
    pub(super) async fn resume(
        &self,
        (spec, found, is_ours): (&CollectionSpec, &CollectionSpec, bool),
        data: Option<&ArtifactRecord>,
        point: &PointReader,
        report: &mut RestoreReport,
    ) -> Result<MultisetDigest, SourceError> {
        let label = label(spec);
        let place = DataPlace::of(spec, self.facts.has_viewless_time_series());
        if let (Some(record), Some(place)) = (data, &place)
            && compare::options(&label, spec, found).is_empty()
        {
            let mut content = compare::read_back(self.connection, spec, place, |_| ()).await?;
            let is_partial = record.items.is_some_and(|items| content.items < items);
            let is_plain = spec.kind == CollectionKind::Collection && !spec.is_capped();
            if is_partial && is_plain && is_ours {
                content = self.complete(spec, (record, place), &content, point).await?;
            }
            if compare::documents(&label, record, &content).is_empty() {
                self.progress.advance(2 * record.size_bytes);
                report.items += content.items;
                report.size_bytes += record.size_bytes;
                report.compared.push(format!(
                    "{label}: {} documents, of which an interrupted restore had inserted some or all",
                    content.items
                ));
                return Ok(content.multiset);
            }
        }
        self.remove(spec).await?;
        let content = match data {
            Some(record) => Some((record, pieces(point, &record.path).await?)),
            None => None,
        };
        self.collection(spec, content, report).await
    }

    /// Inserts the documents that a collection may lack, and reads it back.
    async fn complete(
        &self,
        spec: &CollectionSpec,
        (record, place): (&ArtifactRecord, &DataPlace),
        content: &Content,
        point: &PointReader,
    ) -> Result<Content, SourceError> {
        let destination =
            Destination::new(spec, place, self.facts, self.writes).continued(content.items);
        let pieces = pieces(point, &record.path).await?;
        load::load(self.connection, &destination, pieces, |_| ()).await?;
        compare::read_back(self.connection, spec, place, |_| ()).await
    }
}
