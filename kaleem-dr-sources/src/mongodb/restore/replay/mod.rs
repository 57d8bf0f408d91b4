//! Replays a captured oplog: the writes made while the collections were read, or afterwards.
//!
//! We do not use the server's `applyOps`, because it requires the right to do anything and supports only the original names of
//! collections. Instead, each write is applied here to the document in the target, and the result is written by `_id`. So a
//! replay works into any database, needs only ordinary permissions, and can be repeated. Its result is known: it updates the
//! digest of each collection, which is compared with the content afterwards. Indexes are built after the replay, so that a unique
//! index cannot reject a state between two entries.

mod batch;
mod command;
mod entries;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::PointReader,
        source::{Existing, RestoreRequest},
    },
};

use self::{batch::Batch, entries::Entries};
use super::{live::Live, writes::Writes};
use crate::mongodb::{
    dump::oplog,
    oplog::{CommandKind, End, Operation, Part, Window, Write},
    server::{
        Connection, ServerFacts,
        listing::{BUCKETS, CollectionKind},
    },
};

/// The oplog of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Oplog {
    pub(crate) path: String,
    pub(crate) window: Option<Window>,
    /// The collections belong to one moment only after it is replayed.
    pub(crate) is_needed: bool,
}

/// The oplog of a point: the one it needs, or else the one that `oplog = true` captured.
pub(crate) fn oplog(point: &PointReader) -> Option<Oplog> {
    let manifest = point.manifest();
    [(oplog::needed_path(), oplog::NEEDED_KEY, true), (oplog::path(), oplog::KEY, false)]
        .into_iter()
        .find(|(path, ..)| manifest.artifact(path).is_some())
        .map(|(path, key, is_needed)| {
            let window = manifest.details.get(key).and_then(Window::from_value);
            Oplog { path, window, is_needed }
        })
}

/// The entries that a restore replays.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// The point's own oplog.
    pub(crate) oplog: Option<Oplog>,
    /// The collections belong to the wanted moment only after the replay.
    pub(crate) is_needed: bool,
    /// The last entry, in words; empty if unknown.
    pub(crate) end: String,
}

impl Log {
    /// The log that a request replays; `None` if it replays nothing.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if the log is needed but cannot be replayed.
    pub(crate) fn of(
        point: &PointReader,
        request: &RestoreRequest,
        writes: &Writes,
    ) -> Result<Option<Self>, SourceError> {
        let (own, tail) = (oplog(point), point.log());
        let is_needed = tail.is_some() || own.as_ref().is_some_and(|own| own.is_needed);
        if request.existing == Existing::Merge {
            return if is_needed {
                Err(SourceError::Refused(
                    "a merge cannot replay an oplog, which brings this point's collections to one moment: restore it next to the live \
                     data, or let it replace them"
                        .to_owned(),
                ))
            } else {
                Ok(None)
            };
        }
        // Slices continue from the moment that the collections represent, so an oplog that is not needed for it is left out.
        let own = own.filter(|own| own.is_needed || (writes.replays && tail.is_none()));
        if own.is_none() && tail.is_none() {
            return Ok(None);
        }
        let end = match (tail, own.as_ref().and_then(|own| own.window)) {
            (Some(tail), _) => {
                format!(" to the state just before {} ({})", tail.until.time(), tail.until)
            }
            (None, Some(window)) => format!(" up to ({}, {})", window.to.time, window.to.increment),
            (None, None) => String::new(),
        };
        Ok(Some(Self { oplog: own, is_needed, end }))
    }
}

/// The effects of an oplog apart from writes to the collections of the point.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) entries: u64,
    /// Collections created during the capture: database and name.
    pub(crate) made: Vec<(String, String)>,
}

/// Checks every entry. Sends nothing to the server.
///
/// # Errors
/// [`SourceError::Refused`] if an entry cannot be replayed.
pub(crate) async fn survey(point: &PointReader, log: &Log) -> Result<Survey, SourceError> {
    let mut entries = Entries::of(point, log);
    let mut survey = Survey::default();
    while let Some(operation) = entries.next().await? {
        survey.entries += 1;
        if let Operation::Command(command) = &operation
            && let CommandKind::Create(name, _) = &command.kind
        {
            survey.made.push((command.database.clone(), name.clone()));
        }
    }
    Ok(survey)
}

/// The parameters of a replay.
pub(crate) struct Replay<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) facts: &'a ServerFacts,
    pub(crate) writes: &'a Writes,
    /// The target of each database of the point.
    pub(crate) databases: &'a BTreeMap<String, String>,
    /// Also restore collections created during the capture: true if all of the point is restored.
    pub(crate) takes_new: bool,
}

/// The result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) entries: u64,
    pub(crate) documents: u64,
}

impl Replay<'_> {
    /// Replays every entry in order.
    ///
    /// # Errors
    /// If an entry cannot be replayed or the server rejects a write: the target is then between two moments.
    pub(crate) async fn run(
        &self,
        point: &PointReader,
        log: &Log,
        live: &mut Vec<Live>,
    ) -> Result<Replayed, SourceError> {
        let mut entries = Entries::of(point, log);
        let mut work = Work {
            replay: self,
            live,
            batch: Batch::default(),
            open: HashMap::new(),
            places: HashMap::new(),
            replayed: Replayed::default(),
        };
        while let Some(operation) = entries.next().await? {
            work.replayed.entries += 1;
            work.take(operation).await?;
        }
        work.flush().await?;
        Ok(work.replayed)
    }
}

/// A replay in progress.
struct Work<'a, 'b> {
    replay: &'a Replay<'b>,
    live: &'a mut Vec<Live>,
    batch: Batch,
    /// Operations of transactions that are not committed yet.
    open: HashMap<Vec<u8>, Vec<Operation>>,
    /// The last known place of each UUID among the live ones: most entries are writes, and there may be thousands of collections.
    places: HashMap<String, usize>,
    replayed: Replayed,
}

impl Work<'_, '_> {
    async fn take(&mut self, operation: Operation) -> Result<(), SourceError> {
        let mut waiting = vec![operation];
        while let Some(operation) = waiting.pop() {
            match operation {
                Operation::Nothing => {}
                Operation::Group(inner) => waiting.extend(inner.into_iter().rev()),
                Operation::Transaction(part) => {
                    waiting.extend(self.transaction(part).into_iter().rev());
                }
                Operation::Write(write) if write.collection == "system.views" => {
                    self.flush().await?;
                    self.view(&write).await?;
                }
                Operation::Write(write) => self.write(write).await?,
                Operation::Command(command) => {
                    self.flush().await?;
                    self.command(command).await?;
                }
            }
        }
        Ok(())
    }

    /// Holds back the operations of a transaction, and returns them when it is committed.
    fn transaction(&mut self, part: Part) -> Vec<Operation> {
        let mut operations = self.open.remove(&part.key).unwrap_or_default();
        operations.extend(part.operations);
        match part.end {
            End::Committed => operations,
            End::Aborted => Vec::new(),
            End::Open => {
                self.open.insert(part.key, operations);
                Vec::new()
            }
        }
    }

    async fn write(&mut self, write: Write) -> Result<(), SourceError> {
        let at = match self.find(&write.database, &write.collection, write.uuid.as_deref()) {
            Found::At(at) => at,
            Found::Other => return Ok(()),
            Found::None => {
                // Some servers log no `create` before the first document.
                match self.make_plain(&write).await? {
                    Some(at) => at,
                    None => return Ok(()),
                }
            }
        };
        if self.live[at].spec.kind == CollectionKind::View {
            return Ok(());
        }
        self.live[at].is_touched = true;
        self.batch.push(at, write.id, write.change);
        if self.batch.is_full() { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), SourceError> {
        let batch = std::mem::take(&mut self.batch);
        let (replay, live) = (self.replay, &mut *self.live);
        self.replayed.documents += batch.apply(replay, live).await?;
        Ok(())
    }

    /// Finds the collection of an entry. Entries identify it by UUID, because a name may pass from one collection to another;
    /// some servers change the UUID with the name, or have none.
    fn find(&mut self, database: &str, collection: &str, uuid: Option<&str>) -> Found {
        if let Some(uuid) = uuid {
            let is = |live: &Live| live.uuid.as_deref() == Some(uuid) && !live.is_gone;
            let known = self.places.get(uuid).copied();
            let known = known.filter(|at| self.live.get(*at).is_some_and(is));
            if let Some(at) = known.or_else(|| self.live.iter().position(is)) {
                self.places.insert(uuid.to_owned(), at);
                return Found::At(at);
            }
        }
        let name = collection.strip_prefix(BUCKETS).unwrap_or(collection);
        let by_name =
            |live: &Live| !live.is_gone && live.source.0 == database && live.source.1 == name;
        match self.live.iter().position(by_name) {
            Some(at) if uuid.is_none() || self.live[at].uuid.is_none() => Found::At(at),
            Some(at) if self.live[at].spec.kind == CollectionKind::TimeSeries => Found::At(at),
            // It had the name earlier, or will have it.
            Some(_) => Found::Other,
            None => Found::None,
        }
    }

    fn odd(&self, action: &str, why: impl Into<String>) -> SourceError {
        self.replay.connection.odd_answer(action, why)
    }
}

/// The collection of an entry in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It exists, at this index among the live ones.
    At(usize),
    /// Another collection has its name.
    Other,
    None,
}
