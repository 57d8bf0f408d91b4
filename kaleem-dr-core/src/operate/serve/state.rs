//! The state that all routes share.

use std::sync::Arc;

use super::{
    access::Access,
    cache::{Cache, Seen},
    files::Files,
};
use crate::operate::{
    config::ServeSettings,
    site::{Overview, Site, SiteError},
};

/// The shared state.
pub(super) struct PageState {
    pub(super) site: Site,
    pub(super) access: Access,
    pub(super) files: Files,
    /// Names of this host that requests may use; `None` accepts all, on a socket.
    pub(super) hosts: Option<Vec<String>>,
    cache: Cache,
}

/// The state as handlers receive it.
pub(super) type Shared = Arc<PageState>;

impl PageState {
    pub(super) fn new(
        site: Site,
        access: Access,
        cache: Cache,
        settings: &ServeSettings,
    ) -> Shared {
        let hosts = settings.socket.is_none().then(|| settings.hosts.clone());
        Arc::new(Self { files: Files::new(site.clone()), site, access, hosts, cache })
    }

    /// The view of the repository, as far as it is known.
    pub(super) async fn seen(&self) -> Seen {
        self.cache.look().await
    }

    /// The view of the repository, or why there is none.
    pub(super) async fn view(&self) -> Result<(Arc<Overview>, Seen), Option<String>> {
        let seen = self.seen().await;
        match &seen.view {
            Some(view) => Ok((view.clone(), seen)),
            None => Err(seen.problem.map(|problem| problem.why)),
        }
    }

    /// Reads the history, which blocks, on a thread of its own.
    pub(super) async fn past<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Site) -> Result<T, SiteError> + Send + 'static,
    ) -> Result<T, SiteError> {
        let state = self.clone();
        let reading = tokio::task::spawn_blocking(move || read(&state.site));
        let stopped = |_| SiteError::NothingMatches("reading the history was stopped".to_owned());
        reading.await.map_err(stopped)?
    }
}
