//! RPO and RTO, from evidence rather than from schedules.
//!
//! The RPO is what would be lost now: the age of the data in the newest *proven* point. The RTO is the duration of the last
//! restore, and the expected duration at today's size.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    engine::ledger::{Ledger, LedgerError, Proof},
    ground::{ProofLevel, SnapshotId, SourceName},
};

/// Limit for the proofs to consider: years of nightly ones.
const PROOFS: usize = 20_000;

/// Tolerance for the drift of clocks: data dated further in the future do not count as the newest.
const DRIFT: SignedDuration = SignedDuration::from_hours(1);

/// The limits that the config promises. The default only requires proofs at level parsed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Objectives {
    /// Limit for the RPO, in hours. Without it, `status` only shows the RPO.
    pub rpo_hours: Option<u32>,
    /// Limit for the duration of a restore of everything, in hours.
    pub rto_hours: Option<u32>,
    /// The lowest level that counts as proven: `stored`, `readable`, `parsed` or `restored`.
    pub proof: ProofLevel,
}

impl Default for Objectives {
    fn default() -> Self {
        Self { rpo_hours: None, rto_hours: None, proof: ProofLevel::Parsed }
    }
}

/// The state of one source in one repository, compared with its objectives.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Standing {
    /// Name of the source in the config.
    pub source: SourceName,
    /// The newest snapshot that is proven.
    pub proven_snapshot: Option<SnapshotId>,
    /// The level of that proof.
    pub proven_level: Option<ProofLevel>,
    /// Time of the verification that proved it.
    pub proven_at: Option<Timestamp>,
    /// Time that the proven data represent, with the slices of a change log that extend them.
    pub proven_consistent_at: Option<Timestamp>,
    /// Age of its data, in seconds: what would be lost now.
    pub rpo_seconds: Option<i64>,
    /// True if that age exceeds the limit, or nothing is proven.
    pub rpo_broken: bool,
    /// Duration of the last restore, in seconds.
    pub rto_seconds: Option<f64>,
    /// Time of the restore that was measured.
    pub rto_at: Option<Timestamp>,
    /// Expected duration of a restore at today's size, in seconds.
    pub rto_forecast_seconds: Option<f64>,
}

/// A measured restore into a scratch target.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// Size of the restored data, in bytes.
    pub size_bytes: u64,
    /// Duration of the restore with its comparison, in seconds.
    pub seconds: f64,
}

impl Sample {
    /// A restore of data of this size.
    #[must_use]
    pub fn new(size_bytes: u64, seconds: f64) -> Self {
        Self { size_bytes, seconds }
    }

    /// The measured restores of a source from a repository, newest first like `proofs`.
    #[must_use]
    pub fn of_source(proofs: &[Proof], source: &SourceName, repository: &str) -> Vec<Self> {
        let of = proofs.iter().filter(|proof| {
            proof.source == *source && proof.repository == repository && proof.is_good()
        });
        of.filter_map(|proof| {
            Some(Self { size_bytes: proof.size_bytes, seconds: proof.restore_seconds? })
        })
        .collect()
    }
}

/// Estimates the duration of a restore of `size_bytes`, in seconds: a fixed cost and a cost per byte, neither below zero, so that
/// the relative errors of the samples are smallest. If the sizes are too similar to separate the two, or a larger restore was not
/// slower, returns the slowest sample, scaled up if today's size is larger.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a forecast is no more exact than this")]
pub fn forecast_seconds(samples: &[Sample], size_bytes: u64) -> Option<f64> {
    let slowest = samples.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let today = size_bytes as f64;
    let in_proportion = slowest.seconds * (today / (slowest.size_bytes.max(1) as f64)).max(1.0);
    let (smallest, largest) = samples.iter().fold((f64::MAX, 0.0_f64), |(low, high), sample| {
        (low.min(sample.size_bytes as f64), high.max(sample.size_bytes as f64))
    });
    // Sizes within a quarter of each other do not determine a slope.
    if largest < smallest * 1.25 {
        return Some(in_proportion);
    }
    // Sums of weighted least squares; a sample weighs as its relative error.
    let mut sums = [0.0; 5];
    for sample in samples {
        let (size, seconds) = (sample.size_bytes as f64, sample.seconds.max(1e-3));
        let weight = 1.0 / (seconds * seconds);
        let terms = [1.0, size, size * size, seconds, size * seconds];
        for (sum, term) in sums.iter_mut().zip(terms) {
            *sum += weight * term;
        }
    }
    let [one, size, squares, seconds, products] = sums;
    let slope = (one * products - size * seconds) / (one * squares - size * size);
    let fixed = (seconds - slope * size) / one;
    Some(if slope <= 0.0 || !slope.is_finite() {
        in_proportion
    } else if fixed < 0.0 {
        products / squares * today
    } else {
        fixed + slope * today
    })
}

/// The origin of a mirror's objects.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MirrorOf<'a> {
    /// Name of the repository that it mirrors.
    pub origin: &'a str,
    /// Name of the mirror in the ledger.
    pub mirror: &'a str,
}

impl<'a> MirrorOf<'a> {
    /// A mirror of a repository, both by their names in the ledger.
    #[must_use]
    pub fn new(origin: &'a str, mirror: &'a str) -> Self {
        Self { origin, mirror }
    }
}

/// The selection of proofs that count for a repository.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProofsOf<'a> {
    /// Name of the repository, without credentials.
    pub repository: &'a str,
    /// The origin of its objects, if it is a mirror.
    pub mirror: Option<MirrorOf<'a>>,
    /// Only snapshots of this host count.
    pub host: &'a str,
    /// Ids of the snapshots that can be restored: whole ones of that host that are not dated in the future. `None` if the
    /// repository was not listed; then all snapshots in the ledger count.
    pub restorable: Option<&'a BTreeSet<SnapshotId>>,
    /// The moment to which proven slices of a change log extend a snapshot, by its id. `None`: as recorded in the ledger.
    pub reach: Option<&'a BTreeMap<SnapshotId, Timestamp>>,
}

impl<'a> ProofsOf<'a> {
    /// The proofs of a host's snapshots in a repository that is not a mirror and was not listed.
    #[must_use]
    pub fn new(repository: &'a str, host: &'a str) -> Self {
        Self { repository, mirror: None, host, restorable: None, reach: None }
    }
}

/// Returns what is proven of each source in a repository, and the duration of restores.
///
/// The newest verification of a snapshot counts: a failed one revokes earlier proofs above the level that it found. A snapshot of
/// a mirror is proven by proofs of the mirror itself, or by those of its origin once the snapshot has arrived in the mirror,
/// where every object is compared with its name on arrival.
///
/// # Errors
/// If the ledger cannot be read.
pub fn standings(
    ledger: &Ledger,
    objectives: &Objectives,
    of: &ProofsOf<'_>,
    sources: &[(SourceName, Option<u64>)],
    now: Timestamp,
) -> Result<Vec<Standing>, LedgerError> {
    let mut proofs = ledger.proofs(PROOFS)?;
    // Proofs of early releases have no host; this ledger belongs to the host itself.
    proofs.retain(|proof| proof.host.is_empty() || proof.host == of.host);
    let mirrored = match of.mirror {
        Some(of) => ledger.held(of.mirror)?,
        None => BTreeSet::new(),
    };
    let recorded = if of.reach.is_none() { ledger.reach(of.repository)? } else { BTreeMap::new() };
    let reach = of.reach.unwrap_or(&recorded);
    let limit = objectives.rpo_hours.map(|hours| SignedDuration::from_hours(i64::from(hours)));
    let standing = |(source, today): &(SourceName, Option<u64>)| {
        let mine: Vec<&Proof> = proofs.iter().filter(|proof| proof.source == *source).collect();
        let proven = snapshots_proven(&mine, of, &mirrored)
            .into_iter()
            .map(|proven| Proven {
                consistent_at: reach
                    .get(&proven.snapshot)
                    .map_or(proven.consistent_at, |reached| proven.consistent_at.max(*reached)),
                ..proven
            })
            .filter(|proven| {
                proven.level.is_some_and(|level| level >= objectives.proof)
                    && proven.consistent_at <= now + DRIFT
            })
            .max_by_key(|proven| (proven.consistent_at, proven.level, proven.at));
        let timed = mine.iter().find(|proof| {
            proof.repository == of.repository && proof.is_good() && proof.restore_seconds.is_some()
        });
        let samples = Sample::of_source(&proofs, source, of.repository);
        let rpo = proven.as_ref().map(|proven| now.duration_since(proven.consistent_at));
        Standing {
            source: source.clone(),
            proven_snapshot: proven.as_ref().map(|proven| proven.snapshot),
            proven_level: proven.as_ref().and_then(|proven| proven.level),
            proven_at: proven.as_ref().map(|proven| proven.at),
            proven_consistent_at: proven.as_ref().map(|proven| proven.consistent_at),
            rpo_seconds: rpo.map(|age| age.as_secs()),
            rpo_broken: limit.is_some_and(|limit| rpo.is_none_or(|age| age > limit)),
            rto_seconds: timed.and_then(|proof| proof.restore_seconds),
            rto_at: timed.map(|proof| proof.at),
            rto_forecast_seconds: timed
                .and_then(|proof| forecast_seconds(&samples, today.unwrap_or(proof.size_bytes))),
        }
    };
    Ok(sources.iter().map(standing).collect())
}

/// The proven state of one snapshot after all its verifications.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proven {
    snapshot: SnapshotId,
    pub(crate) consistent_at: Timestamp,
    /// The highest level that still holds.
    pub(crate) level: Option<ProofLevel>,
    /// Time of the latest verification that showed it.
    at: Timestamp,
}

/// Goes through proofs, which are newest first, from the oldest on.
pub(crate) fn snapshots_proven(
    proofs: &[&Proof],
    of: &ProofsOf<'_>,
    mirrored: &BTreeSet<SnapshotId>,
) -> Vec<Proven> {
    let mut snapshots: BTreeMap<SnapshotId, Proven> = BTreeMap::new();
    // Findings at the origin of a mirror do not count against the mirror once the mirror has been verified itself.
    let mut seen_here: BTreeSet<SnapshotId> = BTreeSet::new();
    for proof in proofs.iter().rev() {
        let snapshot = proof.snapshot;
        if of.restorable.is_some_and(|restorable| !restorable.contains(&snapshot)) {
            continue;
        }
        let here = proof.repository == of.repository;
        let inherited = of.mirror.is_some_and(|origin| {
            proof.repository == origin.origin && mirrored.contains(&snapshot)
        });
        if !here && !inherited || !here && seen_here.contains(&snapshot) && !proof.is_good() {
            continue;
        }
        if here {
            seen_here.insert(snapshot);
        }
        let proven = snapshots.entry(snapshot).or_insert(Proven {
            snapshot,
            consistent_at: proof.consistent_at,
            level: None,
            at: proof.at,
        });
        let raised = proof.is_good() && proof.proven >= proven.level;
        if raised || !proof.is_good() {
            (proven.level, proven.at) = (proof.proven, proof.at);
        }
    }
    snapshots.into_values().collect()
}

/// Reports whether the forecast for restoring everything, one source after the other, exceeds the limit. `None` if there is no
/// limit; a source that was never restored exceeds it.
#[must_use]
pub fn rto_broken<'a>(
    objectives: &Objectives,
    standings: impl IntoIterator<Item = &'a Standing>,
) -> Option<bool> {
    let limit = f64::from(objectives.rto_hours?) * 3600.0;
    let total: Option<f64> =
        standings.into_iter().map(|standing| standing.rto_forecast_seconds).sum();
    Some(total.is_none_or(|total| total > limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::RunId;

    fn sample(size_bytes: u64, seconds: f64) -> Sample {
        Sample { size_bytes, seconds }
    }

    #[test]
    fn a_forecast_follows_the_size_with_a_fixed_cost() {
        let line: Vec<_> = [100, 200, 400]
            .map(|size| sample(size, 10.0 + 0.1 * f64::from(u32::try_from(size).unwrap())))
            .into();
        assert!((forecast_seconds(&line, 1000).unwrap() - 110.0).abs() < 1e-6);
        assert!(
            (forecast_seconds(&[sample(100, 5.0)], 300).unwrap() - 15.0).abs() < 1e-9,
            "in proportion"
        );
        assert!(
            (forecast_seconds(&[sample(100, 5.0)], 50).unwrap() - 5.0).abs() < 1e-9,
            "never less than was measured"
        );
        let alike = [sample(100, 5.0), sample(101, 9.0), sample(99, 1.0)];
        assert!((forecast_seconds(&alike, 100).unwrap() - 9.0).abs() < 1e-9, "the slowest");
        assert_eq!(forecast_seconds(&[], 1), None);
        let two = [sample(100, 20.0), sample(300, 40.0)];
        assert!(
            (forecast_seconds(&two, 1000).unwrap() - 110.0).abs() < 1e-6,
            "two sizes are enough"
        );
        let through_zero = [sample(100, 1.0), sample(200, 4.0)];
        let least = forecast_seconds(&through_zero, 10).unwrap();
        assert!(least > 0.0 && least < 1.0, "no fixed cost is below zero: {least}");
        let faster = [sample(100, 9.0), sample(300, 3.0)];
        assert!((forecast_seconds(&faster, 100).unwrap() - 9.0).abs() < 1e-9, "the slowest");
    }

    fn proof(
        repository: &str,
        snapshot: &str,
        age_hours: i64,
        proven: Option<ProofLevel>,
        now: Timestamp,
    ) -> Proof {
        Proof {
            run: RunId::new(),
            source: "mongo".parse().unwrap(),
            host: "h".into(),
            repository: repository.into(),
            snapshot: SnapshotId::of_test(snapshot),
            consistent_at: now - SignedDuration::from_hours(age_hours),
            at: now,
            wanted: ProofLevel::Parsed,
            proven,
            size_bytes: 10,
            restore_seconds: None,
        }
    }

    fn of<'a>(repository: &'a str, mirror: Option<MirrorOf<'a>>) -> ProofsOf<'a> {
        ProofsOf { repository, mirror, host: "h", restorable: None, reach: None }
    }

    fn id(digits: &str) -> SnapshotId {
        SnapshotId::of_test(digits)
    }

    /// The name of a snapshot's object.
    fn object(digits: &str) -> String {
        format!("snapshots/{}", SnapshotId::of_test(digits))
    }

    fn proven(ledger: &Ledger, of: &ProofsOf<'_>) -> Option<SnapshotId> {
        let sources = [("mongo".parse().unwrap(), None)];
        standings(ledger, &Objectives::default(), of, &sources, Timestamp::now()).unwrap()[0]
            .proven_snapshot
    }

    #[test]
    fn rpo_counts_from_the_newest_proven_point_and_a_mirror_inherits_what_it_holds() {
        let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let ledger = Ledger::open(home.path()).unwrap();
        for (snapshot, age, proven) in [
            ("aa", 50, Some(ProofLevel::Parsed)),
            ("bb", 20, Some(ProofLevel::Parsed)),
            ("cc", 1, Some(ProofLevel::Stored)),
        ] {
            ledger.record_proof(&proof("/local", snapshot, age, proven, now)).unwrap();
        }
        let objectives = Objectives { rpo_hours: Some(24), ..Objectives::default() };
        let sources = [("mongo".parse().unwrap(), None), ("n8n".parse().unwrap(), None)];
        let of = |repository, mirror| {
            standings(&ledger, &objectives, &of(repository, mirror), &sources, now).unwrap()
        };
        let local = of("/local", None);
        assert_eq!(
            (local[0].proven_snapshot, local[0].rpo_seconds),
            (Some(id("bb")), Some(20 * 3600))
        );
        assert!(
            !local[0].rpo_broken && local[1].rpo_broken,
            "a source that was never proven breaks it"
        );
        let mirror = Some(MirrorOf { origin: "/local", mirror: "s3:b" });
        assert!(of("s3:b", mirror)[0].rpo_broken, "nothing was brought there");
        ledger.saw("s3:b", &[object("aa")]).unwrap();
        let far = of("s3:b", mirror);
        assert_eq!(far[0].proven_snapshot, Some(id("aa")));
        assert!(far[0].rpo_broken, "50 h");
    }

    #[test]
    fn a_failed_verification_takes_an_earlier_proof_back_and_a_later_one_gives_it_again() {
        let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let ledger = Ledger::open(home.path()).unwrap();
        let look = |proven| {
            ledger.record_proof(&proof("/local", "aa", 2, proven, now)).unwrap();
            self::proven(&ledger, &of("/local", None)).is_some()
        };
        assert!(look(Some(ProofLevel::Parsed)));
        assert!(!look(None));
        assert!(!look(Some(ProofLevel::Readable)), "less than was asked for");
        assert!(look(Some(ProofLevel::Restored)));
        let less = Proof {
            wanted: ProofLevel::Stored,
            ..proof("/local", "aa", 2, Some(ProofLevel::Stored), now)
        };
        ledger.record_proof(&less).unwrap();
        assert!(
            proven(&ledger, &of("/local", None)).is_some(),
            "a good look at less takes nothing back"
        );
    }

    #[test]
    fn another_hosts_proof_and_one_of_a_snapshot_that_is_gone_count_for_nothing() {
        let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let ledger = Ledger::open(home.path()).unwrap();
        let theirs = Proof {
            host: "web1".into(),
            ..proof("/local", "aa", 2, Some(ProofLevel::Parsed), now)
        };
        ledger.record_proof(&theirs).unwrap();
        assert_eq!(proven(&ledger, &of("/local", None)), None);
        ledger.record_proof(&proof("/local", "bb", 2, Some(ProofLevel::Parsed), now)).unwrap();
        assert_eq!(proven(&ledger, &of("/local", None)), Some(id("bb")));
        let gone = BTreeSet::from([SnapshotId::of_test("cc")]);
        assert_eq!(
            proven(&ledger, &ProofsOf { restorable: Some(&gone), ..of("/local", None) }),
            None
        );
        ledger.record_proof(&proof("/local", "ff", -200, Some(ProofLevel::Parsed), now)).unwrap();
        assert_eq!(
            proven(&ledger, &of("/local", None)),
            Some(id("bb")),
            "the future is not the newest"
        );
    }

    #[test]
    fn damage_at_the_origin_says_nothing_against_a_mirror_that_was_verified_itself() {
        let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::now());
        let ledger = Ledger::open(home.path()).unwrap();
        ledger.saw("s3:b", &[object("aa")]).unwrap();
        let mirror = of("s3:b", Some(MirrorOf { origin: "/local", mirror: "s3:b" }));
        ledger.record_proof(&proof("/local", "aa", 2, Some(ProofLevel::Parsed), now)).unwrap();
        ledger.record_proof(&proof("/local", "aa", 2, None, now)).unwrap();
        assert_eq!(proven(&ledger, &mirror), None, "what it inherited is taken back");
        ledger.record_proof(&proof("s3:b", "aa", 2, Some(ProofLevel::Parsed), now)).unwrap();
        ledger.record_proof(&proof("/local", "aa", 2, None, now)).unwrap();
        assert_eq!(proven(&ledger, &mirror), Some(id("aa")));
        ledger.record_proof(&proof("s3:b", "aa", 2, None, now)).unwrap();
        assert_eq!(proven(&ledger, &mirror), None);
    }
}
