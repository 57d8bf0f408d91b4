//! Measures the stages of work from its progress reports.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ground::progress::{ProgressSink, StageProgress, Unit};

/// A stage that has ended, with its duration and amount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Stage {
    /// The work of the stage: `verifying data`.
    pub name: String,
    /// Start, in seconds after the stopwatch was started.
    pub began_seconds: f64,
    /// Duration of the stage, in seconds.
    pub seconds: f64,
    /// Processed data, in bytes; 0 if it counts items.
    pub bytes: u64,
    /// Number of items; 0 if it counts bytes.
    pub items: u64,
}

/// Measures the stages reported to its [`ProgressSink`], and passes them on.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    started: Instant,
    inner: Arc<dyn ProgressSink>,
    stages: Arc<Mutex<Vec<Stage>>>,
}

impl Stopwatch {
    /// Starts a stopwatch that passes all progress on to `inner`.
    #[must_use]
    pub fn over(inner: Arc<dyn ProgressSink>) -> Self {
        Self { started: Instant::now(), inner, stages: Arc::default() }
    }

    /// The sink to which the work reports its stages.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn ProgressSink> {
        Arc::new(self.clone())
    }

    /// Measures work that does not report stages itself.
    pub async fn time<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let result = work.await;
        self.note(name.to_owned(), began, 0, 0);
        result
    }

    /// The finished stages, in the order of their start.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stages.sort_by(|a, b| a.began_seconds.total_cmp(&b.began_seconds));
        stages
    }

    fn note(&self, name: String, began: Instant, bytes: u64, items: u64) {
        let (began_seconds, seconds) =
            (began.duration_since(self.started).as_secs_f64(), began.elapsed().as_secs_f64());
        let stage = Stage { name, began_seconds, seconds, bytes, items };
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }
}

impl ProgressSink for Stopwatch {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        let inner = self.inner.begin(title, unit, total);
        Arc::new(Running {
            watch: self.clone(),
            name: title.to_owned(),
            unit,
            began: Instant::now(),
            done: AtomicU64::new(0),
            inner,
        })
    }
}

/// A running stage. It ends when its last reference is dropped, even if it was never finished explicitly.
#[derive(Debug)]
struct Running {
    watch: Stopwatch,
    name: String,
    unit: Unit,
    began: Instant,
    done: AtomicU64,
    inner: Arc<dyn StageProgress>,
}

impl StageProgress for Running {
    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
        self.inner.advance(by);
    }

    fn set_total(&self, total: u64) {
        self.inner.set_total(total);
    }

    fn finish(&self) {
        self.inner.finish();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let done = self.done.load(Ordering::Relaxed);
        let (bytes, items) = if self.unit == Unit::Bytes { (done, 0) } else { (0, done) };
        self.watch.note(std::mem::take(&mut self.name), self.began, bytes, items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::progress::Silent;

    #[tokio::test]
    async fn stages_are_timed_in_the_order_in_which_they_began() {
        let watch = Stopwatch::over(Arc::new(Silent));
        let outer = watch.sink().begin("outer", Unit::Bytes, None);
        outer.advance(7);
        let inner = watch.sink().begin("inner", Unit::Items, Some(3));
        inner.advance(3);
        drop(inner);
        outer.finish();
        drop(outer);
        watch.time("silent", async {}).await;
        let stages = watch.stages();
        let seen: Vec<_> =
            stages.iter().map(|stage| (stage.name.as_str(), stage.bytes, stage.items)).collect();
        assert_eq!(seen, [("outer", 7, 0), ("inner", 0, 3), ("silent", 0, 0)]);
        assert!(stages[0].seconds >= stages[1].seconds);
    }
}
