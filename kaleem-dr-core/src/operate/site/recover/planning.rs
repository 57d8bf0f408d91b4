//! The plan of a recovery: the points, and what each source would change.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::super::{Site, SiteError};
use crate::{
    engine::repository::{Repository, RepositoryError, SnapshotReader},
    ground::{SourceError, SourceName, error_chain},
    operate::{
        job::{Restoring, plan_restore},
        recover::{Chosen, Journal, PlannedSource, Recover, RecoveryPlan, choose_together},
    },
    recovery::{
        points::ChosenPoint,
        source::{Existing, Restorable, RestoreRequest, RestoreTarget},
    },
};

/// Everything that a plan is made from.
pub(super) struct Planning<'a> {
    pub(super) site: &'a Site,
    pub(super) wanted: &'a Recover,
    pub(super) names: &'a [SourceName],
    /// Name of the repository that the points are read from.
    pub(super) reads: &'a str,
}

impl Planning<'_> {
    /// Makes the plan. A source that cannot be planned now has its error in it.
    pub(super) async fn plan(&self, journal: &Journal) -> Result<RecoveryPlan, SiteError> {
        let site = self.site.clone().with_repository(self.reads);
        let began = Instant::now();
        let (repository, snapshots) = site.listed().await?;
        let opening = began.elapsed();
        let made = self.made();
        // A source that cannot be made yet, for example because its secret comes with the files, has
        // the log that the config saves.
        let saved = &self.site.config.settings.oplog.sources;
        let has_log = |name: &SourceName| match made.get(name) {
            Some(Ok(source)) => source.change_log().is_some(),
            _ => saved.contains(name),
        };
        let begun = journal.point().filter(|_| self.wanted.point == "latest");
        let Chosen { points, notes } = choose_together(
            &snapshots,
            self.names,
            (self.wanted, begun),
            &site.identity.scope,
            has_log,
        );
        if self.wanted.moment.is_some() {
            refuse_unreachable(&points, journal)?;
        }
        let mut plan = RecoveryPlan {
            run: self.wanted.run.unwrap_or_default(),
            repository: self.reads.to_owned(),
            location: repository.location(),
            in_place: self.wanted.in_place,
            repositories: Vec::new(),
            sources: Vec::new(),
            notes,
            forecast: None,
        };
        if self.wanted.in_place {
            let (absent, unknown) = site.absent_repositories(self.reads, journal).await;
            plan.repositories = absent;
            plan.notes.extend(unknown);
        }
        let mut reader = None;
        for (name, chosen) in points {
            let kind = made_kind(&made, self.site, &name);
            let mut planned =
                PlannedSource::new(name.clone(), kind, site.config.order.before(&name).to_vec());
            planned.after.retain(|name| self.names.contains(name));
            planned.is_recovered = journal.has_recovered(&name);
            planned.uses_log = self.wanted.moment.is_some() && has_log(&name);
            let outcome = match (chosen, made.get(&name)) {
                (Err(error), _) => Err(error_chain(&error)),
                (Ok(chosen), Some(Ok(source))) => {
                    describe(&mut planned, &chosen);
                    let of = (&repository, &mut reader);
                    let begun = journal.is_begun(&name, planned.run);
                    let request = request(self.wanted, source.can_continue() && begun);
                    self.plan_source(&mut planned, of, (source, request), &chosen)
                        .await
                        .map_err(|error| error_chain(&error))
                }
                (Ok(chosen), made) => {
                    describe(&mut planned, &chosen);
                    let why = made.and_then(|made| made.as_ref().err()).cloned();
                    Err(why.unwrap_or_else(|| "it cannot be made".to_owned()))
                }
            };
            planned.error = outcome.err();
            plan.sources.push(planned);
        }
        Box::pin(self.site.forecast(&mut plan, (began, opening))).await?;
        Ok(plan)
    }

    /// Each source, or why it cannot be made now.
    fn made(&self) -> BTreeMap<SourceName, Result<Arc<dyn Restorable>, String>> {
        let made = |name: &SourceName| self.site.source(name).map_err(|error| error_chain(&error));
        self.names.iter().map(|name| (name.clone(), made(name))).collect()
    }

    async fn plan_source(
        &self,
        planned: &mut PlannedSource,
        (repository, reader): (&Repository, &mut Option<SnapshotReader>),
        (source, request): (&Arc<dyn Restorable>, RestoreRequest),
        chosen: &ChosenPoint,
    ) -> Result<(), SourceError> {
        let failed = |error: RepositoryError| SourceError::Point(error.into());
        if reader.is_none() {
            *reader = Some(repository.read(&chosen.snapshot).await.map_err(failed)?);
        }
        let Some(reader) = reader else { return Ok(()) };
        let (progress, cancel) = (&self.site.progress, &self.site.cancel);
        let point = chosen.open_with(reader, progress, cancel).await.map_err(failed)?;
        planned.size_bytes = point.manifest().size_bytes();
        planned.consistent_at = Some(point.manifest().consistency.at);
        if planned.is_recovered {
            return Ok(());
        }
        let identity = &self.site.identity;
        let notes = chosen.notes.clone();
        let restoring = Restoring { notes, ..Restoring::new(&**source, &point, identity) };
        planned.plan = Some(plan_restore(restoring, request).await?);
        Ok(())
    }
}

/// Refuses a moment that a source has no point for: the others would be of a moment that was asked for, and it
/// would be missing.
fn refuse_unreachable(
    points: &[(SourceName, Result<ChosenPoint, RepositoryError>)],
    journal: &Journal,
) -> Result<(), SiteError> {
    let unreachable: Vec<String> = points
        .iter()
        .filter(|(name, _)| !journal.has_recovered(name))
        .filter_map(|(name, point)| {
            let error = point.as_ref().err()?;
            Some(format!("source {name}: {}", error_chain(error)))
        })
        .collect();
    if unreachable.is_empty() {
        return Ok(());
    }
    Err(SiteError::Refused(format!(
        "nothing was written, because not every source can be restored to that moment: {}; choose another moment (`kaleem-dr points --moments`), \
         or name the sources that can with --only",
        unreachable.join("; ")
    )))
}

/// The request for each source. In place, it `continues` what an interrupted attempt has restored from the same point.
pub(super) fn request(wanted: &Recover, continues: bool) -> RestoreRequest {
    let (to, existing) = match (wanted.in_place, continues) {
        (true, true) => (RestoreTarget::InPlace, Existing::Continue),
        (true, false) => (RestoreTarget::InPlace, Existing::Replace),
        // Each attempt next to the live data has a target of its own.
        (false, _) => (RestoreTarget::Beside(None), Existing::Replace),
    };
    RestoreRequest::whole(to).with_existing(existing)
}

fn describe(planned: &mut PlannedSource, chosen: &ChosenPoint) {
    planned.run = chosen.snapshot.run();
    planned.snapshot = Some(chosen.snapshot.id());
    planned.consistent_at = Some(chosen.snapshot.time().timestamp());
    planned.size_bytes = chosen.snapshot.size_bytes().unwrap_or_default();
}

fn made_kind(
    made: &BTreeMap<SourceName, Result<Arc<dyn Restorable>, String>>,
    site: &Site,
    name: &SourceName,
) -> String {
    match made.get(name) {
        Some(Ok(source)) => source.kind().to_owned(),
        _ => site.declared(name).map(|declared| declared.kind.to_owned()).unwrap_or_default(),
    }
}
