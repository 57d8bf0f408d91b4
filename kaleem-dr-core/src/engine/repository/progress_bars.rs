//! Passes rustic_core's progress to our sink.

use std::sync::Arc;

use rustic_core::{Progress, ProgressBars, ProgressType, RusticProgress};

use crate::ground::progress::{ProgressSink, StageProgress, Unit};

/// Receives rustic_core's progress and passes it to our sink.
#[derive(Debug)]
pub(super) struct Bars(pub(super) Arc<dyn ProgressSink>);

impl ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, title: &str) -> Progress {
        let unit = if matches!(kind, ProgressType::Bytes) { Unit::Bytes } else { Unit::Items };
        if title.is_empty() {
            return Progress::hidden();
        }
        Progress::new(Bar(self.0.begin(title.trim_end_matches('.'), unit, None)))
    }
}

#[derive(Debug)]
struct Bar(Arc<dyn StageProgress>);

impl RusticProgress for Bar {
    fn is_hidden(&self) -> bool {
        false
    }
    fn set_length(&self, length: u64) {
        self.0.set_total(length);
    }
    fn set_title(&self, _title: &str) {}
    fn inc(&self, by: u64) {
        self.0.advance(by);
    }
    fn finish(&self) {
        self.0.finish();
    }
}
