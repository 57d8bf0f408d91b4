//! `status`: how fresh and how well proven the backups of sources are, and of hosts.

use jiff::{SignedDuration, Timestamp};

use super::{Site, SiteError};
use crate::{
    engine::source::Probe,
    ground::SourceName,
    operate::{
        config::RepositorySettings,
        job::{HostStatus, SourceStatus, StatusOf, StatusRules, status_of_hosts},
        tripwire::{Alarm, Alarms, RecordedAlarm},
    },
    recovery::objectives::rto_broken,
};

/// What [`Site::status`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteStatus {
    /// A line for each repository and source.
    pub sources: Vec<SourceStatus>,
    /// Whether recovering all sources from the repository that is meant would take longer than the config allows; `None` where the config sets
    /// no limit, or nothing was measured.
    pub rto_broken: Option<bool>,
    /// Alarms of this host that are not acknowledged. They block forget and prune.
    pub alarms: Vec<Alarm>,
    /// Alarms of every host that are recorded in the repository.
    pub recorded: Vec<RecordedAlarm>,
}

impl SiteStatus {
    /// Whether a limit of the config is broken: the command then ends with 6. Without a source, nothing is protected.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.rto_broken == Some(true) || self.sources.iter().any(SourceStatus::is_broken)
    }
}

/// What [`Site::hosts_status`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostsStatus {
    /// A line for each host and source of the repository, and for each host that the config expects.
    pub hosts: Vec<HostStatus>,
    /// Alarms of every host that are recorded in the repository.
    pub recorded: Vec<RecordedAlarm>,
}

impl HostsStatus {
    /// Whether a host that is expected is missing or has a stale source. A repository without any host is broken too.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.is_broken)
    }
}

impl Site {
    /// How old and how well proven the newest point of each source is, in the repository that is meant and in those that are fed from it,
    /// and which alarms are not acknowledged. [`SiteStatus::is_broken`] sums it up.
    ///
    /// # Errors
    /// When the repository, the history or the alarms cannot be read.
    pub async fn status(&self) -> Result<SiteStatus, SiteError> {
        let settings = &self.config.settings;
        let (repository, snapshots) = self.listed().await?;
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
        let mut sources = rules.of_repository(&of, &snapshots)?;
        let standings = sources.iter().map(|status| &status.standing);
        let rto_broken = rto_broken(&settings.objectives, standings);
        if let (Some(primary), None) = (primary, &self.chosen) {
            for replica in self.replicas(primary) {
                sources.extend(rules.of_replica(&self.status_of(replica)?, &snapshots)?);
            }
        }
        let recorded = Alarm::recorded(&snapshots);
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

    /// Repositories that are fed from one of the config: its mirrors, and those that a backup copies to.
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

    /// How old the newest snapshot of every host and source in the repository is. Hosts that the config expects must be there and fresh.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn hosts_status(&self) -> Result<HostsStatus, SiteError> {
        let expected = &self.config.settings.status.expected_hosts;
        let (_, snapshots) = self.listed().await?;
        let hosts = status_of_hosts(&snapshots, expected, self.max_age(), Timestamp::now());
        Ok(HostsStatus { hosts, recorded: Alarm::recorded(&snapshots) })
    }

    /// Reaches every source and reads versions, rights and sizes. Never writes. One that cannot be reached has its error.
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

    /// The age at which a source's newest snapshot is stale.
    fn max_age(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.config.settings.status.max_age_hours))
    }
}
