//! The operations that return data to a source: restores, rehearsals, inspections.

mod change_log;
mod content;
mod diagnosis;
mod difference;
mod item_comparison;
mod plan;
mod rehearsal;
mod report;
mod request;

use std::path::PathBuf;

pub use self::{
    change_log::{ChangeLog, LogExtent, SliceStart, change_log},
    content::{EachItem, ItemChange, ItemCounts, PartDiff, artifact_differences, is_same_content},
    diagnosis::{diagnosis_of_probe, diagnosis_of_source_error},
    difference::Difference,
    item_comparison::{ItemComparison, Side},
    plan::{Change, PlanOrigin, PlannedAction, RestorePlan},
    rehearsal::{Control, Inspection, ScratchTarget},
    report::{HookReport, RestoreReport, Uncompared},
    request::{Existing, Extras, Rename, RestoreRequest, RestoreTarget},
};
use super::{
    point::PointReader,
    staged::{StagedForm, StagedWork},
};
use crate::{
    engine::source::Source,
    ground::{SourceError, SourceName, diagnosis::Diagnosis, language::Language},
};
use async_trait::async_trait;

/// A source that can be restored.
#[async_trait]
pub trait Restorable: Source {
    /// Returns what a restore would create, overwrite and leave alone. Writes nothing.
    ///
    /// # Errors
    /// If the target cannot be reached, or the point cannot be restored to it at all.
    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError>;

    /// Executes a plan, then reads the target back and compares it with the point's manifest.
    ///
    /// # Errors
    /// If something could not be written or read. Differences found afterwards are in the report and not an error: the caller
    /// must check [`RestoreReport::is_equal`].
    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError>;

    /// Reports whether [`Existing::Continue`] is supported in place: a restore then keeps what an interrupted one has restored,
    /// if it equals the point's.
    fn can_continue(&self) -> bool {
        false
    }

    /// Checks every artifact deeply in its own format, without a server.
    ///
    /// # Errors
    /// If the point cannot be read. Defects of its content are in the findings.
    async fn inspect(&self, _point: &PointReader) -> Result<Inspection, SourceError> {
        Err(SourceError::Unsupported(format!(
            "a source of kind {} cannot check its format",
            self.kind()
        )))
    }

    /// Compares the content of two points of this source: which parts differ and how many of their items. `each` receives the
    /// changes of single items, where the source knows items. By default, artifacts are compared by the digests and counts in
    /// the manifests. Memory is bounded, whatever the size of the points; temporary files are in the scratch directory of `work`.
    ///
    /// # Errors
    /// If a point cannot be read; [`SourceError::Cancelled`].
    async fn compare_points(
        &self,
        old: &PointReader,
        new: &PointReader,
        _work: &StagedWork,
        _each: &mut EachItem<'_>,
    ) -> Result<Vec<PartDiff>, SourceError> {
        Ok(artifact_differences(old.manifest(), new.manifest(), |_| true))
    }

    /// Restores into a scratch target of its own making, compares it with the manifest, and removes it, also after a failure.
    ///
    /// # Errors
    /// As [`Restorable::restore`], or if the scratch target could not be removed.
    async fn rehearse(
        &self,
        _point: &PointReader,
        _scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported(format!(
            "a source of kind {} cannot be rehearsed",
            self.kind()
        )))
    }

    /// Removes what a killed rehearsal with this scratch name left behind, and returns what it removed. Touches only what has
    /// this name; finding nothing is not an error. Directories are removed by their creator.
    ///
    /// # Errors
    /// If the server cannot be reached, or fails to remove something.
    async fn clear_scratch(&self, _name: &str) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    /// Instructions in Markdown for restoring this source by hand from a restored snapshot, with the tools of its own service.
    /// They contain the names and addresses of this config but no secret. `restored` is the directory that the snapshot was
    /// restored to.
    fn guide(&self, _language: Language, _restored: &str) -> Option<String> {
        None
    }

    /// Diagnoses for `doctor`: what prevents, or will prevent, a capture or a restore of this source. Writes nothing, and also
    /// returns a diagnosis if all is well. A source that can detect more than its probe adds to [`diagnosis_of_probe`].
    async fn diagnose(&self) -> Vec<Diagnosis> {
        diagnosis_of_probe(self.name(), &self.probe().await)
    }

    /// Paths on this machine that contain the live data, as far as the source knows them.
    fn local_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The address of its server, without credentials; `None` if there is no server.
    fn address(&self) -> Option<String> {
        None
    }

    /// The change log of this source; `None` if it keeps none. [`Restorable::restore`] and [`Restorable::rehearse`] then replay
    /// [`PointReader::log`].
    fn change_log(&self) -> Option<&dyn ChangeLog> {
        None
    }

    /// The form of a point of this source as one file; `None` if it has no such form.
    fn staged(&self) -> Option<&dyn StagedForm> {
        None
    }
}

/// A source that could not be created.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unavailable {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Kind of the source: the `type` of its table in the config.
    pub kind: String,
    /// The reason why it cannot be created, with its causes.
    pub why: String,
}
