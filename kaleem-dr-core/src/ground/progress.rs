//! Progress reports of long work: stages with a unit and, if known, a total. The library never prints.

use std::{fmt::Debug, sync::Arc};

/// The unit of a stage's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes processed, shown with binary units.
    Bytes,
    /// Number of items: objects, documents, files.
    Items,
}

/// Receives the stages of long work: a terminal bar, plain lines, JSON events, or nothing.
pub trait ProgressSink: Debug + Send + Sync + 'static {
    /// Begins a stage. `total` is in `unit`; `None` if unknown.
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress>;
}

/// One running stage. Dropping it ends it.
pub trait StageProgress: Debug + Send + Sync + 'static {
    /// Adds to the stage's counter, in its unit.
    fn advance(&self, by: u64);
    /// Corrects the total, in the stage's unit.
    fn set_total(&self, total: u64);
    /// Ends the stage, as dropping it does.
    fn finish(&self);
}

/// A sink that shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl ProgressSink for Silent {
    fn begin(&self, _title: &str, _unit: Unit, _total: Option<u64>) -> Arc<dyn StageProgress> {
        Arc::new(Self)
    }
}

impl StageProgress for Silent {
    fn advance(&self, _by: u64) {}
    fn set_total(&self, _total: u64) {}
    fn finish(&self) {}
}
