//! The values that metrics are computed from: the newest entries of the ledger about the
//! repositories and sources of the config.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::MetricsError;
use crate::{
    engine::ledger::{EventKind, Ledger, PastEvent, PastPart, Proof},
    ground::SourceName,
    operate::{
        config::{Config, RepositoryNames, secret::Environment},
        schedule::late_after,
        tripwire::{Alarm, Alarms},
    },
    recovery::objectives::{MirrorOf, ProofsOf, standings},
};

/// Maximum number of proofs to read: several years of them.
const PROOFS: usize = 20_000;

/// All values, with repositories by their names in the config. Entries about what the config no
/// longer has are left out, or they would alert forever.
pub(super) struct MetricInputs {
    pub(super) now: Timestamp,
    /// Newest parts; `good` are the newest that ended with 0.
    pub(super) parts: Vec<PastPart>,
    pub(super) good_parts: Vec<PastPart>,
    /// Newest events; `good` are the newest that ended with 0.
    pub(super) events: Vec<PastEvent>,
    pub(super) good_events: Vec<PastEvent>,
    pub(super) proofs: Vec<Proof>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) sources: Vec<SourceName>,
    /// Mirrors, with the repositories that they mirror.
    pub(super) mirrors: Vec<(String, String)>,
    /// The moment of a source's newest proven point, by source and repository.
    pub(super) proven_at: Vec<(String, String, Timestamp)>,
    /// Age from which the newest success of a kind of job is late, by its word and repository.
    pub(super) late_after: BTreeMap<(&'static str, String), SignedDuration>,
    /// Maximum age of a source's newest proven data.
    pub(super) rpo_seconds: f64,
}

impl MetricInputs {
    pub(super) fn read(config: &Config, environment: &Environment) -> Result<Self, MetricsError> {
        let settings = &config.settings;
        let ledger = Ledger::open(&settings.state_directory)?;
        let names = RepositoryNames::of(settings, environment);
        let sources: Vec<SourceName> = config.sources.keys().cloned().collect();
        let parts = |good| {
            Ok::<_, MetricsError>(newest_parts(ledger.newest_parts(good)?, &names, &sources))
        };
        let events =
            |good| Ok::<_, MetricsError>(newest_events(ledger.newest_events(good)?, &names));
        let (mut proofs, host) = (ledger.proofs(PROOFS)?, settings.host_name());
        proofs.retain_mut(|proof| match names.name_of(&proof.repository) {
            Some(name) => {
                proof.repository = name;
                sources.contains(&proof.source)
                    && (proof.host.is_empty() || proof.host == host.as_str())
            }
            None => false,
        });
        let mirrors = settings
            .repository
            .iter()
            .filter_map(|(name, of)| Some((name.clone(), of.mirror_of.clone()?)));
        Ok(Self {
            now: Timestamp::now(),
            parts: parts(false)?,
            good_parts: parts(true)?,
            events: events(false)?,
            good_events: events(true)?,
            proven_at: proven_at(config, environment, &ledger)?,
            proofs,
            alarms: Alarms::load(&settings.state_directory)?.standing().to_vec(),
            mirrors: mirrors.collect(),
            late_after: late_after(settings),
            rpo_seconds: f64::from(
                settings.objectives.rpo_hours.unwrap_or(settings.status.max_age_hours),
            ) * 3600.0,
            sources,
        })
    }

    /// The newest successful backup of each source in each repository.
    pub(super) fn backups(&self) -> impl Iterator<Item = &PastPart> {
        self.good_parts.iter().filter(|past| past.kind == EventKind::Backup.word())
    }

    /// The newest matching proof of each source in each repository.
    pub(super) fn newest_proofs(&self, fits: impl Fn(&Proof) -> bool) -> Vec<&Proof> {
        let mut newest: BTreeMap<(&SourceName, &str), &Proof> = BTreeMap::new();
        for proof in self.proofs.iter().filter(|proof| fits(proof)) {
            newest.entry((&proof.source, &proof.repository)).or_insert(proof);
        }
        newest.into_values().collect()
    }
}

/// The RPO as in `status`, except for what only the repository itself knows.
fn proven_at(
    config: &Config,
    environment: &Environment,
    ledger: &Ledger,
) -> Result<Vec<(String, String, Timestamp)>, MetricsError> {
    let (settings, now) = (&config.settings, Timestamp::now());
    let host = settings.host_name();
    let sources: Vec<_> = config.sources.keys().map(|source| (source.clone(), None)).collect();
    // A repository whose location cannot be determined now was never examined either.
    let location =
        |name: &String| Some(settings.repository.get(name)?.location(environment).ok()?.in_words());
    let mut proven_at = Vec::new();
    for (name, repository) in &settings.repository {
        let Some(words) = location(name) else { continue };
        let origin = repository.mirror_of.as_ref().and_then(location);
        let mirror = origin.as_ref().map(|origin| MirrorOf { origin, mirror: &words });
        let of = ProofsOf {
            repository: &words,
            mirror,
            host: host.as_str(),
            restorable: None,
            reach: None,
        };
        for standing in standings(ledger, &settings.objectives, &of, &sources, now)? {
            if let Some(at) = standing.proven_consistent_at {
                proven_at.push((standing.source.to_string(), name.clone(), at));
            }
        }
    }
    Ok(proven_at)
}

/// Two locations may belong to one repository: the newest value counts.
fn newest_parts(
    parts: Vec<PastPart>,
    names: &RepositoryNames,
    sources: &[SourceName],
) -> Vec<PastPart> {
    let mut newest: BTreeMap<(String, SourceName, String), PastPart> = BTreeMap::new();
    for mut past in parts {
        let Some(name) = names.name_of(&past.part.repository) else { continue };
        if !sources.contains(&past.part.source) {
            continue;
        }
        past.part.repository.clone_from(&name);
        let key = (past.kind.clone(), past.part.source.clone(), name);
        if newest.get(&key).is_none_or(|other| other.part.finished < past.part.finished) {
            newest.insert(key, past);
        }
    }
    newest.into_values().collect()
}

fn newest_events(events: Vec<PastEvent>, names: &RepositoryNames) -> Vec<PastEvent> {
    let mut newest: BTreeMap<(String, String), PastEvent> = BTreeMap::new();
    for mut event in events {
        let Some(name) = names.name_of(&event.repository) else { continue };
        event.repository.clone_from(&name);
        let key = (event.kind.clone(), name);
        if newest.get(&key).is_none_or(|other| other.finished < event.finished) {
            newest.insert(key, event);
        }
    }
    newest.into_values().collect()
}
