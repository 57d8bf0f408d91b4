//! Positions in a server's oplog: its two ends, and the position after which a capture must keep all entries.

use std::time::Duration;

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt as _;
use kaleem_dr_core::ground::SourceError;

use crate::mongodb::server::{Connection, is_passing};

/// Attempts to read an end of the oplog while connections or members fail.
const TRIES: u32 = 6;

/// The action that errors of these reads name.
pub(super) const ACTION: &str =
    "read the oplog local.oplog.rs (the role backup on admin allows it)";

/// A position in the oplog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// The newest majority-committed entry.
    pub(crate) newest: Timestamp,
    /// The time right before the first entry of the transactions in progress. A transaction counts if it is committed later, and
    /// its entries are then needed from the first one on (mongodump, `dump.go`).
    pub(crate) transactions_after: Timestamp,
}

/// Returns the position after which a capture that begins now must keep all entries, or the reason why there is none.
pub(crate) async fn position(
    connection: &Connection,
) -> Result<Result<Position, String>, SourceError> {
    let newest = match edge(connection, -1).await {
        Ok(newest) => newest,
        Err(SourceError::Unauthorised { .. }) => {
            return Ok(Err(
                "the login may not read the oplog, which the role backup on admin allows"
                    .to_owned(),
            ));
        }
        Err(SourceError::Unreachable { server, cause }) => {
            return Err(SourceError::Unreachable { server, cause });
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let find = doc! {
        "find": "transactions", "filter": { "state": { "$in": ["prepared", "inProgress"] } }, "sort": { "startOpTime": 1 },
        "limit": 1, "projection": { "startOpTime": 1 }, "readConcern": { "level": "local" },
    };
    let action = "look for transactions that are under way (the role backup on admin allows it)";
    let open = match connection.list("config", find, action).await {
        Ok(open) => open,
        Err(SourceError::Unauthorised { .. }) => {
            return Ok(Err(
                "the login may not read config.transactions, which the role backup on admin allows"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(error),
    };
    let began = open
        .first()
        .and_then(|open| open.get_document("startOpTime").ok())
        .and_then(|time| time.get_timestamp("ts").ok())
        // Only entries after this time are kept, and this one is needed.
        .map(|at| match at.increment.checked_sub(1) {
            Some(increment) => Timestamp { time: at.time, increment },
            None => Timestamp { time: at.time.saturating_sub(1), increment: u32::MAX },
        });
    let transactions_after = began.map_or(newest, |began| began.min(newest));
    Ok(Ok(Position { newest, transactions_after }))
}

/// Returns the time of the oldest (1) or newest (-1) majority-committed entry.
pub(crate) async fn edge(
    connection: &Connection,
    direction: i32,
) -> Result<Timestamp, SourceError> {
    let find = doc! {
        "find": "oplog.rs", "sort": { "$natural": direction }, "limit": 1, "projection": { "ts": 1 },
        "readConcern": { "level": "majority" },
    };
    let local = connection.client().await?.database("local");
    let mut tries = 0;
    let found: Vec<Document> = loop {
        let reading = async {
            Ok(match local.run_cursor_command(find.clone()).await {
                Ok(cursor) => cursor.try_collect().await,
                Err(error) => Err(error),
            })
        };
        match connection.answer(ACTION, reading).await? {
            Ok(found) => break found,
            Err(error) if is_passing(&error) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
            }
            Err(error) => return Err(connection.error(ACTION, &error)),
        }
    };
    let entry = found.first().ok_or_else(|| {
        connection.odd_answer(ACTION, "it is empty: is this a member of a replica set?")
    })?;
    entry.get_timestamp("ts").map_err(|_| connection.odd_answer(ACTION, "an entry has no time"))
}
