//! The JSON documents that commands print with `--json` and the page's API answers with, and their
//! schemas. Both are a contract: `docs/json.md` describes it, and tests check every answer.
//!
//! A document is made here and nowhere else, so that a command and the API cannot differ.

mod backup;
mod entry;
mod proof;
mod schema;
mod status;

pub use self::{
    backup::{BackupLine, BackupRun, FailedSource, SourceError, SourceSummary},
    entry::Entry,
    proof::{Chained, DrillLine, VerificationLine},
    schema::{DOCUMENTS, Document, schema_for},
    status::{Point, SnapshotLine, StatusLine},
};
