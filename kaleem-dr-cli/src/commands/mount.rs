//! `mount`.

use std::net::SocketAddr;

use clap::Args;
use kaleem_dr_core::{
    ground::Exit,
    operate::{mount::USER, serve::Listening},
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    listening::ListenAt,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr mount                                  prints an address and a password; open both in a file manager (dav://)
  kaleem-dr mount --listen 127.0.0.1:8080 --token-file /root/mount.token
  mount -t davfs http://127.0.0.1:8080/ /mnt       with davfs2; user kaleem-dr
  rclone lsf --webdav-url http://127.0.0.1:8080/ --webdav-user kaleem-dr --webdav-pass $(rclone obscure PASSWORD) :webdav:";

/// Arguments of `mount`. Without a place, it is a free port on 127.0.0.1.
#[derive(Debug, Args)]
pub struct Mount {
    #[command(flatten)]
    pub at: ListenAt,
}

pub async fn mount(context: &Context, args: &Mount) -> Outcome {
    let mut wanted = args.at.place()?;
    wanted.listen.get_or_insert_with(|| SocketAddr::from(([127, 0, 0, 1], 0)));
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
