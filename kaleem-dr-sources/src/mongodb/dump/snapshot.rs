//! The consistency of a capture: how far its collections belong to the same moment.
//!
//! A replica set or sharded cluster can read all collections as of one cluster time. The first read
//! asks for the newest such time; every other read, on any connection, uses that time. The manifest
//! records the grade that was reached, with the reason if it is not the best one. A configured
//! grade is never silently lowered.

use bson::{Timestamp, doc};
use jiff::Timestamp as Instant;
use kaleem_dr_core::{
    engine::manifest::{Consistency, ConsistencyGrade},
    ground::SourceError,
};
use mongodb::error::Error;

use super::{documents::DataPlace, moment::Moment, position::Position};
use crate::mongodb::{
    config::ConsistencyMode,
    oplog::Window,
    server::{
        Connection, ServerFacts, Topology, code, codes,
        listing::{CollectionKind, CollectionSpec, Scope},
    },
};

/// Number of attempts to get a stable listing.
const LISTINGS: u32 = 5;
/// Snapshot reads outside transactions exist from this release on.
const SNAPSHOTS_SINCE: (u32, u32) = (5, 0);
/// Before this release, capped collections cannot be read in a snapshot.
const CAPPED_SNAPSHOTS_SINCE: (u32, u32) = (8, 0);

/// The collections of a capture, and the time at which they are read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) collections: Vec<CollectionSpec>,
    pub(crate) reading: Reading,
}

impl Listed {
    /// Reports whether some collections cannot be read at the moment of the others.
    pub(crate) fn is_apart(&self) -> bool {
        self.collections
            .iter()
            .any(|spec| spec.kind != CollectionKind::View && !self.reading.is_in_snapshot(spec))
    }

    /// The moment shared by all reads.
    pub(crate) fn moment(&self, position: &Result<Position, String>) -> Moment {
        match position {
            Err(_) => Moment::new(self.reading.at, None),
            Ok(position) => {
                // Entries from before the snapshot are not needed.
                let after = self.reading.at.unwrap_or(position.newest).max(position.newest);
                let after = if self.is_apart() { position.newest } else { after };
                Moment::new(self.reading.at, Some(after))
                    .with_transactions_after(position.transactions_after)
            }
        }
    }
}

/// The time of the reads.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The cluster time of all reads; `None` if each collection is read independently.
    pub(crate) at: Option<Timestamp>,
    /// Capped collections can be read at that time.
    capped: bool,
    note: Option<String>,
}

impl Reading {
    fn per_collection(note: impl Into<String>) -> Self {
        Self { at: None, capped: false, note: Some(note.into()) }
    }

    /// Reports whether a collection is read in the snapshot.
    pub(crate) fn is_in_snapshot(&self, spec: &CollectionSpec) -> bool {
        self.at.is_some() && (self.capped || !spec.is_capped())
    }

    /// The entry for the manifest. `started` is the start of the capture.
    pub(crate) fn consistency(
        &self,
        collections: &[CollectionSpec],
        started: Instant,
    ) -> Consistency {
        let moment = self.at.and_then(|at| Instant::from_second(i64::from(at.time)).ok());
        let apart: Vec<String> = collections
            .iter()
            .filter(|spec| spec.is_capped() && !self.capped)
            .map(CollectionSpec::namespace)
            .collect();
        match moment {
            Some(at) if apart.is_empty() => Consistency::new(ConsistencyGrade::PointInTime, at).because("all collections were read in one snapshot"),
            Some(_) => Consistency::new(ConsistencyGrade::PerCollection, started).because(format!(
                    "all collections were read in one snapshot, except the capped ones, which this server cannot read in a snapshot: {}",
                    apart.join(", ")
                )),
            None => {
                let mut consistency = Consistency::new(ConsistencyGrade::PerCollection, started);
                consistency.note.clone_from(&self.note);
                consistency
            }
        }
    }
}

/// Lists the collections and determines the time to read them at, so that the listing is valid at that time.
///
/// `position` is the place in the oplog that compensates for a missing snapshot, or the reason why there is none.
pub(crate) async fn list(
    connection: &Connection,
    facts: &ServerFacts,
    scope: &Scope,
    mode: ConsistencyMode,
    position: &Result<Position, String>,
) -> Result<Listed, SourceError> {
    let mut collections = scope.list(connection).await?;
    for _ in 0..LISTINGS {
        let reading = begin(connection, facts, &collections, mode, position).await?;
        if reading.at.is_none() {
            return Ok(Listed { collections, reading });
        }
        let again = scope.list(connection).await?;
        if is_same(&collections, &again) {
            if mode == ConsistencyMode::PointInTime
                && position.is_err()
                && !reading.capped
                && collections.iter().any(CollectionSpec::is_capped)
            {
                return Err(SourceError::Unsupported(format!(
                    "{} cannot read capped collections in a snapshot before version 8.0: leave them out with `exclude_collections`, or set \
                     consistency = \"auto\"",
                    connection.server()
                )));
            }
            return Ok(Listed { collections, reading });
        }
        collections = again;
    }
    Err(SourceError::Unsupported(format!(
        "collections on {} are constantly created or dropped, so there is no stable listing: leave those out with \
         `exclude_collections`, or set consistency = \"per-collection\"",
        connection.server()
    )))
}

fn is_same(before: &[CollectionSpec], after: &[CollectionSpec]) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|(before, after)| before.is_same(after))
}

/// Asks the server for a cluster time.
async fn begin(
    connection: &Connection,
    facts: &ServerFacts,
    collections: &[CollectionSpec],
    mode: ConsistencyMode,
    position: &Result<Position, String>,
) -> Result<Reading, SourceError> {
    let settle = |why: String| match (mode, position) {
        (ConsistencyMode::PointInTime, Err(no_oplog)) => Err(SourceError::Unsupported(format!(
            "{} cannot give a point-in-time capture: {why}, and {no_oplog}; set consistency = \"auto\" to take collection by \
             collection",
            connection.server()
        ))),
        _ => Ok(Reading::per_collection(why)),
    };
    if mode == ConsistencyMode::PerCollection {
        return Ok(Reading::per_collection("as configured"));
    }
    if facts.topology == Topology::Standalone {
        return settle(
            "a standalone server has no snapshot reads, but a replica set with one member has"
                .to_owned(),
        );
    }
    if facts.release < SNAPSHOTS_SINCE {
        return settle(format!(
            "version {} has no snapshot reads, which require 5.0 or later",
            facts.version
        ));
    }
    let capped = facts.release >= CAPPED_SNAPSHOTS_SINCE;
    let Some(first) = collections
        .iter()
        .find(|spec| spec.kind != CollectionKind::View && (capped || !spec.is_capped()))
    else {
        return settle("there is no collection to read in a snapshot".to_owned());
    };
    let Some(place) = DataPlace::of(first, facts.has_viewless_time_series()) else {
        return settle("there is no collection to read in a snapshot".to_owned());
    };
    let action = format!("begin a snapshot on {}", first.namespace());
    let database = connection.client().await?.database(&first.database);
    let preference = connection.reads_from().await?;
    let mut tries = 0;
    let reply = loop {
        let find = doc! {
            "find": &place.collection, "limit": 1, "singleBatch": true, "projection": { "_id": 1 },
            "readConcern": { "level": "snapshot" },
        };
        let mut find = database.run_command(find);
        if let Some(preference) = preference.clone() {
            find = find.selection_criteria(preference);
        }
        tries += 1;
        // The driver's error is not converted: some errors mean "not supported here" rather than
        // "failed".
        match connection.answer(&action, async { Ok(find.await) }).await? {
            Ok(reply) => break reply,
            // A newly created collection is not in the newest snapshot yet.
            Err(error) if code(&error) == Some(codes::SNAPSHOT_UNAVAILABLE) && tries < LISTINGS => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            Err(error) if is_refusal(&error) => {
                return settle(format!("the server refused a snapshot read: {}", error.kind));
            }
            Err(error) => return Err(connection.error(&action, &error)),
        }
    };
    match reply.get_document("cursor").and_then(|cursor| cursor.get_timestamp("atClusterTime")) {
        Ok(at) => Ok(Reading { at: Some(at), capped, note: None }),
        Err(_) => settle("the server did not return the time of its snapshot".to_owned()),
    }
}

fn is_refusal(error: &Error) -> bool {
    code(error).is_some_and(|code| {
        [
            codes::SNAPSHOT_UNAVAILABLE,
            codes::SNAPSHOT_TOO_OLD,
            codes::INVALID_OPTIONS,
            codes::NOT_A_REPLICA_SET,
            codes::ILLEGAL_OPERATION,
        ]
        .contains(&code)
    })
}

/// The consistency of reads that the oplog of a window brings to one moment.
pub(crate) fn with_oplog(window: &Window, started: jiff::Timestamp) -> Consistency {
    let Window { after, to } = window;
    Consistency::new(
        ConsistencyGrade::PointInTime,
        jiff::Timestamp::from_second(i64::from(to.time)).unwrap_or(started),
    )
    .because(format!(
        "read over {} s; the captured oplog brings all collections to its end, ({}, {})",
        to.time.saturating_sub(after.time),
        to.time,
        to.increment
    ))
}

/// Verifies after the reads that every collection we read is still the listed one. A collection that was dropped, renamed or
/// recreated in the meantime may have been read as empty, without an error.
pub(crate) async fn verify(
    connection: &Connection,
    scope: &Scope,
    listed: &Listed,
) -> Result<(), SourceError> {
    let after = scope.list(connection).await?;
    match listed.collections.iter().find(|before| !after.iter().any(|after| before.is_same(after))) {
        None => Ok(()),
        Some(gone) => Err(SourceError::Server {
            server: connection.server().to_owned(),
            action: format!("keep {} unchanged", gone.namespace()),
            cause: "it was dropped, renamed or recreated during the capture; run the capture again, or leave it out with \
                    `exclude_collections`"
                .into(),
        }),
    }
}

/// Advice for a read that failed because the server has discarded the snapshot.
pub(crate) fn advice(error: &SourceError) -> Option<&'static str> {
    let SourceError::Server { cause, .. } = error else { return None };
    cause.to_string().contains(&format!("code {}", codes::SNAPSHOT_TOO_OLD)).then_some(
        "the capture took longer than the server keeps history, and it cannot go on with the oplog: on a replica set give the login \
         the role backup on admin, which allows that; or raise minSnapshotHistoryWindowInSeconds (300 by default) with \
         db.adminCommand({setParameter: 1, minSnapshotHistoryWindowInSeconds: 3600})",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, options: bson::Document, uuid: &str) -> CollectionSpec {
        CollectionSpec {
            database: "d".into(),
            name: name.into(),
            kind: CollectionKind::Collection,
            options,
            indexes: vec![],
            uuid: Some(uuid.into()),
        }
    }

    #[test]
    fn the_grade_is_what_was_reached() {
        let started = Instant::from_second(1000).unwrap();
        let at = Timestamp { time: 900, increment: 1 };
        let plain = [spec("a", doc! {}, "1")];
        let capped = [spec("a", doc! {}, "1"), spec("log", doc! { "capped": true }, "2")];
        let new = Reading { at: Some(at), capped: true, note: None };
        let old = Reading { capped: false, ..new.clone() };

        let reached = new.consistency(&capped, started);
        assert_eq!(
            (reached.grade, reached.at),
            (ConsistencyGrade::PointInTime, Instant::from_second(900).unwrap())
        );
        assert!(new.is_in_snapshot(&capped[1]));

        let reached = old.consistency(&capped, started);
        assert_eq!((reached.grade, reached.at), (ConsistencyGrade::PerCollection, started));
        assert!(reached.note.unwrap().contains("d.log"));
        assert!(old.is_in_snapshot(&capped[0]) && !old.is_in_snapshot(&capped[1]));
        assert_eq!(old.consistency(&plain, started).grade, ConsistencyGrade::PointInTime);

        let reached = Reading::per_collection("because").consistency(&plain, started);
        assert_eq!(
            (reached.grade, reached.note.as_deref()),
            (ConsistencyGrade::PerCollection, Some("because"))
        );
    }

    #[test]
    fn a_snapshot_that_is_gone_comes_with_advice() {
        let failed = |cause: &str| SourceError::Server {
            server: "h:1".into(),
            action: "read d.a".into(),
            cause: cause.into(),
        };
        let gone =
            failed("Read timestamp is older than the oldest available (SnapshotTooOld, code 239)");
        assert!(advice(&gone).unwrap().contains("minSnapshotHistoryWindowInSeconds"));
        assert_eq!(advice(&failed("cursor id 7 not found (CursorNotFound, code 43)")), None);
    }

    #[test]
    fn a_collection_of_the_same_name_is_not_the_same_collection() {
        let before = [spec("a", doc! {}, "1")];
        assert!(is_same(&before, &[spec("a", doc! {}, "1")]));
        assert!(!is_same(&before, &[spec("a", doc! {}, "2")]));
        assert!(!is_same(&before, &[]));
    }
}
