//! `alarm`: lists and acknowledges alarms, which block forget and prune.

use super::{Site, SiteError, parts::released};
use crate::{
    engine::repository::{LockKind, Repository},
    ground::{Exit, SourceName},
    operate::tripwire::{Alarm, Alarms, RecordedAlarm},
};

/// Alarms of this host, and those recorded in its repositories.
#[derive(Debug)]
#[non_exhaustive]
pub struct SiteAlarms {
    /// Alarms of this host that are active, or that were acknowledged now.
    pub own: Vec<Alarm>,
    /// Alarms of every host, as the repositories record them.
    pub recorded: Vec<RecordedAlarm>,
    /// Repositories that could not be read. The others are still read.
    pub failed: Vec<(String, SiteError)>,
}

impl SiteAlarms {
    /// Recorded alarms that are not among those of this host: an alarm of this host is in its state directory and, as a record, in the
    /// repository. Records that cannot be read are left out.
    pub fn of_others(&self) -> impl Iterator<Item = &Alarm> {
        let is_own = |other: &Alarm| {
            self.own.iter().any(|own| own.run == other.run && own.source == other.source)
        };
        let recorded = self.recorded.iter().filter_map(|recorded| recorded.alarm.as_ref());
        recorded.filter(move |other| !is_own(other))
    }

    /// The exit status: 3 if a repository could not be read.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.failed.is_empty() { Exit::Done } else { Exit::Partial }
    }
}

impl Site {
    /// Lists unacknowledged alarms.
    ///
    /// # Errors
    /// If the alarms of this host cannot be read. A repository that cannot be opened is in the
    /// result.
    pub async fn alarms(&self) -> Result<SiteAlarms, SiteError> {
        let listing = async {
            let state_directory = &self.config.settings.state_directory;
            let (mut recorded, mut failed) = (Vec::new(), Vec::new());
            for name in self.written_repositories()? {
                let listed = async {
                    let repository = self.open_written(name).await?;
                    let found = Alarm::recorded(&repository.snapshots().await?);
                    Alarms::reconcile(state_directory, repository.id(), &found)?;
                    Ok(found)
                };
                match listed.await {
                    Ok(found) => recorded.extend(found),
                    Err(error) => failed.push((name.unwrap_or_default().to_owned(), error)),
                }
            }
            let own = Alarms::load(state_directory)?.standing().to_vec();
            Ok(SiteAlarms { own, recorded, failed })
        };
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Acknowledges alarms of the selected hosts, of these sources or of all: what raised them
    /// counts as normal from now on.
    ///
    /// # Errors
    /// If the alarms of this host cannot be read or written. A repository that cannot be opened is
    /// in the result.
    pub async fn acknowledge_alarms(
        &self,
        sources: &[SourceName],
    ) -> Result<SiteAlarms, SiteError> {
        let acknowledging = async {
            let state_directory = &self.config.settings.state_directory;
            let own = Alarms::acknowledge(state_directory, &self.identity.scope, sources)?;
            let (mut recorded, mut failed) = (Vec::new(), Vec::new());
            for name in self.written_repositories()? {
                match self.acknowledge_in(name, sources).await {
                    Ok(found) => recorded.extend(found),
                    Err(error) => failed.push((name.unwrap_or_default().to_owned(), error)),
                }
            }
            Ok(SiteAlarms { own, recorded, failed })
        };
        self.until_cancelled(Box::pin(acknowledging)).await
    }

    /// Removes the selected records from a repository, and returns them.
    async fn acknowledge_in(
        &self,
        name: Option<&str>,
        sources: &[SourceName],
    ) -> Result<Vec<RecordedAlarm>, SiteError> {
        let is_meant = |alarm: &RecordedAlarm| {
            let is_of = |alarm: &Alarm| sources.contains(&alarm.source);
            self.identity.scope.includes(&alarm.host)
                && (sources.is_empty() || alarm.alarm.as_ref().is_some_and(is_of))
        };
        let repository = self.open_written(name).await?;
        let meant = async || {
            let recorded = Alarm::recorded(&repository.snapshots().await?);
            Ok::<Vec<RecordedAlarm>, SiteError>(recorded.into_iter().filter(is_meant).collect())
        };
        if meant().await?.is_empty() {
            return Ok(Vec::new());
        }
        let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
        let done = async {
            let meant = meant().await?;
            let records: Vec<_> = meant.iter().map(|alarm| alarm.record).collect();
            repository.remove_records(&records, &lock, &self.progress, &self.cancel).await?;
            Ok(meant)
        }
        .await;
        released(lock, done).await
    }

    /// The repositories that runs write to, by name; mirrors follow with their next pass. `None` is
    /// one that no config names.
    fn written_repositories(&self) -> Result<Vec<Option<&str>>, SiteError> {
        if self.access.is_some() {
            return Ok(vec![None]);
        }
        let own = self.chosen_repository()?.0;
        let also = self.config.settings.backup.also.iter().map(String::as_str);
        Ok(std::iter::once(own).chain(also.filter(|name| *name != own)).map(Some).collect())
    }

    async fn open_written(&self, name: Option<&str>) -> Result<Repository, SiteError> {
        match name {
            Some(name) => self.open_named(name).await,
            None => self.repository().await,
        }
    }
}
