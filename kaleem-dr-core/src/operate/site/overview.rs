//! An installation at a glance: everything that one listing of the repository shows.

use jiff::Timestamp;

use super::{HostsStatus, Site, SiteError, SiteStatus};
use crate::{
    engine::{
        ledger::{ChainedReport, ListedEvent, PastEvent, Proof, Selection},
        repository::{RepositoryError, Snapshot},
    },
    ground::RunId,
    operate::report::ReportError,
    recovery::{
        change_log::{RestorableSpan, restorable_spans},
        drill::DrillReport,
        points::{RecoveryPoint, recovery_points},
        view::RepositoryView,
    },
};

/// The result of [`Site::overview`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Overview {
    /// Time at which the repository was listed.
    pub read_at: Timestamp,
    /// Freshness, proofs and alarms of this host, as [`Site::status`] returns them.
    pub status: SiteStatus,
    /// Freshness of every host, as [`Site::hosts_status`] returns it.
    pub hosts: HostsStatus,
    /// Recovery points of the selected hosts, newest first.
    pub points: Vec<RecoveryPoint>,
    /// Spans of time of which every moment can be restored.
    pub spans: Vec<RestorableSpan>,
    /// All snapshots with data, newest first.
    pub snapshots: Vec<Snapshot>,
    /// The repository, to look into these snapshots.
    pub view: RepositoryView,
}

impl Site {
    /// Lists the selected repository once, and returns everything that follows from that.
    ///
    /// # Errors
    /// If the repository, the history or the alarms cannot be read.
    pub async fn overview(&self) -> Result<Overview, SiteError> {
        let read_at = Timestamp::now();
        let (repository, mut snapshots) = self.listed().await?;
        let (site, of) = (self.clone(), repository);
        // The ledger blocks.
        let computing = tokio::task::spawn_blocking(move || {
            let scope = &site.identity.scope;
            let status = site.status_in(&of, &snapshots)?;
            let hosts = site.hosts_status_in(&snapshots);
            let points = recovery_points(&snapshots, &site.source_names(), scope);
            let spans = restorable_spans(&snapshots, scope);
            let view = RepositoryView::listed(&of, snapshots.clone());
            snapshots.retain(Snapshot::is_data);
            snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time().timestamp()));
            Ok(Overview { read_at, status, hosts, points, spans, snapshots, view })
        });
        computing.await.map_err(|_| RepositoryError::Engine {
            action: "compute the status of",
            cause: "a thread panicked".into(),
        })?
    }

    /// Jobs of this host that match a selection, newest first, and the number of all that do.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn past_jobs(&self, selection: &Selection) -> Result<(Vec<ListedEvent>, u64), SiteError> {
        Ok(self.history()?.ledger().select(selection)?)
    }

    /// The events of a run with their reports, oldest first; empty if the history does not have it.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn past_run(&self, run: RunId) -> Result<Vec<PastEvent>, SiteError> {
        Ok(self.history()?.ledger().events_of(run)?)
    }

    /// The drills and recoveries of the chain of reports, newest first, from `offset` on, and the
    /// number of all.
    ///
    /// # Errors
    /// If the history cannot be read, or a report in it is invalid.
    pub fn past_drills(
        &self,
        offset: usize,
        most: usize,
    ) -> Result<(Vec<DrillReport>, usize), SiteError> {
        let chain = self.history()?.ledger().reports()?;
        let wanted = chain.iter().rev().skip(offset).take(most);
        let read = |report: &ChainedReport| {
            serde_json::from_str(&report.body)
                .map_err(|cause| ReportError::Unreadable { run: report.run, cause })
        };
        Ok((wanted.map(read).collect::<Result<_, _>>()?, chain.len()))
    }

    /// The newest proofs of this host, newest first.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn past_proofs(&self, most: usize) -> Result<Vec<Proof>, SiteError> {
        Ok(self.history()?.ledger().proofs(most)?)
    }

    /// The newest successful job of each kind in each repository, without reports.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn last_successes(&self) -> Result<Vec<PastEvent>, SiteError> {
        Ok(self.history()?.ledger().newest_events(true)?)
    }
}
