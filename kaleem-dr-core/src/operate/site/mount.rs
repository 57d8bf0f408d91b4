//! `mount`: the snapshots as a read-only WebDAV file system, until it is cancelled.

use super::{Serve, Site, SiteError};
use crate::operate::{
    mount::{SnapshotTree, run},
    serve::Listening,
};

impl Site {
    /// Serves the snapshots of this host, or of the selected one, as files over WebDAV until the site is cancelled. `ready` is called
    /// once, when they can be reached. Nothing is written to the repository, and no lock is taken: files of a snapshot that is pruned
    /// meanwhile become unreadable.
    ///
    /// # Errors
    /// If the repository cannot be read; [`SiteError::Serve`] if the address cannot be used, or is open to others without a token.
    pub async fn mount(
        &self,
        wanted: Serve,
        ready: impl FnOnce(&Listening) + Send,
    ) -> Result<(), SiteError> {
        // The address and the token of `[serve]` are the page's.
        let settings = Self::settings_of(wanted);
        let access = self.access_of(&settings)?;
        let repository = self.repository().await?.without_locks();
        let tree = SnapshotTree::new(repository, self.identity.scope.clone());
        tree.refresh().await?;
        Ok(run(tree, &settings, access, self.cancel.clone(), ready).await?)
    }
}
