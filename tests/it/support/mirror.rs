//! Shared by the tests of mirrors: a prefix in the S3 server's bucket, and repositories as objects.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use kaleem_dr_core::{
    engine::repository::store::{OpendalStore, S3Access},
    ground::digest::ByteDigest,
    operate::config::secret::SecretString,
};

use super::{
    servers::{self, S3},
    site::Site,
};

/// A prefix for one test in the shared bucket.
#[derive(Clone, Debug)]
pub struct S3Mirror {
    pub s3: S3,
    pub prefix: String,
}

impl S3Mirror {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        Self { s3: servers::s3(), prefix: format!("mirror-{name}-{}-{number}", std::process::id()) }
    }

    /// A store for the prefix.
    pub fn store(&self) -> OpendalStore {
        let mut access = S3Access::new(
            &self.s3.endpoint,
            &self.s3.bucket,
            SecretString::from(self.s3.key.as_str()),
            SecretString::from(self.s3.secret.as_str()),
        );
        access.prefix.clone_from(&self.prefix);
        "us-east-1".clone_into(&mut access.region);
        OpendalStore::s3(&access).expect("the access data are good")
    }

    /// Adds to the site a mirror of its repository there.
    pub fn of(&self, site: Site, name: &str) -> Site {
        let (key, secret) =
            (site.secret("s3.key", &self.s3.key), site.secret("s3.secret", &self.s3.secret));
        let password = site.path("repository.pass");
        let (endpoint, bucket, prefix) = (&self.s3.endpoint, &self.s3.bucket, &self.prefix);
        site.with(&format!(
            "[repository.{name}]\nlocation = \"s3:{endpoint}/{bucket}/{prefix}\"\nmirror_of = \"local\"\npassword = {{ file = '{}' }}\n\
             access_key_id = {{ file = '{}' }}\nsecret_access_key = {{ file = '{}' }}",
            password.display(),
            key.display(),
            secret.display()
        ))
    }
}

/// Every object of a repository on disk except its locks, by key, with the hash of its content.
pub fn objects(repository: &Path) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    let mut pending = vec![repository.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("an entry").path();
            let key = path
                .strip_prefix(repository)
                .expect("it is below")
                .to_str()
                .expect("UTF-8")
                .to_owned();
            if path.is_dir() {
                if key != "locks" && key != "tmp" {
                    pending.push(path);
                }
            } else {
                objects.insert(key, ByteDigest::of(&fs::read(&path).expect("a file can be read")));
            }
        }
    }
    objects
}

/// Flips a byte in the middle of a file.
pub fn flip_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("the object can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    fs::write(path, bytes).expect("the object can be written");
}

/// Incompressible bytes, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
