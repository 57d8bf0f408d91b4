//! `serve`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use kaleem_dr_core::{
    ground::Exit,
    operate::{serve::Listening, site},
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr serve                                 on 127.0.0.1:7453, with a token that it prints
  kaleem-dr serve --listen 127.0.0.1:0            on any free port
  kaleem-dr serve --listen 192.0.2.7:7453 --token-file /etc/kaleem-dr/page.token
  kaleem-dr serve --socket /run/kaleem-dr/page.sock";

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port to listen on; one that other machines can reach needs a token [default: that
    /// of the config, or else 127.0.0.1:7453]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen on a Unix socket that only this user can open, without a token
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub socket: Option<PathBuf>,
    /// File with the token, at least 16 characters [default: that of the config, or else a new one
    /// each time]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

pub async fn serve(context: &Context, args: &Serve) -> Outcome {
    let mut wanted = site::Serve::default();
    wanted.listen = args.listen;
    wanted.socket = args.socket.clone().map(std::path::absolute).transpose()?;
    wanted.token_file.clone_from(&args.token_file);
    let json = context.global.json;
    let mut printed = Ok(());
    context.load()?.serve(wanted, |listening| printed = announce(listening, json)).await?;
    printed?;
    // It ends only by a signal.
    Ok(Exit::Cancelled)
}

fn announce(listening: &Listening, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "serving",
            "place": listening.place.to_string(),
            "token": listening.fresh_token,
        }));
    }
    line(&format!("serving {}", listening.place))?;
    match &listening.fresh_token {
        Some(token) => line(&format!("token: {token}")),
        None => Ok(()),
    }
}
