//! `serve`.

use clap::Args;
use kaleem_dr_core::{ground::Exit, operate::serve::Listening};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    listening::ListenAt,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr serve                                 on 127.0.0.1:7453, with a token that it prints
  kaleem-dr serve --listen 127.0.0.1:0            on any free port
  kaleem-dr serve --listen 192.0.2.7:7453 --token-file /etc/kaleem-dr/page.token
  kaleem-dr serve --socket /run/kaleem-dr/page.sock";

/// Arguments of `serve`. Without a place, that of `[serve]` in the config counts, or else 127.0.0.1:7453.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub at: ListenAt,
}

pub async fn serve(context: &Context, args: &Serve) -> Outcome {
    let wanted = args.at.place()?;
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
