//! The files that a backup adds to each snapshot for the recovery of a lost machine.

use std::{path::Path, sync::Arc};

use super::{Site, SiteError};
use crate::{
    engine::manifest::Enclosure,
    ground::error_chain,
    operate::{
        bootstrap::Origin,
        config::{Config, SecretsKept, secret::Environment},
        history::History,
        installation::Installation,
    },
    recovery::source::Restorable,
};

/// The enclosures of a run.
#[derive(Default)]
pub(super) struct Enclosed {
    pub(super) files: Vec<Enclosure>,
    /// Why the secrets could not be sealed, although the config asks for it.
    pub(super) unsealed: Option<String>,
}

impl Site {
    /// The description of this installation, as each snapshot contains it.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn installation(&self) -> Result<Installation, SiteError> {
        let (sources, _) = self.sources(&[])?;
        Ok(described(&self.config, &self.environment, &self.path, &sources)?)
    }

    /// The files for the snapshots of a run of these sources. A fault costs the run a file, never
    /// the data.
    pub(super) async fn enclosures(
        &self,
        sources: &[Arc<dyn Restorable>],
        dry_run: bool,
    ) -> Enclosed {
        // Without a config there is nothing that another machine could be set up from.
        if self.access.is_some() || dry_run {
            return Enclosed::default();
        }
        let (config, environment) = (self.config.clone(), self.environment.clone());
        let (path, sources) = (self.path.clone(), sources.to_vec());
        let work = move || enclosed(&config, &environment, &path, &sources);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Enclosed {
            unsealed: Some(format!("the installation cannot be described: {panic}")),
            ..Enclosed::default()
        })
    }
}

fn described(
    config: &Config,
    environment: &Environment,
    path: &Path,
    sources: &[Arc<dyn Restorable>],
) -> Result<Installation, crate::engine::ledger::LedgerError> {
    let installation = Installation::of((config, environment), path, sources, Path::new("/"));
    let state = &config.settings.state_directory;
    installation.with_measured(History::open(state)?.ledger(), &Origin::measurements(state))
}

fn enclosed(
    config: &Config,
    environment: &Environment,
    path: &Path,
    sources: &[Arc<dyn Restorable>],
) -> Enclosed {
    let installation = match described(config, environment, path, sources) {
        Ok(installation) => installation,
        Err(error) => {
            let error = error_chain(&error);
            return Enclosed { unsealed: Some(error), ..Enclosed::default() };
        }
    };
    for key in &installation.config.redacted {
        tracing::warn!(%key, "the value of this key contains a secret; snapshots have it without the secret");
    }
    let mut enclosed = Enclosed { files: vec![installation.enclosure()], ..Enclosed::default() };
    let recovery = &config.settings.recovery;
    if let (SecretsKept::Sealed, Some(passphrase)) = (recovery.secrets, &recovery.passphrase) {
        let sealed = match environment.secret(passphrase) {
            Ok(passphrase) => {
                installation.sealed(environment, &passphrase).map_err(|error| error_chain(&error))
            }
            Err(error) => Err(format!("`recovery.passphrase`: {}", error_chain(&error))),
        };
        match sealed {
            Ok(file) => enclosed.files.push(file),
            Err(error) => enclosed.unsealed = Some(error),
        }
    }
    enclosed
}
