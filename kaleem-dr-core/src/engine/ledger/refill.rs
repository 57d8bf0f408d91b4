//! Adds what a lost ledger contained: proofs and reports that were kept elsewhere.
//!
//! Readers take the entry with the largest id for the newest. Entries that are older than those of the ledger therefore receive
//! smaller ids.

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{ChainedReport, Ledger, LedgerError, Proof, proofs::insert};

impl Ledger {
    /// Adds the proofs that the ledger lacks, each at its place in time. Returns their number.
    ///
    /// # Errors
    /// If the ledger cannot be read or written; then nothing is added.
    pub fn refill_proofs(&self, proofs: &[Proof]) -> Result<usize, LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed())?;
        let added = refill(&change, proofs).map_err(failed())?;
        change.commit().map_err(failed())?;
        Ok(added)
    }

    /// Adds a chain of reports, oldest first, if the ledger has none. Returns the number of added reports.
    ///
    /// # Errors
    /// If the ledger cannot be read or written; then nothing is added.
    pub fn refill_reports(&self, chain: &[ChainedReport]) -> Result<usize, LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed())?;
        let known: i64 = change
            .query_row("select count(*) from report", [], |row| row.get(0))
            .map_err(failed())?;
        if known > 0 {
            return Ok(0);
        }
        for report in chain {
            change
                .execute(
                    "insert into report (run, previous, hash, body) values (?1, ?2, ?3, ?4)",
                    params![report.run.to_string(), report.previous, report.hash, report.body],
                )
                .map_err(failed())?;
        }
        if let Some(before) = chain.first().and_then(|first| first.previous.as_ref()) {
            change.execute("delete from chain_start", []).map_err(failed())?;
            change.execute("insert into chain_start values (?1)", [before]).map_err(failed())?;
        }
        change.commit().map_err(failed())?;
        Ok(chain.len())
    }
}

fn refill(change: &Transaction<'_>, proofs: &[Proof]) -> rusqlite::Result<usize> {
    let (mut before, newest): (i64, Option<String>) = change.query_row(
        "select coalesce(min(id), 1), (select at from proof order by id desc limit 1) from proof",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let newest = newest.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let mut missing = Vec::new();
    for proof in proofs {
        let known = change
            .query_row(
                "select 1 from proof where run = ?1 and source = ?2 and snapshot = ?3 and repository = ?4",
                params![
                    proof.run.to_string(),
                    proof.source.as_str(),
                    proof.snapshot.to_string(),
                    proof.repository
                ],
                |_| Ok(()),
            )
            .optional()?;
        if known.is_none() {
            missing.push(proof);
        }
    }
    missing.sort_by_key(|proof| proof.at);
    let (later, earlier): (Vec<&Proof>, Vec<&Proof>) =
        missing.into_iter().partition(|proof| newest.is_none_or(|newest| proof.at > newest));
    for proof in earlier.iter().rev() {
        before -= 1;
        insert(change, proof, Some(before))?;
    }
    for proof in &later {
        insert(change, proof, None)?;
    }
    Ok(earlier.len() + later.len())
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::ground::{ProofLevel, RunId, SnapshotId};

    fn proof(hours_ago: i64) -> Proof {
        let at = Timestamp::now() - SignedDuration::from_hours(hours_ago);
        let of = (SnapshotId::of_test(&hours_ago.to_string()), at);
        let mut proof =
            Proof::new(RunId::new(), "mongo".parse().unwrap(), "/r", of, ProofLevel::Parsed);
        proof.at = at;
        proof
    }

    #[test]
    fn refilled_proofs_are_in_the_order_of_time_whatever_the_ledger_has() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let all = [proof(9), proof(1), proof(5), proof(7)];
        ledger.record_proof(&all[2]).unwrap();
        assert_eq!(ledger.refill_proofs(&all).unwrap(), 3);
        assert_eq!(ledger.refill_proofs(&all).unwrap(), 0, "what is known is not added twice");
        let order: Vec<Timestamp> =
            ledger.proofs(9).unwrap().iter().map(|proof| proof.consistent_at).collect();
        let mut sorted = order.clone();
        sorted.sort_by_key(|time| std::cmp::Reverse(*time));
        assert_eq!((order.len(), &order), (4, &sorted));
        // Without its reports, the next proof is the newest again.
        ledger.record_proof(&proof(0)).unwrap();
        assert_eq!(ledger.proofs(1).unwrap()[0].snapshot, SnapshotId::of_test("0"));
    }

    #[test]
    fn a_chain_is_refilled_with_the_hash_before_it_and_never_mixed_with_another() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let report = ChainedReport {
            run: RunId::new(),
            previous: Some("ab".repeat(32)),
            hash: "cd".repeat(32),
            body: "{}".into(),
        };
        assert_eq!(ledger.refill_reports(std::slice::from_ref(&report)).unwrap(), 1);
        assert_eq!(ledger.chain_start().unwrap(), report.previous);
        assert_eq!(ledger.reports().unwrap(), std::slice::from_ref(&report));
        assert_eq!(ledger.refill_reports(&[report]).unwrap(), 0);
    }
}
