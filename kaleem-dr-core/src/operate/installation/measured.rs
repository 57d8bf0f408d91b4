//! Measured restores and passes of mirrors, from which the duration of a recovery is forecast.

use serde::{Deserialize, Serialize};

use crate::{
    engine::ledger::{EventKind, Ledger, LedgerError, PastEvent, Proof},
    ground::{Exit, SourceName},
    recovery::objectives::Sample,
};

/// Number of measured restores that are kept for each source, and of passes for each repository: the newest ones.
const KEPT: usize = 8;
/// Number of proofs and of events in which they are searched.
const SEARCHED: usize = 2000;

/// A restore that a drill or a recovery measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measured {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Location of the repository that it was restored from, without credentials.
    pub repository: String,
    /// Size of the restored data, in bytes.
    pub size_bytes: u64,
    /// Duration of the restore with its comparison, in seconds.
    pub seconds: f64,
}

/// A pass that copied objects from one repository to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MeasuredPass {
    /// Location of the repository that was written, without credentials.
    pub repository: String,
    /// Size of the copied objects, in bytes.
    pub size_bytes: u64,
    /// Duration of the pass, in seconds.
    pub seconds: f64,
}

/// Everything that was measured, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurements {
    /// Restores of sources.
    pub restores: Vec<Measured>,
    /// Passes between repositories.
    pub passes: Vec<MeasuredPass>,
}

impl Measurements {
    /// The newest measurements of a history.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        let restores = ledger.proofs(SEARCHED)?.into_iter().filter(Proof::is_good);
        let restores = restores.filter_map(|proof| {
            Some(Measured {
                seconds: proof.restore_seconds?,
                source: proof.source,
                repository: proof.repository,
                size_bytes: proof.size_bytes,
            })
        });
        let passes = ledger.history(SEARCHED)?.into_iter().filter_map(pass);
        let none = Self::default();
        Ok(Self { restores: restores.collect(), passes: passes.collect() }.before(&none))
    }

    /// Adds older measurements, as far as newer ones leave space.
    #[must_use]
    pub fn before(mut self, older: &Self) -> Self {
        let restores = self.restores.into_iter().chain(older.restores.iter().cloned());
        self.restores = newest(restores, |one| one.source.to_string());
        let passes = self.passes.into_iter().chain(older.passes.iter().cloned());
        self.passes = newest(passes, |one| one.repository.clone());
        self
    }

    /// The restores of a source. Those from another repository count only if there are none from this one.
    #[must_use]
    pub fn of_source(&self, source: &SourceName, repository: &str) -> Vec<Sample> {
        let all: Vec<&Measured> =
            self.restores.iter().filter(|one| one.source == *source).collect();
        let samples = all.iter().map(|one| (&one.repository, one.size_bytes, one.seconds));
        nearest(samples, repository)
    }

    /// The passes that wrote a repository; those to other ones count only if there are none.
    #[must_use]
    pub fn of_passes(&self, repository: &str) -> Vec<Sample> {
        let samples = self.passes.iter().map(|one| (&one.repository, one.size_bytes, one.seconds));
        nearest(samples, repository)
    }
}

/// A pass of a history that ended well and copied something.
fn pass(event: PastEvent) -> Option<MeasuredPass> {
    let is_good = event.kind == EventKind::Replicate.word() && event.exit == Exit::Done.code();
    let size_bytes = event.report["copied"]["bytes"].as_u64().filter(|_| is_good)?;
    let seconds = event.finished.duration_since(event.started).as_secs_f64();
    Some(MeasuredPass { repository: event.repository, size_bytes, seconds })
}

/// The first ones of each key.
fn newest<T>(all: impl Iterator<Item = T>, key: impl Fn(&T) -> String) -> Vec<T> {
    let mut counts = std::collections::BTreeMap::new();
    all.filter(|one| {
        let count = counts.entry(key(one)).or_insert(0);
        *count += 1;
        *count <= KEPT
    })
    .collect()
}

fn nearest<'a>(
    samples: impl Iterator<Item = (&'a String, u64, f64)> + Clone,
    repository: &str,
) -> Vec<Sample> {
    let sample = |(_, size_bytes, seconds)| Sample::new(size_bytes, seconds);
    let near: Vec<Sample> = samples.clone().filter(|one| one.0 == repository).map(sample).collect();
    if near.is_empty() { samples.map(sample).collect() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(source: &str, repository: &str, seconds: f64) -> Measured {
        let source = source.parse().unwrap();
        Measured { source, repository: repository.into(), size_bytes: 1, seconds }
    }

    #[test]
    fn the_newest_of_each_source_are_kept_and_those_of_the_repository_count() {
        let here = Measurements {
            restores: (0..5).map(|n| restore("mongo", "/local", f64::from(n))).collect(),
            passes: Vec::new(),
        };
        let older = Measurements {
            restores: (0..9)
                .map(|n| restore("mongo", "s3:far", f64::from(n)))
                .chain([restore("etc", "s3:far", 7.0)])
                .collect(),
            passes: Vec::new(),
        };
        let all = here.before(&older);
        assert_eq!(all.restores.len(), KEPT + 1);
        let mongo: SourceName = "mongo".parse().unwrap();
        assert_eq!(all.of_source(&mongo, "/local").len(), 5);
        assert_eq!(all.of_source(&mongo, "s3:far").len(), 3);
        assert_eq!(all.of_source(&"etc".parse().unwrap(), "/local").len(), 1);
    }
}
