//! Proofs of snapshots, and the chain of drill reports.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Ledger, LedgerError, maybe_typed, size, stored, typed};
use crate::ground::{ProofLevel, RunId, SnapshotId, SourceName};

/// The result of a verification or a drill for one snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Proof {
    /// Id of the run that showed it.
    pub run: RunId,
    /// Name of the source in the config.
    pub source: SourceName,
    /// The host that the snapshot is of; empty in proofs of releases that did not record it.
    pub host: String,
    /// Name of the repository, without credentials.
    pub repository: String,
    /// Id of the snapshot in that repository.
    pub snapshot: SnapshotId,
    /// Time that the snapshot's data represent.
    pub consistent_at: Timestamp,
    /// Time of the verification or drill.
    pub at: Timestamp,
    /// The level that the job was asked to prove.
    pub wanted: ProofLevel,
    /// The proven level; `None` if not even the lowest is.
    pub proven: Option<ProofLevel>,
    /// Size of the source's data in the snapshot, in bytes.
    pub size_bytes: u64,
    /// Duration of the restore into a scratch target, in seconds, with the comparison, if there was one.
    pub restore_seconds: Option<f64>,
}

impl Proof {
    /// A verification as of now that proved the requested level of a snapshot, without a host, a size and a restore.
    pub fn new(
        run: RunId,
        source: SourceName,
        repository: impl Into<String>,
        (snapshot, consistent_at): (SnapshotId, Timestamp),
        level: ProofLevel,
    ) -> Self {
        Self {
            run,
            source,
            host: String::new(),
            repository: repository.into(),
            snapshot,
            consistent_at,
            at: Timestamp::now(),
            wanted: level,
            proven: Some(level),
            size_bytes: 0,
            restore_seconds: None,
        }
    }

    /// Reports whether the requested level is proven.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.proven.is_some_and(|proven| proven >= self.wanted)
    }
}

/// A proof report in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainedReport {
    /// Run id of the drill.
    pub run: RunId,
    /// Hash of the previous report; `None` for the first.
    pub previous: Option<String>,
    /// SHA-256 of `body`, 64 hex digits.
    pub hash: String,
    /// The exact JSON text of the report, which contains the hash of the previous one.
    pub body: String,
}

impl Ledger {
    /// Adds a proof.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record_proof(&self, proof: &Proof) -> Result<(), LedgerError> {
        insert(&self.connection(), proof, None).map_err(self.failed("written"))
    }

    /// Records that a snapshot was rewritten under another id: its proofs stay valid.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn rename_snapshot(&self, from: SnapshotId, to: SnapshotId) -> Result<(), LedgerError> {
        self.connection()
            .execute(
                "update proof set snapshot = ?2 where snapshot = ?1",
                params![from.to_string(), to.to_string()],
            )
            .map(drop)
            .map_err(self.failed("written"))
    }

    /// The newest proofs, newest first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn proofs(&self, most: usize) -> Result<Vec<Proof>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare(
                "select run, source, repository, snapshot, consistent_at, at, wanted, proven, size_bytes, restore_seconds, host
                 from proof order by id desc limit ?1",
            )
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
                Ok(Proof {
                    run: typed(row, 0)?,
                    source: typed(row, 1)?,
                    repository: row.get(2)?,
                    snapshot: typed(row, 3)?,
                    consistent_at: typed(row, 4)?,
                    at: typed(row, 5)?,
                    wanted: typed(row, 6)?,
                    proven: maybe_typed(row, 7)?,
                    size_bytes: size(row, 8)?,
                    restore_seconds: row.get(9)?,
                    host: row.get(10)?,
                })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// Appends a report to the chain. `body` creates its text from the hash of the previous one; no other writer can append in
    /// between.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append_report(
        &self,
        run: RunId,
        body: impl FnOnce(Option<&str>) -> String,
    ) -> Result<ChainedReport, LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed())?;
        let previous: Option<String> = change
            .query_row("select hash from report order by id desc limit 1", [], |row| row.get(0))
            .optional()
            .map_err(failed())?;
        let body = body(previous.as_deref());
        let hash = hex::encode(Sha256::digest(body.as_bytes()));
        change
            .execute(
                "insert into report (run, previous, hash, body) values (?1, ?2, ?3, ?4)",
                params![run.to_string(), previous, hash, body],
            )
            .map_err(failed())?;
        change.commit().map_err(failed())?;
        Ok(ChainedReport { run, previous, hash, body })
    }

    /// All reports of the chain, oldest first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn reports(&self) -> Result<Vec<ChainedReport>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare("select run, previous, hash, body from report order by id")
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([], |row| {
                Ok(ChainedReport {
                    run: typed(row, 0)?,
                    previous: row.get(1)?,
                    hash: row.get(2)?,
                    body: row.get(3)?,
                })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }
}

/// Adds a proof, with the next id unless one is given.
pub(super) fn insert(
    connection: &Connection,
    proof: &Proof,
    id: Option<i64>,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "insert into proof (id, run, source, repository, snapshot, consistent_at, at, wanted, proven, size_bytes,
                                restore_seconds, report, host)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'null', ?12)",
            params![
                id,
                proof.run.to_string(),
                proof.source.as_str(),
                proof.repository,
                proof.snapshot.to_string(),
                proof.consistent_at.to_string(),
                proof.at.to_string(),
                proof.wanted.as_str(),
                proof.proven.map(ProofLevel::as_str),
                stored(proof.size_bytes),
                proof.restore_seconds,
                proof.host,
            ],
        )
        .map(drop)
}
