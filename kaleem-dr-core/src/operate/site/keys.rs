//! `key`: the passwords that open the repository.

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::Ledger,
        repository::{KeyId, KeyInfo, KeyOwner, LockKind, Repository},
    },
    ground::error_chain,
    operate::config::secret::SecretString,
};

/// What was done to a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyChange {
    /// The key that was added or removed; the new one where the password was changed.
    pub key: KeyId,
    /// How many other keys open the repository.
    pub others: usize,
}

impl Site {
    /// Lists the keys of the repository that is meant.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, SiteError> {
        let listing = async { Ok(self.repository().await?.keys().await?) };
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Adds one more password.
    ///
    /// # Errors
    /// When the repository cannot be written.
    pub async fn add_key(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
    ) -> Result<KeyChange, SiteError> {
        let adding = async {
            let repository = self.repository().await?;
            let lock = repository.lock(LockKind::Shared, self.patience);
            {
                let held = self.wait_for(lock).await?;
                let lock = &held;
                let done = async {
                    let key = repository.add_key(password, owner, lock).await?;
                    changed(&repository, key).await
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(adding)).await
    }

    /// Removes a key, named by the beginning of its id; never the one in use, and never the last.
    ///
    /// # Errors
    /// When it is not found, is in use, or the repository cannot be written.
    pub async fn remove_key(&self, id: &str) -> Result<KeyChange, SiteError> {
        let removing = async {
            let repository = self.repository().await?;
            let lock = repository.lock(LockKind::Exclusive, self.patience);
            {
                let held = self.wait_for(lock).await?;
                let lock = &held;
                let done = async {
                    let key = repository.remove_key(id, lock).await?;
                    self.note_removed(&repository, &key);
                    changed(&repository, key).await
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(removing)).await
    }

    /// Changes the password in use.
    ///
    /// # Errors
    /// When the repository cannot be written.
    pub async fn change_password(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
    ) -> Result<KeyChange, SiteError> {
        let changing = async {
            let repository = self.repository().await?;
            let lock = repository.lock(LockKind::Exclusive, self.patience);
            {
                let held = self.wait_for(lock).await?;
                let lock = &held;
                let done = async {
                    let anew = repository.change_password(password, owner, lock).await?;
                    self.note_removed(&repository, repository.key_id());
                    changed(&anew, anew.key_id().clone()).await
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(changing)).await
    }

    /// Mirrors lose a key only when it was removed here on purpose. The key is gone whether or not that can be noted.
    fn note_removed(&self, repository: &Repository, key: &KeyId) {
        let noted = Ledger::open(&self.config.settings.state_directory)
            .and_then(|ledger| ledger.note_removed_key(&repository.location(), &key.to_string()));
        if let Err(error) = noted {
            tracing::warn!(key = %key.short(), why = %error_chain(&error), "mirrors keep this key: its removal could not be noted");
        }
    }
}

async fn changed(repository: &Repository, key: KeyId) -> Result<KeyChange, SiteError> {
    let others = repository.keys().await?.len().saturating_sub(1);
    Ok(KeyChange { key, others })
}
