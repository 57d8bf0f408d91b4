//! The source for mongod and mongos: captured by raw reads in mongodump's directory layout,
//! restored by raw inserts and
//! compared by content.
//!
//! Stock `mongorestore --dir` can read a capture. Documents are never decoded on the way; options,
//! indexes and
//! validators are kept exactly as the server returns them. Users and roles are captured on request.
//!
//! ```no_run
//! use kaleem_dr_core::operate::config::secret::{Environment, SecretRef};
//! use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
//!
//! let config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
//! let source = MongoSource::new("mongo".parse()?, config, &Environment::of_process())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod config;
pub(crate) mod draft;
mod dump;
mod names;
mod oplog;
mod restore;
mod server;
mod users;

#[cfg(test)]
mod live;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        source::{Probe, Source},
    },
    ground::{SourceError, SourceName, diagnosis::Diagnosis, language::Language},
    operate::config::secret::{Environment, SecretRef},
    recovery::{
        point::PointReader,
        source::{
            ChangeLog, EachItem, Inspection, LogExtent, PartDiff, Restorable, RestorePlan,
            RestoreReport, RestoreRequest, ScratchTarget, SliceStart,
        },
        staged::{StagedForm, StagedWork},
    },
};

pub use self::config::{ConsistencyMode, MongoConfig, MongoConfigError, WriteConcern};
use self::{
    dump::CaptureOrder,
    restore::{Writes, rehearse},
    server::{
        Connection, Patient,
        listing::{self, Scope},
    },
};

/// A server, replica set or sharded cluster as a source.
///
/// Restores go to the database `<db>_restored_<time>` by default. With several databases, the given
/// name is a prefix: `<name>_<db>`. In place, collections of the recovery point are dropped and
/// rebuilt, or merged into; others are left alone unless the request removes them.
#[derive(Debug)]
pub struct MongoSource {
    name: SourceName,
    config: MongoConfig,
    scope: Scope,
    /// The connection for reads.
    reader: Arc<Connection>,
    /// The connection for restores; often the same.
    writer: Arc<Connection>,
}

impl MongoSource {
    /// Creates a source. Reads the connection strings, which stay wrapped, but does not connect
    /// yet.
    ///
    /// # Errors
    /// If a connection string cannot be read or parsed, no database is configured, or a pattern is
    /// malformed.
    pub fn new(
        name: SourceName,
        config: MongoConfig,
        environment: &Environment,
    ) -> Result<Self, MongoConfigError> {
        let connect = |uri: &SecretRef| {
            let connection = Connection::new(environment.secret(uri)?, uri)?;
            Ok::<_, MongoConfigError>(Arc::new(match &config.docker {
                Some(docker) => connection.inside(docker, uri)?,
                None => connection,
            }))
        };
        let reader = connect(&config.uri)?;
        let writer = match &config.restore_uri {
            Some(uri) => connect(uri)?,
            None => reader.clone(),
        };
        let scope = Scope::new(&config, reader.database())?;
        Ok(Self { name, config, scope, reader, writer })
    }

    /// Lists the databases of rehearsals on the server used for restores. If no rehearsal is
    /// running, a killed one left them behind.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not list its databases.
    pub async fn scratch_databases(&self) -> Result<Vec<String>, SourceError> {
        rehearse::scratch_databases(&self.writer).await
    }

    fn log(&self) -> dump::slice::Oplog<'_> {
        dump::slice::Oplog { connection: &self.reader, scope: &self.scope }
    }

    fn patient(&self) -> Patient<'_> {
        Patient {
            name: &self.name,
            config: &self.config,
            scope: &self.scope,
            reader: &self.reader,
            writer: &self.writer,
        }
    }

    /// Drops one of [`MongoSource::scratch_databases`].
    ///
    /// # Errors
    /// [`SourceError::Refused`] if the name is not that of a rehearsal's database; other errors if
    /// the server fails to drop it.
    pub async fn drop_scratch_database(&self, name: &str) -> Result<(), SourceError> {
        rehearse::drop_database(&self.writer, &Writes::of(&self.config), name).await
    }
}

#[async_trait]
impl Source for MongoSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "mongodb"
    }

    fn roots(&self) -> Vec<PathBuf> {
        [names::ROOT, dump::oplog::NEEDED_ROOT].map(|root| PathBuf::from("/").join(root)).into()
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        server::probe(
            &self.reader,
            &self.scope,
            self.config.consistency,
            self.config.users_and_roles,
        )
        .await
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let order = CaptureOrder {
            scope: &self.scope,
            consistency: self.config.consistency,
            parallel: self.config.parallel_collections,
            range_bytes: self.config.range_bytes,
            users: self.config.users_and_roles,
            oplog: self.config.oplog,
        };
        dump::capture(&self.reader, order, out).await
    }
}

#[async_trait]
impl Restorable for MongoSource {
    async fn diagnose(&self) -> Vec<Diagnosis> {
        self.patient().diagnose(self.probe().await).await
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        restore::plan(&self.writer, &self.scope, &Writes::of(&self.config), point, request).await
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let writes = Writes::of(&self.config);
        let restoring = restore::restore(&self.writer, &self.scope, &writes, point, plan);
        Ok(Box::pin(restoring).await?.0)
    }

    fn can_continue(&self) -> bool {
        true
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        rehearse::rehearse(&self.writer, &self.scope, &Writes::of(&self.config), point, scratch)
            .await
    }

    async fn clear_scratch(&self, name: &str) -> Result<Vec<String>, SourceError> {
        rehearse::clear(&self.writer, &Writes::of(&self.config), name).await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        dump::inspect(point).await
    }

    async fn compare_points(
        &self,
        old: &PointReader,
        new: &PointReader,
        work: &StagedWork,
        each: &mut EachItem<'_>,
    ) -> Result<Vec<PartDiff>, SourceError> {
        dump::differences(old, new, work, each).await
    }

    fn address(&self) -> Option<String> {
        Some(self.reader.server().to_owned())
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        let mut databases = self.config.databases.clone();
        if databases.is_empty() {
            databases.extend(self.reader.database().map(str::to_owned));
        }
        databases.retain(|name| name != listing::ALL);
        Some(restore::guide(language, restored, self.writer.server(), &databases))
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn staged(&self) -> Option<&dyn StagedForm> {
        Some(self)
    }
}

#[async_trait]
impl ChangeLog for MongoSource {
    fn root(&self) -> PathBuf {
        self.log().root()
    }

    fn scope(&self) -> String {
        self.log().scope()
    }

    async fn extent(&self) -> Result<LogExtent, SourceError> {
        self.log().extent().await
    }

    async fn capture_slice(
        &self,
        start: &SliceStart,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        let cancel = out.cancellation();
        let log = self.log();
        cancel
            .run_until_cancelled(log.capture_slice(start, out))
            .await
            .unwrap_or(Err(SourceError::Cancelled))
    }

    async fn inspect_slice(&self, slice: &PointReader) -> Result<u64, SourceError> {
        self.log().inspect_slice(slice).await
    }
}

#[cfg(feature = "fuzzing")]
pub use self::archive::fuzz_archive;

/// The fuzz target for BSON.
#[cfg(feature = "fuzzing")]
pub fn fuzz_bson(bytes: &[u8]) {
    // An error is a correct result for malformed input.
    drop(dump::wellformed::check(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_shows_no_secret() {
        let environment: Environment =
            [("MONGO_URI", "mongodb://backup:c4n4ry@127.0.0.1:27017/kaleem?authSource=admin")]
                .into_iter()
                .collect();
        let config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
        let source = MongoSource::new("mongo".parse().unwrap(), config, &environment).unwrap();
        let shown = format!("{source:?}");
        assert!(shown.contains("127.0.0.1:27017") && !shown.contains("c4n4ry"), "{shown}");
        assert_eq!(source.roots(), ["/mongo", "/mongo-oplog"].map(PathBuf::from));
    }
}
