//! Why the page cannot be served.

use std::io;

use super::place::Place;
use crate::ground::Exit;

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others can reach the address, and there is no token.
    #[error(
        "other machines can reach {place}, and no token is set; name a file with one with --token-file (or, for the page, `serve.token`), or listen on a loopback address"
    )]
    Open {
        /// The address.
        place: Place,
    },
    /// Another program uses the address or the socket, or it is not permitted.
    #[error("cannot listen on {place}")]
    Listen {
        /// The address or the socket.
        place: Place,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The path of the socket is taken by another file.
    #[error("cannot listen on {place}: a file that is not a socket has this path")]
    Taken {
        /// The socket.
        place: Place,
    },
}

impl From<&ServeError> for Exit {
    fn from(error: &ServeError) -> Self {
        match error {
            ServeError::Open { .. } => Self::Usage,
            ServeError::Listen { .. } | ServeError::Taken { .. } => Self::Failed,
        }
    }
}
