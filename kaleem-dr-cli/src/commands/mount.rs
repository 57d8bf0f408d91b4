//! `mount`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use kaleem_dr_core::{
    ground::Exit,
    operate::{mount::USER, serve::Listening, site},
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr mount                                  prints an address and a password; open both in a file manager (dav://)
  kaleem-dr mount --listen 127.0.0.1:8080 --token-file /root/mount.token
  mount -t davfs http://127.0.0.1:8080/ /mnt       with davfs2; user kaleem-dr
  rclone lsf --webdav-url http://127.0.0.1:8080/ --webdav-user kaleem-dr --webdav-pass $(rclone obscure PASSWORD) :webdav:";

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// Address and port to listen on; one that other machines can reach needs a token [default: a free
    /// port on 127.0.0.1]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen on a Unix socket that only this user can open, without a password
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub socket: Option<PathBuf>,
    /// File with the password, at least 16 characters [default: a new one each time]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

pub async fn mount(context: &Context, args: &Mount) -> Outcome {
    let mut wanted = site::Serve::default();
    wanted.listen = Some(args.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))));
    wanted.socket = args.socket.clone().map(std::path::absolute).transpose()?;
    wanted.token_file.clone_from(&args.token_file);
    let json = context.global.json;
    let mut printed = Ok(());
    context.load()?.mount(wanted, |listening| printed = announce(listening, json)).await?;
    printed?;
    // It ends only by a signal.
    Ok(Exit::Cancelled)
}

fn announce(listening: &Listening, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "mounted",
            "place": listening.place.to_string(),
            "user": USER,
            "password": listening.fresh_token,
        }));
    }
    line(&format!("serving the snapshots over WebDAV at {}, read-only", listening.place))?;
    match &listening.fresh_token {
        Some(password) => line(&format!("user: {USER}\npassword: {password}")),
        None => Ok(()),
    }
}
