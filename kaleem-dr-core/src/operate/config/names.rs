//! Maps a repository's location, as the ledger records it, to its name in the config.

use std::collections::BTreeMap;

use super::{model::Settings, secret::Environment};

/// The names of a config's repositories, by location.
#[derive(Clone, Debug, Default)]
pub struct RepositoryNames {
    names: BTreeMap<String, String>,
    complete: bool,
}

impl RepositoryNames {
    /// The names of a config. Repositories whose location cannot be determined here (for example
    /// because a key of the bucket is missing) are left out.
    #[must_use]
    pub fn of(settings: &Settings, environment: &Environment) -> Self {
        let mut names = BTreeMap::new();
        let mut complete = true;
        for (name, repository) in &settings.repository {
            match repository.location(environment) {
                Ok(location) => {
                    names.entry(location.in_words()).or_insert_with(|| name.clone());
                }
                Err(_) => complete = false,
            }
        }
        // If a job could not begin, the ledger has the name itself.
        for name in settings.repository.keys() {
            names.entry(name.clone()).or_insert_with(|| name.clone());
        }
        Self { names, complete }
    }

    /// The name of a location. The location itself if it may belong to a repository that cannot be
    /// determined; `None` if the config no longer has it.
    #[must_use]
    pub fn name_of(&self, location: &str) -> Option<String> {
        let name = self.names.get(location).cloned();
        name.or_else(|| (!self.complete).then(|| location.to_owned()))
    }
}
