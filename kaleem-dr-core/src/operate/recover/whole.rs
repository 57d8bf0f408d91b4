//! The progress of a whole recovery: one stage for all sources, in addition to their own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::ground::progress::{ProgressSink, StageProgress, Unit};

/// A stage over the bytes of all sources. Time and rate give the time of its end.
#[derive(Debug)]
pub(crate) struct WholeProgress {
    sink: Arc<dyn ProgressSink>,
    stage: Arc<dyn StageProgress>,
}

impl WholeProgress {
    /// Begins the stage.
    pub(crate) fn begin(sink: &Arc<dyn ProgressSink>, sources: usize, size_bytes: u64) -> Self {
        let title = format!("recovering {sources} sources");
        Self { stage: sink.begin(&title, Unit::Bytes, Some(size_bytes)), sink: sink.clone() }
    }

    /// The sink of one source with this size. What it reads counts for the whole, once.
    pub(crate) fn part(&self, size_bytes: u64) -> Arc<Part> {
        Arc::new(Part {
            sink: self.sink.clone(),
            whole: self.stage.clone(),
            left: Arc::new(AtomicU64::new(size_bytes)),
        })
    }

    /// Ends the stage.
    pub(crate) fn finish(&self) {
        self.stage.finish();
    }
}

/// The part of one source.
#[derive(Debug)]
pub(crate) struct Part {
    sink: Arc<dyn ProgressSink>,
    whole: Arc<dyn StageProgress>,
    left: Arc<AtomicU64>,
}

impl Part {
    /// Counts the rest: the source has ended.
    pub(crate) fn end(&self) {
        self.whole.advance(self.left.swap(0, Ordering::Relaxed));
    }
}

impl ProgressSink for Part {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        let stage = self.sink.begin(title, unit, total);
        if unit != Unit::Bytes {
            return stage;
        }
        Arc::new(Counted { stage, whole: self.whole.clone(), left: self.left.clone() })
    }
}

#[derive(Debug)]
struct Counted {
    stage: Arc<dyn StageProgress>,
    whole: Arc<dyn StageProgress>,
    left: Arc<AtomicU64>,
}

impl StageProgress for Counted {
    fn advance(&self, by: u64) {
        self.stage.advance(by);
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(by))
            })
            .unwrap_or_default();
        self.whole.advance(before.min(by));
    }

    fn set_total(&self, total: u64) {
        self.stage.set_total(total);
    }

    fn finish(&self) {
        self.stage.finish();
    }
}
