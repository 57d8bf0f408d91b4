//! Limits the size of the ledger: adding an event removes entries that are old or exceed a number.
//!
//! Status, guards and alerts read the newest entry of each kind, which is kept regardless of its age.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, params};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Ledger, LedgerError};

/// The amount of history that the ledger keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LedgerLimits {
    /// Age, in days, after which events, proofs and drill reports are removed.
    pub keep_days: u32,
    /// Limit for the number of events; for proofs, ten times as many.
    pub keep_events: u32,
}

impl Default for LedgerLimits {
    /// Three years, and about as many events as three years of hourly jobs make.
    fn default() -> Self {
        Self { keep_days: 3 * 365, keep_events: 30_000 }
    }
}

impl Ledger {
    /// Removes what exceeds the limits. Keeps the newest event, and the newest successful one, of each kind, source and
    /// repository; likewise for each source's proofs in a repository. Returns the number of events, proofs and reports removed.
    ///
    /// # Errors
    /// If the ledger cannot be written; then nothing is removed.
    pub fn trim(&self, limits: LedgerLimits, now: Timestamp) -> Result<usize, LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection.transaction().map_err(failed())?;
        let oldest =
            now.saturating_sub(SignedDuration::from_hours(24 * i64::from(limits.keep_days)));
        // jiff saturates at the ends of its range, which does not affect a comparison of texts.
        let oldest =
            oldest.map_or_else(|_| Timestamp::MIN.to_string(), |oldest| oldest.to_string());
        let removed = trim(&change, limits, &oldest).map_err(failed())?;
        change.commit().map_err(failed())?;
        Ok(removed)
    }

    /// The hash of the report before the oldest one kept, with which a trimmed chain begins.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn chain_start(&self) -> Result<Option<String>, LedgerError> {
        self.connection()
            .query_row("select previous from chain_start", [], |row| row.get(0))
            .optional()
            .map_err(self.failed("read"))
    }
}

fn trim(change: &Transaction<'_>, limits: LedgerLimits, oldest: &str) -> rusqlite::Result<usize> {
    let events = i64::from(limits.keep_events.max(1));
    change.execute_batch(
        "create temp table if not exists goes (id integer primary key); delete from temp.goes",
    )?;
    change.execute(
        "insert into temp.goes select id from event
         where (finished < ?1 or id <= (select max(id) from event) - ?2)
         and id not in (select max(id) from event group by kind, repository)
         and id not in (select max(id) from event where exit = 0 group by kind, repository)
         and id not in (select max(p.event) from part p join event e on e.id = p.event group by e.kind, p.source, p.repository)
         and id not in (select max(p.event) from part p join event e on e.id = p.event where p.exit = 0
                        group by e.kind, p.source, p.repository)",
        params![oldest, events],
    )?;
    change.execute("delete from part where event in (select id from temp.goes)", [])?;
    let mut removed =
        change.execute("delete from event where id in (select id from temp.goes)", [])?;
    removed += change.execute(
        "delete from proof where (at < ?1 or id <= (select max(id) from proof) - 10 * ?2)
         and id not in (select max(id) from proof group by source, host, repository)
         and id not in (select max(id) from proof where proven is not null group by source, host, repository)",
        params![oldest, events],
    )?;
    removed += change.execute("delete from slice where at < ?1", [oldest])?;
    Ok(removed + trim_chain(change, oldest, events)?)
}

/// Removes reports only from the beginning of the chain, and records the hash that the next one contains. The newest is kept.
fn trim_chain(change: &Transaction<'_>, oldest: &str, most: i64) -> rusqlite::Result<usize> {
    let first_kept: Option<(i64, Option<String>)> = change
        .query_row(
            "select id, previous from report
             where id = (select max(id) from report)
             or (id > (select max(id) from report) - ?2 and coalesce(json_extract(body, '$.finished') >= ?1, 1))
             order by id limit 1",
            params![oldest, most],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((id, Some(previous))) = first_kept else { return Ok(0) };
    let removed = change.execute("delete from report where id < ?1", [id])?;
    if removed > 0 {
        change.execute("delete from chain_start", [])?;
        change.execute("insert into chain_start values (?1)", [previous])?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::ledger::{Event, EventKind, Part, Proof},
        ground::{Exit, ProofLevel, RunId, SnapshotId},
        recovery::drill::broken_links,
    };

    fn event(days_ago: i64, exit: Exit) -> Event {
        let finished = Timestamp::now() - SignedDuration::from_hours(24 * days_ago);
        let part = Part {
            source: "mongo".parse().unwrap(),
            repository: "/r".into(),
            snapshot: None,
            exit: exit.code(),
            finished,
            seconds: 1.0,
            size_bytes: 1,
            added_bytes: 1,
            consistent_at: Some(finished),
        };
        Event {
            run: RunId::new(),
            kind: EventKind::Backup,
            repository: "/r".into(),
            started: finished,
            finished,
            exit,
            report: serde_json::json!({ "days_ago": days_ago }),
            parts: vec![part],
        }
    }

    fn left(ledger: &Ledger) -> Vec<i64> {
        ledger
            .history(99)
            .unwrap()
            .iter()
            .map(|event| event.report["days_ago"].as_i64().unwrap())
            .collect()
    }

    #[test]
    fn old_events_go_but_the_newest_good_one_stays_however_old() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        for (days, exit) in [
            (50, Exit::Done),
            (40, Exit::Done),
            (30, Exit::Failed),
            (2, Exit::Failed),
            (1, Exit::Failed),
        ] {
            ledger.record(&event(days, exit)).unwrap();
        }
        let limits = LedgerLimits { keep_days: 10, ..LedgerLimits::default() };
        assert_eq!(ledger.trim(limits, Timestamp::now()).unwrap(), 2);
        assert_eq!(left(&ledger), [1, 2, 40]);
        assert_eq!(ledger.newest_parts(true).unwrap().len(), 1);
        assert_eq!(ledger.trim(limits, Timestamp::now()).unwrap(), 0);
    }

    #[test]
    fn beyond_the_number_the_oldest_go() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        (0..9).rev().for_each(|days| ledger.record(&event(days, Exit::Done)).unwrap());
        let limits = LedgerLimits { keep_events: 3, ..LedgerLimits::default() };
        assert_eq!(ledger.trim(limits, Timestamp::now()).unwrap(), 6);
        assert_eq!(left(&ledger), [0, 1, 2]);
    }

    #[test]
    fn a_trimmed_chain_of_reports_is_whole_and_a_missing_link_still_shows() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        for days_ago in [90, 60, 30, 1] {
            let finished = Timestamp::now() - SignedDuration::from_hours(24 * days_ago);
            let run = RunId::new();
            let body = |previous: Option<&str>| {
                serde_json::json!({ "run": run, "previous": previous, "finished": finished })
                    .to_string()
            };
            ledger.append_report(run, body).unwrap();
        }
        let limits = LedgerLimits { keep_days: 45, ..LedgerLimits::default() };
        assert_eq!(ledger.trim(limits, Timestamp::now()).unwrap(), 2);
        let (chain, start) = (ledger.reports().unwrap(), ledger.chain_start().unwrap());
        assert_eq!((chain.len(), broken_links(&chain, start.as_deref())), (2, Vec::new()));
        assert!(!broken_links(&chain, None).is_empty(), "without the note, what is missing shows");
        assert!(
            !broken_links(&chain[1..], start.as_deref()).is_empty(),
            "as does what was removed by others"
        );
    }

    #[test]
    fn proofs_are_trimmed_but_the_newest_of_each_source_stays() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        for (days_ago, proven) in
            [(90, Some(ProofLevel::Parsed)), (80, Some(ProofLevel::Parsed)), (70, None)]
        {
            let at = Timestamp::now() - SignedDuration::from_hours(24 * days_ago);
            let proof = Proof {
                run: RunId::new(),
                source: "mongo".parse().unwrap(),
                host: "h".into(),
                repository: "/r".into(),
                snapshot: SnapshotId::of_test(&days_ago.to_string()),
                consistent_at: at,
                at,
                wanted: ProofLevel::Parsed,
                proven,
                size_bytes: 1,
                restore_seconds: None,
            };
            ledger.record_proof(&proof).unwrap();
        }
        ledger
            .trim(LedgerLimits { keep_days: 10, ..LedgerLimits::default() }, Timestamp::now())
            .unwrap();
        let left: Vec<SnapshotId> =
            ledger.proofs(9).unwrap().into_iter().map(|proof| proof.snapshot).collect();
        assert_eq!(left, ["70", "80"].map(SnapshotId::of_test));
    }
}
