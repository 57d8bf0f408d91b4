//! The config of a source of type `mongodb`.

use std::num::{NonZeroU32, NonZeroUsize};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::docker::{DockerConfigError, DockerContainer};

/// A server, replica set or sharded cluster, and the parts of it to capture.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MongoConfig {
    /// The connection string: `{ env = "MONGO_URI" }`. A user with read access is enough.
    pub uri: SecretRef,
    /// A connection string with write access, for restores only. Default: `uri`.
    #[serde(default)]
    pub restore_uri: Option<SecretRef>,
    /// The server's container, if Docker provides the address: `{ container = "kaleem-mongo" }` or
    /// `{ label = "kaleem-dr.source=mongo" }`. It replaces host and port of the connection string;
    /// the connection string's port is the port inside the container.
    #[serde(default)]
    pub docker: Option<DockerContainer>,
    /// Databases to capture. Empty: the database in the path of `uri`. `["*"]`: all except the
    /// server's internal ones.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Also capture the users and roles of the captured databases; the user then needs the role
    /// backup on admin.
    #[serde(default)]
    pub users_and_roles: bool,
    /// With all databases, also capture the oplog: the writes between the time that the collections
    /// represent and the end of the capture. `mongorestore --oplogReplay` accepts it.
    #[serde(default)]
    pub oplog: bool,
    /// Collections to capture, as globs over `collection` or `database.collection`. Empty: all.
    #[serde(default)]
    pub collections: Vec<String>,
    /// Collections to leave out, as globs over `collection` or `database.collection`.
    #[serde(default)]
    pub exclude_collections: Vec<String>,
    /// Number of collections read in parallel.
    #[serde(default = "four")]
    pub parallel_collections: NonZeroUsize,
    /// A collection of at least this many bytes is read in several ranges of `_id` in parallel; 0,
    /// the default, disables this. It helps if a single cursor is slower than the network and the
    /// repository; it reads in the order of `_id`, which costs more if that is not the order on
    /// disk.
    #[serde(default)]
    pub range_bytes: u64,
    /// Number of parallel inserts in a restore.
    #[serde(default = "four")]
    pub restore_workers: NonZeroUsize,
    /// Documents per insert in a restore; at most 100,000.
    #[serde(default = "ten_thousand")]
    pub restore_batch_documents: NonZeroUsize,
    /// Bytes per insert in a restore, except for a single document that is larger; at most 16 MiB.
    #[serde(default = "four_mib")]
    pub restore_batch_bytes: NonZeroUsize,
    /// The write concern of restores: `"majority"`, a number of members, or the name of a custom
    /// write concern of the replica set.
    #[serde(default)]
    pub restore_write_concern: WriteConcern,
    /// Replay an oplog captured with `oplog` to its end in a restore. Otherwise, collections are restored as they were when they
    /// were read. An oplog that is needed to bring the collections to one moment is always replayed.
    #[serde(default)]
    pub replay_oplog: bool,
    /// The required consistency of the collections.
    #[serde(default)]
    pub consistency: ConsistencyMode,
}

impl MongoConfig {
    /// A config with defaults for all other keys: all collections of the connection string's
    /// database.
    #[must_use]
    pub fn new(uri: SecretRef) -> Self {
        Self {
            uri,
            restore_uri: None,
            docker: None,
            databases: Vec::new(),
            users_and_roles: false,
            oplog: false,
            collections: Vec::new(),
            exclude_collections: Vec::new(),
            parallel_collections: four(),
            range_bytes: 0,
            restore_workers: four(),
            restore_batch_documents: ten_thousand(),
            restore_batch_bytes: four_mib(),
            restore_write_concern: WriteConcern::default(),
            replay_oplog: false,
            consistency: ConsistencyMode::default(),
        }
    }
}

/// The required consistency of the collections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsistencyMode {
    /// All collections at one moment if the server supports it. A replica set is read in a snapshot (from 5.0), with its oplog if
    /// the capture takes longer than the server keeps a snapshot, or with both; a sharded cluster is read in a snapshot.
    /// Otherwise, one collection at a time. The manifest records the grade and the reason.
    #[default]
    Auto,
    /// All collections at one moment, or the capture fails.
    PointInTime,
    /// Each collection is read independently.
    PerCollection,
}

/// The write concern of restores. Unacknowledged writes are not offered: their failures would look
/// like success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WriteConcern {
    /// This many members of the replica set confirm each write.
    Members(NonZeroU32),
    /// `majority`, or the name of a custom write concern of the replica set.
    Named(String),
}

impl Default for WriteConcern {
    fn default() -> Self {
        Self::Named("majority".to_owned())
    }
}

// Larger batches were not faster in measurements.
fn ten_thousand() -> NonZeroUsize {
    const { NonZeroUsize::new(10_000).expect("ten thousand is not zero") }
}

fn four_mib() -> NonZeroUsize {
    const { NonZeroUsize::new(4 << 20).expect("four MiB are not zero") }
}

fn four() -> NonZeroUsize {
    const { NonZeroUsize::new(4).expect("four is not zero") }
}

/// The reason why a config is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MongoConfigError {
    /// A connection string could not be read.
    #[error("cannot read the MongoDB connection string")]
    Secret(#[from] SecretError),
    /// The text is not a connection string. The driver's message is not shown, because it may quote
    /// the password.
    #[error(
        "the {0} does not contain a MongoDB connection string: it must look like mongodb://user:password@host:27017/database or mongodb+srv://user:password@cluster/database, with \
         characters such as @ : / % in user and password percent-encoded"
    )]
    Uri(SecretRef),
    /// No database is configured.
    #[error(
        "no database is configured: set `databases`, or put one into the path of the connection string (mongodb://host/database)"
    )]
    NoDatabase,
    /// `databases` contains `"*"` together with other names.
    #[error("databases = [\"*\"] means all of them: it cannot be combined with other names")]
    NotOnlyAll,
    /// The oplog of a partial capture cannot be replayed.
    #[error(
        "oplog = true requires databases = [\"*\"] without patterns, as with mongodump (\"--oplog mode only supported on full \
         dumps\"): for a single database leave it out; on a replica set all of its collections are read at one moment without it"
    )]
    OplogNeedsAll,
    /// The key `docker` does not select a container.
    #[error(transparent)]
    Docker(#[from] DockerConfigError),
    /// A container has one address, so the connection string must have one host.
    #[error(
        "the {0} names several hosts or a DNS record, but with `docker` it must name one host, such as \
         mongodb://user:password@localhost:27017/database"
    )]
    NotOneHost(SecretRef),
    /// A pattern for collection names is malformed.
    #[error("the collection pattern `{pattern}` is malformed")]
    Pattern {
        /// The pattern, as configured.
        pattern: String,
        /// The error from the glob parser.
        #[source]
        cause: globset::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_connection_string_has_a_default() {
        let config: MongoConfig = serde_json::from_str(r#"{"uri": {"env": "MONGO_URI"}}"#).unwrap();
        assert_eq!(config.parallel_collections.get(), 4);
        assert_eq!(config.consistency, ConsistencyMode::Auto);
        let strict: MongoConfig = serde_json::from_str(
            r#"{"uri": {"env": "MONGO_URI"}, "consistency": "point-in-time"}"#,
        )
        .unwrap();
        assert_eq!(strict.consistency, ConsistencyMode::PointInTime);
    }

    #[test]
    fn an_unacknowledged_write_is_refused() {
        let parse = |concern: &str| {
            let json = format!(r#"{{"uri": {{"env": "M"}}, "restore_write_concern": {concern}}}"#);
            serde_json::from_str::<MongoConfig>(&json).map(|config| config.restore_write_concern)
        };
        assert_eq!(parse("2").unwrap(), WriteConcern::Members(NonZeroU32::new(2).unwrap()));
        assert_eq!(parse(r#""majority""#).unwrap(), WriteConcern::default());
        assert!(parse("0").is_err());
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let error =
            serde_json::from_str::<MongoConfig>(r#"{"uri": {"env": "M"}, "database": "x"}"#)
                .unwrap_err();
        assert!(error.to_string().contains("unknown field `database`"), "{error}");
    }
}
