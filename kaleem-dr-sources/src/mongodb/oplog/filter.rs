//! Selects the entries of an oplog that a capture keeps: those that concern the captured collections.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp};

use super::{CommandKind, End, Operation, Part, parse, time, uuid};
use crate::mongodb::{
    dump::moment::Moment,
    server::listing::{BUCKETS, CollectionKind, CollectionSpec, Scope},
};

/// Keeps entries of the captured collections, and checks that they compensate for what the reads missed.
pub(crate) struct Filter<'a> {
    scope: &'a Scope,
    moment: &'a Moment,
    /// The listed collections, by the names that they have at the entry.
    listed: BTreeMap<String, Listed>,
    /// Collections that no longer existed at the end of their read, and for which no entry has given the reason yet.
    missing: BTreeSet<String>,
    /// Transactions in progress that span several entries.
    open: HashSet<Vec<u8>>,
    /// The entries are a slice: what they lack is in the slices before it.
    is_slice: bool,
}

/// A collection as it was listed before the reads.
struct Listed {
    name: String,
    uuid: Option<String>,
    /// It was renamed before it was completely read.
    is_moved: bool,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(scope: &'a Scope, listed: &[CollectionSpec], moment: &'a Moment) -> Self {
        let read = listed.iter().filter(|spec| spec.kind != CollectionKind::View);
        let missing = read
            .map(CollectionSpec::namespace)
            .filter(|namespace| !moment.is_finished(namespace))
            .collect();
        let listed = listed.iter().map(|spec| {
            let (name, uuid) = (spec.namespace(), spec.uuid.clone());
            (name.clone(), Listed { name, uuid, is_moved: false })
        });
        let listed = listed.collect();
        Self { scope, moment, listed, missing, open: HashSet::new(), is_slice: false }
    }

    /// A filter for a slice of the oplog, which belongs to no reads: `moment` has no start.
    pub(crate) fn of_slice(scope: &'a Scope, moment: &'a Moment) -> Self {
        Self { is_slice: true, ..Self::new(scope, &[], moment) }
    }

    /// Returns an entry without the operations on anything that is not captured; `None` if none remain.
    ///
    /// # Errors
    /// The reason why a replay of the oplog could not bring the captured collections to its end.
    pub(crate) fn keep(&mut self, entry: &RawDocument) -> Result<Option<Vec<u8>>, String> {
        let (at, is_slice) = (time(entry)?, self.is_slice);
        let of_entry = |why: String| {
            format!(
                "the oplog's entry ({}, {}) {why}, which no replay follows: {}",
                at.time,
                at.increment,
                if is_slice {
                    "a backup after it is needed"
                } else {
                    "run the capture again, or set consistency = \"per-collection\""
                }
            )
        };
        let operation = parse(entry).map_err(of_entry)?;
        let whole = || Ok(Some(entry.as_bytes().to_vec()));
        match operation {
            Operation::Transaction(part) => {
                self.follow(&part).map_err(of_entry)?;
                self.without_others(entry, &part.operations, true)
            }
            // Earlier entries count only as parts of a transaction that was still in progress.
            _ if self.moment.oplog_after().is_some_and(|after| at <= after) => Ok(None),
            Operation::Group(operations) => self.without_others(entry, &operations, false),
            Operation::Command(ref command) => {
                let named = uuid(entry);
                match self.command(&command.database, &command.kind, at, named.as_deref())? {
                    Kept::Whole => whole(),
                    Kept::Nothing => Ok(None),
                    Kept::AsDrop(collection) => as_drop(entry, &collection).map(Some),
                }
            }
            operation if self.takes(&operation) => whole(),
            _ => Ok(None),
        }
    }

    /// Must be called after the last entry.
    ///
    /// # Errors
    /// If a collection is gone and the oplog does not show when.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.missing.first() {
            None => Ok(()),
            Some(missing) => Err(format!(
                "{missing} was dropped or recreated while it was read, and the oplog does not show when: run the capture again"
            )),
        }
    }

    /// Follows a transaction that spans several entries.
    fn follow(&mut self, part: &Part) -> Result<(), String> {
        let is_known = self.open.contains(&part.key);
        if part.is_continued && !is_known && part.end == End::Committed && !self.is_slice {
            return Err(
                "ends a transaction that began before the part of the oplog at hand".to_owned()
            );
        }
        match part.end {
            End::Open => self.open.insert(part.key.clone()),
            End::Committed | End::Aborted => self.open.remove(&part.key),
        };
        Ok(())
    }

    fn takes_name(&self, database: &str, collection: &str) -> bool {
        let name = collection.strip_prefix(BUCKETS).unwrap_or(collection);
        if collection == "system.views" {
            return self.scope.takes_database(database);
        }
        self.scope.takes_name(database, name)
    }

    fn takes(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Write(write) => self.takes_name(&write.database, &write.collection),
            Operation::Group(operations) => operations.iter().any(|inner| self.takes(inner)),
            // Transactions can create collections and indexes.
            Operation::Command(command) => match &command.kind {
                CommandKind::Create(name, _) | CommandKind::CreateIndexes(name, _) => {
                    self.takes_name(&command.database, name)
                }
                _ => self.scope.takes_database(&command.database),
            },
            Operation::Nothing | Operation::Transaction(_) => false,
        }
    }

    /// An entry without the operations on what is not captured.
    fn without_others(
        &self,
        entry: &RawDocument,
        operations: &[Operation],
        also_empty: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let taken: Vec<bool> = operations.iter().map(|inner| self.takes(inner)).collect();
        if !also_empty && !taken.contains(&true) {
            return Ok(None);
        }
        if !taken.contains(&false) {
            return Ok(Some(entry.as_bytes().to_vec()));
        }
        let mut entry = Document::try_from(entry).map_err(|error| error.to_string())?;
        if let Ok(body) = entry.get_document_mut("o")
            && let Ok(inner) = body.get_array_mut("applyOps")
        {
            let mut taken = taken.into_iter();
            inner.retain(|_| taken.next().unwrap_or(true));
        }
        bytes(&entry).map(Some)
    }

    fn command(
        &mut self,
        database: &str,
        kind: &CommandKind,
        at: Timestamp,
        uuid: Option<&str>,
    ) -> Result<Kept, String> {
        let whole_if = |taken| if taken { Kept::Whole } else { Kept::Nothing };
        match kind {
            CommandKind::DropDatabase => {
                if self.scope.takes_database(database) {
                    let prefix = format!("{database}.");
                    self.missing.retain(|namespace| !namespace.starts_with(&prefix));
                }
                Ok(whole_if(self.scope.takes_database(database)))
            }
            CommandKind::Drop(name) => {
                let name = name.strip_prefix(BUCKETS).unwrap_or(name);
                self.missing.remove(&format!("{database}.{name}"));
                Ok(whole_if(self.takes_name(database, name)))
            }
            CommandKind::Rename { from, to, .. } => {
                self.renamed(database, from, &to.0, &to.1, at, uuid)
            }
            CommandKind::Create(name, _)
            | CommandKind::CreateIndexes(name, _)
            | CommandKind::DropIndexes(name, _)
            | CommandKind::Modify(name, _)
            | CommandKind::ConvertToCapped(name, _)
            | CommandKind::Empty(name) => Ok(whole_if(self.takes_name(database, name))),
        }
    }

    fn renamed(
        &mut self,
        database: &str,
        from: &str,
        to_database: &str,
        to: &str,
        at: Timestamp,
        uuid: Option<&str>,
    ) -> Result<Kept, String> {
        let (was, is) = (self.takes_name(database, from), self.takes_name(to_database, to));
        let (old, new) = (format!("{database}.{from}"), format!("{to_database}.{to}"));
        // The replaced collection.
        self.missing.remove(&new);
        let mut of = self.listed.remove(&old).filter(|listed| {
            listed.uuid.is_none() || uuid.is_none() || listed.uuid.as_deref() == uuid
        });
        if let Some(of) = of.as_mut().filter(|_| was && is)
            && !self.moment.is_finished_before(&of.name, at)
        {
            // Its read goes on under the new name. After two renames it may have missed one of the names.
            if of.is_moved || of.uuid.is_none() || uuid.is_none() {
                return Err(format!(
                    "{old} was renamed to {new} while it was read: run the capture again"
                ));
            }
            of.is_moved = true;
        }
        if let Some(of) = of {
            self.listed.insert(new.clone(), of);
        }
        if was && is && self.missing.remove(&old) {
            self.missing.insert(new.clone());
        }
        match (was, is) {
            (true, true) => Ok(Kept::Whole),
            (false, false) => Ok(Kept::Nothing),
            (true, false) => {
                self.missing.remove(&old);
                Ok(Kept::AsDrop(from.to_owned()))
            }
            (false, true) => Err(format!(
                "{old}, which is not captured, became {new}, which is, during the capture: run the capture again"
            )),
        }
    }
}

/// The part of a command to keep.
enum Kept {
    Whole,
    Nothing,
    /// To the captured collections, the command amounts to a drop of this one.
    AsDrop(String),
}

fn as_drop(entry: &RawDocument, collection: &str) -> Result<Vec<u8>, String> {
    let mut entry = Document::try_from(entry).map_err(|error| error.to_string())?;
    let mut drop = Document::new();
    drop.insert("drop", Bson::String(collection.to_owned()));
    entry.insert("o", drop);
    bytes(&entry)
}

fn bytes(entry: &Document) -> Result<Vec<u8>, String> {
    RawDocumentBuf::try_from(entry)
        .map(RawDocumentBuf::into_bytes)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;
    use crate::mongodb::config::MongoConfig;

    fn scope() -> Scope {
        let mut config = MongoConfig::new(SecretRef::Env("M".into()));
        config.exclude_collections = vec!["tmp*".into()];
        Scope::new(&config, Some("d")).unwrap()
    }

    fn spec(name: &str, uuid: &str) -> CollectionSpec {
        CollectionSpec {
            database: "d".into(),
            name: name.into(),
            kind: CollectionKind::Collection,
            options: doc! {},
            indexes: vec![],
            uuid: Some(uuid.into()),
        }
    }

    fn at(increment: u32) -> Timestamp {
        Timestamp { time: 9, increment }
    }

    fn entry(op: &str, ns: &str, o: Document, increment: u32) -> RawDocumentBuf {
        let entry = doc! {
            "op": op, "ns": ns, "o": o, "o2": { "_id": 1 }, "ts": at(increment), "lsid": { "id": 1 }, "txnNumber": 5_i64,
        };
        (&entry).try_into().unwrap()
    }

    fn kept(filter: &mut Filter<'_>, entry: &RawDocument) -> Option<Document> {
        let kept = filter.keep(entry).unwrap()?;
        Some(bson::deserialize_from_slice(&kept).unwrap())
    }

    #[test]
    fn only_what_is_captured_is_kept() {
        let (scope, moment) = (scope(), Moment::new(None, Some(at(1))));
        moment.finish("d.a".into(), at(50));
        let mut filter = Filter::new(&scope, &[spec("a", "1")], &moment);
        let document = doc! { "_id": 1 };
        for (op, ns, o, is_kept) in [
            ("i", "d.a", document.clone(), true),
            ("i", "d.new", document.clone(), true),
            ("i", "d.tmp1", document.clone(), false),
            ("i", "e.a", document.clone(), false),
            ("i", "d.system.buckets.s", document.clone(), true),
            ("n", "", doc! {}, false),
            ("c", "d.$cmd", doc! { "drop": "tmp1" }, false),
            ("c", "d.$cmd", doc! { "create": "a" }, true),
            ("c", "e.$cmd", doc! { "dropDatabase": 1 }, false),
        ] {
            assert_eq!(filter.keep(&entry(op, ns, o, 5)).unwrap().is_some(), is_kept, "{op} {ns}");
        }
        assert!(filter.keep(&entry("i", "d.a", document.clone(), 1)).unwrap().is_none(), "before");
        let inner = |ns: &str| doc! { "op": "i", "ns": ns, "o": &document };
        let mixed = doc! { "applyOps": [inner("d.a"), inner("e.a"), inner("d.tmp1")] };
        let kept = kept(&mut filter, &entry("c", "admin.$cmd", mixed, 6)).unwrap();
        let inner_kept = kept.get_document("o").unwrap().get_array("applyOps").unwrap();
        assert_eq!(inner_kept, &vec![Bson::Document(inner("d.a"))]);
        let others = doc! { "applyOps": [inner("e.a")] };
        assert!(filter.keep(&entry("c", "admin.$cmd", others, 7)).unwrap().is_none());
        filter.end().unwrap();
    }

    #[test]
    fn a_rename_counts_by_when_the_collection_was_read() {
        let (scope, moment) = (scope(), Moment::new(None, Some(at(1))));
        let rename = |from: &str, to: &str, increment| {
            let o = doc! { "renameCollection": format!("d.{from}"), "to": format!("d.{to}") };
            entry("c", "d.$cmd", o, increment)
        };
        moment.finish("d.a".into(), at(10));
        let mut filter = Filter::new(&scope, &[spec("a", "1")], &moment);
        assert!(
            filter.keep(&rename("a", "b", 11)).unwrap().is_some(),
            "it was completely read by then"
        );
        let why = filter.keep(&rename("tmp1", "b", 12)).unwrap_err();
        assert!(why.contains("which is not captured, became d.b"), "{why}");
        let drop = kept(&mut filter, &rename("b", "tmp1", 13)).unwrap();
        assert_eq!(drop.get_document("o").unwrap(), &doc! { "drop": "b" });
    }

    #[test]
    fn a_rename_during_a_read_is_followed_once_and_only_if_it_can_be_recognised() {
        let (scope, moment) = (scope(), Moment::new(None, Some(at(1))));
        let uuid = "0123456789abcdef0123456789abcdef";
        let rename = |from: &str, to: &str, increment| {
            let o = doc! { "renameCollection": format!("d.{from}"), "to": format!("d.{to}") };
            let mut entry =
                Document::try_from(entry("c", "d.$cmd", o, increment).as_ref()).unwrap();
            entry.insert("ui", bson::Uuid::parse_str(uuid).unwrap());
            RawDocumentBuf::try_from(&entry).unwrap()
        };
        moment.finish("d.a".into(), at(50));
        let mut filter = Filter::new(&scope, &[spec("a", uuid)], &moment);
        assert!(filter.keep(&rename("a", "b", 9)).unwrap().is_some());
        let why = filter.keep(&rename("b", "c", 10)).unwrap_err();
        assert!(why.contains("d.b was renamed to d.c while it was read"), "{why}");

        // It could not be read to its end under the new name.
        let unfinished = Moment::new(None, Some(at(1)));
        let mut filter = Filter::new(&scope, &[spec("a", uuid)], &unfinished);
        filter.keep(&rename("a", "b", 9)).unwrap();
        assert!(filter.end().unwrap_err().starts_with("d.b was dropped"));
        let mut filter = Filter::new(&scope, &[spec("a", uuid)], &unfinished);
        filter.keep(&rename("a", "b", 9)).unwrap();
        filter.keep(&entry("c", "d.$cmd", doc! { "drop": "b" }, 11)).unwrap();
        filter.end().unwrap();

        // A release that gives no UUIDs.
        let nameless = CollectionSpec { uuid: None, ..spec("a", uuid) };
        let mut filter = Filter::new(&scope, &[nameless], &moment);
        let why = filter.keep(&rename("a", "b", 9)).unwrap_err();
        assert!(why.contains("d.a was renamed to d.b while it was read"), "{why}");
    }

    #[test]
    fn a_collection_that_vanished_must_be_accounted_for() {
        let (scope, moment) = (scope(), Moment::new(None, Some(at(1))));
        let listed = [spec("a", "1"), spec("b", "2")];
        let drop = entry("c", "d.$cmd", doc! { "drop": "a" }, 5);
        let mut filter = Filter::new(&scope, &listed, &moment);
        filter.keep(&drop).unwrap();
        assert!(filter.end().unwrap_err().starts_with("d.b was dropped"));
        let mut filter = Filter::new(&scope, &listed, &moment);
        filter.keep(&entry("c", "d.$cmd", doc! { "dropDatabase": 1 }, 5)).unwrap();
        filter.end().unwrap();
    }

    #[test]
    fn the_beginning_of_a_transaction_is_kept_although_it_is_older() {
        let (scope, moment) = (scope(), Moment::new(None, Some(at(8))));
        let mut filter = Filter::new(&scope, &[], &moment);
        let inner = doc! { "op": "i", "ns": "d.a", "o": { "_id": 1 } };
        let begin = doc! { "applyOps": [&inner], "partialTxn": true };
        assert!(filter.keep(&entry("c", "admin.$cmd", begin, 3)).unwrap().is_some());
        let mut commit =
            Document::try_from(entry("c", "admin.$cmd", doc! { "applyOps": [&inner] }, 9).as_ref())
                .unwrap();
        commit.insert("prevOpTime", doc! { "ts": at(3), "t": 1_i64 });
        let commit = RawDocumentBuf::try_from(&commit).unwrap();
        assert!(filter.keep(&commit).unwrap().is_some());
        let why = filter.keep(&commit).unwrap_err();
        assert!(why.contains("began before"), "{why}");
    }
}
