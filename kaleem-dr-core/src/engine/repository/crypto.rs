//! Encryption and decryption of everything in a repository: AES-256-CTR with Poly1305-AES, as restic's `doc/design.rst` has it.
//!
//! rustic_core encrypts what it writes itself. Locks, corrected trees and manifests are written by us, and restores read packs
//! by ranges of our own choosing, so both directions are here.

use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, aead::AeadInPlace as _};
use rustic_core::repofile::MasterKey;

/// Bytes added by encryption: a nonce of 16 before and a tag of 16 after the content.
pub(crate) const OVERHEAD: usize = 32;
const NONCE: usize = 16;
const TAG: usize = 16;
/// First byte of a compressed unpacked file in a version 2 repository; uncompressed ones begin with `{` or `[`.
const COMPRESSED: u8 = 2;
const ZSTD_LEVEL: i32 = 3;

/// The repository's key. It is never printed.
#[derive(Clone)]
pub(crate) struct RepositoryKey {
    key: Key,
    master: MasterKey,
}

impl std::fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RepositoryKey([redacted])")
    }
}

/// The ciphertext was changed, or was encrypted with another key.
#[derive(Debug, thiserror::Error)]
#[error("it does not decrypt: it is damaged, or encrypted with another key")]
pub(crate) struct Damaged;

impl RepositoryKey {
    pub(crate) fn new(master: MasterKey) -> Self {
        let mut key = Key::default();
        key[..32].copy_from_slice(&master.encrypt);
        key[32..48].copy_from_slice(&master.mac.k);
        key[48..].copy_from_slice(&master.mac.r);
        Self { key, master }
    }

    /// The same key in rustic_core's form, to open the repository again without deriving it from the password.
    pub(crate) fn master(&self) -> MasterKey {
        self.master.clone()
    }

    /// Encrypts; returns nonce, ciphertext and tag.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        let mut encrypted = Vec::new();
        self.encrypt_into(plain, &mut encrypted);
        encrypted
    }

    /// Encrypts; `encrypted` then has nonce, ciphertext and tag, and nothing of what it had before.
    pub(crate) fn encrypt_into(&self, plain: &[u8], encrypted: &mut Vec<u8>) {
        let nonce: [u8; NONCE] = rand::random();
        encrypted.clear();
        encrypted.reserve(plain.len() + OVERHEAD);
        encrypted.extend_from_slice(&nonce);
        encrypted.extend_from_slice(plain);
        let tag = Aes256CtrPoly1305Aes::new(&self.key)
            .encrypt_in_place_detached(&nonce.into(), &[], &mut encrypted[NONCE..])
            .expect("fails only for messages beyond 2^32 blocks, and ours are below 4 GiB");
        encrypted.extend_from_slice(&tag);
    }

    /// The plain bytes of an encrypted blob or file.
    pub(crate) fn decrypt(&self, encrypted: &[u8]) -> Result<Vec<u8>, Damaged> {
        self.decrypt_owned(encrypted.to_vec())
    }

    /// Like `decrypt`, but reuses the memory of the encrypted bytes.
    pub(crate) fn decrypt_owned(&self, mut encrypted: Vec<u8>) -> Result<Vec<u8>, Damaged> {
        let length = self.decrypt_in_place(&mut encrypted)?.len();
        encrypted.truncate(NONCE + length);
        encrypted.drain(..NONCE);
        Ok(encrypted)
    }

    /// Decrypts within the given memory; returns the part with the plain bytes.
    pub(crate) fn decrypt_in_place<'a>(
        &self,
        encrypted: &'a mut [u8],
    ) -> Result<&'a [u8], Damaged> {
        let end = encrypted.len().checked_sub(TAG).filter(|end| *end >= NONCE).ok_or(Damaged)?;
        let nonce: [u8; NONCE] = encrypted[..NONCE].try_into().map_err(|_| Damaged)?;
        let tag: [u8; TAG] = encrypted[end..].try_into().map_err(|_| Damaged)?;
        Aes256CtrPoly1305Aes::new(&self.key)
            .decrypt_in_place_detached(&nonce.into(), &[], &mut encrypted[NONCE..end], &tag.into())
            .map_err(|_| Damaged)?;
        Ok(&encrypted[NONCE..end])
    }

    /// Encrypts the JSON of an unpacked file, compressed where the repository's version allows it.
    pub(crate) fn encrypt_file(&self, plain: &[u8], version: u32) -> Vec<u8> {
        let zipped = (version >= 2).then(|| zstd::encode_all(plain, ZSTD_LEVEL).ok()).flatten();
        match zipped {
            Some(zipped) => self.encrypt(&[&[COMPRESSED], zipped.as_slice()].concat()),
            None => self.encrypt(plain),
        }
    }

    /// The JSON of an encrypted unpacked file, which version 2 repositories may compress.
    pub(crate) fn decrypt_file(&self, encrypted: &[u8]) -> Result<Vec<u8>, Damaged> {
        let plain = self.decrypt(encrypted)?;
        match plain.split_first() {
            Some((&COMPRESSED, zipped)) => zstd::decode_all(zipped).map_err(|_| Damaged),
            _ => Ok(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertext_decrypts_and_with_a_flipped_bit_does_not() {
        let key = RepositoryKey::new(MasterKey::new());
        let mut encrypted = key.encrypt(b"{\"a\":1}");
        assert_eq!(key.decrypt_file(&encrypted).unwrap(), b"{\"a\":1}");
        for at in [0, NONCE, encrypted.len() - 1] {
            encrypted[at] ^= 1;
            assert!(key.decrypt(&encrypted).is_err(), "byte {at}");
            encrypted[at] ^= 1;
        }
        assert!(RepositoryKey::new(MasterKey::new()).decrypt(&encrypted).is_err(), "another key");
        assert!(!format!("{key:?}").contains(|c: char| c.is_ascii_digit()));
    }
}
