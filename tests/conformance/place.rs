//! Empty places for objects, one for each test: on disk, and in buckets of two S3 servers.

use std::{
    any::Any,
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use kaleem_dr_core::{
    engine::repository::store::{ObjectStore, OpendalStore, S3Access},
    operate::config::secret::SecretString,
};

use crate::support::{faulty_s3::FaultyS3, servers};

const KEY: &str = "s3s-fs-test";
const SECRET: &str = "s3s-fs-test-secret";

/// A place, and two handles to it. What keeps it alive goes with this value.
pub struct Place {
    /// The store under test.
    pub store: Arc<dyn ObjectStore>,
    /// Another handle to the same objects, opened by itself.
    pub other: Arc<dyn ObjectStore>,
    /// Texts that nothing may print.
    pub secrets: Vec<String>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.store).finish()
    }
}

impl Place {
    /// A temporary directory.
    pub fn on_disk() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let open = || -> Arc<dyn ObjectStore> {
            Arc::new(OpendalStore::directory(directory.path()).expect("the directory exists"))
        };
        let (store, other) = (open(), open());
        Self { store, other, secrets: Vec::new(), _keep: Box::new(directory) }
    }

    /// A bucket of an `s3s-fs` in this process.
    pub fn in_s3s_fs() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        fs::create_dir(directory.path().join("bucket")).expect("a bucket is a directory");
        let server = FaultyS3::before_s3s_fs(directory.path(), KEY, SECRET);
        let open = || bucket(&server.endpoint(), "bucket", "prefix", (KEY, SECRET));
        let (store, other) = (open(), open());
        let secrets = vec![KEY.to_owned(), SECRET.to_owned()];
        Self { store, other, secrets, _keep: Box::new((server, directory)) }
    }

    /// A prefix in the bucket of the server that `dev/up` starts.
    ///
    /// # Panics
    /// When the environment does not say where it is.
    pub fn in_seaweedfs() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let s3 = servers::s3();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("conformance-{}-{number}", std::process::id());
        let open = || bucket(&s3.endpoint, &s3.bucket, &prefix, (&s3.key, &s3.secret));
        let (store, other) = (open(), open());
        Self { store, other, secrets: vec![s3.key.clone(), s3.secret.clone()], _keep: Box::new(()) }
    }

    /// The same place, with wrappers in front of both handles.
    pub fn wrapped<S: ObjectStore>(self, wrap: impl Fn(Arc<dyn ObjectStore>) -> S) -> Self {
        Self { store: Arc::new(wrap(self.store)), other: Arc::new(wrap(self.other)), ..self }
    }
}

fn bucket(
    endpoint: &str,
    bucket: &str,
    prefix: &str,
    (key, secret): (&str, &str),
) -> Arc<dyn ObjectStore> {
    let mut access =
        S3Access::new(endpoint, bucket, SecretString::from(key), SecretString::from(secret));
    prefix.clone_into(&mut access.prefix);
    "us-east-1".clone_into(&mut access.region);
    Arc::new(OpendalStore::s3(&access).expect("the access data are good"))
}
