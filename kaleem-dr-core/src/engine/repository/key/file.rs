//! Creates a key file.
//!
//! rustic_core derives keys with a fixed 128 MiB of memory, which every later opening then needs: more than everything else that
//! we hold. restic's own parameters need 32 MiB at the same cost in time, so new repositories use those (restic,
//! `doc/design.rst`, "Keys").

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::repofile::MasterKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{
    super::{RepositoryError, crypto::RepositoryKey},
    KeyOwner,
    open::user_key,
};
use crate::ground::digest::ByteDigest;

/// scrypt's cost, 2 to this power: with a block size of 8 it takes 32 MiB.
const LOG_N: u8 = 15;
const BLOCK_SIZE: u32 = 8;
/// Passes over those 32 MiB, which together cost as much as one over 128 MiB.
const PASSES: u32 = 4;

/// A key file for a master key: its name in the repository, and its content.
pub(crate) fn key_file(
    master: &MasterKey,
    password: &SecretString,
    owner: &KeyOwner,
) -> Result<(String, Bytes), RepositoryError> {
    let salt: [u8; 64] = rand::random();
    let failed =
        |cause: crate::ground::Cause| RepositoryError::Engine { action: "make a key of", cause };
    let params =
        scrypt::Params::new(LOG_N, BLOCK_SIZE, PASSES).map_err(|error| failed(error.into()))?;
    let mut derived = [0; 64];
    scrypt::scrypt(password.expose_secret().as_bytes(), &salt, &params, &mut derived)
        .map_err(|error| failed(error.to_string().into()))?;
    let plain = serde_json::to_vec(master).map_err(|error| failed(error.into()))?;
    let file = json!({
        "created": Timestamp::now().to_string(),
        "username": owner.user,
        "hostname": owner.host,
        "kdf": "scrypt",
        "N": 1_u32 << LOG_N,
        "r": BLOCK_SIZE,
        "p": PASSES,
        "salt": BASE64_STANDARD.encode(salt),
        "data": BASE64_STANDARD.encode(RepositoryKey::new(user_key(&derived)).encrypt(&plain)),
    });
    let bytes = Bytes::from(file.to_string());
    Ok((format!("keys/{}", ByteDigest::of(&bytes)), bytes))
}
