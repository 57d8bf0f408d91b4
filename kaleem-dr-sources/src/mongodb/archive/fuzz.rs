//! What the fuzzer does with an archive.

use kaleem_dr_core::ground::SourceError;

use super::reader::{Contents, read};
use crate::mongodb::dump::wellformed;

/// Reads an archive through.
pub fn fuzz_archive(bytes: &[u8]) {
    struct Dropped;
    impl Contents for Dropped {
        fn document(&mut self, _: usize, document: &[u8]) -> Result<(), SourceError> {
            drop(wellformed::check(document));
            Ok(())
        }
    }
    // That it is damaged is a good answer.
    drop(read(bytes, &mut Dropped));
}
