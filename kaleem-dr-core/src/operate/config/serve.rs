//! `[serve]` of the config: the page of `kaleem-dr serve`.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::SecretRef;

/// The shortest token, in characters.
pub const SHORTEST_TOKEN: usize = 16;

/// The place at which the page of `kaleem-dr serve` listens, and who may read it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServeSettings {
    /// Address and port. Another address than a loopback one needs `token`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Path of a Unix socket to listen on instead of `listen`.
    pub socket: Option<PathBuf>,
    /// The group of the socket may connect too (mode 660 instead of 600).
    pub socket_for_group: bool,
    /// Token that the page and the API ask for, at least 16 characters [default: a new one each
    /// time, which `kaleem-dr serve` prints; none on a Unix socket].
    pub token: Option<SecretRef>,
    /// Names of this host that browsers may use, in addition to `localhost` and IP addresses:
    /// those of a reverse proxy.
    pub hosts: Vec<String>,
    /// Age from which the view of the repository is read again, in seconds.
    pub refresh_seconds: u32,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7453)),
            socket: None,
            socket_for_group: false,
            token: None,
            hosts: Vec::new(),
            refresh_seconds: 60,
        }
    }
}

impl ServeSettings {
    /// The first fault, as a sentence with the key; `None` if the table is valid.
    pub(super) fn fault(&self) -> Option<String> {
        if self.socket.as_ref().is_some_and(|path| path.is_relative()) {
            return Some("`serve.socket` must be an absolute path".to_owned());
        }
        let is_open = self.socket.is_none() && !self.listen.ip().is_loopback();
        (is_open && self.token.is_none()).then(|| {
            format!(
                "`serve.listen` is {}, which other machines can reach: it needs `serve.token`",
                self.listen
            )
        })
    }
}
