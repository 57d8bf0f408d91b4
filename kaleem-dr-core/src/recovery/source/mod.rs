//! How a captured source is put back: restores, rehearsals, inspections.

mod diagnosis;
mod difference;
mod plan;
mod rehearsal;
mod report;
mod request;

use std::path::PathBuf;

pub use self::{
    diagnosis::{diagnosis_of_probe, diagnosis_of_source_error},
    difference::Difference,
    plan::{Change, PlanOrigin, PlannedAction, RestorePlan},
    rehearsal::{Control, Inspection, ScratchTarget},
    report::{HookReport, RestoreReport, Uncompared},
    request::{Existing, Extras, Rename, RestoreRequest, RestoreTarget},
};
use super::{point::PointReader, staged::StagedForm};
use crate::{
    engine::source::Source,
    ground::{SourceError, SourceName, diagnosis::Diagnosis, language::Language},
};
use async_trait::async_trait;

/// A source that can be put back.
#[async_trait]
pub trait Restorable: Source {
    /// What a restore would create, overwrite and leave alone. Never writes.
    ///
    /// # Errors
    /// When the target cannot be reached, or the point cannot be restored there at all.
    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError>;

    /// Carries a plan out, then reads the target back and compares it with the point's manifest.
    ///
    /// # Errors
    /// When something could not be written or read. Differences found afterwards are no error here: they are in the report,
    /// and whoever asked must look at [`RestoreReport::is_equal`].
    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError>;

    /// Checks every artifact deeply in its own format, without a server.
    ///
    /// # Errors
    /// When the point cannot be read. What is wrong with its content is in the findings.
    async fn inspect(&self, _point: &PointReader) -> Result<Inspection, SourceError> {
        Err(SourceError::Unsupported(format!(
            "a source of kind {} cannot check its format",
            self.kind()
        )))
    }

    /// Restores into a scratch target of its own making, compares it with the manifest, and removes it, also after a failure.
    ///
    /// # Errors
    /// As [`Restorable::restore`], and when the scratch target could not be removed.
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

    /// Removes what a rehearsal of this scratch name left because it was killed, and says what that was. Only what bears the name
    /// is touched; that nothing was left is no error. Directories are removed by whoever made them.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not let go of it.
    async fn clear_scratch(&self, _name: &str) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    /// How an operator gets this source back by hand out of a restored snapshot, with the tools of its own service: Markdown, with
    /// the names and addresses of this config and no secret. `restored` is the directory the snapshot was restored to.
    fn guide(&self, _language: Language, _restored: &str) -> Option<String> {
        None
    }

    /// What keeps a capture or a restore of this source from working, or will: for `doctor`. Never writes, and says something
    /// also when all is well. A source that knows more than its probe tells adds to what [`diagnosis_of_probe`] gives.
    async fn diagnose(&self) -> Vec<Diagnosis> {
        diagnosis_of_probe(self.name(), &self.probe().await)
    }

    /// Paths of this machine that hold the live data, where the source knows them.
    fn local_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// How a point of this source looks as one file; `None` where it has no such form.
    fn staged(&self) -> Option<&dyn StagedForm> {
        None
    }
}

/// A source that could not be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unavailable {
    /// Its name.
    pub source: SourceName,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub why: String,
}
