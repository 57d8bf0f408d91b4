//! An address or a socket.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// The place at which the page listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// An address with its port.
    Address(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "http://{address}/"),
            Self::Socket(path) => write!(f, "the socket {}", path.display()),
        }
    }
}
