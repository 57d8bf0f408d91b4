//! The fuzz target for archives.

use kaleem_dr_core::ground::SourceError;

use super::reader::{Contents, read};
use crate::mongodb::dump::wellformed;

/// Reads an archive completely.
pub fn fuzz_archive(bytes: &[u8]) {
    struct Dropped;
    impl Contents for Dropped {
        fn document(&mut self, _: usize, document: &[u8]) -> Result<(), SourceError> {
            drop(wellformed::check(document));
            Ok(())
        }
    }
    // An error is a correct result for damaged input.
    drop(read(bytes, &mut Dropped));
}
