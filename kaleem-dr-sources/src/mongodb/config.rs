//! What an operator says of such a source.

use std::num::{NonZeroU32, NonZeroUsize};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::DockerContainer;

/// A server, replica set or sharded cluster, and what of it is captured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MongoConfig {
    /// Where the connection string lies: `{ env = "MONGO_URI" }`. A login that can read is enough.
    pub uri: SecretRef,
    /// Where a connection string with write rights lies, for restores only. Without it, `uri` is used for them too.
    #[serde(default)]
    pub restore_uri: Option<SecretRef>,
    /// The container the server runs in, if its address is to be asked of Docker: `{ container = "kaleem-mongo" }`. Of the
    /// connection string host and port are replaced; its port says which port of the container is meant.
    #[serde(default)]
    pub docker: Option<DockerContainer>,
    /// Databases to capture. Empty: the database in the path of `uri`. `["*"]`: all but those that belong to the server itself.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Whether the users and roles of the captured databases are captured too; the login then needs the role backup on admin.
    #[serde(default)]
    pub users_and_roles: bool,
    /// Whether the oplog is captured beside all databases: what was written between the moment the collections show and the end of
    /// the capture. `mongorestore --oplogReplay` takes it.
    #[serde(default)]
    pub oplog: bool,
    /// Collections to capture, as globs over `collection` or `database.collection`. Empty: all of them.
    #[serde(default)]
    pub collections: Vec<String>,
    /// Collections to leave out, as globs over `collection` or `database.collection`.
    #[serde(default)]
    pub exclude_collections: Vec<String>,
    /// How many collections are read at once.
    #[serde(default = "four")]
    pub parallel_collections: NonZeroUsize,
    /// A collection of as many bytes or more is read in several ranges of `_id` at once; 0, the default, is never. This helps where
    /// the server answers one cursor slower than the network and the repository take it; it reads in the order of `_id`, which
    /// costs more where that is not the order on disk.
    #[serde(default)]
    pub range_bytes: u64,
    /// How many inserts run at once in a restore.
    #[serde(default = "four")]
    pub restore_workers: NonZeroUsize,
    /// Documents in one insert of a restore; at most 100,000.
    #[serde(default = "ten_thousand")]
    pub restore_batch_documents: NonZeroUsize,
    /// Bytes of one insert of a restore, but for a single document that is larger; at most 16 MiB.
    #[serde(default = "four_mib")]
    pub restore_batch_bytes: NonZeroUsize,
    /// Who must have written before a write of a restore counts: `"majority"`, a number of members, or the name of a rule of the
    /// replica set.
    #[serde(default)]
    pub restore_write_concern: WriteConcern,
    /// Whether a restore goes on to the end of an oplog that was captured with `oplog`. Without it, all collections come back as
    /// they were when they were read. An oplog without which the collections would show no one moment is always replayed.
    #[serde(default)]
    pub replay_oplog: bool,
    /// How far the collections must belong to one moment.
    #[serde(default)]
    pub consistency: ConsistencyMode,
}

impl MongoConfig {
    /// A config with every default: the database of the connection string, all of its collections.
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

/// How far the collections must belong to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsistencyMode {
    /// All collections at one moment where the server can: a replica set by a snapshot (from 5.0), by its oplog where the capture
    /// takes longer than the server keeps one, or by both; a sharded cluster by a snapshot. Otherwise one collection at a time. The
    /// manifest says which it was, and why.
    #[default]
    Auto,
    /// All collections at one moment, or the capture fails.
    PointInTime,
    /// Each collection is read by itself.
    PerCollection,
}

/// Who must have written before a write counts. Writes that nobody acknowledges there are none: their failures would look like
/// success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WriteConcern {
    /// So many members.
    Members(NonZeroU32),
    /// `majority`, or a rule of the replica set by its name.
    Named(String),
}

impl Default for WriteConcern {
    fn default() -> Self {
        Self::Named("majority".to_owned())
    }
}

// Larger batches were no quicker when measured.
fn ten_thousand() -> NonZeroUsize {
    const { NonZeroUsize::new(10_000).expect("ten thousand is not zero") }
}

fn four_mib() -> NonZeroUsize {
    const { NonZeroUsize::new(4 << 20).expect("four MiB are not zero") }
}

fn four() -> NonZeroUsize {
    const { NonZeroUsize::new(4).expect("four is not zero") }
}

/// A config that no source can be made of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MongoConfigError {
    /// A connection string could not be read.
    #[error("cannot read the MongoDB connection string")]
    Secret(#[from] SecretError),
    /// The text is no connection string. What the driver says of it is not shown: it may quote the password.
    #[error(
        "the {0} holds no MongoDB connection string: it must look like mongodb://user:password@host:27017/database, with \
         characters such as @ : / % in user and password percent-encoded"
    )]
    Uri(SecretRef),
    /// No database was named.
    #[error(
        "no database is named: set `databases`, or put one into the path of the connection string (mongodb://host/database)"
    )]
    NoDatabase,
    /// All databases were asked for, and single ones beside.
    #[error("databases = [\"*\"] means all of them: name no other beside it")]
    NotOnlyAll,
    /// An oplog of a part cannot be replayed.
    #[error(
        "oplog = true goes with databases = [\"*\"] and no patterns only, as with mongodump (\"--oplog mode only supported on full \
         dumps\"): for a single database leave it out; on a replica set all of its collections are read at one moment without it"
    )]
    OplogNeedsAll,
    /// The container's name is none that Docker gives.
    #[error(
        "`{0}` is no name of a container: letters, digits, `_`, `.` and `-`, beginning with a letter or digit"
    )]
    Container(String),
    /// A container has one address, the connection string must have one host.
    #[error(
        "the {0} names several hosts or a DNS record, but with `docker` it must name one host, such as \
         mongodb://user:password@localhost:27017/database"
    )]
    NotOneHost(SecretRef),
    /// A pattern over collection names is malformed.
    #[error("the collection pattern `{pattern}` is malformed")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
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
    fn a_write_nobody_acknowledges_is_refused() {
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
