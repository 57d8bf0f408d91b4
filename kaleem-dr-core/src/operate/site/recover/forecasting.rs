//! The expected duration of a recovery, from what this machine and the lost one have measured.

use std::time::{Duration, Instant};

use super::super::{Site, SiteError};
use crate::{
    engine::replicate::stored_bytes,
    ground::SourceName,
    operate::{
        bootstrap::Origin,
        installation::Measurements,
        recover::{Forecast, RecoveryPlan, forecast_of, in_groups, one_after_another},
    },
};

impl Site {
    /// Adds the expected durations to a plan. `began` is the start of the planning, and `opening` the time
    /// that it took to open and to list the repository.
    pub(super) async fn forecast(
        &self,
        plan: &mut RecoveryPlan,
        (began, opening): (Instant, Duration),
    ) -> Result<(), SiteError> {
        let state = &self.config.settings.state_directory;
        let here = Measurements::of(self.history()?.ledger())?;
        let measured = here.before(&Origin::measurements(state));
        // The restores read the primary repository once it is filled.
        let filled = plan.repositories.iter().find(|one| self.is_primary(&one.name));
        let reads = filled.map_or(&plan.location, |primary| &primary.location).clone();
        for planned in &mut plan.sources {
            let samples = measured.of_source(&planned.source, &reads);
            planned.forecast = forecast_of(&samples, planned.size_bytes);
        }
        self.forecast_filling(plan, &measured).await;
        let left: Vec<SourceName> = plan
            .sources
            .iter()
            .filter(|planned| !planned.is_recovered)
            .map(|planned| planned.source.clone())
            .collect();
        let of = |name: &SourceName| -> Option<Forecast> {
            plan.sources.iter().find(|planned| planned.source == *name)?.forecast
        };
        let restores = in_groups(&self.config.order.groups(&left), of);
        let filling = plan.repositories.iter().filter_map(|planned| planned.forecast);
        let settling = if plan.in_place { self.settling(&measured) } else { Vec::new() };
        // The openings that follow find the index in the cache, or on disk: together they take about as
        // long as the first one.
        let fixed = Forecast::measured(began.elapsed() + opening);
        let parts = filling.chain(settling).chain([fixed]);
        plan.forecast = restores.map(|restores| one_after_another(parts.chain([restores])));
        Ok(())
    }

    /// Adds the sizes of repositories that are filled, and how long that takes.
    async fn forecast_filling(&self, plan: &mut RecoveryPlan, measured: &Measurements) {
        if plan.repositories.is_empty() {
            return;
        }
        // Without a listing there is no forecast; the recovery itself lists again.
        let size_bytes = match self.location(&plan.repository).and_then(|at| Ok(at.store()?)) {
            Ok(store) => stored_bytes(&*store).await.ok(),
            Err(_) => None,
        };
        for planned in &mut plan.repositories {
            planned.size_bytes = size_bytes;
            let samples = measured.of_passes(&planned.location);
            planned.forecast = size_bytes.and_then(|size| forecast_of(&samples, size));
            if planned.forecast.is_none() {
                plan.notes.push(format!(
                    "the expected duration does not include the repository {}, because no pass of a mirror was measured",
                    planned.name
                ));
            }
        }
    }

    /// The passes of mirrors at the end, which have little to copy: one for each mirror that was measured.
    fn settling(&self, measured: &Measurements) -> Vec<Forecast> {
        let mut site = self.clone();
        site.chosen = None;
        let Ok((primary, _)) = site.chosen_repository() else { return Vec::new() };
        let fastest = |mirror: &str| {
            let samples = measured.of_passes(&self.place_of(mirror));
            samples.into_iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))
        };
        let mirrors = self.config.settings.repository.iter();
        let mirrors = mirrors.filter(|(_, mirror)| mirror.mirror_of.as_deref() == Some(primary));
        let passes = mirrors.filter_map(|(name, _)| fastest(name));
        passes.filter_map(|sample| forecast_of(&[sample], sample.size_bytes)).collect()
    }
}
