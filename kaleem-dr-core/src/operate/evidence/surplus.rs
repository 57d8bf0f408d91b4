//! Decides which evidence a repository no longer needs. The rule is the same on every host, because
//! the host that forgets removes the evidence of all.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::Evidence;
use crate::{
    engine::{
        ledger::Proof,
        repository::{Snapshot, SnapshotId, is_of_the_future},
    },
    ground::{ProofLevel, SourceName},
};

/// Age from which evidence is removed unless nothing is newer: as the ledger keeps it by default.
const OLDEST: SignedDuration = SignedDuration::from_hours(3 * 365 * 24);
/// Limit for the reports of a host: three years of monthly drills.
const REPORTS: usize = 36;

/// A source of a host, in a repository.
type Subject<'a> = (&'a str, &'a SourceName, &'a str);

/// The records that can be removed, each with the host that wrote it. Of proofs, the newest of each
/// host, source, repository and level stay; of reports, the newest 36 of each host. What is older
/// than three years goes, unless it is the newest. A date in the future displaces nothing.
pub(super) fn surplus(snapshots: &[Snapshot], now: Timestamp) -> Vec<(String, SnapshotId)> {
    let evidence = Evidence::among(snapshots);
    let is_past = |time: Timestamp| !is_of_the_future(time, now);
    let is_old = |time: Timestamp| now.duration_since(time) > OLDEST;

    let mut of_level = BTreeMap::<(Subject<'_>, Option<ProofLevel>), (&Proof, SnapshotId)>::new();
    let mut of_source = BTreeMap::<Subject<'_>, (&Proof, SnapshotId)>::new();
    let kept = evidence.proofs.iter();
    for (kept, proof) in kept.flat_map(|kept| kept.proofs.iter().map(move |proof| (kept, proof))) {
        if !is_past(proof.at) {
            continue;
        }
        let subject = (proof.host.as_str(), &proof.source, proof.repository.as_str());
        let newer = |known: &(&Proof, SnapshotId)| known.0.at <= proof.at;
        let entry = (proof, kept.record);
        let known = of_level.entry((subject, proof.proven)).or_insert(entry);
        if newer(known) {
            *known = entry;
        }
        let known = of_source.entry(subject).or_insert(entry);
        if newer(known) {
            *known = entry;
        }
    }
    let mut stay: HashSet<SnapshotId> = of_source.into_values().map(|(_, record)| record).collect();
    let young = of_level.into_values().filter(|(proof, _)| !is_old(proof.at));
    stay.extend(young.map(|(_, record)| record));

    let hosts: BTreeSet<&str> =
        evidence.reports.iter().map(|report| report.host.as_str()).collect();
    for host in hosts {
        let mut own: Vec<_> = evidence
            .reports
            .iter()
            .filter(|report| report.host == host && is_past(report.finished))
            .collect();
        own.sort_by_key(|report| std::cmp::Reverse(report.finished));
        let newest = own.iter().take(REPORTS).enumerate();
        let wanted = newest.filter(|(at, report)| *at == 0 || !is_old(report.finished));
        stay.extend(wanted.map(|(_, report)| report.record));
    }
    let all = evidence
        .proofs
        .iter()
        .map(|kept| (&kept.host, kept.record))
        .chain(evidence.reports.iter().map(|report| (&report.host, report.record)));
    all.filter(|(_, record)| !stay.contains(record))
        .map(|(host, record)| (host.clone(), record))
        .collect()
}
