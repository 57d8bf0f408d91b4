//! The texts of rustic_core's errors, and of the store's errors behind them.

use rustic_core::RusticError;

use super::store::{StoreError, StoreErrorKind};
use crate::ground::{Cause, error_chain};

/// The error of rustic_core in one line, and the error of the store that caused it.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(crate) struct EngineCause {
    said: String,
    pub(crate) kind: Option<StoreErrorKind>,
    pub(crate) is_full: bool,
}

/// Converts a rustic_core error into a one-line cause, without its advice to report it to the authors.
pub(crate) fn engine_cause(error: &RusticError) -> Cause {
    let mut deepest: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    let said = error.display_log();
    let said = match deepest {
        Some(cause) if !said.contains(&cause.to_string()) => format!("{said}: {cause}"),
        _ => said,
    };
    let store = store_error(error);
    // The store's error is complete; the engine would repeat it.
    let said = store.map_or(said, |store| error_chain(store));
    Box::new(EngineCause {
        said,
        kind: store.map(StoreError::kind),
        is_full: store.is_some_and(StoreError::is_full),
    })
}

/// The store's error behind one of rustic_core's.
fn store_error(error: &RusticError) -> Option<&StoreError> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source())
        .find_map(|cause| cause.downcast_ref::<StoreError>())
}

/// The store's error behind an error of rustic_core, if there is one.
pub(crate) fn store_error_kind(error: &RusticError) -> Option<StoreErrorKind> {
    store_error(error).map(StoreError::kind)
}
