//! Restores damaged objects from a replica.
//!
//! A mirror has the same objects under the same names, and a name is the hash of the content. So an object that no longer matches
//! its name is fetched from the mirror, compared, and replaces the damaged one. This needs no password.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Count, ObjectKind,
    inventory::{self, Inventory, Named},
    transfer::{Brought, Carrier},
    withheld::{Sides, Withheld},
};
use crate::{
    CancellationToken,
    engine::repository::{Access, RepositoryError, hashes_to_name, store::ObjectStore},
    ground::{
        Exit, RunId, error_chain,
        progress::{ProgressSink, Unit},
    },
};

/// Options of a repair from a mirror. The default repairs damaged objects only.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// Report damage without changing anything.
    pub dry_run: bool,
    /// Also fetch objects that only the replica has. After a forget or a prune that has not been replicated yet, this restores
    /// objects that were removed on purpose; they are then harmless garbage.
    pub missing: bool,
}

/// The result of a repair, or of its plan.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// Run id of the repair.
    pub run: RunId,
    /// Name of the repository, without credentials.
    pub repository: String,
    /// Name of the replica, without credentials.
    pub replica: String,
    /// Start of the repair, by this machine's clock.
    pub started: Timestamp,
    /// End of the repair, by this machine's clock.
    pub finished: Timestamp,
    /// True if nothing was changed.
    pub dry_run: bool,
    /// Objects read and found correct.
    pub sound: Count,
    /// Keys of damaged or missing objects that were restored, or could be in a dry run.
    pub repaired: Vec<String>,
    /// Objects that could not be restored, as sentences.
    pub unrepaired: Vec<String>,
    /// Number of missing index files that were restored without being examined, because the password is missing or wrong.
    pub unexamined: usize,
    /// Exit status of the repair.
    pub exit: Exit,
}

/// Reads every object of a repository, and restores damaged ones from a replica.
///
/// With the password in `access`, missing index files and snapshots are examined first: those that refer to data that neither
/// side has are not restored. Without it, they are restored as they are; a check shows whether they are whole.
///
/// # Errors
/// [`RepositoryError::Guarded`] if the two are not the same repository; errors of the stores. The report lists what could not be
/// repaired.
pub async fn repair(
    repository: &Arc<dyn ObjectStore>,
    replica: &Arc<dyn ObjectStore>,
    access: Option<&Access>,
    options: RepairOptions,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<RepairReport, RepositoryError> {
    let started = Timestamp::now();
    match (inventory::config(&**repository).await?, inventory::config(&**replica).await?) {
        (Some(near), Some(far)) if near == far => {}
        (_, None) => return Err(RepositoryError::NotFound { location: replica.location() }),
        (None, _) => {
            return Err(RepositoryError::Guarded(format!(
                "there is no repository at {}; `kaleem-dr replicate --from REPLICA --to HERE` brings a lost one back",
                repository.location()
            )));
        }
        _ => {
            return Err(RepositoryError::Guarded(format!(
                "{} is not a mirror of {}: their configs differ. A copy has its own packs and cannot repair others",
                replica.location(),
                repository.location()
            )));
        }
    }
    let (near, far) = (Inventory::of(&**repository).await?, Inventory::of(&**replica).await?);
    let mut report = RepairReport {
        run: RunId::new(),
        repository: repository.location(),
        replica: replica.location(),
        started,
        finished: started,
        dry_run: options.dry_run,
        sound: Count::default(),
        repaired: Vec::new(),
        unrepaired: Vec::new(),
        unexamined: 0,
        exit: Exit::Done,
    };
    let damaged = damaged(&**repository, &near, &mut report, progress, cancel).await?;
    let mut wanted = Vec::new();
    for object in &damaged {
        match far.kind(object.kind).get(&object.name) {
            Some(&size_bytes) => wanted.push(Named { size_bytes, ..object.clone() }),
            None => {
                report.unrepaired.push(format!("{}: the replica does not have it", object.key()));
            }
        }
    }
    if options.missing {
        let mut missing: Vec<Named> =
            ObjectKind::WRITTEN.iter().flat_map(|&kind| far.surplus(&near, kind)).collect();
        let sides = Sides { repository, near: &near, replica, far: &far, access };
        let withheld = Withheld::among(&missing, &damaged, &sides, progress, cancel).await?;
        missing.retain(|object| !withheld.has(object));
        wanted.extend(missing);
        wanted.extend(withheld.written_since);
        report.unrepaired.extend(withheld.why);
        report.unexamined = withheld.unexamined;
    }
    let carrier = Carrier::new(replica.clone(), repository.clone(), cancel.clone());
    let bar = progress.begin("repairing", Unit::Bytes, Some(Count::of(&wanted).bytes));
    // In the order of writing, so that no restored object refers to one that does not exist yet.
    for kind in ObjectKind::WRITTEN {
        for object in wanted.iter().filter(|object| object.kind == kind) {
            let key = object.key();
            let size_bytes = object.size_bytes;
            let fetched = if options.dry_run {
                hashes_to_name(&**replica, &key, size_bytes, &*bar, cancel).await?
            } else {
                match carrier.bring(object, &*bar).await {
                    Ok(Brought::Refused(why)) => Err(why),
                    Ok(Brought::Whole) => {
                        hashes_to_name(&**repository, &key, size_bytes, &*bar, cancel).await?
                    }
                    Err(RepositoryError::Cancelled) => return Err(RepositoryError::Cancelled),
                    Err(error) => Err(error_chain(&error)),
                }
            };
            match fetched {
                Ok(()) => report.repaired.push(key),
                Err(why) => report.unrepaired.push(format!("{key}: {why}")),
            }
        }
    }
    bar.finish();
    report.finished = Timestamp::now();
    // A dry run leaves the damage that it found.
    let damage_stays =
        !report.unrepaired.is_empty() || (options.dry_run && !report.repaired.is_empty());
    report.exit = if damage_stays { Exit::NotVerified } else { Exit::Done };
    Ok(report)
}

/// Reads everything, and returns the objects that do not match their names.
async fn damaged(
    store: &dyn ObjectStore,
    inventory: &Inventory,
    report: &mut RepairReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Vec<Named>, RepositoryError> {
    let objects: Vec<Named> = inventory.all().collect();
    let bar = progress.begin("reading every object", Unit::Bytes, Some(Count::of(&objects).bytes));
    let mut wrong = BTreeSet::new();
    let mut checks = futures::stream::iter(objects.iter().enumerate())
        .map(|(at, object)| {
            let bar = &*bar;
            async move {
                hashes_to_name(store, &object.key(), object.size_bytes, bar, cancel)
                    .await
                    .map(|verified| (at, verified))
            }
        })
        .buffer_unordered(4);
    while let Some((at, verified)) = checks.try_next().await? {
        match verified {
            Ok(()) => report.sound.add(objects[at].size_bytes),
            Err(why) => {
                tracing::warn!(object = %objects[at].key(), %why, "damaged");
                wrong.insert(at);
            }
        }
    }
    drop(checks);
    bar.finish();
    Ok(wrong.into_iter().map(|at| objects[at].clone()).collect())
}
