//! Creates and fills collections on one server, or merges into existing ones.

use std::sync::Arc;

use bson::{Bson, doc};
use bytes::Bytes;
use futures::Stream;
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{SourceError, digest::MultisetDigest, progress::StageProgress},
    recovery::source::{Difference, RestoreReport},
};

use super::{
    compare, destination::Destination, load, loaded::Loaded, placement, plan::label, rebuild,
    writes::Writes,
};
use crate::mongodb::{
    dump::DataPlace,
    server::{
        Connection, ServerFacts, codes,
        listing::{self, CollectionSpec},
    },
};

/// Rebuilds collections on one server.
pub(crate) struct Rebuilder<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) facts: &'a ServerFacts,
    pub(crate) writes: &'a Writes,
    pub(crate) progress: &'a dyn StageProgress,
    /// Existing collections are replaced.
    pub(crate) replaces: bool,
}

impl Rebuilder<'_> {
    /// Creates one collection or view, fills it and compares its documents. Returns the digest of its content. Its indexes are
    /// built later.
    pub(crate) async fn collection<S>(
        &self,
        spec: &CollectionSpec,
        content: Option<(&ArtifactRecord, S)>,
        report: &mut RestoreReport,
    ) -> Result<MultisetDigest, SourceError>
    where
        S: Stream<Item = Result<Bytes, SourceError>> + Unpin,
    {
        self.make(spec).await?;
        let (Some((record, pieces)), Some(place)) =
            (content, DataPlace::of(spec, self.facts.has_viewless_time_series()))
        else {
            return Ok(MultisetDigest::default());
        };
        let destination = Destination::new(spec, &place, self.facts, self.writes);
        let advance = |bytes| self.progress.advance(bytes);
        let loaded = load::load(self.connection, &destination, pieces, advance).await?;
        report.items += loaded.items;
        report.size_bytes += loaded.size_bytes;
        let found = compare::read_back(self.connection, spec, &place, advance).await?;
        let label = label(spec);
        let differences = compare::documents(&label, record, &found);
        if differences.is_empty() {
            report.compared.push(format!("{label}: {} documents", found.items));
        }
        report.differences.extend(differences);
        Ok(found.multiset)
    }

    /// Builds the indexes of a collection created here. Returns the reasons for the indexes that could not be built; the others
    /// are built regardless, and the comparison reports the missing ones as differences.
    pub(crate) async fn indexes(&self, spec: &CollectionSpec) -> Result<Vec<String>, SourceError> {
        let concern = &self.writes.concern;
        let Some(command) = rebuild::indexes_command(spec, concern) else { return Ok(Vec::new()) };
        let action = format!("build the indexes of {}", spec.namespace());
        match self.connection.write(&spec.database, command, &action).await {
            Ok(()) => return Ok(Vec::new()),
            Err(SourceError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut refused = Vec::new();
        for index in rebuild::index_specifications(spec) {
            let name = index.get_str("name").unwrap_or_default().to_owned();
            let action = format!("build the index {name} of {}", spec.namespace());
            let command = rebuild::create_indexes(spec, vec![Bson::Document(index)], concern);
            match self.connection.write(&spec.database, command, &action).await {
                Ok(()) => {}
                Err(SourceError::Server { cause, .. }) => {
                    refused.push(format!("could not {action}: {cause}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Adds what a collection lacks: documents by their `_id`, and indexes.
    pub(crate) async fn merge<S>(
        &self,
        spec: &CollectionSpec,
        there: &CollectionSpec,
        record: &ArtifactRecord,
        pieces: S,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError>
    where
        S: Stream<Item = Result<Bytes, SourceError>> + Unpin,
    {
        placement::refuse_unmergeable(spec)?;
        placement::refuse_unmergeable(there)?;
        let Some(place) = DataPlace::of(spec, self.facts.has_viewless_time_series()) else {
            return Ok(());
        };
        let destination = Destination::new(spec, &place, self.facts, self.writes)
            .merging(there.options.contains_key("validator"));
        // Each document is read back with its batch, so both directions run at once.
        let loaded = load::load(self.connection, &destination, pieces, |bytes| {
            self.progress.advance(2 * bytes);
        })
        .await?;
        report.items += loaded.items;
        report.size_bytes += loaded.size_bytes;
        account(&label(spec), record, &loaded, report);
        self.missing_indexes(spec, there, report).await
    }

    /// Builds the missing indexes of a collection. An index that cannot be built over the existing
    /// documents is a difference, not a failure.
    async fn missing_indexes(
        &self,
        spec: &CollectionSpec,
        there: &CollectionSpec,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError> {
        let existing = listing::list_indexes(self.connection, there).await?.unwrap_or_default();
        for index in rebuild::index_specifications(spec) {
            let name = index.get_str("name").unwrap_or_default().to_owned();
            if existing
                .iter()
                .any(|existing| existing.get_str("name").is_ok_and(|there| there == name))
            {
                continue;
            }
            let command =
                rebuild::create_indexes(spec, vec![Bson::Document(index)], &self.writes.concern);
            let action = format!("build the index {name} of {}", spec.namespace());
            match self.connection.write(&spec.database, command, &action).await {
                Ok(()) => {}
                // This passes on the server's reason; the comparison finds the missing index.
                Err(SourceError::Server { cause, .. }) => {
                    report.warnings.push(format!("could not {action}: {cause}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops a collection or view, if it exists.
    pub(super) async fn remove(&self, spec: &CollectionSpec) -> Result<(), SourceError> {
        let concern = &self.writes.concern;
        // Servers do not drop system collections, but allow their documents to be deleted.
        let (command, action) = if is_of_system(spec) {
            let all = doc! { "delete": &spec.name, "deletes": [ { "q": {}, "limit": 0 } ], "writeConcern": concern };
            (all, format!("empty {}", spec.namespace()))
        } else {
            (
                doc! { "drop": &spec.name, "writeConcern": concern },
                format!("drop {}", spec.namespace()),
            )
        };
        let fine = Some(codes::NAMESPACE_NOT_FOUND);
        self.connection.write_tolerating(&spec.database, command, &action, fine).await
    }

    /// Creates an empty collection or view, in place of an existing one.
    async fn make(&self, spec: &CollectionSpec) -> Result<(), SourceError> {
        let concern = &self.writes.concern;
        if self.replaces {
            self.remove(spec).await?;
        }
        let command = rebuild::create_command(spec, concern);
        let fine = is_of_system(spec).then_some(codes::NAMESPACE_EXISTS);
        self.connection
            .write_tolerating(
                &spec.database,
                command,
                &format!("create {}", spec.namespace()),
                fine,
            )
            .await
    }
}

fn is_of_system(spec: &CollectionSpec) -> bool {
    spec.name.starts_with("system.")
}

/// Reports the outcome of a merge. Each document of the point is equal, kept with other content, or
/// missing.
fn account(label: &str, record: &ArtifactRecord, loaded: &Loaded, report: &mut RestoreReport) {
    let seen = loaded.items + loaded.same + loaded.kept + loaded.missing;
    if record.items.is_some_and(|items| items != seen) {
        report.differences.push(Difference::new(
            format!("{label}: documents"),
            record.items.unwrap_or_default().to_string(),
            format!("{seen} were processed"),
        ));
    } else if loaded.missing == 0 {
        report.compared.push(format!(
            "{label}: all {seen} documents of the point exist: {} were equal already, {} were inserted and are equal, {} have \
             other content",
            loaded.same, loaded.items, loaded.kept
        ));
    }
    if loaded.kept > 0 {
        report.warnings.push(format!(
            "{label}: {} documents of the point existed with other content, and stay unchanged",
            loaded.kept
        ));
    }
    if loaded.missing > 0 {
        let why = loaded.why_missing.as_deref().unwrap_or("no reason was given");
        report.differences.push(Difference::new(
            format!("{label}: documents"),
            format!("all {seen} of the point exist"),
            format!("{} are missing, the first one because: {why}", loaded.missing),
        ));
    }
}
