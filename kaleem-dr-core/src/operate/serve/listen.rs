//! The address or socket of the page: binding it, and accepting connections.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{ServeError, place::Place};
use crate::operate::config::ServeSettings;

/// Limit for open connections; further ones wait.
const CONNECTIONS: usize = 128;
/// Time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, such as without free file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The place at which the page can be reached, and what it takes to read it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listening {
    /// The address with the port that the system chose, or the socket.
    pub place: Place,
    /// The token that was made for this time, because the config has none: the operator needs it.
    pub fresh_token: Option<String>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A bound address or socket. The file of the socket is removed when it is dropped.
pub(crate) struct Bound {
    listener: Listener,
    socket: Option<PathBuf>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            // Another program may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

impl Bound {
    pub(crate) async fn to(settings: &ServeSettings) -> Result<Self, ServeError> {
        if let Some(path) = &settings.socket {
            let listener = bind_socket(path, settings.socket_for_group).await?;
            return Ok(Self { listener: Listener::Unix(listener), socket: Some(path.clone()) });
        }
        let listening = TcpListener::bind(settings.listen).await;
        let place = || Place::Address(settings.listen);
        let listener = listening.map_err(|cause| ServeError::Listen { place: place(), cause })?;
        Ok(Self { listener: Listener::Tcp(listener), socket: None })
    }

    pub(crate) fn place(&self) -> Result<Place, ServeError> {
        match (&self.listener, &self.socket) {
            (Listener::Tcp(listener), _) => {
                listener.local_addr().map(Place::Address).map_err(|cause| ServeError::Listen {
                    place: Place::Address(SocketAddr::from(([0, 0, 0, 0], 0))),
                    cause,
                })
            }
            (Listener::Unix(_), path) => Ok(Place::Socket(path.clone().unwrap_or_default())),
        }
    }

    /// Answers connections; each ends with the token.
    pub(crate) async fn accept(&self, router: Router, cancel: CancellationToken) -> Infallible {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.ok();
            while connections.try_join_next().is_some() {}
            let accepted: io::Result<Box<dyn Stream>> = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // A failure would only cost time.
                    let _ = stream.set_nodelay(true);
                    Box::new(stream) as Box<dyn Stream>
                }),
                Listener::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
                }
            };
            match accepted {
                Ok(stream) => {
                    let (router, cancel) = (router.clone(), cancel.clone());
                    connections.spawn(async move {
                        cancel.run_until_cancelled(answer(stream, router)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn answer(stream: Box<dyn Stream>, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Binds a Unix socket. The file of one that nothing listens on any more is replaced.
async fn bind_socket(path: &Path, for_group: bool) -> Result<UnixListener, ServeError> {
    let place = || Place::Socket(path.to_path_buf());
    let failed = |cause| ServeError::Listen { place: place(), cause };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(ServeError::Taken { place: place() });
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // The process has the umask 077: no other user can connect before the mode is set.
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = if for_group { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}
