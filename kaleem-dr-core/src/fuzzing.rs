//! The parsers that read foreign bytes, each as a function of bytes: what the targets of `fuzz/` call. Only with the feature `fuzzing`.

use std::str;

use crate::{
    engine::{manifest::Manifest, repository},
    operate::{config, migrate},
    recovery::untar,
};

/// A tar, member by member, with their contents.
pub fn tar(bytes: &[u8]) {
    // That it is damaged is a good answer.
    drop(untar::fuzz(bytes));
}

/// A file of NAME=VALUE lines, and the config that such an environment makes.
pub fn env_file(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(environment) = config::parse_env_file(text, Some("/root"))
    {
        drop(config::config_of_environment(&environment));
    }
}

/// An INI file, as rclone's config.
pub fn ini(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        config::fuzz_ini(text);
    }
}

/// The clear part of a key file.
pub fn key_file(bytes: &[u8]) {
    repository::fuzz_key_file(bytes);
}

/// A lock, once it was opened.
pub fn lock(bytes: &[u8]) {
    repository::fuzz_lock(bytes);
}

/// A manifest, and what is computed from it.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let _ = manifest.size_bytes();
    }
}

/// A script of the installation before: its variables.
pub fn script(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        migrate::fuzz_script(text);
    }
}
