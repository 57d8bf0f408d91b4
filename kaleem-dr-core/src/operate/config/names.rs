//! From a repository's location, as the ledger knows it, to its name in the config.

use std::collections::BTreeMap;

use super::{model::Settings, secret::Environment};

/// The names of a config's repositories, by their locations in words.
#[derive(Clone, Debug, Default)]
pub struct RepositoryNames {
    names: BTreeMap<String, String>,
    complete: bool,
}

impl RepositoryNames {
    /// Of a config. A repository whose location cannot be told here (a key of its bucket is missing, say) is not among them.
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
        // Where work could not begin, the ledger has the name itself.
        for name in settings.repository.keys() {
            names.entry(name.clone()).or_insert_with(|| name.clone());
        }
        Self { names, complete }
    }

    /// What to call a location: its name; the location itself where that may be a repository that cannot be told; `None` when
    /// the config does not have it any more.
    #[must_use]
    pub fn name_of(&self, location: &str) -> Option<String> {
        let name = self.names.get(location).cloned();
        name.or_else(|| (!self.complete).then(|| location.to_owned()))
    }
}
