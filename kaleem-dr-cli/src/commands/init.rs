//! `init`.

use clap::Args;
use kaleem_dr_core::{engine::repository::Repository, ground::Exit, operate::site};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Version of restic's repository format: 2, or 1 for restic before 0.14
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u32).range(1..=2), default_value_t = 2)]
    pub repository_version: u32,
    /// Use the chunker parameters of this other repository of the config, so that snapshots copied
    /// from it are deduplicated
    #[arg(long, value_name = "FROM-REPO")]
    pub copy_chunker_params: Option<String>,
}

pub async fn init(context: &Context, args: &Init) -> Outcome {
    let wanted = site::Init::of(args.repository_version, args.copy_chunker_params.clone());
    print(&context.load()?.init_repository(&wanted).await?, context.global.json)?;
    Ok(Exit::Done)
}

fn print(repository: &Repository, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "initialized", "id": repository.id(), "repository": repository.location() }),
        );
    }
    line(&format!(
        "created repository {} (format {}) at {}\nkeep a copy of its password elsewhere: without it, the backups are lost",
        &repository.id()[..10],
        repository.version(),
        repository.location()
    ))
}
