//! A mark in each target database of a restore next to the live data. It exists while the restore runs, so that an interrupted
//! restore can be continued, and only with the same point.

use bson::{Document, doc};
use kaleem_dr_core::{
    ground::{SourceError, digest::ByteDigest},
    recovery::{
        point::PointReader,
        source::{Existing, RestoreRequest},
    },
};

use super::writes::Writes;
use crate::mongodb::server::{Connection, codes, listing::CollectionSpec};

/// Name of the collection with the mark.
const MARK: &str = "kaleem_dr_restore_in_progress";

/// Reports whether this is the collection of a mark.
pub(super) fn is_mark(name: &str) -> bool {
    name == MARK
}

/// The mark of one restore.
#[derive(Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// The mark of restores of this point, to this moment.
    pub(super) fn of(point: &PointReader) -> Self {
        let mut digest = ByteDigest::default();
        for record in &point.manifest().artifacts {
            digest.update(format!("{}\0{}\0", record.path, record.sha256).as_bytes());
        }
        if let Some(log) = point.log() {
            digest.update(log.until.to_string().as_bytes());
        }
        Self(digest.finish())
    }

    /// Refuses a target database next to the live data that has collections, unless an interrupted restore of the same point is to
    /// be continued there. `existing` are its collections. Returns true if the mark is there already.
    ///
    /// # Errors
    /// [`SourceError::Refused`], with what can be done; the server's error if the mark cannot be read.
    pub(super) async fn admit(
        &self,
        connection: &Connection,
        target: &str,
        existing: &[CollectionSpec],
        request: &RestoreRequest,
    ) -> Result<bool, SourceError> {
        let taken: Vec<&str> = existing
            .iter()
            .map(|spec| spec.name.as_str())
            .filter(|name| !name.starts_with("system.") && !is_mark(name))
            .collect();
        let is_marked = existing.iter().any(|spec| is_mark(&spec.name));
        let server = connection.server();
        let why = match (is_marked, request.existing) {
            (false, _) => match taken.first() {
                None => return Ok(false),
                Some(first) => format!(
                    "already has {} collections ({first}, for example): choose an unused name, drop it first, or restore in place",
                    taken.len()
                ),
            },
            (true, Existing::Continue) if self.read(connection, target).await? == self.0 => {
                return Ok(true);
            }
            (true, Existing::Replace) if taken.is_empty() => return Ok(false),
            (true, Existing::Continue) => {
                "has an interrupted restore of another point or moment: name that one, drop the \
                 database first, or choose an unused name"
                    .to_owned()
            }
            (true, Existing::Replace | Existing::Merge) => format!(
                "has {} collections of an interrupted restore: continue it with `--existing continue` and the same point, \
                 drop the database first, or choose an unused name",
                taken.len()
            ),
        };
        Err(SourceError::Refused(format!("the database {target} on {server} {why}")))
    }

    async fn read(&self, connection: &Connection, database: &str) -> Result<String, SourceError> {
        let find = doc! { "find": MARK, "limit": 1 };
        let action = format!("read the mark of an interrupted restore in {database}");
        let found: Vec<Document> = connection.list(database, find, &action).await?;
        let point = found.first().and_then(|mark| mark.get_str("point").ok());
        Ok(point.unwrap_or_default().to_owned())
    }

    /// Writes the mark into a database, in place of an older one.
    pub(super) async fn place(
        &self,
        connection: &Connection,
        writes: &Writes,
        database: &str,
    ) -> Result<(), SourceError> {
        Self::remove(connection, writes, database).await?;
        let insert = doc! {
            "insert": MARK,
            "documents": [ { "_id": "restore", "point": &self.0 } ],
            "writeConcern": &writes.concern,
        };
        let action = format!("mark the restore into {database} as in progress");
        connection.write(database, insert, &action).await
    }

    /// Removes the mark from a database.
    pub(super) async fn remove(
        connection: &Connection,
        writes: &Writes,
        database: &str,
    ) -> Result<(), SourceError> {
        let drop = doc! { "drop": MARK, "writeConcern": &writes.concern };
        let action = format!("remove the mark of the restore from {database}");
        connection.write_tolerating(database, drop, &action, Some(codes::NAMESPACE_NOT_FOUND)).await
    }
}
