//! Reads many trees at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::RepositoryError;
use crate::CancellationToken;

/// Number of threads that read trees: for a bucket, reads wait for the network, and for a disk, they decrypt.
const THREADS: usize = 8;

/// Calls `visit` for each tree in a few threads; the results are in no particular order. Blocking.
///
/// # Errors
/// The first error of a visit; [`RepositoryError::Cancelled`].
pub(super) fn visit_all<T: Sync, V: Send>(
    trees: &[T],
    cancel: &CancellationToken,
    visit: impl Fn(&T) -> Result<V, RepositoryError> + Sync,
) -> Result<Vec<V>, RepositoryError> {
    let at = AtomicUsize::new(0);
    let work = || {
        let mut visited = Vec::new();
        while let Some(tree) = trees.get(at.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            visited.push(visit(tree)?);
        }
        Ok(visited)
    };
    if trees.len() == 1 {
        return work();
    }
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(trees.len())).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::with_capacity(trees.len());
        for thread in threads {
            let panicked = |_| RepositoryError::Engine {
                action: "read a tree of",
                cause: "a thread panicked".into(),
            };
            all.extend(thread.join().map_err(panicked)??);
        }
        Ok(all)
    })
}
