//! Proves in one pass that everything a snapshot needs is intact: each object is read once, hashed, and decrypted on the way.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use rustic_core::{
    FileType, Id,
    repofile::{IndexFile, IndexPack},
};

use super::{
    RepositoryError, SnapshotReader, blocking,
    contents::{Contents, Defects, Wanted},
    hashes_to_name, names,
    object_key::key_of,
    reader::BlobPlace,
    survey::open_index,
    whole_pack::damage_of,
};
use crate::{
    CancellationToken,
    engine::manifest::ArtifactRecord,
    ground::{error_chain, progress::StageProgress},
};

/// Objects read at once.
const AT_ONCE: usize = 4;
/// Packs decrypted at once: up to two ranges of each are in memory.
const PACKS_AT_ONCE: usize = 3;

/// The thoroughness with which objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Each object must hash to its name.
    Objects,
    /// Also, the blobs of every file that is not an artifact must decrypt to content that matches their ids. Those of
    /// artifacts are left to whoever reads the artifacts, in order.
    Files,
}

/// The result of reading everything that a snapshot needs.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// Number of objects that hash to their names.
    pub(crate) objects: u64,
    /// Their size in bytes.
    pub(crate) size_bytes: u64,
    /// Objects that are lost or damaged, one sentence each.
    pub(crate) wrong: Vec<String>,
    /// Files that cannot be read, or not with their length. Empty unless files were read.
    pub(crate) unreadable: Defects,
    /// The content of the snapshot by its trees, without what is in the two lists above.
    pub(crate) contents: Contents,
}

/// A pass in progress.
struct Pass<'a> {
    reader: &'a SnapshotReader,
    sizes: HashMap<String, u64>,
    bar: &'a dyn StageProgress,
    cancel: &'a CancellationToken,
    proof: Proof,
    /// Blobs that do not decrypt to what they should be.
    bad_blobs: HashSet<Id>,
    /// Packs that cannot be read at all.
    bad_packs: HashSet<Id>,
}

impl SnapshotReader {
    /// Reads every object that this snapshot needs once: its own file, the index, and each pack with one of its blobs.
    ///
    /// # Errors
    /// If the store fails, or on cancellation. Damage is in the result.
    pub(crate) async fn prove(
        &self,
        artifacts: &[ArtifactRecord],
        depth: Depth,
        bar: &dyn StageProgress,
        cancel: &CancellationToken,
    ) -> Result<Proof, RepositoryError> {
        let (reader, stop) = (self.clone(), cancel.clone());
        let paths: Vec<String> = artifacts.iter().map(|artifact| artifact.path.clone()).collect();
        let mut contents = blocking(move || {
            reader.contents(&Wanted::of(paths.iter().map(std::path::Path::new)), &stop)
        })
        .await?;
        let mut pass = Pass {
            reader: self,
            sizes: HashMap::new(),
            bar,
            cancel,
            proof: Proof {
                wrong: std::mem::take(&mut contents.lost).into_sentences(),
                unreadable: std::mem::take(&mut contents.odd),
                ..Proof::default()
            },
            bad_blobs: HashSet::new(),
            bad_packs: HashSet::new(),
        };
        let mut indexes = Vec::new();
        for directory in ["snapshots", "index", "data"] {
            for object in names::objects(self.store(), directory).await? {
                if directory == "index" {
                    indexes.push(object.key.clone());
                }
                pass.sizes.insert(object.key, object.size_bytes);
            }
        }
        let own = format!("snapshots/{}", self.snapshot().id());
        let packs = contents.packs.keys().map(|pack| key_of(FileType::Pack, pack));
        let needed = packs.chain(indexes.iter().cloned()).chain([own.clone()]);
        bar.set_total(needed.filter_map(|key| pass.sizes.get(&key)).sum());
        pass.hash(vec![(own, None)]).await?;
        let mut hashed: HashMap<Id, bool> = contents.packs.clone();
        match depth {
            Depth::Objects => {
                pass.hash(indexes.into_iter().map(|key| (key, None)).collect()).await?;
            }
            Depth::Files => pass.decrypt(indexes, &mut hashed).await?,
        }
        let rest = hashed.into_keys().map(|pack| (key_of(FileType::Pack, &pack), Some(pack)));
        pass.hash(rest.collect()).await?;
        if depth == Depth::Files {
            pass.name_files().await?;
        }
        pass.proof.contents = contents;
        Ok(pass.proof)
    }
}

impl Pass<'_> {
    /// Reads objects, and compares them with their names.
    async fn hash(&mut self, keys: Vec<(String, Option<Id>)>) -> Result<(), RepositoryError> {
        let (store, sizes, bar, cancel) = (self.reader.store(), &self.sizes, self.bar, self.cancel);
        let mut checks = futures::stream::iter(keys)
            .map(|(key, pack)| async move {
                let Some(&size) = sizes.get(&key) else {
                    return Ok((key, pack, Err("it does not exist".to_owned())));
                };
                let verified = hashes_to_name(store, &key, size, bar, cancel).await?;
                Ok::<_, RepositoryError>((key, pack, verified.map(|()| size)))
            })
            .buffer_unordered(AT_ONCE);
        let proof = &mut self.proof;
        while let Some((key, pack, verified)) = checks.try_next().await? {
            match verified {
                Ok(size_bytes) => {
                    proof.objects += 1;
                    proof.size_bytes += size_bytes;
                }
                Err(why) => {
                    proof.wrong.push(format!("{key}: {why}"));
                    self.bad_packs.extend(pack);
                }
            }
        }
        Ok(())
    }

    /// Reads the index files, and with the locations in each the packs that hold parts of files. These are removed from
    /// `needed`.
    async fn decrypt(
        &mut self,
        indexes: Vec<String>,
        needed: &mut HashMap<Id, bool>,
    ) -> Result<(), RepositoryError> {
        let (reader, bar, cancel) = (self.reader, self.bar, self.cancel);
        let mut seen = HashSet::new();
        let mut read =
            futures::stream::iter(indexes).map(|key| read_index(reader, key, bar)).buffered(2);
        while let Some((key, index)) = read.try_next().await? {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            let (size_bytes, index) = match index {
                Ok(index) => index,
                Err(why) => {
                    self.proof.wrong.push(format!("{key}: {why}"));
                    continue;
                }
            };
            self.proof.objects += 1;
            self.proof.size_bytes += size_bytes;
            let mut packs = Vec::new();
            for pack in index.packs.into_iter().chain(index.packs_to_delete) {
                let id = pack.id.into_inner();
                if needed.get(&id).is_none_or(|holds_files| !holds_files)
                    || !seen.insert((id, pack.blobs.len()))
                {
                    continue;
                }
                packs.push(pack);
            }
            self.decrypt_packs(packs).await?;
        }
        for (pack, _) in seen {
            needed.remove(&pack);
        }
        Ok(())
    }

    async fn decrypt_packs(&mut self, packs: Vec<IndexPack>) -> Result<(), RepositoryError> {
        let (reader, sizes, bar, cancel) = (self.reader, &self.sizes, self.bar, self.cancel);
        let blobs = reader.blobs();
        let mut reads = futures::stream::iter(packs)
            .map(|pack| async move {
                let (id, expected) = (pack.id.into_inner(), u64::from(pack.pack_size()));
                let key = key_of(FileType::Pack, &id);
                let found = match sizes.get(&key) {
                    None => Err("it does not exist".to_owned()),
                    Some(&size) if size != expected => {
                        Err(format!("it is {size} bytes long, and {expected} by the index"))
                    }
                    Some(_) => Ok(damage_of(reader.store(), blobs.key(), pack, bar, cancel).await?),
                };
                Ok::<_, RepositoryError>((id, key, expected, found))
            })
            .buffer_unordered(PACKS_AT_ONCE);
        while let Some((id, key, size_bytes, found)) = reads.try_next().await? {
            match found {
                Ok(None) => {
                    self.proof.objects += 1;
                    self.proof.size_bytes += size_bytes;
                }
                Ok(Some(damage)) => {
                    self.proof.wrong.push(format!("{key}: {}", damage.why));
                    self.bad_blobs.extend(damage.blobs);
                }
                Err(why) => {
                    self.proof.wrong.push(format!("{key}: {why}"));
                    self.bad_packs.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Adds the files with damaged content.
    async fn name_files(&mut self) -> Result<(), RepositoryError> {
        let (blobs, packs) =
            (std::mem::take(&mut self.bad_blobs), std::mem::take(&mut self.bad_packs));
        if blobs.is_empty() && packs.is_empty() {
            return Ok(());
        }
        let (reader, stop) = (self.reader.clone(), self.cancel.clone());
        let is_bad = move |place: &BlobPlace| {
            blobs.contains(&place.id.into_inner()) || packs.contains(&place.pack())
        };
        let named = blocking(move || reader.files_with(&is_bad, &stop)).await?;
        self.proof.unreadable.extend(named);
        Ok(())
    }
}

/// Reads an index file. The inner error describes its damage.
async fn read_index(
    reader: &SnapshotReader,
    key: String,
    bar: &dyn StageProgress,
) -> Result<(String, Result<(u64, IndexFile), String>), RepositoryError> {
    let encrypted = match reader.store().read(&key, None).await {
        Ok(encrypted) => encrypted,
        Err(error) if error.kind().is_loss() => return Ok((key, Err(error_chain(&error)))),
        Err(error) => return Err(error.into()),
    };
    bar.advance(encrypted.len() as u64);
    let repository_key = reader.blobs().key().clone();
    blocking(move || {
        let index = open_index(&repository_key, &key, &encrypted);
        Ok((key, index.map(|index| (encrypted.len() as u64, index))))
    })
    .await
}
