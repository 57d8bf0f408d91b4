//! Judges each host of a fleet by the limits of the config.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{FleetHost, FleetSource, Seen, alarming};
use crate::{
    engine::{
        ledger::Proof,
        repository::{Snapshot, is_of_the_future},
    },
    ground::{SourceName, host::HostName},
    operate::config::{FleetHostSettings, FleetSettings},
};

/// The limits, and what was read.
pub(crate) struct Judge<'a> {
    pub(crate) settings: &'a FleetSettings,
    pub(crate) seen: &'a [Seen],
    /// Names of the repositories that could not be read.
    pub(crate) unread: &'a [String],
    pub(crate) now: Timestamp,
}

/// The content of one repository that concerns one host.
#[derive(Default)]
struct Facts<'a> {
    repository: &'a str,
    snapshots: Vec<&'a Snapshot>,
    proofs: Vec<&'a Proof>,
    alarms: Vec<String>,
}

impl Judge<'_> {
    /// A row for each host, in the order of the names.
    pub(crate) fn hosts(&self) -> Vec<FleetHost> {
        let mut facts: BTreeMap<String, Vec<Facts<'_>>> = BTreeMap::new();
        for seen in self.seen {
            for (host, found) in of_repository(seen) {
                facts.entry(host).or_default().push(found);
            }
        }
        let expected = &self.settings.host;
        let all: BTreeSet<&str> =
            facts.keys().map(String::as_str).chain(expected.keys().map(HostName::as_str)).collect();
        let usual = FleetHostSettings::default();
        let mut rows = Vec::new();
        for host in all {
            let own = expected.iter().find(|(name, _)| name.as_str() == host);
            let settings = own.map_or(&usual, |(_, settings)| settings);
            let found = facts.get(host).map_or(&[][..], Vec::as_slice);
            let subject = Subject {
                judge: self,
                host,
                settings,
                is_expected: own.is_some() || expected.is_empty(),
            };
            if settings.repositories.is_empty() {
                let found: Vec<&Facts<'_>> = found.iter().collect();
                rows.push(subject.row(None, &found));
            }
            for name in &settings.repositories {
                let found: Vec<&Facts<'_>> =
                    found.iter().filter(|facts| facts.repository == name).collect();
                rows.push(subject.row(Some(name), &found));
            }
        }
        rows
    }
}

/// The content of a repository, by host.
fn of_repository(seen: &Seen) -> BTreeMap<String, Facts<'_>> {
    let mut facts: BTreeMap<String, Facts<'_>> = BTreeMap::new();
    let new = || Facts { repository: &seen.name, ..Facts::default() };
    for snapshot in seen.snapshots.iter().filter(|snapshot| snapshot.is_ours()) {
        facts.entry(snapshot.host().to_owned()).or_insert_with(new).snapshots.push(snapshot);
    }
    for (host, alarm) in alarming(seen) {
        facts.entry(host).or_insert_with(new).alarms.push(alarm);
    }
    for proof in seen.evidence.proofs.iter().flat_map(|kept| &kept.proofs) {
        // Evidence of a host without snapshots shows nothing.
        if let Some(facts) = facts.get_mut(&proof.host) {
            facts.proofs.push(proof);
        }
    }
    facts
}

/// A host to judge.
struct Subject<'a> {
    judge: &'a Judge<'a>,
    host: &'a str,
    settings: &'a FleetHostSettings,
    is_expected: bool,
}

impl Subject<'_> {
    /// The row of the host in one repository, or in all of them together.
    fn row(&self, repository: Option<&str>, found: &[&Facts<'_>]) -> FleetHost {
        let Judge { settings, unread, now, .. } = self.judge;
        let rpo = settings.rpo(self.settings);
        let snapshots = || found.iter().flat_map(|facts| facts.snapshots.iter().copied());
        let is_missing = snapshots().next().is_none();
        let is_unread = match repository {
            Some(name) => unread.iter().any(|unread| unread == name),
            None => !unread.is_empty(),
        };
        let newest = |facts: &&&Facts<'_>| {
            facts.snapshots.iter().map(|snapshot| snapshot.time().timestamp()).max()
        };
        let found_in = found.iter().max_by_key(newest).map(|facts| facts.repository);
        let sources = self.sources(found);
        let point = oldest(sources.iter().map(|source| source.time));
        let age = |time: Timestamp| now.duration_since(time);
        let limit = |limit| SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        let alarms: Vec<&String> = found.iter().flat_map(|facts| &facts.alarms).collect();

        let mut problems = Vec::new();
        let mut is_late = false;
        if is_missing && is_unread {
            problems.push("nothing is known, because a repository cannot be read".to_owned());
        } else if is_missing {
            is_late = true;
            let of = repository.map_or_else(String::new, |name| format!(" in {name}"));
            problems.push(format!("no snapshot{of}"));
        }
        if let Some(ahead) = snapshots().find(|snapshot| snapshot.is_of_the_future(*now)) {
            is_late = true;
            let id = ahead.id().short();
            problems.push(format!("snapshot {id} is dated in the future: check the clocks"));
        }
        for source in sources.iter().filter(|_| !is_missing) {
            let name = &source.source;
            match source.time {
                None => problems.push(format!("source {name} has no whole snapshot")),
                Some(time) if age(time) > limit(rpo) => problems.push(format!(
                    "source {name} was last saved {} h ago; the limit is {} h",
                    age(time).as_hours(),
                    rpo.as_secs() / 3600
                )),
                Some(_) => continue,
            }
            is_late = true;
        }
        let mut is_unproven = false;
        if let Some(most) = settings.proof_age(self.settings).filter(|_| !is_missing) {
            for source in &sources {
                if let Some(problem) = unproven(source, limit(most), *now) {
                    is_unproven = true;
                    problems.push(problem);
                }
            }
        }
        problems.extend(alarms.iter().map(|alarm| format!("ALARM: {alarm}")));
        let proof_time = oldest(sources.iter().map(|source| source.proof_time));
        FleetHost {
            host: self.host.to_owned(),
            repository: repository.or(found_in).map(str::to_owned),
            is_expected: self.is_expected,
            point,
            point_age_seconds: point.map(|time| age(time).as_secs()),
            rpo_seconds: rpo.as_secs(),
            is_missing,
            is_unknown: is_missing && is_unread,
            is_late,
            proof: proof_time.and_then(|_| sources.iter().filter_map(|source| source.proof).min()),
            proof_age_seconds: proof_time.map(|time| age(time).as_secs()),
            is_unproven,
            alarms: alarms.len(),
            sources,
            problems,
        }
    }

    /// The sources of a complete point: those of the config, or all with a snapshot of the host.
    fn sources(&self, found: &[&Facts<'_>]) -> Vec<FleetSource> {
        let (now, level) = (self.judge.now, self.judge.settings.proof);
        let snapshots = || found.iter().flat_map(|facts| facts.snapshots.iter().copied());
        let wanted: BTreeSet<SourceName> = if self.settings.sources.is_empty() {
            snapshots().filter_map(Snapshot::source).collect()
        } else {
            self.settings.sources.iter().cloned().collect()
        };
        let mut newest: BTreeMap<SourceName, Timestamp> = BTreeMap::new();
        for snapshot in snapshots().filter(|snapshot| snapshot.is_whole()) {
            let time = snapshot.time().timestamp();
            if let Some(source) = snapshot.source()
                && !is_of_the_future(time, now)
            {
                let known = newest.entry(source).or_insert(time);
                *known = time.max(*known);
            }
        }
        let of = |source: SourceName| {
            let proofs = found.iter().flat_map(|facts| facts.proofs.iter().copied());
            let proofs: Vec<&Proof> = proofs
                .filter(|proof| proof.source == source && !is_of_the_future(proof.at, now))
                .collect();
            let counts = |proof: &&&Proof| proof.proven.is_some_and(|proven| proven >= level);
            let good = proofs.iter().filter(counts).max_by_key(|proof| proof.at);
            let bad = proofs.iter().filter(|proof| !proof.is_good()).map(|proof| proof.at).max();
            FleetSource {
                time: newest.get(&source).copied(),
                proof: good.and_then(|proof| proof.proven),
                proof_time: good.map(|proof| proof.at),
                is_revoked: bad.is_some_and(|bad| good.is_none_or(|good| bad > good.at)),
                source,
            }
        };
        wanted.into_iter().map(of).collect()
    }
}

/// The problem of a source's proof, if there is one.
fn unproven(source: &FleetSource, most: SignedDuration, now: Timestamp) -> Option<String> {
    let name = &source.source;
    match source.proof_time {
        _ if source.is_revoked => Some(format!("the last verification of source {name} failed")),
        None => Some(format!("source {name} is not proven")),
        Some(time) if now.duration_since(time) > most => Some(format!(
            "source {name} was last proven {} d ago; the limit is {} h",
            now.duration_since(time).as_hours() / 24,
            most.as_hours()
        )),
        Some(_) => None,
    }
}

/// The oldest of some times, if there is at least one and none is missing.
fn oldest(times: impl Iterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    let times: Option<Vec<Timestamp>> = times.collect();
    times?.into_iter().min()
}
