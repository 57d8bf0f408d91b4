//! Every parser of foreign data, as a target of libFuzzer. A single program, so that only one is linked:
//! `KALEEM_FUZZ_TARGET=tar kaleem-dr-fuzz CORPUS`. `dev/fuzz` builds and runs it.
#![no_main]

use std::sync::OnceLock;

use kaleem_dr_core::fuzzing as core;
use kaleem_dr_sources::fuzzing as sources;
use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// By the names used in `dev/fuzz` and for the directories in `seeds/`.
const TARGETS: [(&str, Target); 12] = [
    ("archive", sources::archive),
    ("bson", sources::bson),
    ("config", sources::config),
    ("definitions", sources::definitions),
    ("env_file", core::env_file),
    ("ini", core::ini),
    ("key_file", core::key_file),
    ("lock", core::lock),
    ("manifest", core::manifest),
    ("qdrant_tar", sources::qdrant_tar),
    ("script", core::script),
    ("tar", core::tar),
];

fn chosen() -> Target {
    let names = || TARGETS.map(|(name, _)| name).join(", ");
    let wanted = std::env::var("KALEEM_FUZZ_TARGET").unwrap_or_else(|_| panic!("KALEEM_FUZZ_TARGET is one of {}", names()));
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("there is no target {wanted}: {}", names())).1
}

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(chosen)(bytes);
});
