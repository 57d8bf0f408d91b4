//! Mirrors: the same repository a second time, object by object, without its password.
//!
//! One pass lists both sides, brings over what is missing and then deletes what went. Objects travel in the order in which
//! they refer to each other (keys, config, packs, index, snapshots) and leave in reverse, so the far side can be opened and
//! read at every moment, also when a pass is cut short; the next one goes on where it ended. Every object is compared with
//! its name, the SHA-256 of its content, on its way.

mod guard;
mod inventory;
mod repair;
mod transfer;

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::Serialize;

use self::{
    guard::Deletions,
    inventory::{Inventory, Named},
    transfer::{AT_ONCE, Carrier},
};
pub use self::{
    inventory::ObjectKind,
    repair::{RepairOptions, RepairReport, repair},
};
use crate::{
    CancellationToken,
    exit::Exit,
    failpoint::{self, Step},
    job::RunId,
    ledger::{Event, EventKind, Ledger, LedgerError},
    progress::{ProgressSink, Silent, Unit},
    repository::{RepositoryError, hashes_to_name, store::ObjectStore},
    sentence,
};

/// Deletions under way at once.
const DELETIONS_AT_ONCE: usize = 8;
/// Length of the pieces in which an object is read for its proof.
const PROOF_BYTES: u64 = 8 << 20;
/// How often both sides are listed again when the near one changes meanwhile.
const LISTINGS: u32 = 4;

/// A pass of a mirror.
#[derive(Clone, Debug)]
pub struct MirrorJob {
    /// The repository.
    pub from: Arc<dyn ObjectStore>,
    /// Its mirror: an earlier one, or an empty place.
    pub to: Arc<dyn ObjectStore>,
    /// Remembers what the mirror holds, to tell forgotten snapshots from those of others. Without one, every snapshot that is only
    /// on the far side counts as somebody else's.
    pub ledger: Option<Ledger>,
    /// How it goes.
    pub options: MirrorOptions,
}

/// How a pass goes.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// List and plan only.
    pub dry_run: bool,
    /// Delete nothing on the far side.
    pub keep_all: bool,
    /// Delete also snapshots on the far side that did not come from here.
    pub delete_foreign: bool,
    /// Largest share of snapshots, and of bytes in packs, that a pass may delete on the far side, in percent.
    pub max_delete_percent: u8,
    /// Share of the far side's bytes to read back and compare afterwards, in percent.
    pub verify_percent: f64,
    /// An alarm that stands: with one, nothing is deleted.
    pub alarm: Option<String>,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self { dry_run: false, keep_all: false, delete_foreign: false, max_delete_percent: 50, verify_percent: 0.0, alarm: None }
    }
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, size_bytes: u64) {
        self.objects += 1;
        self.bytes += size_bytes;
    }

    fn of(objects: &[Named]) -> Self {
        let mut count = Self::default();
        for object in objects {
            count.add(object.size_bytes);
        }
        count
    }
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct MirrorReport {
    /// Its id.
    pub run: RunId,
    /// The repository, in words.
    pub from: String,
    /// The mirror, in words.
    pub to: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether it was a plan only.
    pub dry_run: bool,
    /// Objects that were there already.
    pub unchanged: Count,
    /// Objects brought over.
    pub copied: Count,
    /// Snapshots among them.
    pub copied_snapshots: u64,
    /// Objects deleted on the far side.
    pub deleted: Count,
    /// Snapshots among them.
    pub deleted_snapshots: u64,
    /// Why a guard kept everything on the far side, and what to do.
    pub refused: Option<String>,
    /// Why deletions wait for a later pass.
    pub postponed: Option<String>,
    /// Objects read back from the far side and found right.
    pub verified: Count,
    /// Objects on the far side that are not what they should be, in sentences.
    pub wrong: Vec<String>,
    /// How it ended.
    pub exit: Exit,
}

/// Makes a mirror equal to a repository.
///
/// # Errors
/// [`RepositoryError::Guarded`] when the two are different repositories, or the near one is gone; [`RepositoryError::Damaged`] names
/// an object that is not what it should be; [`RepositoryError::Changing`] when the near side does not hold still. What was brought
/// over until then stays, and is of use to the next pass. What guards kept from being deleted is in the report.
pub async fn mirror(
    job: &MirrorJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<MirrorReport, RepositoryError> {
    let begun = MirrorReport::new(job);
    let result = pass(job, begun.clone(), progress, cancel).await;
    if let Some(ledger) = &job.ledger {
        let (exit, report) = match &result {
            Ok(report) => (report.exit, serde_json::to_value(report).unwrap_or_default()),
            Err(error) => (error.into(), serde_json::json!({ "from": begun.from, "to": begun.to, "error": sentence(error) })),
        };
        ledger.record(&Event {
            run: begun.run,
            kind: EventKind::Replicate,
            repository: begun.to,
            started: begun.started,
            finished: Timestamp::now(),
            exit,
            report,
            parts: Vec::new(),
        })?;
    }
    result
}

/// Puts a pass into the ledger that could not begin: one of its sides could not be had.
///
/// # Errors
/// When the ledger cannot be written.
pub fn record_not_begun(ledger: &Ledger, to: &str, exit: Exit, why: &str) -> Result<(), LedgerError> {
    let now = Timestamp::now();
    ledger.record(&Event {
        run: RunId::new(),
        kind: EventKind::Replicate,
        repository: to.to_owned(),
        started: now,
        finished: now,
        exit,
        report: serde_json::json!({ "to": to, "error": why }),
        parts: Vec::new(),
    })
}

async fn pass(
    job: &MirrorJob,
    mut report: MirrorReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<MirrorReport, RepositoryError> {
    let new_config = same_repository(job).await?;
    let (near, far) = list_both(job, new_config.is_some()).await?;
    let begun = match &job.ledger {
        Some(ledger) => ledger.begun(&report.to)?,
        None => BTreeSet::new(),
    };
    let mut missing: Vec<Vec<Named>> = ObjectKind::WRITTEN.iter().map(|&kind| near.beyond(&far, kind)).collect();
    for (kind, objects) in ObjectKind::WRITTEN.into_iter().zip(&mut missing) {
        objects.extend(unproven(job, kind, &near, &far, &begun, cancel).await?);
    }
    let surplus: Vec<Vec<Named>> = ObjectKind::DELETED.iter().map(|&kind| far.surplus(&near, kind)).collect();
    for object in near.all() {
        report.unchanged.add(object.size_bytes);
    }
    for object in missing.iter().flatten() {
        report.unchanged.objects -= 1;
        report.unchanged.bytes -= object.size_bytes;
    }
    let mut known = match &job.ledger {
        Some(ledger) => ledger.mirrored(&report.to)?,
        None => BTreeSet::new(),
    };
    let before = known.clone();
    known.extend(near.names(ObjectKind::Snapshot));
    let deletions = Deletions {
        known: known.clone(),
        foreign: job.options.delete_foreign,
        max_percent: job.options.max_delete_percent,
        alarm: job.options.alarm.as_deref(),
    };
    report.refused = if job.options.keep_all { None } else { deletions.refusal(&near, &far) };
    if job.options.dry_run {
        report.plan(&missing, if job.options.keep_all { &[] } else { &surplus });
        return Ok(report.ended(cancel));
    }

    let wanted: BTreeSet<String> = missing.iter().flatten().map(Named::key).collect();
    if let Some(ledger) = &job.ledger {
        // Before any of them is there: a pass that is cut short must not take its own snapshots for somebody else's.
        // Each is a synced write, so one that changes nothing is left out.
        if known != before {
            ledger.set_mirrored(&report.to, &known)?;
        }
        if wanted != begun {
            ledger.set_begun(&report.to, &wanted)?;
        }
    }
    let carrier = Carrier::new(job.from.clone(), job.to.clone(), cancel.clone());
    let bar = progress.begin("replicating", Unit::Bytes, Some(missing.iter().flatten().map(|object| object.size_bytes).sum()));
    for (kind, objects) in ObjectKind::WRITTEN.into_iter().zip(&missing) {
        let mut brought = futures::stream::iter(objects)
            .map(|object| {
                let (carrier, bar) = (&carrier, &*bar);
                async move { carrier.bring(object, bar).await.map(|()| object) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some(object) = brought.try_next().await? {
            report.copied.add(object.size_bytes);
            report.copied_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
            failpoint::pass(Step::Replicate);
        }
        if let (ObjectKind::Key, Some(config)) = (kind, &new_config) {
            // With a key there, the config makes a repository of the place.
            job.to.write("config", vec![config.clone()]).await?;
            if inventory::config(&*job.to).await?.as_ref() != Some(config) {
                let why = "it reads back otherwise than it was written".to_owned();
                return Err(RepositoryError::Damaged { object: "config".to_owned(), why });
            }
        }
    }
    bar.finish();
    if let Some(ledger) = job.ledger.as_ref().filter(|_| !wanted.is_empty()) {
        ledger.set_begun(&report.to, &BTreeSet::new())?;
    }

    if report.refused.is_none() && !job.options.keep_all && surplus.iter().any(|objects| !objects.is_empty()) {
        report.postponed = postponement(job, &near).await?;
        if report.postponed.is_none() {
            delete(job, &surplus, &mut report, cancel).await?;
            if let Some(ledger) = &job.ledger {
                ledger.set_mirrored(&report.to, &near.names(ObjectKind::Snapshot))?;
            }
        }
    }
    if job.options.verify_percent > 0.0 {
        verify(job, &mut report, progress, cancel).await?;
    }
    Ok(report.ended(cancel))
}

/// Compares the configs. Gives the one that the far side still needs.
async fn same_repository(job: &MirrorJob) -> Result<Option<bytes::Bytes>, RepositoryError> {
    let (near, far) = futures::try_join!(inventory::config(&*job.from), inventory::config(&*job.to))?;
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

/// What an earlier pass began, and the far side now lists with the right length, may still be wrong: some services keep what
/// they refused. The ETag tells, or else the content; what neither proves is brought over again.
async fn unproven(
    job: &MirrorJob,
    kind: ObjectKind,
    near: &Inventory,
    far: &Inventory,
    begun: &BTreeSet<String>,
    cancel: &CancellationToken,
) -> Result<Vec<Named>, RepositoryError> {
    let mut unproven = Vec::new();
    for (name, &size_bytes) in near.kind(kind).iter().filter(|(name, size)| far.kind(kind).get(*name) == Some(size)) {
        let object = Named { kind, name: name.clone(), size_bytes };
        let key = object.key();
        if !begun.contains(&key) || is_md5_of(far.etag(name), &*job.from, &key, size_bytes).await? {
            continue;
        }
        if let Err(why) = hashes_to_name(&*job.to, &key, size_bytes, &Silent, cancel).await? {
            tracing::warn!(object = %key, %why, "an earlier pass left it wrong; bringing it over again");
            unproven.push(object);
        }
    }
    Ok(unproven)
}

/// Whether an ETag is the MD5 of an object's content.
async fn is_md5_of(etag: Option<&str>, store: &dyn ObjectStore, key: &str, size_bytes: u64) -> Result<bool, RepositoryError> {
    let Some(etag) = etag else { return Ok(false) };
    let (mut digest, mut at) = (Md5::new(), 0);
    while at < size_bytes {
        let end = size_bytes.min(at + PROOF_BYTES);
        digest.update(&store.read(key, Some(at..end)).await?);
        at = end;
    }
    Ok(hex::encode(digest.finalize()) == etag)
}

/// Both sides as they are. A prune on the near side between two of its listings would pair an old index with new packs; so its
/// index is looked at again whenever there is something to do.
async fn list_both(job: &MirrorJob, new: bool) -> Result<(Inventory, Inventory), RepositoryError> {
    let (mut near, far) = futures::try_join!(Inventory::of(&*job.from), Inventory::of(&*job.to))?;
    if new && !far.kind(ObjectKind::Snapshot).is_empty() {
        return Err(RepositoryError::Guarded(format!(
            "{} holds snapshots but no config: it is the rest of some repository. Name an empty place",
            job.to.location()
        )));
    }
    for _ in 0..LISTINGS {
        let equal = ObjectKind::WRITTEN.iter().all(|&kind| near.kind(kind) == far.kind(kind));
        if equal || inventory::list(&*job.from, ObjectKind::Index).await? == *near.kind(ObjectKind::Index) {
            return Ok((near, far));
        }
        tracing::info!("the repository changed while it was listed; listing it again");
        near = Inventory::of(&*job.from).await?;
    }
    Err(RepositoryError::Changing { location: job.from.location() })
}

/// Why deletions must wait: somebody reads the far side, or the near side has changed since it was listed.
async fn postponement(job: &MirrorJob, near: &Inventory) -> Result<Option<String>, RepositoryError> {
    if let Some(why) = in_use(job).await? {
        return Ok(Some(why));
    }
    for kind in [ObjectKind::Index, ObjectKind::Snapshot] {
        let now = inventory::list(&*job.from, kind).await?;
        if near.kind(kind).keys().any(|name| !now.contains_key(name)) {
            return Ok(Some("the repository was pruned or forgotten from during this pass".to_owned()));
        }
    }
    Ok(None)
}

/// Whether somebody uses the far side, in a sentence.
async fn in_use(job: &MirrorJob) -> Result<Option<String>, RepositoryError> {
    let locks = inventory::live_locks(&*job.to, Timestamp::now()).await?;
    Ok((locks > 0).then(|| format!("{locks} lock(s) younger than 30 minutes are on the mirror: somebody uses it")))
}

async fn delete(
    job: &MirrorJob,
    surplus: &[Vec<Named>],
    report: &mut MirrorReport,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    for (kind, objects) in ObjectKind::DELETED.into_iter().zip(surplus) {
        if kind == ObjectKind::Pack {
            // Who read the index before its files went may still want their packs, and holds a lock by now. Who comes later knows
            // the new index only.
            report.postponed = in_use(job).await?;
            if report.postponed.is_some() {
                return Ok(());
            }
        }
        let mut gone = futures::stream::iter(objects)
            .map(|object| async move {
                let key = object.key();
                if cancel.is_cancelled() {
                    return Err(RepositoryError::Cancelled);
                }
                // A listing that left it out is no proof; asked for by name, it must be missing too.
                if job.from.size(&key).await?.is_some() {
                    return Err(RepositoryError::Changing { location: job.from.location() });
                }
                job.to.delete(&key).await?;
                Ok(object)
            })
            .buffer_unordered(DELETIONS_AT_ONCE);
        while let Some(object) = gone.try_next().await? {
            report.deleted.add(object.size_bytes);
            report.deleted_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
            failpoint::pass(Step::Replicate);
        }
    }
    Ok(())
}

/// Reads a share of the far side back, drawn at random, all kinds alike.
async fn verify(
    job: &MirrorJob,
    report: &mut MirrorReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let mut objects: Vec<Named> = Inventory::of(&*job.to).await?.all().collect();
    draw(&mut objects, job.options.verify_percent);
    let bar = progress.begin("verifying", Unit::Bytes, Some(Count::of(&objects).bytes));
    let mut checks = futures::stream::iter(&objects)
        .map(|object| {
            let bar = &*bar;
            async move {
                hashes_to_name(&*job.to, &object.key(), object.size_bytes, bar, cancel).await.map(|verified| (object, verified))
            }
        })
        .buffer_unordered(4);
    while let Some((object, verified)) = checks.try_next().await? {
        match verified {
            Ok(()) => report.verified.add(object.size_bytes),
            Err(why) => report.wrong.push(format!("{}: {why}", object.key())),
        }
    }
    bar.finish();
    Ok(())
}

/// Keeps objects at random until their bytes are the share; at least one.
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

impl MirrorReport {
    fn new(job: &MirrorJob) -> Self {
        let now = Timestamp::now();
        Self {
            run: RunId::new(),
            from: job.from.location(),
            to: job.to.location(),
            started: now,
            finished: now,
            dry_run: job.options.dry_run,
            unchanged: Count::default(),
            copied: Count::default(),
            copied_snapshots: 0,
            deleted: Count::default(),
            deleted_snapshots: 0,
            refused: None,
            postponed: None,
            verified: Count::default(),
            wrong: Vec::new(),
            exit: Exit::Done,
        }
    }

    fn plan(&mut self, missing: &[Vec<Named>], surplus: &[Vec<Named>]) {
        for object in missing.iter().flatten() {
            self.copied.add(object.size_bytes);
            self.copied_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
        }
        for object in surplus.iter().flatten() {
            self.deleted.add(object.size_bytes);
            self.deleted_snapshots += u64::from(object.kind == ObjectKind::Snapshot);
        }
    }

    fn ended(mut self, cancel: &CancellationToken) -> Self {
        self.finished = Timestamp::now();
        self.exit = if cancel.is_cancelled() {
            Exit::Cancelled
        } else if !self.wrong.is_empty() {
            Exit::NotVerified
        } else if self.refused.is_some() {
            Exit::Refused
        } else {
            Exit::Done
        };
        self
    }
}
