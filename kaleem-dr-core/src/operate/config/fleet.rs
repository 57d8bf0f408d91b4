//! `[fleet]`: the repositories and hosts that `fleet status` watches.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::repository::RepositorySettings;
use crate::ground::{ProofLevel, SourceName, host::HostName};

/// `[fleet]` of the config.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FleetSettings {
    /// Maximum age of a host's newest complete point, in hours [default: 26].
    pub rpo_hours: u32,
    /// Maximum age of the newest proof of each source, in hours; 0 if none is required
    /// [default: 192, a week and a day].
    pub proof_hours: u32,
    /// The level from which a proof counts.
    pub proof: ProofLevel,
    /// Repositories to read, each with the keys of `[repository.NAME]`; keys that can only read are
    /// enough [default: those of `[repository]` that are not mirrors].
    pub repository: BTreeMap<String, RepositorySettings>,
    /// Hosts that must have a point. If empty, every host with snapshots is expected.
    pub host: BTreeMap<HostName, FleetHostSettings>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            rpo_hours: 26,
            proof_hours: 8 * 24,
            proof: ProofLevel::Parsed,
            repository: BTreeMap::new(),
            host: BTreeMap::new(),
        }
    }
}

/// An expected host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FleetHostSettings {
    /// Repositories that must each have a fresh point of the host [default: any of them].
    pub repositories: Vec<String>,
    /// Sources of a complete point [default: every source with a snapshot of the host]. Set it when a
    /// source was retired.
    pub sources: Vec<SourceName>,
    /// As `fleet.rpo_hours`, for this host.
    pub rpo_hours: Option<u32>,
    /// As `fleet.proof_hours`, for this host.
    pub proof_hours: Option<u32>,
}

impl FleetSettings {
    /// The repositories to read, by name.
    #[must_use]
    pub fn repositories<'a>(
        &'a self,
        own: &'a BTreeMap<String, RepositorySettings>,
    ) -> Vec<(&'a str, &'a RepositorySettings)> {
        let (all, is_own) =
            if self.repository.is_empty() { (own, true) } else { (&self.repository, false) };
        all.iter()
            .filter(|(_, settings)| !is_own || settings.mirror_of.is_none())
            .map(|(name, settings)| (name.as_str(), settings))
            .collect()
    }

    /// Maximum age of the newest complete point of a host.
    #[must_use]
    pub fn rpo(&self, host: &FleetHostSettings) -> Duration {
        Duration::from_hours(host.rpo_hours.unwrap_or(self.rpo_hours).into())
    }

    /// Maximum age of the newest proof of each source of a host; `None` if none is required.
    #[must_use]
    pub fn proof_age(&self, host: &FleetHostSettings) -> Option<Duration> {
        let hours = host.proof_hours.unwrap_or(self.proof_hours);
        (hours > 0).then(|| Duration::from_hours(hours.into()))
    }

    /// The first name that refers to nothing, as a sentence with the key.
    pub(super) fn fault(&self, own: &BTreeMap<String, RepositorySettings>) -> Option<String> {
        let known = self.repositories(own);
        for (host, settings) in &self.host {
            let is_unknown = |name: &&String| !known.iter().any(|(known, _)| known == name);
            if let Some(unknown) = settings.repositories.iter().find(is_unknown) {
                return Some(format!(
                    "`fleet.host.{host}.repositories` names {unknown}, which is not a repository of the fleet"
                ));
            }
        }
        let mirror = self.repository.iter().find(|(_, settings)| settings.mirror_of.is_some());
        mirror.map(|(name, _)| {
            format!("`fleet.repository.{name}.mirror_of` has no meaning: a fleet only reads")
        })
    }
}
