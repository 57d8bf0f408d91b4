//! `stats`.

use kaleem_dr_core::{engine::repository::RepositoryStats, ground::Exit};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line, size},
};

pub async fn stats(context: &Context) -> Outcome {
    print(&context.load()?.stats().await?, context.global.json)?;
    Ok(Exit::Done)
}

fn print(stats: &RepositoryStats, json: bool) -> Printed {
    if json {
        return document(stats);
    }
    line(&format!(
        "{} snapshots, {} blobs of {} in {} packs; {} stored",
        stats.snapshots_count,
        stats.total_blob_count,
        size(stats.total_uncompressed_size),
        stats.packs_count,
        size(stats.total_size)
    ))
}
