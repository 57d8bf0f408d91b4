//! `serve`: the page and its API, until they are cancelled.

use std::{net::SocketAddr, path::PathBuf};

use super::{Site, SiteError};
use crate::{
    ground::error_chain,
    operate::{
        config::{SHORTEST_TOKEN, ServeSettings, secret::ExposeSecret as _},
        serve::{Access, Listening, Place, ServeError, run},
    },
};

/// Options of [`Site::serve`]; each replaces a key of `[serve]` in the config.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Serve {
    /// Address and port to listen on.
    pub listen: Option<SocketAddr>,
    /// Path of a Unix socket to listen on.
    pub socket: Option<PathBuf>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
}

impl Site {
    /// Answers with the page and its API until the site is cancelled. `ready` is called once, when
    /// both can be reached. Nothing is written to a repository, and no lock is taken.
    ///
    /// # Errors
    /// [`SiteError::Serve`] if the address cannot be used, or is open to others without a token;
    /// [`SiteError::Config`] if the token cannot be read.
    pub async fn serve(
        &self,
        wanted: Serve,
        ready: impl FnOnce(&Listening) + Send,
    ) -> Result<(), SiteError> {
        let settings = self.serve_settings(wanted);
        // A prune during a read makes the read fail; it cannot make the answer wrong.
        let site = self.clone().without_locks().without_progress();
        let access = self.access_of(&settings)?;
        Ok(run(site, settings, access, self.cancel.clone(), ready).await?)
    }

    /// The settings of the config, replaced by those of a call.
    fn serve_settings(&self, wanted: Serve) -> ServeSettings {
        Self::changed(self.config.settings.serve.clone().unwrap_or_default(), wanted)
    }

    /// The settings of a call alone.
    #[cfg(feature = "mount")]
    pub(super) fn settings_of(wanted: Serve) -> ServeSettings {
        Self::changed(ServeSettings::default(), wanted)
    }

    fn changed(mut settings: ServeSettings, wanted: Serve) -> ServeSettings {
        if let Some(listen) = wanted.listen {
            (settings.listen, settings.socket) = (listen, None);
        }
        if wanted.socket.is_some() {
            settings.socket = wanted.socket;
        }
        if let Some(file) = wanted.token_file {
            settings.token = Some(crate::operate::config::secret::SecretRef::File(file));
        }
        settings
    }

    pub(super) fn access_of(&self, settings: &ServeSettings) -> Result<Access, SiteError> {
        let Some(token) = &settings.token else {
            return match &settings.socket {
                Some(_) => Ok(Access::open()),
                None if settings.listen.ip().is_loopback() => Ok(Access::fresh()),
                None => Err(ServeError::Open { place: Place::Address(settings.listen) }.into()),
            };
        };
        let read = self.environment.secret(token);
        let secret = read.map_err(|error| SiteError::Config(error_chain(&error)))?;
        if secret.expose_secret().chars().count() < SHORTEST_TOKEN {
            return Err(SiteError::Config(format!(
                "the token in {token} is shorter than {SHORTEST_TOKEN} characters; \
                 `openssl rand -hex 32` prints a good one"
            )));
        }
        Ok(Access::with(&secret))
    }
}
