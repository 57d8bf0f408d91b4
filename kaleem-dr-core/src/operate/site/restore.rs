//! `restore` of a source.

use std::path::PathBuf;

use super::{Site, SiteError, export::no_form, parts::released};
use crate::{
    ground::SourceName,
    operate::job::{Restoring, plan_restore},
    recovery::{
        change_log::Moment,
        point::PointReader,
        points::{PointChoice, open_point},
        source::{
            Restorable, RestorePlan, RestoreReport, RestoreRequest, RestoreTarget, change_log,
        },
    },
};

/// Options of [`Site::restore`]: source, point and request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restore {
    /// A source of the site.
    pub source: SourceName,
    /// `latest`, or the id prefix of a run or a snapshot.
    pub point: String,
    /// Uses the newest point even if it is incomplete and an older whole one exists.
    pub allow_incomplete: bool,
    /// Restores to this moment, from the newest point before it, with the slices of the change log; `point` is then ignored.
    pub moment: Option<Moment>,
    /// A staged file instead of a point; then no repository is opened.
    pub file: Option<PathBuf>,
    /// Parts to restore, their new names, and the target.
    pub request: RestoreRequest,
}

impl Restore {
    /// Restores the newest point of a source.
    #[must_use]
    pub fn latest(source: SourceName, request: RestoreRequest) -> Self {
        Self {
            source,
            point: "latest".into(),
            allow_incomplete: false,
            moment: None,
            file: None,
            request,
        }
    }
}

/// A restore that waits for consent. Nothing is written yet.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PlannedRestore<'a> {
    /// The changes: parts to create, overwrite and leave.
    pub plan: &'a RestorePlan,
    /// Origin of the data: a snapshot or a staged file.
    pub point: &'a PointReader,
}

impl PlannedRestore<'_> {
    /// Reports whether existing data would be overwritten.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.plan.request.to == RestoreTarget::InPlace || self.plan.overwrites()
    }
}

impl Site {
    /// Restores a source, if `agree` accepts the plan; `None` if it does not. Differences found
    /// afterwards are in the report: see [`RestoreReport::is_done`].
    ///
    /// # Errors
    /// If the point does not exist, a guard refuses, or reading or writing fails.
    pub async fn restore(
        &self,
        wanted: Restore,
        agree: impl AsyncFnOnce(PlannedRestore<'_>) -> bool,
    ) -> Result<Option<RestoreReport>, SiteError> {
        self.until_cancelled(Box::pin(self.restore_wanted(wanted, agree))).await
    }

    async fn restore_wanted(
        &self,
        wanted: Restore,
        agree: impl AsyncFnOnce(PlannedRestore<'_>) -> bool,
    ) -> Result<Option<RestoreReport>, SiteError> {
        let source = &*self.source(&wanted.source)?;
        if let Some(file) = &wanted.file {
            let form = source.staged().ok_or_else(|| no_form(source.name()))?;
            let point = form.open(file, &self.staged_work()).await?;
            return self.restore_point(source, (&point, Vec::new()), wanted.request, agree).await;
        }
        if wanted.moment.is_some() {
            change_log(source)?;
        }
        let repository = self.repository().await?;
        // A shared lock, so that no prune deletes what is read.
        let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
        let done = async {
            let choice = PointChoice {
                moment: wanted.moment,
                ..self.point(&wanted.point, wanted.allow_incomplete)
            };
            let (progress, cancel) = (&self.progress, &self.cancel);
            let (point, notes) =
                open_point(&repository, source.name(), &choice, progress, cancel).await?;
            self.restore_point(source, (&point, notes), wanted.request, agree).await
        }
        .await;
        released(lock, done).await
    }

    async fn restore_point(
        &self,
        source: &dyn Restorable,
        (point, notes): (&PointReader, Vec<String>),
        request: RestoreRequest,
        agree: impl AsyncFnOnce(PlannedRestore<'_>) -> bool,
    ) -> Result<Option<RestoreReport>, SiteError> {
        let restoring = Restoring { source, point, notes, identity: &self.identity };
        let plan = plan_restore(restoring, request).await?;
        Ok(if agree(PlannedRestore { plan: &plan, point }).await {
            Some(source.restore(point, plan).await?)
        } else {
            None
        })
    }
}
