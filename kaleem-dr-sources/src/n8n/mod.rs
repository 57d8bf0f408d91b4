//! n8n on SQLite: its database, the key that encrypts its credentials, and its files.
//!
//! The database is copied by SQLite's own backup under one read transaction ([`database`]), so a
//! copy under load is a single committed state, including the write-ahead log. Without the key its
//! credentials can never be read again: a missing key makes the capture incomplete.

mod capture;
mod compare;
mod connection;
pub mod database;
mod differences;
pub(crate) mod draft;
mod guide;
mod inspect;
mod place;
mod restore;
mod rows;
mod running;
mod staged;
mod still;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        manifest::ServerInfo,
        source::{Probe, Source},
    },
    ground::{ArtifactPath, SourceError, SourceName, language::Language},
    operate::config::secret::{
        Environment, ExposeSecret as _, SecretError, SecretRef, SecretString,
    },
    recovery::{
        point::PointReader,
        source::{
            EachItem, Inspection, PartDiff, Restorable, RestorePlan, RestoreReport, RestoreRequest,
            ScratchTarget,
        },
        staged::{StagedForm, StagedWork},
    },
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The directory of this source in a snapshot.
const ROOT: &str = "/n8n";
/// The database file, under [`ROOT`] and in n8n's own directory.
const DATABASE: &str = "database.sqlite";
/// The file with the key, in the same two places.
const KEY_FILE: &str = "config";
/// The key in the manifest's details with the row counts.
const TABLES: &str = "tables";
/// Binary data of n8n 1.
const BINARY_DATA: &str = "binaryData";
/// Binary data, data of executions and attachments of n8n 2.
const STORAGE: &str = "storage";
/// Directories of n8n that are captured if they exist, in path order. Community packages are
/// reinstalled from their list.
const TREES: [&str; 5] = [BINARY_DATA, "git", "nodes", "ssh", STORAGE];
/// Limit for the key file, in bytes.
const KEY_FILE_LIMIT_BYTES: u64 = 1 << 20;

/// An n8n with its data in SQLite.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct N8nConfig {
    /// n8n's own directory, such as `/home/node/.n8n`, or the path of that volume on the host.
    pub directory: PathBuf,
    /// `N8N_ENCRYPTION_KEY`, if n8n gets its key from the environment. It is compared with the key
    /// file and never stored.
    #[serde(default)]
    pub encryption_key: Option<SecretRef>,
    /// Directory of the binary data, if it is not `binaryData` in n8n's directory.
    #[serde(default)]
    pub binary_data: Option<PathBuf>,
    /// Directory of the files of n8n 2 (`N8N_STORAGE_PATH`), if it is not `storage` in n8n's
    /// directory.
    #[serde(default)]
    pub storage: Option<PathBuf>,
    /// Directory for the temporary copy of the database: it needs space for one copy.
    #[serde(default = "scratch_directory")]
    pub scratch_directory: PathBuf,
}

impl N8nConfig {
    /// n8n's directory, with the defaults of a config file.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            encryption_key: None,
            binary_data: None,
            storage: None,
            scratch_directory: scratch_directory(),
        }
    }
}

fn scratch_directory() -> PathBuf {
    "/var/tmp".into()
}

/// The reason why a config is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum N8nConfigError {
    /// A path of the config is relative; it must be absolute.
    #[error("`{key}`: {} must be an absolute path", path.display())]
    Relative {
        /// Name of the config key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// The key could not be read.
    #[error("cannot read `encryption_key`")]
    Key(#[source] SecretError),
}

/// A source that captures n8n.
#[derive(Debug)]
pub struct N8nSource {
    name: SourceName,
    config: N8nConfig,
    key: Option<SecretString>,
}

impl N8nSource {
    /// Validates the config and reads the key, if one is configured.
    ///
    /// # Errors
    /// If a path is relative, or the key cannot be read.
    pub fn new(
        name: SourceName,
        config: N8nConfig,
        environment: &Environment,
    ) -> Result<Self, N8nConfigError> {
        let paths = [
            ("directory", Some(&config.directory)),
            ("binary_data", config.binary_data.as_ref()),
            ("storage", config.storage.as_ref()),
            ("scratch_directory", Some(&config.scratch_directory)),
        ];
        for (key, path) in paths {
            if let Some(path) = path.filter(|path| !path.is_absolute()) {
                return Err(N8nConfigError::Relative { key, path: path.clone() });
            }
        }
        let key =
            config.encryption_key.as_ref().map(|secret| environment.secret(secret)).transpose();
        Ok(Self { name, key: key.map_err(N8nConfigError::Key)?, config })
    }

    fn database(&self) -> PathBuf {
        self.config.directory.join(DATABASE)
    }

    /// The path of a captured tree on this host.
    fn tree(&self, name: &str) -> PathBuf {
        let elsewhere = match name {
            BINARY_DATA => self.config.binary_data.as_ref(),
            STORAGE => self.config.storage.as_ref(),
            _ => None,
        };
        elsewhere.cloned().unwrap_or_else(|| self.config.directory.join(name))
    }

    /// The error for a database that cannot be found. n8n's directory without one belongs to an n8n on another database.
    fn no_database(&self, cause: std::io::Error) -> SourceError {
        let database = self.database();
        if cause.kind() == std::io::ErrorKind::NotFound && self.config.directory.is_dir() {
            return SourceError::Unsupported(format!(
                "{} contains no {DATABASE}: if n8n uses PostgreSQL (`DB_TYPE=postgresdb`), back up that database with pg_dump or pgBackRest, \
                 and this directory, with the encryption key, with a source of type `files`",
                self.config.directory.display()
            ));
        }
        path_error(&database, "find n8n's database at")(cause)
    }

    /// A sentence that describes the problem with the key, if there is one.
    fn key_problem(&self, key_file: Option<&[u8]>) -> Option<String> {
        let in_file = key_file.map(key_in);
        match (in_file, &self.key) {
            (Some(Some(file)), Some(key)) if file != key.expose_secret() => {
                Some("it contains another key than `encryption_key`; n8n does not start with this mismatch".into())
            }
            (Some(Some(_)), _) => None,
            (_, Some(_)) => Some(
                "the key is only in n8n's environment, which no backup contains: keep N8N_ENCRYPTION_KEY in a safe place, because without it \
                 no credential can be read"
                    .into(),
            ),
            (Some(None), None) => Some("it contains no `encryptionKey`; without the key no credential can be read".into()),
            (None, None) => Some(
                "the file with the key does not exist; without the key no credential can be read. If n8n gets it from N8N_ENCRYPTION_KEY, \
                 keep that in a safe place"
                    .into(),
            ),
        }
    }
}

/// Extracts the key from n8n's `config` file.
fn key_in(file: &[u8]) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(file).ok()?;
    config.get("encryptionKey")?.as_str().filter(|key| !key.is_empty()).map(str::to_owned)
}

fn artifact_path(name: &str) -> Result<ArtifactPath, SourceError> {
    ArtifactPath::join(["n8n", name]).map_err(|error| SourceError::Unsupported(error.to_string()))
}

/// The path of an artifact in the manifest.
fn in_root(name: &str) -> String {
    format!("{ROOT}/{name}")
}

fn path_error(path: &Path, action: &str) -> impl FnOnce(std::io::Error) -> SourceError {
    let (path, action) = (path.to_path_buf(), action.to_owned());
    move |cause| SourceError::Path { path, action, cause }
}

/// Runs blocking work off the runtime's workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => {
            Err(SourceError::Unsupported(format!("the work on n8n's files aborted: {panic}")))
        }
    }
}

#[async_trait]
impl Source for N8nSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "n8n"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![ROOT.into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let database = self.database();
        let length =
            tokio::fs::metadata(&database).await.map_err(|cause| self.no_database(cause))?.len();
        let key_file = tokio::fs::read(self.config.directory.join(KEY_FILE)).await.ok();
        let warnings = self.key_problem(key_file.as_deref()).into_iter().collect();
        let server = ServerInfo::new("n8n on SQLite", database::version());
        Ok(Probe::new(Some(server), Some(length), warnings))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        self.capture_all(out).await
    }
}

#[async_trait]
impl Restorable for N8nSource {
    fn local_paths(&self) -> Vec<PathBuf> {
        [
            Some(&self.config.directory),
            self.config.binary_data.as_ref(),
            self.config.storage.as_ref(),
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        self.plan(point, &request)
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        self.put_back(point, plan).await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        self.look_into(point).await
    }

    async fn compare_points(
        &self,
        old: &PointReader,
        new: &PointReader,
        work: &StagedWork,
        each: &mut EachItem<'_>,
    ) -> Result<Vec<PartDiff>, SourceError> {
        differences::differences(old, new, work, each).await
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        self.try_out(point, scratch).await
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        Some(guide::guide(language, restored, &self.config.directory))
    }

    fn staged(&self) -> Option<&dyn StagedForm> {
        Some(self)
    }
}
