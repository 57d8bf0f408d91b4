//! One pass: the comparison of both sides, the copies and the deletions, in order.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::{
    DELETIONS_AT_ONCE, LISTINGS, MirrorJob, MirrorReport, ObjectKind,
    guard::{Deletions, Indexes},
    inventory::{self, Inventory, Named},
    journal::{Arrivals, Journal},
    lost::Lost,
    proof,
    transfer::{AT_ONCE, Brought, Carrier},
    unless_cancelled,
};
use crate::{
    CancellationToken,
    engine::repository::{Repository, RepositoryError},
    ground::{
        error_chain, failpoint,
        failpoint::Step,
        progress::{ProgressSink, StageProgress, Unit},
    },
};

/// Number of passes in a row that may postpone deletions before this counts as a failure: readers come and go, but a lock that
/// stays does not.
const POSTPONED_PASSES: u32 = 3;

pub(super) async fn pass(
    job: &MirrorJob,
    mut report: MirrorReport,
    progress: &std::sync::Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<MirrorReport, RepositoryError> {
    let mirror = report.to.clone();
    let journal = Journal::of(job, &mirror);
    let new_config = unless_cancelled(cancel, same_repository(job)).await?;
    if new_config.is_some() {
        may_be_filled(&journal, job)?;
    }
    let (near, far) = unless_cancelled(cancel, list_both(job, new_config.is_some())).await?;
    let known = Known::of(&journal, &near, &far)?;
    if !known.lost.is_empty() && far.kind(ObjectKind::Snapshot).is_empty() && !job.options.refill {
        return Err(emptied(&journal, job)?);
    }
    report.lost = known.lost.len() as u64;
    let mut missing = ObjectKind::WRITTEN.map(|kind| near.beyond(&far, kind));
    let unproven = proof::unproven(job, &journal, (&near, &far), cancel).await?;
    for (kind, objects) in ObjectKind::WRITTEN.into_iter().zip(&mut missing) {
        objects.extend(unproven.iter().filter(|object| object.kind == kind).cloned());
    }
    report.compare(&near, &missing);
    let [_, packs, indexes, _] = &mut missing;
    let lost = unless_cancelled(
        cancel,
        Lost::search(&job.from, job.access.as_ref(), (&near, &far), indexes),
    )
    .await?;
    packs.extend(lost.written_since.iter().cloned());
    lost.hold_back(&mut missing);
    let loss = lost.sentence(&report.from);
    let may_delete = loss.is_none() && !job.options.keep_all;
    report.wrong.extend(loss);
    let surplus = surplus(job, &journal, (&near, &far), &mut report)?;
    if may_delete {
        report.refused =
            unless_cancelled(cancel, refusal(job, &known, (&near, &far), &surplus.concat()))
                .await?;
    }
    if job.options.dry_run {
        report.plan(&missing, if may_delete { &surplus } else { &[] });
        return Ok(report.ended(cancel));
    }

    journal.saw(&near, &far)?;
    bring_all(job, &journal, (&missing, new_config.as_ref()), &mut report, progress, cancel)
        .await?;
    journal.filled()?;
    if report.refused.is_none() && may_delete {
        if surplus.iter().any(|objects| !objects.is_empty()) {
            report.postponed = unless_cancelled(cancel, postponement(job, &near)).await?;
            if report.postponed.is_none() {
                delete(job, &journal, &surplus, &mut report, cancel).await?;
            }
        }
        count_postponed(&journal, &mut report)?;
        if report.postponed.is_none() {
            journal.forget_beyond(&near, &far)?;
        }
    }
    if job.options.verify_percent > 0.0 {
        proof::verify(job, &mut report, progress, cancel).await?;
    }
    Ok(report.ended(cancel))
}

/// The recorded content of the far side.
struct Known {
    snapshots: BTreeSet<String>,
    brought: BTreeSet<String>,
    /// Keys of objects that arrived there in an earlier pass, exist here, and no longer exist there.
    lost: Vec<String>,
}

impl Known {
    fn of(
        journal: &Journal<'_>,
        near: &Inventory,
        far: &Inventory,
    ) -> Result<Self, RepositoryError> {
        let (mut snapshots, mut brought, begun) =
            (journal.mirrored()?, journal.brought()?, journal.begun()?);
        let key = |name: &String| ObjectKind::Snapshot.key(name);
        let arrived = snapshots
            .iter()
            .map(key)
            .chain(brought.iter().cloned())
            .filter(|key| !begun.contains(key));
        let lost = arrived.filter(|key| near.has(key) && !far.has(key)).collect();
        snapshots.extend(near.names(ObjectKind::Snapshot));
        brought.extend(
            [ObjectKind::Index, ObjectKind::Key].into_iter().flat_map(|kind| near.keys(kind)),
        );
        Ok(Self { snapshots, brought, lost })
    }
}

/// Compares the configs. Returns the one that the far side still needs.
async fn same_repository(job: &MirrorJob) -> Result<Option<bytes::Bytes>, RepositoryError> {
    let (near, far) =
        futures::try_join!(inventory::config(&*job.from), inventory::config(&*job.to))?;
    match (near, far) {
        (Some(near), Some(far)) if near == far => Ok(None),
        (Some(_), Some(_)) => Err(RepositoryError::Guarded(format!(
            "{} is another repository than {}: a mirror would overwrite its config and make its packs unreadable. Name another place, \
             or use `kaleem-dr copy`, which brings snapshots into a repository of its own",
            job.to.location(),
            job.from.location()
        ))),
        (Some(near), None) => Ok(Some(near)),
        (None, Some(_)) => Err(RepositoryError::Guarded(format!(
            "there is no repository at {}, but its mirror at {} is one: is the disk mounted? If it was lost, bring it back with \
             `kaleem-dr replicate --from MIRROR --to NEW`",
            job.from.location(),
            job.to.location()
        ))),
        (None, None) => Err(RepositoryError::NotFound { location: job.from.location() }),
    }
}

/// A location without a config is filled if it was never a mirror, or if this was requested.
fn may_be_filled(journal: &Journal<'_>, job: &MirrorJob) -> Result<(), RepositoryError> {
    if job.options.refill {
        // The records of the old mirror are invalid for the new one.
        if !job.options.dry_run {
            journal.forget()?;
        }
        return Ok(());
    }
    if journal.was_filled()?.is_some() { Err(emptied(journal, job)?) } else { Ok(()) }
}

fn emptied(journal: &Journal<'_>, job: &MirrorJob) -> Result<RepositoryError, RepositoryError> {
    Ok(super::emptied(journal.held()?, &job.to.location()))
}

/// Lists both sides. A prune on the near side between two listings would combine an old index with new packs, so its index is
/// listed again whenever there is something to do.
async fn list_both(job: &MirrorJob, new: bool) -> Result<(Inventory, Inventory), RepositoryError> {
    let (mut near, far) = futures::try_join!(Inventory::of(&*job.from), Inventory::of(&*job.to))?;
    if new && !far.kind(ObjectKind::Snapshot).is_empty() {
        return Err(RepositoryError::Guarded(format!(
            "{} has snapshots but no config: it is the rest of another repository. Choose an empty location",
            job.to.location()
        )));
    }
    for _ in 0..LISTINGS {
        let equal = ObjectKind::WRITTEN.iter().all(|&kind| near.kind(kind) == far.kind(kind));
        if equal
            || inventory::list(&*job.from, ObjectKind::Index).await?
                == *near.kind(ObjectKind::Index)
        {
            return Ok((near, far));
        }
        tracing::info!("the repository changed while it was listed; listing it again");
        near = Inventory::of(&*job.from).await?;
    }
    Err(RepositoryError::Changing { location: job.from.location() })
}

/// The objects that only the far side has and that may be deleted, by kind in the order of deletion. A key is deleted only if it
/// was removed here on purpose: any other may be the only one whose password someone still has.
fn surplus(
    job: &MirrorJob,
    journal: &Journal<'_>,
    (near, far): (&Inventory, &Inventory),
    report: &mut MirrorReport,
) -> Result<Vec<Vec<Named>>, RepositoryError> {
    let mut surplus: Vec<Vec<Named>> =
        ObjectKind::DELETED.iter().map(|&kind| far.surplus(near, kind)).collect();
    if job.options.delete_foreign {
        return Ok(surplus);
    }
    let removed = journal.removed_keys(&report.from)?;
    for objects in &mut surplus {
        objects.retain(|object| {
            let goes = object.kind != ObjectKind::Key || removed.contains(&object.key());
            if !goes {
                report.kept_keys.push(object.name.clone());
            }
            goes
        });
    }
    Ok(surplus)
}

/// Returns the reason why nothing may be deleted; `None` if deletions are allowed.
async fn refusal(
    job: &MirrorJob,
    known: &Known,
    (near, far): (&Inventory, &Inventory),
    surplus: &[Named],
) -> Result<Option<String>, RepositoryError> {
    let deletions = Deletions {
        known: known.snapshots.clone(),
        brought: known.brought.clone(),
        foreign: job.options.delete_foreign,
        max_percent: job.options.max_delete_percent,
        alarm: job.options.alarm.as_deref(),
    };
    if let Some(why) = deletions.refusal(near, far, surplus) {
        return Ok(Some(why));
    }
    if !surplus.iter().any(|object| matches!(object.kind, ObjectKind::Index | ObjectKind::Pack)) {
        return Ok(None);
    }
    let read = match &job.access {
        Some(access) => read_indexes(job, access, near, surplus).await,
        None => Err(RepositoryError::WrongPassword { location: job.from.location() }),
    };
    match read {
        Ok(indexes) => Ok(deletions.refusal_by_index(near, surplus, &indexes)),
        // Giving up foreign objects requires no password.
        Err(RepositoryError::WrongPassword { .. }) if job.options.delete_foreign => Ok(None),
        Err(RepositoryError::WrongPassword { location }) => Ok(Some(format!(
            "index files or packs are gone from {location}, and without its password it is impossible to know whether they were pruned or lost: \
             check `password` in the repository's table, or use --delete-foreign to delete them unseen"
        ))),
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Engine { .. })) => {
            Ok(Some(format!(
                "index files or packs are gone from the repository, and its index cannot be read: {}. Look at it with `kaleem-dr check` first",
                error_chain(&error)
            )))
        }
        Err(error) => Err(error),
    }
}

async fn read_indexes(
    job: &MirrorJob,
    access: &crate::engine::repository::Access,
    near: &Inventory,
    surplus: &[Named],
) -> Result<Indexes, RepositoryError> {
    let repository = Repository::open_in(job.from.clone(), access).await?;
    let keys: Vec<String> = near.keys(ObjectKind::Index).collect();
    let mut indexes =
        Indexes { near: repository.indexed_packs(&*job.from, keys).await?, only_far: Vec::new() };
    for object in surplus.iter().filter(|object| object.kind == ObjectKind::Index) {
        let named = match repository.indexed_packs(&*job.to, vec![object.key()]).await {
            Ok(named) => Some(named),
            Err(RepositoryError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        indexes.only_far.push((object.name.clone(), named));
    }
    Ok(indexes)
}

/// Copies what the far side needs, kind by kind, and records the progress.
async fn bring_all(
    job: &MirrorJob,
    journal: &Journal<'_>,
    (missing, new_config): (&[Vec<Named>], Option<&bytes::Bytes>),
    report: &mut MirrorReport,
    progress: &std::sync::Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let carrier = Carrier::new(job.from.clone(), job.to.clone(), cancel.clone());
    let bar = progress.begin(
        "replicating",
        Unit::Bytes,
        Some(missing.iter().flatten().map(|object| object.size_bytes).sum()),
    );
    for (kind, objects) in ObjectKind::WRITTEN.into_iter().zip(missing) {
        bring(&carrier, journal, objects, report, &*bar).await?;
        if let (ObjectKind::Key, Some(config)) = (kind, new_config) {
            // A key exists by now, so the config turns the location into a repository.
            unless_cancelled(cancel, write_config(job, config)).await?;
        }
    }
    bar.finish();
    Ok(())
}

async fn write_config(job: &MirrorJob, config: &bytes::Bytes) -> Result<(), RepositoryError> {
    job.to.write("config", vec![config.clone()]).await?;
    if inventory::config(&*job.to).await?.as_ref() != Some(config) {
        let why = "it reads back otherwise than it was written".to_owned();
        return Err(RepositoryError::Damaged { object: "config".to_owned(), why });
    }
    Ok(())
}

/// Copies the objects of one kind. The journal has each of them from before its transfer until it has arrived.
async fn bring(
    carrier: &Carrier,
    journal: &Journal<'_>,
    objects: &[Named],
    report: &mut MirrorReport,
    bar: &dyn StageProgress,
) -> Result<(), RepositoryError> {
    // Owned, because a future with borrowed items in its streams cannot be spawned.
    let chunks: Vec<Vec<Named>> =
        objects.chunks(super::journal::AT_ONCE).map(<[Named]>::to_vec).collect();
    let announced = chunks.into_iter().map(|chunk| {
        journal.begin(&chunk)?;
        Ok::<_, RepositoryError>(futures::stream::iter(
            chunk.into_iter().map(Ok::<_, RepositoryError>),
        ))
    });
    let announced = futures::stream::iter(announced).try_flatten();
    let brought = announced
        .map_ok(|object: Named| async move {
            let brought = carrier.bring(&object, bar).await?;
            Ok((object, brought))
        })
        .try_buffer_unordered(AT_ONCE);
    futures::pin_mut!(brought);
    let mut arrived = Arrivals::new(*journal);
    let ended = loop {
        match brought.try_next().await {
            Ok(Some((object, Brought::Whole))) => {
                report.copied.add(object.size_bytes);
                report.copied_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
                arrived.note(&object)?;
                failpoint::pass(Step::Replicate);
            }
            Ok(Some((object, Brought::Refused(why)))) => {
                report.wrong.push(format!("{}: {why}; it was not brought over", object.key()));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // Even after a failure: objects that have arrived need not be proven again.
    arrived.flush()?;
    ended
}

/// The reason why deletions must wait: another program reads the far side, or the near side has changed since it was listed.
async fn postponement(
    job: &MirrorJob,
    near: &Inventory,
) -> Result<Option<String>, RepositoryError> {
    if let Some(why) = in_use(job).await? {
        return Ok(Some(why));
    }
    for kind in [ObjectKind::Index, ObjectKind::Snapshot] {
        let now = inventory::list(&*job.from, kind).await?;
        if near.kind(kind).keys().any(|name| !now.contains_key(name)) {
            return Ok(Some(
                "the repository was pruned or forgotten from during this pass".to_owned(),
            ));
        }
    }
    Ok(None)
}

/// Reports whether another program uses the far side, and describes it.
async fn in_use(job: &MirrorJob) -> Result<Option<String>, RepositoryError> {
    let locks = inventory::live_locks(&*job.to, Timestamp::now()).await?;
    let Some(first) = locks.first() else { return Ok(None) };
    Ok(Some(format!(
        "{} lock(s) younger than 30 minutes are on the mirror ({}…): another program uses it",
        locks.len(),
        first.get(..8).unwrap_or(first)
    )))
}

/// Counts passes with pending deletions. One is normal; a mirror that postpones them forever only grows.
fn count_postponed(
    journal: &Journal<'_>,
    report: &mut MirrorReport,
) -> Result<(), RepositoryError> {
    if report.postponed.is_none() {
        return journal.not_postponed();
    }
    if let Some((since, passes)) = journal.postpone()? {
        report.postponed_since = Some(since);
        report.postponed_passes = passes;
        report.postponed_too_often = passes >= POSTPONED_PASSES;
    }
    Ok(())
}

async fn delete(
    job: &MirrorJob,
    journal: &Journal<'_>,
    surplus: &[Vec<Named>],
    report: &mut MirrorReport,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    for (kind, objects) in ObjectKind::DELETED.into_iter().zip(surplus) {
        if kind == ObjectKind::Pack {
            // A program that read the index before its files were deleted may still need their packs, and holds a lock by now.
            // One that comes later knows only the new index.
            report.postponed = unless_cancelled(cancel, in_use(job)).await?;
            if report.postponed.is_some() {
                return Ok(());
            }
        }
        let mut gone = futures::stream::iter(objects.clone())
            .map(|object: Named| {
                unless_cancelled(cancel, async move {
                    let key = object.key();
                    // Its absence from a listing proves nothing; it must also be missing when requested by name.
                    if job.from.size(&key).await?.is_some() {
                        return Err(RepositoryError::Changing { location: job.from.location() });
                    }
                    job.to.delete(&key).await?;
                    Ok(object)
                })
            })
            .buffer_unordered(DELETIONS_AT_ONCE);
        while let Some(object) = gone.try_next().await? {
            report.deleted.add(object.size_bytes);
            report.deleted_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
            failpoint::pass(Step::Replicate);
        }
        journal.gone(objects)?;
    }
    Ok(())
}
