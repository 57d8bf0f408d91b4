//! The content of a point of this source: descriptions, snapshots, aliases.

use std::collections::BTreeMap;

use globset::GlobSet;
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{ArtifactPath, SourceError},
    recovery::point::PointReader,
};
use serde::Deserialize;

use super::{
    api::{Alias, Shard},
    description::{DIRECTORY, Description, LIMIT_BYTES, aliases_path},
    names,
};

/// Everything in a point except the bytes of the snapshots.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) collections: Vec<Stored>,
    pub(super) aliases: Vec<Alias>,
}

/// A collection in a point.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) description: Description,
    pub(super) files: Files,
}

/// The snapshot files of a collection.
#[derive(Clone, Debug)]
pub(super) enum Files {
    /// One file with all shards: the snapshot that a single node takes.
    Whole(ArtifactRecord),
    /// One file for each shard, by id: the snapshots that the peers of a cluster take.
    Shards(BTreeMap<u32, ArtifactRecord>),
}

impl Stored {
    pub(super) fn name(&self) -> &str {
        &self.description.name
    }

    /// Length of all of its files.
    pub(super) fn size_bytes(&self) -> u64 {
        match &self.files {
            Files::Whole(file) => file.size_bytes,
            Files::Shards(files) => files.values().map(|file| file.size_bytes).sum(),
        }
    }
}

impl Contents {
    /// Reads the descriptions and aliases of a point.
    ///
    /// # Errors
    /// If the point cannot be read, or lacks the snapshot of a collection.
    pub(super) async fn read(point: &PointReader) -> Result<Self, SourceError> {
        let directory = format!("/{}/", DIRECTORY.join("/"));
        let mut collections = Vec::new();
        for record in &point.manifest().artifacts {
            if !record.path.starts_with(&directory) || record.path.strip_suffix(".json").is_none() {
                continue;
            }
            let bytes = point.artifact(&record.path).await?.read_all(LIMIT_BYTES).await?;
            let description = Description::parse(&bytes, &record.path)?;
            let file = |path: ArtifactPath| {
                let missing = || SourceError::Point(format!("it has no artifact {path}").into());
                point.manifest().artifact(path.as_str()).cloned().ok_or_else(missing)
            };
            let whole = description.snapshot_path();
            let files = if point.manifest().artifact(whole.as_str()).is_some() {
                Files::Whole(file(whole)?)
            } else if description.shards.is_empty()
                || description.shards.iter().any(|shard| {
                    let path = description.shard_path(shard.shard_id);
                    point.manifest().artifact(path.as_str()).is_some()
                })
            {
                let one = |shard: &Shard| {
                    Ok((shard.shard_id, file(description.shard_path(shard.shard_id))?))
                };
                Files::Shards(
                    description.shards.iter().map(one).collect::<Result<_, SourceError>>()?,
                )
            } else {
                return Err(SourceError::Point(format!("it has no artifact {whole}").into()));
            };
            collections.push(Stored { description, files });
        }
        collections.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(Self { collections, aliases: read_aliases(point).await? })
    }

    /// Keeps only the collections that match the globs; without globs, all.
    ///
    /// # Errors
    /// If a glob matches nothing: it is misspelt, and the restore would be incomplete.
    pub(super) fn select(&mut self, only: &[String]) -> Result<(), SourceError> {
        let globs = |patterns: &[String]| -> Result<GlobSet, SourceError> {
            names::globs(patterns).map_err(|error| {
                SourceError::Unsupported(format!("`{}`: {error}", patterns.join(", ")))
            })
        };
        for pattern in only {
            let one = globs(std::slice::from_ref(pattern))?;
            if !self.collections.iter().any(|stored| one.is_match(stored.name())) {
                let there: Vec<_> = self.collections.iter().map(Stored::name).collect();
                return Err(SourceError::Unsupported(format!(
                    "no collection of the point matches `{pattern}`; it contains {}",
                    there.join(", ")
                )));
            }
        }
        if !only.is_empty() {
            let wanted = globs(only)?;
            self.collections.retain(|stored| wanted.is_match(stored.name()));
        }
        if self.collections.is_empty() {
            return Err(SourceError::Unsupported("the point contains no collection".into()));
        }
        Ok(())
    }
}

/// The aliases of a point; empty if it records none.
async fn read_aliases(point: &PointReader) -> Result<Vec<Alias>, SourceError> {
    #[derive(Deserialize)]
    struct Document {
        aliases: Vec<Alias>,
    }
    let path = aliases_path();
    if point.manifest().artifact(path.as_str()).is_none() {
        return Ok(Vec::new());
    }
    let bytes = point.artifact(path.as_str()).await?.read_all(LIMIT_BYTES).await?;
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|error| SourceError::artifact(&path, error))?;
    Ok(document.aliases)
}
