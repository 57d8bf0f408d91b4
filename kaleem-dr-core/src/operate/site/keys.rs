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

/// The result of a change of keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyChange {
    /// The key that was added or removed; the new one after a change of password.
    pub key: KeyId,
    /// Number of other keys that open the repository.
    pub others: usize,
}

impl Site {
    /// Lists the keys of the selected repository.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, SiteError> {
        let listing = async { Ok(self.repository().await?.keys().await?) };
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Adds a password.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub async fn add_key(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
    ) -> Result<KeyChange, SiteError> {
        let adding = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock(LockKind::Shared, self.patience)).await?;
            let done = async {
                let key = repository.add_key(password, owner, &lock).await?;
                changed(&repository, key).await
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(adding)).await
    }

    /// Removes a key, given by id prefix; never the current or the last one.
    ///
    /// # Errors
    /// If the key is not found or is the current one, or the repository cannot be written.
    pub async fn remove_key(&self, id: &str) -> Result<KeyChange, SiteError> {
        let removing = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
            let done = async {
                let key = repository.remove_key(id, &lock).await?;
                self.note_removed(&repository, &key);
                changed(&repository, key).await
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(removing)).await
    }

    /// Changes the current password.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub async fn change_password(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
    ) -> Result<KeyChange, SiteError> {
        let changing = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
            let done = async {
                let anew = repository.change_password(password, owner, &lock).await?;
                self.note_removed(&repository, repository.key_id());
                changed(&anew, anew.key_id().clone()).await
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(changing)).await
    }

    /// Records the removal, because mirrors lose a key only if it was removed here on purpose. The
    /// key is gone even if this fails.
    fn note_removed(&self, repository: &Repository, key: &KeyId) {
        let noted = Ledger::open(&self.config.settings.state_directory)
            .and_then(|ledger| ledger.note_removed_key(&repository.location(), &key.to_string()));
        if let Err(error) = noted {
            tracing::warn!(key = %key.short(), why = %error_chain(&error), "mirrors keep this key because its removal could not be recorded");
        }
    }
}

async fn changed(repository: &Repository, key: KeyId) -> Result<KeyChange, SiteError> {
    let others = repository.keys().await?.len().saturating_sub(1);
    Ok(KeyChange { key, others })
}
