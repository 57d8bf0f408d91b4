//! Batch sizes, parallelism and write concern of a restore, from the config.

use std::num::NonZeroUsize;

use bson::{Document, RawDocumentBuf, doc, rawdoc};

use crate::mongodb::config::{MongoConfig, WriteConcern};

/// A server accepts at most this many documents in one command, regardless of its settings.
const MOST_DOCUMENTS: usize = 100_000;
const MOST_BYTES: usize = 16 << 20;

/// The write options of a restore.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    pub(crate) workers: NonZeroUsize,
    pub(crate) batch_documents: usize,
    /// Bytes per insert, except for a single document that is larger.
    pub(crate) batch_bytes: usize,
    /// The `writeConcern` of every command.
    pub(crate) concern: Document,
    /// The same, as raw BSON.
    pub(crate) raw_concern: RawDocumentBuf,
    /// Replay the oplog if possible.
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
