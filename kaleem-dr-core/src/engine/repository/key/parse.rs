//! Parses a key file from an untrusted origin: its content is not encrypted, and it determines how much memory and time opening
//! takes.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

/// Limit for the memory to derive a key, in bytes. restic's own keys need 32 to 60 MiB, rustic's 128 MiB.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Limit for the work, in blocks of 128 bytes mixed twice: about a thousand times that of restic's own keys, minutes rather than
/// hours.
const WORK_LIMIT: u64 = 1 << 28;
/// A key file is a few hundred bytes.
const SIZE_LIMIT_BYTES: usize = 64 << 10;
/// Limit for the encrypted JSON of a master key: anything much larger is not one.
const SALT_LIMIT_BYTES: usize = 4 << 10;

/// A key file within limits.
#[derive(Debug)]
pub(super) struct ParsedKey {
    pub(super) log_n: u8,
    pub(super) r: u32,
    pub(super) p: u32,
    pub(super) salt: Vec<u8>,
    /// The master key, encrypted with the key derived from the password.
    pub(super) data: Vec<u8>,
    pub(super) username: String,
    pub(super) hostname: String,
    pub(super) created: Option<String>,
}

/// The form that restic writes. Tools may omit fields that are only for people.
#[derive(Deserialize)]
struct KeyFile {
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u64,
    p: u64,
    salt: String,
    data: String,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    created: Option<String>,
}

/// Checks that a key file can be tried without harm: it is valid, and its parameters limit memory and time.
///
/// # Errors
/// The defect of the file.
pub fn vet(bytes: &[u8]) -> Result<(), String> {
    parse(bytes).map(|_| ())
}

pub(super) fn parse(bytes: &[u8]) -> Result<ParsedKey, String> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if bytes.len() > SIZE_LIMIT_BYTES {
        return Err(format!("it is {} bytes long, too long for a key file", bytes.len()));
    }
    let file: KeyFile =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not a key file: {error}"))?;
    if file.kdf != "scrypt" {
        return Err(format!(
            "its key derivation is {:?}, and not scrypt",
            file.kdf.chars().take(40).collect::<String>()
        ));
    }
    let (log_n, r, p) = parameters(file.n, file.r, file.p)?;
    let bytes_of = |what: &str, text: &str| {
        BASE64_STANDARD.decode(text).map_err(|error| format!("its {what} is not base64: {error}"))
    };
    let (salt, data) = (bytes_of("salt", &file.salt)?, bytes_of("data", &file.data)?);
    if salt.is_empty() || salt.len() > SALT_LIMIT_BYTES {
        return Err(format!("its salt has {} bytes", salt.len()));
    }
    Ok(ParsedKey {
        log_n,
        r,
        p,
        salt,
        data,
        username: file.username.unwrap_or_default(),
        hostname: file.hostname.unwrap_or_default(),
        created: file.created,
    })
}

/// scrypt needs `128 · N · r` bytes, and mixes them `p` times.
fn parameters(n: u64, r: u64, p: u64) -> Result<(u8, u32, u32), String> {
    let all = format!("N = {n}, r = {r}, p = {p}");
    if !n.is_power_of_two() || n < 2 {
        return Err(format!("its scrypt parameters are invalid ({all}): N must be a power of two"));
    }
    if r == 0 || p == 0 {
        return Err(format!("its scrypt parameters are invalid ({all}): r and p must not be 0"));
    }
    let mixed = n.checked_mul(r);
    let memory = mixed.and_then(|mixed| mixed.checked_mul(128));
    if memory.is_none_or(|bytes| bytes > MEMORY_LIMIT_BYTES) {
        return Err(format!(
            "its scrypt parameters ({all}) need more than {} MiB of memory",
            MEMORY_LIMIT_BYTES >> 20
        ));
    }
    if mixed.and_then(|mixed| mixed.checked_mul(p)).is_none_or(|work| work > WORK_LIMIT) {
        return Err(format!("its scrypt parameters ({all}) need more time than any key is worth"));
    }
    let invalid = || format!("its scrypt parameters are invalid ({all})");
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| invalid())?;
    Ok((log_n, u32::try_from(r).map_err(|_| invalid())?, u32::try_from(p).map_err(|_| invalid())?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(n: u64, r: u64, p: u64) -> Vec<u8> {
        json!({ "kdf": "scrypt", "N": n, "r": r, "p": p, "salt": "c2FsdA==", "data": "ZGF0YQ==" })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn keys_of_restic_rustic_and_ours_are_within_limits() {
        for (n, r, p) in [(1 << 15, 8, 4), (1 << 17, 8, 1), (1 << 15, 8, 40), (1 << 14, 8, 1)] {
            vet(&file(n, r, p)).unwrap_or_else(|why| panic!("{n} {r} {p}: {why}"));
        }
    }

    #[test]
    fn hostile_parameters_are_refused_before_any_memory_is_taken() {
        for (n, r, p) in [
            (1 << 31, 8, 1),
            (1 << 62, 1 << 62, 1),
            (1 << 15, 1 << 30, 1),
            (1 << 15, 8, u64::from(u32::MAX)),
            (0, 8, 1),
            (1, 8, 1),
            (32_767, 8, 1),
            (1 << 15, 0, 1),
            (1 << 15, 8, 0),
        ] {
            let why = vet(&file(n, r, p)).unwrap_err();
            assert!(why.contains("scrypt parameters"), "{n} {r} {p}: {why}");
        }
        for (bytes, why) in
            [(&b""[..], "empty"), (b"{", "not a key file"), (b"[1]", "not a key file")]
        {
            assert!(vet(bytes).unwrap_err().contains(why));
        }
    }
}
