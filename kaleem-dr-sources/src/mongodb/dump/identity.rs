//! Recognises a listed collection later, also after it was renamed.
//!
//! A name may come to refer to another collection between two requests, by a drop or by one or two renames. A collection is
//! recognised by its UUID, which a rename within a database preserves.

use std::time::Duration;

use bson::{Bson, Timestamp, doc};
use kaleem_dr_core::ground::SourceError;
use tokio::time::Instant;

use super::moment::Moment;
use crate::mongodb::server::{
    Connection,
    listing::{self, CollectionKind, CollectionSpec},
};

/// The check at the end of a read is retried for this long: longer than the election of a primary takes.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_secs(5);
/// A listing may be taken in the middle of a rename: not every server renames atomically.
const LOOKS: u32 = 3;
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// The present place of a listed collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Under the expected name.
    Same,
    /// Under this name in the same database.
    Renamed(String),
    /// Dropped, or recreated.
    Gone,
}

/// A collection as it was listed before the reads.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) connection: &'a Connection,
    pub(super) spec: &'a CollectionSpec,
    /// The documents are read from another member than the primary, which may see a rename later than the primary does.
    pub(super) is_read_elsewhere: bool,
}

impl Identity<'_> {
    /// Reports whether a rename can be followed.
    pub(super) fn can_be_followed(&self) -> bool {
        self.spec.kind == CollectionKind::Collection
            && self.spec.uuid.is_some()
            && !self.is_read_elsewhere
    }

    fn is(&self, other: &CollectionSpec) -> bool {
        if self.can_be_followed() {
            self.spec.kind == other.kind && self.spec.uuid == other.uuid
        } else {
            self.spec.is_same(other)
        }
    }

    /// Looks for the collection, which was last known by `name`. On a server that cannot be reached at the moment, it counts as
    /// unchanged: the next request to it fails too.
    pub(super) async fn locate(&self, name: &str) -> Result<Whereabouts, SourceError> {
        match self.find(name).await {
            Ok((Some(now), _)) if now == name => Ok(Whereabouts::Same),
            Ok((Some(now), _)) => Ok(Whereabouts::Renamed(now)),
            Ok((None, _)) => Ok(Whereabouts::Gone),
            Err(SourceError::Unreachable { .. } | SourceError::Server { .. }) => {
                Ok(Whereabouts::Same)
            }
            Err(error) => Err(error),
        }
    }

    /// The present name, and a time of the server at which the collection still existed.
    async fn find(&self, name: &str) -> Result<(Option<String>, Option<Timestamp>), SourceError> {
        let mut found = self.look(name).await?;
        for _ in 1..LOOKS {
            if found.0.is_some() || !self.can_be_followed() {
                break;
            }
            tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await;
            found = self.look(name).await?;
        }
        Ok(found)
    }

    /// Looks under `name` first, then among all collections of the database.
    async fn look(&self, name: &str) -> Result<(Option<String>, Option<Timestamp>), SourceError> {
        let database = &self.spec.database;
        let action = format!("check that {} still exists", self.spec.namespace());
        let command = doc! { "listCollections": 1, "filter": { "name": name } };
        let reply = self.connection.run(database, command, &action).await?;
        let at = reply.get_timestamp("operationTime").ok();
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let named = batch.is_ok_and(|batch| {
            batch.iter().filter_map(Bson::as_document).any(|listed| {
                listing::spec(database, listed.clone()).is_ok_and(|listed| self.is(&listed))
            })
        });
        if named {
            return Ok((Some(name.to_owned()), at));
        }
        if !self.can_be_followed() {
            return Ok((None, at));
        }
        let listed = listing::list_database(self.connection, database).await?;
        Ok((listed.into_iter().find(|listed| self.is(listed)).map(|listed| listed.name), at))
    }

    /// Checks that the collection still exists after it was completely read, and records the time.
    pub(super) async fn note_end(&self, moment: &Moment) -> Result<(), SourceError> {
        if moment.oplog_after().is_none() {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            match self.find(&self.spec.name).await {
                Ok((Some(_), Some(at))) => moment.finish(self.spec.namespace(), at),
                Ok((Some(_), None)) => {}
                Ok((None, _)) => {
                    moment.leave();
                }
                // A member that steps down, or a connection that breaks, must not discard what was read.
                Err(SourceError::Unreachable { .. } | SourceError::Server { .. })
                    if began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}
