//! `init`: creates repositories.

use super::{Site, SiteError};
use crate::engine::repository::{Repository, RepositoryError};

/// restic's newest format.
const NEWEST_VERSION: u32 = 2;

/// Options of [`Site::init_repository`]: format and chunker parameters.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Init {
    /// Version of restic's format: 2, or 1 for restic before 0.14.
    pub version: u32,
    /// Uses the chunker parameters of this other repository of the config, so that snapshots copied
    /// from it are deduplicated.
    pub cut_like: Option<String>,
}

impl Default for Init {
    /// restic's newest format, with random chunker parameters.
    fn default() -> Self {
        Self::of(NEWEST_VERSION, None)
    }
}

impl Init {
    /// Sets the version of restic's format, 1 or 2, and the repository whose chunker parameters to
    /// use.
    #[must_use]
    pub fn of(version: u32, cut_like: Option<String>) -> Self {
        Self { version, cut_like }
    }
}

impl Site {
    /// Creates the repository of a site without a config, unless it exists, and opens it.
    ///
    /// # Errors
    /// [`SiteError::Config`] on a site with a config; if the repository cannot be created or
    /// opened.
    pub async fn init(&self) -> Result<Repository, SiteError> {
        let Some(access) = &self.access else {
            return Err(SiteError::Config(
                "this site has a config: create its repositories one by one".to_owned(),
            ));
        };
        match Repository::init(access, NEWEST_VERSION).await {
            Err(RepositoryError::AlreadyExists { .. }) => Ok(Repository::open(access).await?),
            made => Ok(made?),
        }
    }

    /// Creates the selected repository.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] if it exists; if its location cannot be written.
    pub async fn init_repository(&self, wanted: &Init) -> Result<Repository, SiteError> {
        let access = self.access_to(self.chosen_repository()?.0)?;
        let making = async {
            Ok(match &wanted.cut_like {
                Some(name) => {
                    let like = self.open_named(name).await?;
                    Repository::init_like(&access, wanted.version, &like).await?
                }
                None => Repository::init(&access, wanted.version).await?,
            })
        };
        self.until_cancelled(Box::pin(making)).await
    }
}
