//! The page of an installation, and its JSON API: `kaleem-dr serve`.
//!
//! It only reads. No route changes anything, no route accepts another method than GET and HEAD, and
//! nothing is written to a repository. Everything that it shows comes from [`Site`]: the state of the
//! repository from one [`Overview`] that is read at most every so often, the rest from the history.
//!
//! [`Overview`]: crate::operate::site::Overview

mod access;
mod api;
mod ask;
mod cache;
mod error;
mod files;
mod layout;
mod listen;
mod pages;
mod place;
mod routes;
mod session;
mod show;
mod state;
mod words;

use tokio_util::sync::CancellationToken;

pub use self::{
    access::Access, api::DOCUMENTS, error::ServeError, listen::Listening, place::Place,
};
#[cfg(feature = "mount")]
pub(crate) use self::{access::Judged, listen::Bound};
use self::{cache::Cache, state::PageState};
use crate::operate::{config::ServeSettings, site::Site};

/// Serves the page until it is cancelled.
///
/// # Errors
/// If the address or the socket cannot be used.
pub(crate) async fn run(
    site: Site,
    settings: ServeSettings,
    access: Access,
    cancel: CancellationToken,
    ready: impl FnOnce(&Listening) + Send,
) -> Result<(), ServeError> {
    let bound = listen::Bound::to(&settings).await?;
    let (cache, reader) = Cache::of(site.clone(), settings.refresh_seconds);
    let listening = Listening { place: bound.place()?, fresh_token: access.printed() };
    let router = routes::router(PageState::new(site, access, cache, &settings));
    ready(&listening);
    tokio::select! {
        () = cancel.cancelled() => {}
        never = reader.run() => match never {},
        never = bound.accept(router, cancel.clone()) => match never {},
    }
    Ok(())
}
