//! `status`: how fresh and how well proven the backups of sources and hosts are.

use jiff::{SignedDuration, Timestamp};

use super::{Site, SiteError};
use crate::{
    engine::{
        repository::{Repository, Snapshot},
        source::Probe,
    },
    ground::{Exit, SourceName},
    operate::{
        config::RepositorySettings,
        job::{HostStatus, SourceStatus, StatusOf, StatusRules, status_of_hosts},
        tripwire::{Alarm, Alarms, RecordedAlarm},
    },
    recovery::objectives::rto_broken,
};

/// The report of [`Site::status`]: freshness, proofs and alarms of this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteStatus {
    /// A row for each repository and source.
    pub sources: Vec<SourceStatus>,
    /// Restoring all sources from the selected repository would take longer than the config
    /// allows; `None` if the config sets no limit, or nothing was measured.
    pub rto_broken: Option<bool>,
    /// Unacknowledged alarms of this host. They block forget and prune.
    pub alarms: Vec<Alarm>,
    /// Alarms of every host that are recorded in the repository.
    pub recorded: Vec<RecordedAlarm>,
}

impl SiteStatus {
    /// Reports whether a limit of the config is exceeded, for exit status 6. Without sources
    /// nothing is protected, which counts as exceeded.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.rto_broken == Some(true) || self.sources.iter().any(SourceStatus::is_broken)
    }

    /// The exit status: 6 if a limit is exceeded.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_broken() { Exit::Stale } else { Exit::Done }
    }
}

/// The report of [`Site::hosts_status`]: freshness of every host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostsStatus {
    /// A row for each host and source in the repository, and for each expected host.
    pub hosts: Vec<HostStatus>,
    /// Alarms of every host that are recorded in the repository.
    pub recorded: Vec<RecordedAlarm>,
}

impl HostsStatus {
    /// Reports whether an expected host is missing or has a stale source. A repository without any
    /// host fails too.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.is_broken)
    }

    /// The exit status: 6 if [`HostsStatus::is_broken`].
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_broken() { Exit::Stale } else { Exit::Done }
    }
}

impl Site {
    /// The age and proof of each source's newest point, in the selected repository and in those
    /// that receive its snapshots, and the unacknowledged alarms. [`SiteStatus::is_broken`]
    /// summarises it.
    ///
    /// # Errors
    /// If the repository, the history or the alarms cannot be read.
    pub async fn status(&self) -> Result<SiteStatus, SiteError> {
        let (repository, snapshots) = self.listed().await?;
        self.status_in(&repository, &snapshots)
    }

    /// The status as of snapshots that were listed.
    pub(super) fn status_in(
        &self,
        repository: &Repository,
        snapshots: &[Snapshot],
    ) -> Result<SiteStatus, SiteError> {
        let settings = &self.config.settings;
        let names = self.source_names();
        let (history, host) = (self.history()?, settings.host_name());
        let rules = StatusRules {
            ledger: history.ledger(),
            objectives: &settings.objectives,
            sources: &names,
            host: host.as_str(),
            max_age: self.max_age(),
            now: Timestamp::now(),
        };
        let primary = match &self.access {
            Some(_) => None,
            None => Some(self.chosen_repository()?.0),
        };
        let of = match primary {
            Some(name) => self.status_of(name)?,
            None => StatusOf {
                name: "repository".to_owned(),
                location: repository.location(),
                mirror_of: None,
            },
        };
        let mut sources = rules.of_repository(&of, snapshots)?;
        let standings = sources.iter().map(|status| &status.standing);
        let rto_broken = rto_broken(&settings.objectives, standings);
        if let (Some(primary), None) = (primary, &self.chosen) {
            for replica in self.replicas(primary) {
                sources.extend(rules.of_replica(&self.status_of(replica)?, snapshots)?);
            }
        }
        let recorded = Alarm::recorded(snapshots);
        Alarms::reconcile(&settings.state_directory, repository.id(), &recorded)?;
        let alarms = Alarms::load(&settings.state_directory)?.standing().to_vec();
        Ok(SiteStatus { sources, rto_broken, alarms, recorded })
    }

    fn status_of(&self, name: &str) -> Result<StatusOf, SiteError> {
        let location = |name: &str| Ok::<_, SiteError>(self.location(name)?.in_words());
        let mirror_of = self.named(name)?.1.mirror_of.as_deref();
        Ok(StatusOf {
            name: name.to_owned(),
            location: location(name)?,
            mirror_of: mirror_of.map(location).transpose()?,
        })
    }

    /// Repositories that receive snapshots from a repository of the config: its mirrors, and those
    /// that a backup copies to.
    pub fn replicas<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a str> {
        let settings = &self.config.settings;
        let is_fed = move |name: &String, repository: &RepositorySettings| {
            repository.mirror_of.as_deref() == Some(of) || settings.backup.also.contains(name)
        };
        settings
            .repository
            .iter()
            .filter(move |(name, repository)| *name != of && is_fed(name, repository))
            .map(|(name, _)| name.as_str())
    }

    /// The age of the newest snapshot of every host and source in the repository. Expected hosts
    /// must exist and be fresh.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub async fn hosts_status(&self) -> Result<HostsStatus, SiteError> {
        Ok(self.hosts_status_in(&self.listed().await?.1))
    }

    /// The freshness of every host as of snapshots that were listed.
    pub(super) fn hosts_status_in(&self, snapshots: &[Snapshot]) -> HostsStatus {
        let expected = &self.config.settings.status.expected_hosts;
        let hosts = status_of_hosts(snapshots, expected, self.max_age(), Timestamp::now());
        HostsStatus { hosts, recorded: Alarm::recorded(snapshots) }
    }

    /// Connects to every source, and reads versions, rights and sizes. Never writes. A source that
    /// cannot be reached has its error.
    pub async fn probe(&self) -> Vec<(SourceName, Result<Probe, SiteError>)> {
        let own = self.own.iter().map(|source| source.name());
        let names: Vec<SourceName> = self.config.sources.keys().chain(own).cloned().collect();
        let mut probes = Vec::new();
        for name in names {
            let probe = match self.source(&name) {
                Ok(source) => source.probe().await.map_err(SiteError::from),
                Err(error) => Err(error),
            };
            probes.push((name, probe));
        }
        probes
    }

    /// The age from which a source's newest snapshot is stale.
    fn max_age(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.config.settings.status.max_age_hours))
    }
}
