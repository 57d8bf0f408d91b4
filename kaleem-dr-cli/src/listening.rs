//! The place at which a command that serves listens: arguments of `serve` and `mount`.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Args;
use kaleem_dr_core::operate::site::Serve;

#[derive(Debug, Args)]
pub struct ListenAt {
    /// Address and port to listen on, `:0` for a free port; one that other machines can reach needs a
    /// token
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen on a Unix socket that only this user can open, without a token
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub socket: Option<PathBuf>,
    /// File with the token, at least 16 characters [default: a new one each time]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl ListenAt {
    /// The place for the library, with paths that do not depend on the working directory.
    pub fn place(&self) -> io::Result<Serve> {
        let mut place = Serve::default();
        place.listen = self.listen;
        place.socket = self.socket.clone().map(std::path::absolute).transpose()?;
        place.token_file.clone_from(&self.token_file);
        Ok(place)
    }
}
