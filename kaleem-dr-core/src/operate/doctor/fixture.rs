//! A machine, a source and a config for tests; each part can be broken.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tempfile::TempDir;

use super::{Host, HostFacts, Space};
use crate::{
    CancellationToken,
    engine::{
        artifact::Capture,
        repository::Repository,
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, Exit, SourceError, SourceName,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::{
            Config, SourceKind,
            secret::{Environment, SecretRef},
        },
        history::History,
        job::{BackupJob, backup},
    },
    recovery::{
        point::PointReader,
        source::{Restorable, RestorePlan, RestoreReport, RestoreRequest},
    },
};

/// Half of everything is free.
const ROOMY: Space =
    Space { free_bytes: 500 << 30, total_bytes: 1000 << 30, free_inodes: 500, total_inodes: 1000 };

/// The facts of a machine.
#[derive(Clone)]
pub struct Machine {
    pub now: Timestamp,
    /// Space on every file system.
    pub space: Option<Space>,
    /// Paths on another device than the rest.
    pub other_devices: Vec<(PathBuf, u64)>,
    /// The addresses of every name; `None` if names cannot be resolved.
    pub addresses: Option<Vec<SocketAddr>>,
    pub restic: String,
}

impl Default for Machine {
    fn default() -> Self {
        let restic = "restic 0.18.0 compiled with go1.24".to_owned();
        Self {
            now: Timestamp::now(),
            space: Some(ROOMY),
            other_devices: Vec::new(),
            addresses: None,
            restic,
        }
    }
}

#[async_trait]
impl HostFacts for Machine {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        self.space.ok_or_else(|| io::Error::other("the disk does not answer"))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        Ok(self
            .other_devices
            .iter()
            .find(|(other, _)| path.starts_with(other))
            .map_or(1, |(_, device)| *device))
    }

    async fn addresses(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        self.addresses.clone().ok_or_else(|| io::Error::other("Name or service not known"))
    }

    async fn version_of(&self, _program: &Path) -> io::Result<String> {
        Ok(self.restic.clone())
    }
}

/// A source of one small artifact, and how its server behaves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StubConfig {
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// `down`, `silent`, `shut`, `odd`.
    #[serde(default)]
    pub fault: String,
}

struct Stub {
    name: SourceName,
    config: StubConfig,
}

#[async_trait]
impl Source for Stub {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "stub"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec!["/stub".into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let server = "10.0.0.9:1".to_owned();
        match self.config.fault.as_str() {
            "down" => Err(SourceError::Unreachable { server, cause: "connection refused".into() }),
            "shut" => Err(SourceError::Unauthorised {
                server,
                action: "log in".into(),
                cause: "no".into(),
            }),
            "odd" => {
                Ok(Probe { server: None, size_bytes: None, warnings: vec!["it is odd".into()] })
            }
            "silent" => std::future::pending().await,
            _ => Ok(Probe { server: None, size_bytes: None, warnings: Vec::new() }),
        }
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let path = ArtifactPath::join(["stub", "data"])
            .map_err(|error| SourceError::Unsupported(error.to_string()))?;
        out.whole(path, bytes::Bytes::from_static(b"data"), Some(1)).await
    }
}

#[async_trait]
impl Restorable for Stub {
    fn local_paths(&self) -> Vec<PathBuf> {
        self.config.paths.clone()
    }

    async fn plan_restore(
        &self,
        _: &PointReader,
        _: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        Err(SourceError::Unsupported("not in this test".into()))
    }

    async fn restore(&self, _: &PointReader, _: RestorePlan) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported("not in this test".into()))
    }
}

/// A directory with a machine's root, a config and its secrets.
pub struct Fixture {
    directory: TempDir,
    pub toml: String,
    pub environment: Vec<(String, String)>,
    pub machine: Machine,
    pub host_name: String,
    /// Who asks.
    pub uid: u32,
}

impl Fixture {
    /// A repository on its own disk, a second one in a bucket, and a source.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut place = Self {
            directory,
            toml: String::new(),
            environment: vec![("HOME".into(), "/root".into()), ("PATH".into(), "/usr/bin".into())],
            machine: Machine::default(),
            host_name: crate::ground::host::name(),
            uid: nix::unistd::geteuid().as_raw(),
        };
        place.secret("pass", "password");
        place.secret("s3.key", "s3-key");
        place.write("root/proc/net/tcp", "  sl  local_address rem_address   st\n");
        let at = |name: &str| place.path(name).display().to_string();
        let toml = format!(
            "state_directory = '{}'\ncache_directory = '{}'\n[backup]\nalso = ['r2']\n\
             [repository.local]\nlocation = '{}'\npassword = {{ file = '{}' }}\n\
             [repository.r2]\nlocation = 's3:https://s3.example.test/bucket/restic'\npassword = {{ file = '{}' }}\n\
             access_key_id = {{ env = 'KEY' }}\nsecret_access_key = {{ file = '{}' }}\n\
             [source.stub]\ntype = 'stub'\npaths = ['/srv/data']\n",
            at("state"),
            at("cache"),
            at("repository"),
            at("pass"),
            at("pass"),
            at("s3.key"),
        );
        place.toml = toml;
        place.environment.push(("KEY".into(), "id".into()));
        place.machine.other_devices.push((place.path("repository"), 2));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        self.set_mode(name, 0o600);
        path
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn replace(&mut self, from: &str, to: &str) {
        assert!(self.toml.contains(from), "{from}");
        self.toml = self.toml.replace(from, to);
    }

    pub fn environment(&self) -> Environment {
        self.environment.iter().cloned().collect()
    }

    pub fn config(&self) -> Config {
        let kind =
            SourceKind::new("stub", |name, config: &StubConfig, environment: &Environment| {
                let key = config.key.as_ref().map(|key| environment.secret(key)).transpose();
                key.map(|_| Stub { name, config: config.clone() })
            });
        Config::parse(&self.toml, Path::new("t.toml"), &[kind], &self.environment()).unwrap()
    }

    pub fn host(&self) -> Host {
        Host {
            root: self.path("root"),
            name: self.host_name.clone(),
            uid: self.uid,
            facts: Arc::new(self.machine.clone()),
        }
    }

    /// Creates the repository, and backs the source up `times` times.
    pub async fn backed_up(&self, times: usize) -> Repository {
        let config = self.config();
        let environment = self.environment();
        let access =
            config.settings.repository["local"].access(Path::new("/none"), &environment).unwrap();
        let repository = Repository::init(&access, 2).await.unwrap();
        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
        for _ in 0..times {
            let sources =
                config.sources.values().map(|source| source.make(&environment).unwrap()).collect();
            let mut job = BackupJob::new(repository.clone(), sources);
            job.state_directory = Some(self.state());
            let of = (*job.run.get_or_insert_default(), Timestamp::now());
            let result = backup(&job, &progress, &CancellationToken::new()).await;
            let history = History::open(&self.state()).unwrap();
            history.backup(repository.location(), of, &result).unwrap();
            let report = result.unwrap();
            assert_eq!(report.exit, Exit::Done, "{report:?}");
        }
        repository
    }
}
