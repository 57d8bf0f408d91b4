//! How a restore writes: in what portions, and how safely.

use std::num::NonZeroUsize;

use bson::{Document, RawDocumentBuf, doc, rawdoc};

use crate::mongodb::config::{MongoConfig, WriteConcern};

/// What a server takes in one command at most, whatever it is told.
const MOST_DOCUMENTS: usize = 100_000;
const MOST_BYTES: usize = 16 << 20;

/// How a restore writes.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    /// How many inserts run at once.
    pub(crate) workers: NonZeroUsize,
    /// Documents in one insert.
    pub(crate) batch_documents: usize,
    /// Bytes of one insert, but for a single document that is larger.
    pub(crate) batch_bytes: usize,
    /// The `writeConcern` of every command.
    pub(crate) concern: Document,
    /// The same as bytes.
    pub(crate) raw_concern: RawDocumentBuf,
    /// Whether the oplog is replayed where it can be.
    pub(crate) replays: bool,
}

impl Writes {
    pub(crate) fn of(config: &MongoConfig) -> Self {
        let (concern, raw_concern) = match &config.restore_write_concern {
            WriteConcern::Members(members) => {
                let members = i64::from(members.get());
                (doc! { "w": members }, rawdoc! { "w": members })
            }
            WriteConcern::Named(name) => (doc! { "w": name }, rawdoc! { "w": name.as_str() }),
        };
        Self {
            workers: config.restore_workers,
            batch_documents: config.restore_batch_documents.get().min(MOST_DOCUMENTS),
            batch_bytes: config.restore_batch_bytes.get().min(MOST_BYTES),
            concern,
            raw_concern,
            replays: config.replay_oplog,
        }
    }
}
