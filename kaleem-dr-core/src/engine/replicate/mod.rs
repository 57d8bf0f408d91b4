//! Mirrors: a second store of the same repository, copied object by object, without its password.
//!
//! One pass lists both sides, copies what is missing and then deletes what was removed. Objects are copied in the order in which
//! they refer to each other (keys, config, packs, index, snapshots) and deleted in reverse. So the far side can be opened and
//! read at any time, even after an interrupted pass; the next one continues from there. Every object is compared on its way with
//! its name, the SHA-256 of its content.

mod guard;
mod inventory;
mod journal;
mod lost;
mod pass;
mod proof;
mod repair;
mod transfer;
mod withheld;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use self::inventory::{Inventory, Named};
pub use self::{
    inventory::ObjectKind,
    repair::{RepairOptions, RepairReport, repair},
};
#[cfg(feature = "ledger")]
use crate::engine::{ledger::Ledger, repository::Location};
use crate::{
    CancellationToken,
    engine::repository::{Access, RepositoryError, store::ObjectStore},
    ground::{Exit, RunId, progress::ProgressSink},
};

/// Number of concurrent deletions.
const DELETIONS_AT_ONCE: usize = 8;
/// Attempts to list both sides while the near one changes.
const LISTINGS: u32 = 4;

/// A pass of a mirror.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorJob {
    /// Id of the job that the pass belongs to.
    pub run: RunId,
    /// The store of the repository.
    pub from: Arc<dyn ObjectStore>,
    /// The mirror: an existing one, or an empty location.
    pub to: Arc<dyn ObjectStore>,
    /// Records the content of the mirror, which distinguishes forgotten snapshots from those of other programs. Without it, every
    /// snapshot that exists only on the far side counts as written by another program.
    #[cfg(feature = "ledger")]
    pub ledger: Option<Ledger>,
    /// Access to the repository, if its password is available: only its index shows if packs were pruned or lost. Without it, a
    /// pass copies everything, but deletes neither index files nor packs.
    pub access: Option<Access>,
    /// Options of the pass: what it may delete, and how much it verifies.
    pub options: MirrorOptions,
}

impl MirrorJob {
    /// A pass with the default options, without a ledger and without access to the repository: it copies, but deletes neither
    /// index files nor packs.
    #[must_use]
    pub fn new(from: Arc<dyn ObjectStore>, to: Arc<dyn ObjectStore>) -> Self {
        Self {
            run: RunId::new(),
            from,
            to,
            #[cfg(feature = "ledger")]
            ledger: None,
            access: None,
            options: MirrorOptions::default(),
        }
    }
}

/// Options of a pass.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own that an operator sets"
)]
#[non_exhaustive]
pub struct MirrorOptions {
    /// List both sides and plan; write nothing.
    pub dry_run: bool,
    /// Delete nothing on the far side.
    pub keep_all: bool,
    /// Delete also snapshots and keys on the far side that did not come from here.
    pub delete_foreign: bool,
    /// Fill a mirror again that had content before and is empty now.
    pub refill: bool,
    /// Limit for the share of snapshots, and of bytes in packs, that a pass may delete on the far side, in percent.
    pub max_delete_percent: u8,
    /// Share of the far side's bytes to read back and compare afterwards, in percent.
    pub verify_percent: f64,
    /// An alarm in force: it blocks all deletions.
    pub alarm: Option<String>,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            keep_all: false,
            delete_foreign: false,
            refill: false,
            max_delete_percent: 50,
            verify_percent: 0.0,
            alarm: None,
        }
    }
}

/// A number of objects, and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Count {
    /// Number of objects of the store.
    pub objects: u64,
    /// Total size of these objects, in bytes.
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

/// The result of a pass, or of its plan.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MirrorReport {
    /// Id of the job that the pass belongs to.
    pub run: RunId,
    /// Name of the repository, without credentials.
    pub from: String,
    /// Name of the mirror, without credentials.
    pub to: String,
    /// Start of the pass, by this machine's clock.
    pub started: Timestamp,
    /// End of the pass, by this machine's clock.
    pub finished: Timestamp,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Objects that the mirror had before the pass.
    pub unchanged: Count,
    /// Objects copied to the mirror.
    pub copied: Count,
    /// Number of snapshots among them.
    pub copied_snapshots: u64,
    /// Objects deleted on the far side.
    pub deleted: Count,
    /// Number of snapshots among them.
    pub deleted_snapshots: u64,
    /// The reason why a guard refused all deletions on the far side, with advice.
    pub refused: Option<String>,
    /// The reason why deletions wait for a later pass.
    pub postponed: Option<String>,
    /// Time of the first pass in a row that postponed deletions.
    pub postponed_since: Option<Timestamp>,
    /// Number of passes in a row that have postponed deletions, including this one.
    pub postponed_passes: u32,
    /// True if that number is so high that something must be wrong.
    #[serde(skip)]
    pub(crate) postponed_too_often: bool,
    /// Ids of keys that only the mirror has and that are kept there.
    pub kept_keys: Vec<String>,
    /// Number of snapshots, index files and keys that earlier passes copied and that the mirror has lost; they are copied again.
    pub lost: u64,
    /// Objects read back from the far side and found correct.
    pub verified: Count,
    /// Damaged or lost objects, as sentences.
    pub wrong: Vec<String>,
    /// Exit status of the pass.
    pub exit: Exit,
}

/// Makes a mirror equal to a repository. The caller records the event of the pass.
///
/// # Errors
/// [`RepositoryError::Guarded`] if the two are different repositories, or the near one no longer exists;
/// [`RepositoryError::Damaged`] with the name of a damaged object; [`RepositoryError::Changing`] if the near side keeps changing.
/// Objects copied until then are kept, and useful to the next pass. Deletions that guards refused are in the report.
pub async fn mirror(
    job: &MirrorJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<MirrorReport, RepositoryError> {
    pass::pass(job, MirrorReport::new(job), progress, cancel).await
}

/// The store of a mirror, ready to be filled. A directory that was a mirror before and is empty now is refused: its disk may not
/// be mounted.
///
/// # Errors
/// [`RepositoryError::Guarded`] if it was a mirror and is empty, or contains other data; other errors if it cannot be reached.
#[cfg(feature = "ledger")]
pub fn place(
    ledger: &Ledger,
    location: &Location,
    options: &MirrorOptions,
) -> Result<Arc<dyn ObjectStore>, RepositoryError> {
    let words = location.in_words();
    if let Some(path) = location.directory()
        && !options.refill
        && !path.join("config").exists()
        && journal::Journal::in_ledger(ledger, &words).was_filled()?.is_some()
    {
        return Err(emptied(ledger.held(&words)?.len(), &words));
    }
    location.store_to_fill()
}

/// The size of all objects that a mirror of this repository has, in bytes.
///
/// # Errors
/// If the repository cannot be listed.
pub async fn stored_bytes(store: &dyn ObjectStore) -> Result<u64, RepositoryError> {
    let inventory = Inventory::of(store).await?;
    let sizes = ObjectKind::WRITTEN.iter().flat_map(|&kind| inventory.kind(kind).values());
    Ok(sizes.sum())
}

/// The refusal to fill a mirror that an earlier pass filled and that is empty now.
fn emptied(held: usize, mirror: &str) -> RepositoryError {
    RepositoryError::Guarded(format!(
        "the mirror at {mirror} had {held} snapshot(s) after an earlier pass and has none now: is its disk mounted, is it the right \
         bucket? If it was lost and should be filled again, use --refill"
    ))
}

/// Runs work that is aborted as soon as the operator cancels.
async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, RepositoryError>>,
) -> Result<T, RepositoryError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(RepositoryError::Cancelled),
        done = work => done,
    }
}

impl MirrorReport {
    fn new(job: &MirrorJob) -> Self {
        let now = Timestamp::now();
        Self {
            run: job.run,
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
            postponed_since: None,
            postponed_passes: 0,
            postponed_too_often: false,
            kept_keys: Vec::new(),
            lost: 0,
            verified: Count::default(),
            wrong: Vec::new(),
            exit: Exit::Done,
        }
    }

    fn compare(&mut self, near: &Inventory, missing: &[Vec<Named>]) {
        for object in near.all() {
            self.unchanged.add(object.size_bytes);
        }
        for object in missing.iter().flatten() {
            self.unchanged.objects -= 1;
            self.unchanged.bytes -= object.size_bytes;
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
        } else if self.postponed_too_often {
            Exit::Partial
        } else {
            Exit::Done
        };
        self
    }
}
