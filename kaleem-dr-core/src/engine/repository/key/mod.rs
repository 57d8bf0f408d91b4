//! The keys of a repository: one small file per password, each with the same master key, encrypted.
//!
//! Adding or removing a key does not touch any data. A removed key opens nothing any more; but anyone who copied the master key
//! before can still use it, as with restic.

mod derived;
mod file;
mod open;
mod parse;

use std::{fmt, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::engine::repository::object_key;

pub use self::{derived::DerivedKeys, parse::vet};
pub(crate) use self::{file::key_file, open::open_with};
use super::{Access, Location, Repository, RepositoryError, blocking, lock::Lock, names};
use crate::ground::{digest::ByteDigest, host};

const DIRECTORY: &str = "keys";

/// A key's id: the SHA-256 of its file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct KeyId(String);

impl KeyId {
    /// The first eight digits, which restic shows.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8.min(self.0.len())]
    }

    fn object(&self) -> String {
        format!("{DIRECTORY}/{}", self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The owner of a key. It is stored unencrypted, and has no effect on opening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyOwner {
    /// Name of the user on that host; empty if unknown.
    pub user: String,
    /// Name of the host; empty if unknown.
    pub host: String,
}

impl KeyOwner {
    /// A user on a host.
    pub fn new(user: impl Into<String>, host: impl Into<String>) -> Self {
        Self { user: user.into(), host: host.into() }
    }

    /// The current user on this host.
    #[must_use]
    pub fn here() -> Self {
        Self { user: host::user(), host: host::name() }
    }

    /// The owner of a key file that does not name one.
    fn unknown() -> Self {
        Self { user: String::new(), host: String::new() }
    }
}

/// The public description of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Id of the key: the name of its file in `keys/`.
    pub id: KeyId,
    /// User and host that created it.
    pub owner: KeyOwner,
    /// Time of creation; `None` if the file does not contain it.
    pub created: Option<Timestamp>,
    /// True if the repository was opened with this key.
    pub current: bool,
    /// The defect of its file, if it is damaged or exceeds limits.
    pub problem: Option<String>,
}

impl Repository {
    /// All keys, oldest first, including damaged ones with a description of the damage.
    ///
    /// # Errors
    /// If the keys cannot be listed or read.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, RepositoryError> {
        let mut keys = Vec::new();
        for object in names::objects(&*self.0.store, DIRECTORY).await? {
            let bytes = match self.0.store.read(&object.key, None).await {
                Ok(bytes) => bytes,
                // It was removed after it was listed.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let id = KeyId(object_key::id_of(&object.key).to_owned());
            let parsed = parse::parse(&bytes);
            let changed = (ByteDigest::of(&bytes) != id.0)
                .then(|| "its content does not hash to its name".to_owned());
            let problem = parsed.as_ref().err().cloned().or(changed);
            let (owner, created) = parsed.map_or((KeyOwner::unknown(), None), |key| {
                (
                    KeyOwner { user: key.username, host: key.hostname },
                    key.created.and_then(|time| time.parse().ok()),
                )
            });
            keys.push(KeyInfo { current: id == self.0.key_id, id, owner, created, problem });
        }
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(keys)
    }

    /// Adds a key for one more password, and checks that it opens the repository.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] for a password that restic would not accept; other errors if the key cannot be written or
    /// does not open the repository, in which case it is removed again.
    pub async fn add_key(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
        lock: &Lock,
    ) -> Result<KeyId, RepositoryError> {
        usable(password)?;
        let (name, file) = {
            let (key, password, owner) = (self.0.key.clone(), password.clone(), owner.clone());
            blocking(move || key_file(&key.master(), &password, &owner)).await?
        };
        lock.confirm().await?;
        self.0.store.write(&name, vec![file]).await?;
        if let Err(error) = self.prove(password).await {
            self.0.store.delete(&name).await?;
            return Err(error);
        }
        Ok(KeyId(name.trim_start_matches(DIRECTORY).trim_start_matches('/').to_owned()))
    }

    /// Removes a key, given by the beginning of its id. The lock must be exclusive.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] for the key in use and for the last one; [`RepositoryError::NoKey`] for a
    /// beginning that does not name exactly one.
    pub async fn remove_key(&self, wanted: &str, lock: &Lock) -> Result<KeyId, RepositoryError> {
        let keys = self.keys().await?;
        let found: Vec<&KeyInfo> =
            keys.iter().filter(|key| !wanted.is_empty() && key.id.0.starts_with(wanted)).collect();
        let [key] = found[..] else {
            return Err(RepositoryError::NoKey { wanted: wanted.to_owned(), count: found.len() });
        };
        if key.current {
            return Err(RepositoryError::Guarded(format!(
                "key {} is the one in use; open the repository with another password to remove it, or change it with `key passwd`",
                key.id.short()
            )));
        }
        // Another program may have removed the key in use: then this one could be the only one left.
        if !keys.iter().any(|key| key.current) {
            return Err(RepositoryError::Guarded(format!(
                "key {} is the last one that is known to open the repository; without it the backups are lost",
                key.id.short()
            )));
        }
        lock.confirm().await?;
        self.0.store.delete(&key.id.object()).await?;
        Ok(key.id.clone())
    }

    /// Changes the password in use: adds and checks a new key before it removes the old one, and checks the new one again
    /// afterwards. An interruption in between leaves at least one key that opens the repository. The lock must be exclusive.
    /// Returns the repository as opened with the new key.
    ///
    /// # Errors
    /// As [`Repository::add_key`].
    pub async fn change_password(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
        lock: &Lock,
    ) -> Result<Self, RepositoryError> {
        let added = self.add_key(password, owner, lock).await?;
        lock.confirm().await?;
        self.0.store.delete(&self.0.key_id.object()).await?;
        let mut opened = self.prove(password).await?;
        // If the password already existed, either of its keys may have opened the repository.
        if opened.0.key_id != added
            && let Some(inner) = Arc::get_mut(&mut opened.0)
        {
            inner.key_id = added;
        }
        Ok(opened)
    }

    /// Opens the repository again with a password.
    async fn prove(&self, password: &SecretString) -> Result<Self, RepositoryError> {
        let access = Access {
            location: Location::Directory(PathBuf::new()),
            password: password.clone(),
            cache_directory: self.0.cache_directory.clone(),
            // Its store refuses deletions already, if it has to.
            append_only: false,
            // Derived again: this is a proof.
            derived_keys: DerivedKeys::default(),
        };
        Self::open_in(self.0.store.clone(), &access).await
    }
}

/// A password that neither tool accepts must be refused: otherwise this would be discovered on the day of the loss.
fn usable(password: &SecretString) -> Result<(), RepositoryError> {
    let text = password.expose_secret();
    if text.is_empty() {
        return Err(RepositoryError::Guarded("an empty password is refused".into()));
    }
    if text.trim() != text {
        return Err(RepositoryError::Guarded(
            "a password that begins or ends with a space or a line break is refused: restic drops them from a password file"
                .into(),
        ));
    }
    Ok(())
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_key_file(bytes: &[u8]) {
    drop(parse::vet(bytes));
}
