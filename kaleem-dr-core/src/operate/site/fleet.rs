//! `fleet`: the state of all hosts, from repositories alone.

use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::net::TcpListener;

use super::{Site, SiteError};
use crate::{
    engine::repository::{Repository, RepositoryError},
    ground::{Exit, error_chain},
    operate::{
        config::RepositorySettings,
        fleet::{FleetRepository, FleetStatus, Judge, Seen, serve},
    },
};

/// Limit for the repositories that are read at once.
const AT_ONCE: usize = 8;
/// Minimum time between two reads for metrics.
const SHORTEST: Duration = Duration::from_secs(1);

impl Site {
    /// The state of the fleet: [`FleetStatus::exit`] summarises it. Only reads, without locks, and
    /// needs no state. A repository that cannot be read is in the result.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the config has no repository; if the work is cancelled.
    pub async fn fleet_status(&self) -> Result<FleetStatus, SiteError> {
        self.until_cancelled(Box::pin(self.read_fleet())).await
    }

    async fn read_fleet(&self) -> Result<FleetStatus, SiteError> {
        let settings = &self.config.settings;
        let wanted = self.fleet_repositories()?;
        let now = Timestamp::now();
        let reads: Vec<_> = wanted
            .into_iter()
            .map(|(name, settings)| self.read_for_fleet(name, settings, now))
            .collect();
        let read: Vec<(FleetRepository, Option<Seen>)> =
            stream::iter(reads).buffered(AT_ONCE).collect().await;
        if self.cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled.into());
        }
        let (repositories, seen): (Vec<FleetRepository>, Vec<Option<Seen>>) =
            read.into_iter().unzip();
        let seen: Vec<Seen> = seen.into_iter().flatten().collect();
        let unread: Vec<String> = repositories
            .iter()
            .filter(|repository| repository.error.is_some())
            .map(|repository| repository.name.clone())
            .collect();
        let judge = Judge { settings: &settings.fleet, seen: &seen, unread: &unread, now };
        Ok(FleetStatus { time: now, hosts: judge.hosts(), repositories })
    }

    fn fleet_repositories(&self) -> Result<Vec<(&str, &RepositorySettings)>, SiteError> {
        let settings = &self.config.settings;
        let wanted = settings.fleet.repositories(&settings.repository);
        if wanted.is_empty() {
            let path = self.path.display();
            return Err(SiteError::Config(format!(
                "{path} has no repository: add [fleet.repository.NAME] or [repository.NAME]"
            )));
        }
        Ok(wanted)
    }

    /// Reads one repository of the fleet.
    async fn read_for_fleet(
        &self,
        name: &str,
        settings: &RepositorySettings,
        now: Timestamp,
    ) -> (FleetRepository, Option<Seen>) {
        let location = settings.location(&self.environment);
        let location =
            location.map_or_else(|_| settings.location.clone(), |location| location.in_words());
        let unread = |exit, why| (FleetRepository::unread(name, location.clone(), exit, why), None);
        let access = match settings.access(&self.config.settings.cache_directory, &self.environment)
        {
            Ok(access) => access,
            Err(error) => return unread(Exit::Usage, error_chain(&error)),
        };
        let read = async {
            let repository = Repository::open(&access).await?;
            repository.snapshots().await
        };
        match read.await {
            Ok(snapshots) => {
                let (read, seen) = FleetRepository::read(name, location, snapshots, now);
                (read, Some(seen))
            }
            Err(error) => unread(Exit::from(&error), error_chain(&error)),
        }
    }

    /// Serves the metrics of the fleet over HTTP until the site's cancellation, and reads the
    /// repositories again each time that `every` has passed. `listening` is called with the address,
    /// whose port the system chooses if it is 0.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`] at the end; [`SiteError::Config`] if the address cannot be used, or
    /// the config has no repository.
    pub async fn serve_fleet(
        &self,
        address: SocketAddr,
        every: Duration,
        listening: impl FnOnce(SocketAddr),
    ) -> Result<(), SiteError> {
        let unusable = |error: std::io::Error| {
            SiteError::Config(format!("cannot listen on {address}: {error}"))
        };
        self.fleet_repositories()?;
        let listener = TcpListener::bind(address).await.map_err(unusable)?;
        listening(listener.local_addr().map_err(unusable)?);
        let read = || async {
            match self.read_fleet().await {
                Ok(status) => status.metrics_text(),
                Err(error) => {
                    tracing::error!(error = %error_chain(&error), "the fleet could not be read");
                    String::new()
                }
            }
        };
        // A reader that is called at once again would leave no time for answers.
        serve(listener, every.max(SHORTEST), read, &self.cancel).await.map_err(unusable)?;
        Err(RepositoryError::Cancelled.into())
    }
}
