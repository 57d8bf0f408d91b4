//! `init`: repositories made.

use super::{Site, SiteError};
use crate::engine::repository::{Repository, RepositoryError};

/// restic's newest format.
const NEWEST_VERSION: u32 = 2;

/// What [`Site::init_repository`] makes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Init {
    /// restic's format: 2, or 1 for restic before 0.14.
    pub version: u32,
    /// Cuts files where this other repository of the config does, so that what is copied from it is not stored twice.
    pub cut_like: Option<String>,
}

impl Default for Init {
    /// restic's newest format.
    fn default() -> Self {
        Self::of(NEWEST_VERSION, None)
    }
}

impl Init {
    /// With a version of restic's format, 1 or 2, and cut like another repository of the config.
    #[must_use]
    pub fn of(version: u32, cut_like: Option<String>) -> Self {
        Self { version, cut_like }
    }
}

impl Site {
    /// Makes the repository of a site that has no config, where there is none yet, and opens it.
    ///
    /// # Errors
    /// [`SiteError::Config`] on a site with a config; what keeps the repository from being made or opened.
    pub async fn init(&self) -> Result<Repository, SiteError> {
        let Some(access) = &self.access else {
            return Err(SiteError::Config(
                "this site has a config: its repositories are made one by one".to_owned(),
            ));
        };
        match Repository::init(access, NEWEST_VERSION).await {
            Err(RepositoryError::AlreadyExists { .. }) => Ok(Repository::open(access).await?),
            made => Ok(made?),
        }
    }

    /// Makes the repository that is meant.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] where there is one; when its place cannot be written.
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
