//! The parsers of foreign data as functions of bytes, for the targets of `fuzz/`. Only with the
//! feature `fuzzing`.

use std::{path::Path, str};

use kaleem_dr_core::operate::config::{Config, secret::Environment};

pub use crate::{
    mongodb::{fuzz_archive as archive, fuzz_bson as bson},
    qdrant::fuzz_tar as qdrant_tar,
};

/// Parses a broker's definitions, writes them, and parses the result again.
///
/// # Panics
/// If the two results differ.
pub fn definitions(bytes: &[u8]) {
    use crate::rabbitmq::Definitions;
    if let Ok(definitions) = Definitions::parse(bytes) {
        let written = definitions.to_bytes();
        let again = Definitions::parse(&written).expect("what was written can be read");
        assert_eq!(again.to_bytes(), written, "the order is canonical");
    }
}

/// Parses a config that may contain every kind of source.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        drop(Config::parse(
            text,
            Path::new("/fuzzed.toml"),
            &crate::kinds(),
            &Environment::default(),
        ));
    }
}
