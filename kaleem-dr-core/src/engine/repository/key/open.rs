//! Finds the key that a password opens.
//!
//! Each key file is tried separately: a damaged, hostile or foreign one is skipped with a warning, because a later one may open.

use std::sync::Arc;

use rustic_core::repofile::MasterKey;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{RepositoryError, blocking, crypto::RepositoryKey, names, store::ObjectStore},
    DIRECTORY, DerivedKeys, KeyId,
    parse::{ParsedKey, parse},
};
use crate::engine::repository::object_key;

/// Tries the password on every key. Returns the master key, and the id of its key file.
pub(crate) async fn open_with(
    store: &Arc<dyn ObjectStore>,
    password: &SecretString,
    derived: &DerivedKeys,
) -> Result<(MasterKey, KeyId), RepositoryError> {
    let mut unusable = Vec::new();
    let mut tried = 0_usize;
    let mut objects = names::objects(&**store, DIRECTORY).await?;
    // In a fixed order, whatever that of the listing is.
    objects.sort_by(|one, other| one.key.cmp(&other.key));
    for object in objects {
        let bytes = match store.read(&object.key, None).await {
            Ok(bytes) => bytes,
            // It was removed after it was listed.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        let key = match parse(&bytes) {
            Ok(key) => key,
            Err(why) => {
                tracing::warn!(key = %object.key, %why, "a key file is passed over");
                unusable.push(format!("{}: {why}", object.key));
                continue;
            }
        };
        tried += 1;
        let (password, derived) = (password.clone(), derived.clone());
        if let Some(master) = blocking(move || Ok(master_of(&key, &password, &derived))).await? {
            return Ok((master, KeyId(object_key::id_of(&object.key).to_owned())));
        }
    }
    if tried == 0 && !unusable.is_empty() {
        return Err(RepositoryError::Damaged {
            object: "every key of the repository".into(),
            why: unusable.join("; "),
        });
    }
    Err(RepositoryError::WrongPassword { location: store.location() })
}

/// The master key in a key file; `None` if the password does not open it. Blocking, for about a second.
fn master_of(key: &ParsedKey, password: &SecretString, derived: &DerivedKeys) -> Option<MasterKey> {
    let derived = derived.derive(key, password)?;
    let plain = RepositoryKey::new(user_key(derived.expose_secret())).decrypt(&key.data).ok()?;
    let master: MasterKey = serde_json::from_slice(&plain).ok()?;
    let whole = master.encrypt.len() == 32 && master.mac.k.len() == 16 && master.mac.r.len() == 16;
    whole.then_some(master)
}

/// The key derived from a password, in the form of a master key.
pub(super) fn user_key(derived: &[u8; 64]) -> MasterKey {
    let mut user = MasterKey::new();
    user.encrypt = derived[..32].to_vec();
    user.mac.k = derived[32..48].to_vec();
    user.mac.r = derived[48..].to_vec();
    user
}
