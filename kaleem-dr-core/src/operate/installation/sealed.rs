//! Sealed secrets: JSON that is encrypted with a passphrase in the format of age, so that the
//! program `age` opens it by hand: `age -d secrets.age`.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
};

use age::scrypt::{Identity, Recipient};
use serde::{Deserialize, Serialize};

use super::NeededSecret;
use crate::operate::config::secret::{Environment, ExposeSecret as _, SecretString};

/// The format of the JSON that this release writes.
const FORMAT: u32 = 1;
/// Logarithm of scrypt's work factor: 64 MiB of memory, a fifth of a second.
const WORK_FACTOR: u8 = 16;
/// Limit for the work factor of a file that is opened: 1 GiB of memory.
const MAX_WORK_FACTOR: u8 = 20;

/// The values of secrets, by the keys that refer to them.
#[derive(Clone, Default)]
pub struct SealedSecrets(BTreeMap<String, SecretString>);

impl std::fmt::Debug for SealedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why secrets cannot be sealed or opened. Never contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The passphrase does not open them.
    #[error("the passphrase does not open the sealed secrets")]
    Passphrase,
    /// They cannot be encrypted or decrypted.
    #[error("the sealed secrets cannot be {action}: {why}")]
    Unusable {
        /// `written` or `read`.
        action: &'static str,
        /// The reason, as text of the encryption.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Bundle {
    format: u32,
    secrets: Vec<Sealed>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    key: String,
    /// The place as text, for people; the installation has it in its own form.
    #[serde(default)]
    place: String,
    value: String,
}

impl SealedSecrets {
    /// The values of these secrets, as far as they can be read now.
    pub(super) fn of(needed: &[NeededSecret], environment: &Environment) -> Self {
        let mut values = BTreeMap::new();
        for secret in needed {
            match secret.value(environment) {
                Ok(value) => drop(values.insert(secret.key.clone(), value)),
                Err(error) => {
                    tracing::warn!(key = %secret.key, %error, "a secret is not sealed because it cannot be read");
                }
            }
        }
        Self(values)
    }

    /// The value of the secret that a key refers to.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&SecretString> {
        self.0.get(key)
    }

    /// The number of secrets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Reports whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Encrypts them. Blocking.
    pub(super) fn sealed(&self, passphrase: &SecretString) -> Result<Vec<u8>, SealError> {
        let failed = |why: String| SealError::Unusable { action: "written", why };
        let secrets = self.0.iter().map(|(key, value)| Sealed {
            key: key.clone(),
            place: String::new(),
            value: value.expose_secret().to_owned(),
        });
        let bundle = Bundle { format: FORMAT, secrets: secrets.collect() };
        let json = serde_json::to_vec_pretty(&bundle).map_err(|error| failed(error.to_string()))?;
        let mut recipient = Recipient::new(passphrase.expose_secret().into());
        recipient.set_work_factor(WORK_FACTOR);
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
                .map_err(|error| failed(error.to_string()))?;
        let mut sealed = Vec::new();
        let mut writer =
            encryptor.wrap_output(&mut sealed).map_err(|error| failed(error.to_string()))?;
        writer.write_all(&json).map_err(|error| failed(error.to_string()))?;
        writer.finish().map_err(|error| failed(error.to_string()))?;
        Ok(sealed)
    }

    /// Decrypts sealed secrets. Blocking.
    ///
    /// # Errors
    /// [`SealError::Passphrase`] if it is the wrong one; if they are damaged.
    pub fn open(sealed: &[u8], passphrase: &SecretString) -> Result<Self, SealError> {
        let failed = |why: String| SealError::Unusable { action: "read", why };
        let decryptor = age::Decryptor::new(sealed).map_err(|error| failed(error.to_string()))?;
        let mut identity = Identity::new(passphrase.expose_secret().into());
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        let mut reader = decryptor
            .decrypt(std::iter::once(&identity as &dyn age::Identity))
            .map_err(|error| match error {
                age::DecryptError::DecryptionFailed
                | age::DecryptError::NoMatchingKeys
                | age::DecryptError::KeyDecryptionFailed => SealError::Passphrase,
                other => failed(other.to_string()),
            })?;
        let mut json = Vec::new();
        reader.read_to_end(&mut json).map_err(|error| failed(error.to_string()))?;
        // The position of a fault in the JSON is dropped: its text could quote a secret.
        let bundle: Bundle = serde_json::from_slice(&json)
            .map_err(|_| failed("their content is not the expected JSON".to_owned()))?;
        let values = bundle.secrets.into_iter().map(|secret| (secret.key, secret.value.into()));
        Ok(Self(values.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_with_their_passphrase_only() {
        let secrets = SealedSecrets([("source.mongo.uri".to_owned(), "canary".into())].into());
        let passphrase = |text: &str| SecretString::from(text.to_owned());
        let sealed = secrets.sealed(&passphrase("correct horse")).unwrap();
        assert!(sealed.starts_with(b"age-encryption.org/v1\n-> scrypt "));
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        let opened = SealedSecrets::open(&sealed, &passphrase("correct horse")).unwrap();
        assert_eq!(opened.value("source.mongo.uri").unwrap().expose_secret(), "canary");
        let wrong = SealedSecrets::open(&sealed, &passphrase("battery")).unwrap_err();
        assert!(matches!(wrong, SealError::Passphrase), "{wrong}");
        let mut damaged = sealed.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(SealedSecrets::open(&damaged, &passphrase("correct horse")).is_err());
        assert!(!format!("{opened:?}").contains("canary"));
    }
}
