//! Compares a plain-text password of a hand-written file with the hash that a server made from it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256, Sha512};

/// The salt in front of a hash, in bytes.
const SALT_BYTES: usize = 4;

/// Reports whether `hash` (base64 of the salt and the digest of salt and password) belongs to `password`. `None` if the algorithm
/// is unknown here.
pub(super) fn matches(password: &str, hash: &str, algorithm: &str) -> Option<bool> {
    let digest: fn(&[u8]) -> Vec<u8> = match algorithm {
        "rabbit_password_hashing_sha256" => |salted| Sha256::digest(salted).to_vec(),
        "rabbit_password_hashing_sha512" => |salted| Sha512::digest(salted).to_vec(),
        _ => return None,
    };
    let Ok(stored) = BASE64_STANDARD.decode(hash) else { return Some(false) };
    let Some((salt, stored)) = stored.split_at_checked(SALT_BYTES) else { return Some(false) };
    Some(digest(&[salt, password.as_bytes()].concat()) == stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_recognised() {
        // Of `test12`, salted with 90 8D C6 0A: RabbitMQ's documentation on passwords.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let algorithm = "rabbit_password_hashing_sha256";
        assert_eq!(matches("test12", hash, algorithm), Some(true));
        assert_eq!(matches("test13", hash, algorithm), Some(false));
        assert_eq!(matches("test12", "", algorithm), Some(false));
        assert_eq!(matches("test12", hash, "rabbit_password_hashing_md5"), None);
    }
}
