//! Keys derived from passwords, computed once: scrypt is slow on purpose, and one job opens the same key several times.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

use super::parse::ParsedKey;

/// Keys derived from passwords, each computed once for all clones of this value.
///
/// Only the derivation is remembered: a key file that was removed or changed opens nothing.
#[derive(Clone, Default)]
pub struct DerivedKeys(Arc<Mutex<HashMap<Question, SecretBox<[u8; 64]>>>>);

/// A digest of everything that a derived key depends on.
type Question = [u8; 32];

impl fmt::Debug for DerivedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKeys")
    }
}

impl DerivedKeys {
    /// Derives a key as the key file says; `None` if its parameters are invalid. Blocking, for about a third of a second.
    pub(super) fn derive(
        &self,
        key: &ParsedKey,
        password: &SecretString,
    ) -> Option<SecretBox<[u8; 64]>> {
        let question = question(key, password);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&question) {
            return Some(copy(known));
        }
        let params = scrypt::Params::new(key.log_n, key.r, key.p).ok()?;
        let mut derived = SecretBox::new(Box::new([0; 64]));
        let into = secrecy::ExposeSecretMut::expose_secret_mut(&mut derived);
        scrypt::scrypt(password.expose_secret().as_bytes(), &key.salt, &params, into).ok()?;
        lock().insert(question, copy(&derived));
        Some(derived)
    }
}

fn copy(secret: &SecretBox<[u8; 64]>) -> SecretBox<[u8; 64]> {
    SecretBox::new(Box::new(*secret.expose_secret()))
}

fn question(key: &ParsedKey, password: &SecretString) -> Question {
    let mut digest = Sha256::new();
    digest.update([key.log_n]);
    digest.update(key.r.to_le_bytes());
    digest.update(key.p.to_le_bytes());
    digest.update((key.salt.len() as u64).to_le_bytes());
    digest.update(&key.salt);
    digest.update(password.expose_secret());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(salt: &[u8]) -> ParsedKey {
        ParsedKey {
            log_n: 4,
            r: 8,
            p: 1,
            salt: salt.to_vec(),
            data: Vec::new(),
            username: String::new(),
            hostname: String::new(),
            created: None,
        }
    }

    #[test]
    fn a_derived_key_depends_on_the_password_the_salt_and_the_parameters() {
        let keys = DerivedKeys::default();
        let derived = |key: &ParsedKey, password: &str| {
            *keys.derive(key, &password.into()).unwrap().expose_secret()
        };
        let one = derived(&key(b"salt"), "password");
        assert_eq!(derived(&key(b"salt"), "password"), one, "the second time, it is remembered");
        assert_eq!(
            DerivedKeys::default()
                .derive(&key(b"salt"), &"password".into())
                .unwrap()
                .expose_secret(),
            &one
        );
        assert_ne!(derived(&key(b"salt"), "passwore"), one);
        assert_ne!(derived(&key(b"sal"), "tpassword"), one);
        assert_ne!(derived(&key(b"malt"), "password"), one);
        assert_ne!(derived(&ParsedKey { p: 2, ..key(b"salt") }, "password"), one);
        assert_eq!(keys.0.lock().unwrap().len(), 5);
    }
}
