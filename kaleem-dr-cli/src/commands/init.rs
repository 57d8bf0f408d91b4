//! `init`.

use clap::Args;
use kaleem_dr_core::{engine::repository::Repository, ground::Exit, operate::site};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// How the repository is made.
#[derive(Debug, Args)]
pub struct Init {
    /// restic's format: 2, or 1 for restic before 0.14
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u32).range(1..=2), default_value_t = 2)]
    pub repository_version: u32,
    /// Cut files where this other repository of the config does, so that what is copied from it is not stored twice
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
        "created repository {} (format {}) at {}\nkeep its password somewhere else too: without it the backups are lost",
        &repository.id()[..10],
        repository.version(),
        repository.location()
    ))
}
