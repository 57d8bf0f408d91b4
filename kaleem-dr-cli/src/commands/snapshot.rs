//! `snapshot pin`, `snapshot unpin`.

use clap::Subcommand;
use kaleem_dr_core::{engine::repository::Rewritten, ground::Exit};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// Subcommands of `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep snapshots regardless of retention; their ids change
    Pin {
        /// Snapshots, by id prefix
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
    },
    /// Let retention forget snapshots again; their ids change
    Unpin {
        /// Snapshots, by id prefix
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
    },
}

pub async fn snapshot(context: &Context, command: &SnapshotCommand) -> Outcome {
    let (wanted, pinned) = match command {
        SnapshotCommand::Pin { snapshots } => (snapshots, true),
        SnapshotCommand::Unpin { snapshots } => (snapshots, false),
    };
    print(&context.load()?.pin(wanted, pinned).await?, pinned, context.global.json)?;
    Ok(Exit::Done)
}

fn print(rewritten: &[Rewritten], pinned: bool, json: bool) -> Printed {
    if json {
        return document(&rewritten);
    }
    let did = if pinned { "pinned" } else { "unpinned" };
    rewritten.iter().try_for_each(|change| {
        if change.from == change.to {
            line(&format!("{} is {did} already", change.from.short()))
        } else {
            line(&format!("{did} {}; its id is {} now", change.from.short(), change.to.short()))
        }
    })
}
