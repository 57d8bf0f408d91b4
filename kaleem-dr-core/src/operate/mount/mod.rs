//! Snapshots as a read-only WebDAV file system: `kaleem-dr mount`.
//!
//! Each source is a directory with one directory for each of its snapshots, and `latest`. File managers and rclone show it as it is;
//! `davfs2` mounts it. No method that changes anything is answered, and nothing is written to the repository.

mod files;
mod tree;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dav_server::{DavHandler, DavMethodSet};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use self::files::SnapshotFiles;
pub(crate) use self::tree::SnapshotTree;
use super::{
    config::ServeSettings,
    serve::{Access, Bound, Judged, Listening, ServeError},
};

/// The user of the login; any other one is accepted too.
pub const USER: &str = "kaleem-dr";

struct Shared {
    access: Access,
    handler: DavHandler,
}

/// Serves a tree of snapshots until it is cancelled.
///
/// # Errors
/// If the address or the socket cannot be used.
pub(crate) async fn run(
    tree: SnapshotTree,
    settings: &ServeSettings,
    access: Access,
    cancel: CancellationToken,
    ready: impl FnOnce(&Listening) + Send,
) -> Result<(), ServeError> {
    let bound = Bound::to(settings).await?;
    let listening = Listening { place: bound.place()?, fresh_token: access.printed() };
    let handler = DavHandler::builder()
        .filesystem(Box::new(SnapshotFiles::of(tree)))
        .methods(DavMethodSet::WEBDAV_RO)
        .autoindex(true)
        .build_handler();
    let router = Router::new().fallback(answer).with_state(Arc::new(Shared { access, handler }));
    ready(&listening);
    tokio::select! {
        () = cancel.cancelled() => {}
        never = bound.accept(router, cancel.clone()) => match never {},
    }
    Ok(())
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let judged = match password(&request) {
        _ if !shared.access.needs_token() => Judged::Right,
        Some(password) => shared.access.judge(password.expose_secret()).await,
        None => Judged::Wrong,
    };
    match judged {
        Judged::Right => shared.handler.handle(request).await.map(Body::new),
        Judged::Wrong => {
            let challenge =
                [(header::WWW_AUTHENTICATE, "Basic realm=\"kaleem-dr\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        Judged::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// The password of HTTP's basic authentication (RFC 7617).
fn password(request: &Request) -> Option<SecretString> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| pair.split_once(':').map(|(_, password)| password.to_owned().into()))?
}
