//! Jobs selected by kind, source and outcome, page by page.

use jiff::Timestamp;
use rusqlite::named_params;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Ledger, LedgerError, typed};
use crate::ground::RunId;

/// A selection of jobs. By default the newest ones of all kinds, without any of them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Selection {
    /// Only this run.
    pub run: Option<RunId>,
    /// Only jobs of this kind: `backup`, `drill`, …
    pub kind: Option<String>,
    /// Only jobs with this source.
    pub source: Option<String>,
    /// Only jobs that ended with exit status 0 (`true`), or with another (`false`).
    pub good: Option<bool>,
    /// Number of jobs to leave out at the beginning.
    pub offset: u64,
    /// Maximum number of jobs.
    pub limit: u64,
}

/// A job in a list, without its report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ListedEvent {
    /// Id of the run; the events of one job share it.
    pub run: RunId,
    /// Kind of the work: `backup`, `replicate`, …
    pub kind: String,
    /// Name of the repository that it wrote to, without credentials.
    pub repository: String,
    /// Start of the work, by this machine's clock.
    pub started: Timestamp,
    /// End of the work, by this machine's clock.
    pub finished: Timestamp,
    /// Exit status of the work.
    pub exit: u8,
    /// Its sources, by name; empty for work on a repository as a whole.
    pub sources: Vec<String>,
}

/// The condition of a selection.
const WHERE: &str = "
    (:run is null or e.run = :run) and (:kind is null or e.kind = :kind) and (:good is null or (e.exit = 0) = :good)
    and (:source is null or exists (select 1 from part p where p.event = e.id and p.source = :source))";

impl Ledger {
    /// The selected jobs, newest first, and the number of all that match.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn select(&self, wanted: &Selection) -> Result<(Vec<ListedEvent>, u64), LedgerError> {
        let connection = self.connection();
        let run = wanted.run.map(|run| run.to_string());
        let total: i64 = connection
            .query_row(
                &format!("select count(*) from event e where {WHERE}"),
                named_params! { ":run": run, ":kind": wanted.kind, ":good": wanted.good, ":source": wanted.source },
                |row| row.get(0),
            )
            .map_err(self.failed("read"))?;
        let mut query = connection
            .prepare(&format!(
                "select run, kind, repository, started, finished, exit,
                        (select group_concat(source, ' ') from (select distinct source from part p where p.event = e.id and p.source <> '' order by 1))
                 from event e where {WHERE} order by id desc limit :limit offset :offset"
            ))
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map(
                named_params! {
                    ":run": run, ":kind": wanted.kind, ":good": wanted.good, ":source": wanted.source,
                    ":limit": i64::try_from(wanted.limit).unwrap_or(i64::MAX),
                    ":offset": i64::try_from(wanted.offset).unwrap_or(i64::MAX),
                },
                |row| {
                    let sources: Option<String> = row.get(6)?;
                    Ok(ListedEvent {
                        run: typed(row, 0)?,
                        kind: row.get(1)?,
                        repository: row.get(2)?,
                        started: typed(row, 3)?,
                        finished: typed(row, 4)?,
                        exit: row.get(5)?,
                        // No name of a source contains a space.
                        sources: sources.iter().flat_map(|all| all.split(' ')).map(str::to_owned).collect(),
                    })
                },
            )
            .map_err(self.failed("read"))?;
        let rows = rows.collect::<Result<_, _>>().map_err(self.failed("read"))?;
        Ok((rows, u64::try_from(total).unwrap_or_default()))
    }

    /// The events of a run with their reports, oldest first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn events_of(&self, run: RunId) -> Result<Vec<super::PastEvent>, LedgerError> {
        self.events(
            "select run, kind, repository, started, finished, exit,
                    coalesce((select body from report r where event.kind in ('drill', 'recover') and r.run = event.run), report)
             from event where run = ?1 order by id",
            [run.to_string()],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::ledger::{Event, EventKind, Part},
        ground::Exit,
    };

    #[test]
    fn jobs_are_selected_by_kind_source_and_outcome_page_by_page() {
        let place = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(place.path()).unwrap();
        let now = Timestamp::now();
        for (kind, source, exit) in [
            (EventKind::Backup, Some("mongo"), Exit::Done),
            (EventKind::Backup, Some("files-1"), Exit::Partial),
            (EventKind::Check, None, Exit::Done),
        ] {
            let mut event = Event::new(RunId::new(), kind, "here", now);
            event.exit = exit;
            event.parts =
                source.iter().map(|name| Part::new(name.parse().unwrap(), "here", now)).collect();
            ledger.record(&event).unwrap();
        }
        let all = Selection { limit: 10, ..Selection::default() };
        let kinds = |wanted: &Selection| -> (Vec<String>, u64) {
            let (found, total) = ledger.select(wanted).unwrap();
            (found.into_iter().map(|event| event.kind + &event.sources.concat()).collect(), total)
        };
        assert_eq!(kinds(&all).0, ["check", "backupfiles-1", "backupmongo"]);
        let of_kind = Selection { kind: Some("backup".into()), ..all.clone() };
        assert_eq!(kinds(&of_kind).1, 2);
        let of_source = Selection { source: Some("mongo".into()), ..all.clone() };
        assert_eq!(kinds(&of_source), (vec!["backupmongo".into()], 1));
        let bad = Selection { good: Some(false), ..all.clone() };
        assert_eq!(kinds(&bad), (vec!["backupfiles-1".into()], 1));
        let second = Selection { limit: 1, offset: 1, ..all };
        assert_eq!(kinds(&second), (vec!["backupfiles-1".into()], 3));
    }
}
