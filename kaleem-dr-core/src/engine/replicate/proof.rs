//! Checks that objects on the far side match their names: those that an interrupted pass left behind, and afterwards a share of
//! all.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};

use super::{
    Count, MirrorJob, MirrorReport,
    inventory::{Inventory, Named},
    journal::{Arrivals, Journal},
    unless_cancelled,
};
use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, hashes_to_name, store::ObjectStore},
    ground::progress::{ProgressSink, Silent, Unit},
};

/// Size of the pieces in which an object is read for its proof, in bytes.
const PIECE_BYTES: u64 = 8 << 20;
/// Objects read at once.
const AT_ONCE: usize = 8;

/// An object that an earlier pass began, and the far side lists with the right length, may still be wrong: some services keep
/// what they rejected. The ETag proves it, or else its content; an object that neither proves is copied again.
pub(super) async fn unproven(
    job: &MirrorJob,
    journal: &Journal<'_>,
    (near, far): (&Inventory, &Inventory),
    cancel: &CancellationToken,
) -> Result<Vec<Named>, RepositoryError> {
    let begun = journal.begun()?;
    let suspects: Vec<Named> = near
        .all()
        .filter(|object| {
            begun.contains(&object.key())
                && far.kind(object.kind).get(&object.name) == Some(&object.size_bytes)
        })
        .collect();
    let mut proofs = futures::stream::iter(suspects)
        .map(|object| {
            unless_cancelled(cancel, async move {
                let key = object.key();
                if is_md5_of(far.etag(&object.name), &*job.from, &key, object.size_bytes).await? {
                    return Ok((object, Ok(())));
                }
                let proven =
                    hashes_to_name(&*job.to, &key, object.size_bytes, &Silent, cancel).await?;
                Ok((object, proven))
            })
        })
        .buffer_unordered(AT_ONCE);
    let (mut unproven, mut proven) = (Vec::new(), Arrivals::new(*journal));
    let ended = loop {
        match proofs.try_next().await {
            Ok(Some((object, Ok(())))) if job.options.dry_run => drop(object),
            Ok(Some((object, Ok(())))) => proven.note(&object)?,
            Ok(Some((object, Err(why)))) => {
                tracing::warn!(object = %object.key(), %why, "an earlier pass left it wrong; bringing it over again");
                unproven.push(object);
            }
            Ok(None) => break Ok(unproven),
            Err(error) => break Err(error),
        }
    };
    proven.flush()?;
    ended
}

/// Reports whether an ETag is the MD5 of an object's content.
async fn is_md5_of(
    etag: Option<&str>,
    store: &dyn ObjectStore,
    key: &str,
    size_bytes: u64,
) -> Result<bool, RepositoryError> {
    let Some(etag) = etag else { return Ok(false) };
    let (mut digest, mut at) = (Md5::new(), 0);
    while at < size_bytes {
        let end = size_bytes.min(at + PIECE_BYTES);
        digest.update(&store.read(key, Some(at..end)).await?);
        at = end;
    }
    Ok(hex::encode(digest.finalize()) == etag)
}

/// Reads back a random share of the far side, across all kinds.
pub(super) async fn verify(
    job: &MirrorJob,
    report: &mut MirrorReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let mut objects: Vec<Named> =
        unless_cancelled(cancel, Inventory::of(&*job.to)).await?.all().collect();
    draw(&mut objects, job.options.verify_percent);
    let bar = progress.begin("verifying", Unit::Bytes, Some(Count::of(&objects).bytes));
    let mut checks = futures::stream::iter(objects)
        .map(|object: Named| {
            let bar = &*bar;
            unless_cancelled(cancel, async move {
                let verified =
                    hashes_to_name(&*job.to, &object.key(), object.size_bytes, bar, cancel).await?;
                Ok((object, verified))
            })
        })
        .buffer_unordered(AT_ONCE);
    while let Some((object, verified)) = checks.try_next().await? {
        match verified {
            Ok(()) => report.verified.add(object.size_bytes),
            Err(why) => report.wrong.push(format!("{}: {why}", object.key())),
        }
    }
    bar.finish();
    Ok(())
}

/// Keeps random objects until their size reaches the share; at least one.
fn draw(objects: &mut Vec<Named>, percent: f64) {
    if percent >= 100.0 {
        return;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share, drawn at random"
    )]
    let wanted = (Count::of(objects).bytes as f64 * percent / 100.0) as u64;
    for at in (1..objects.len()).rev() {
        objects.swap(at, rand::random_range(0..=at));
    }
    let mut bytes = 0;
    let enough = objects.iter().position(|object| {
        bytes += object.size_bytes;
        bytes >= wanted
    });
    objects.truncate(enough.map_or(objects.len(), |at| at + 1));
}
