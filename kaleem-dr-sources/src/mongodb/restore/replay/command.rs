//! Replays the oplog's commands on collections, views and indexes in the target.
//!
//! Indexes are not built here: the replay records them in the expected state of the collection, and they are built afterwards.

use bson::{Bson, Document, doc};
use kaleem_dr_core::ground::SourceError;

use super::{super::live::Live, Found, Work};
use crate::mongodb::{
    names,
    oplog::{Change, Command, CommandKind, Write, diff},
    restore::rebuild,
    server::{
        codes, index,
        listing::{BUCKETS, CollectionKind, CollectionSpec},
    },
};

impl Work<'_, '_> {
    pub(super) async fn command(&mut self, command: Command) -> Result<(), SourceError> {
        let Command { database, uuid, kind } = command;
        let uuid = uuid.as_deref();
        match kind {
            CommandKind::Create(name, options) => {
                self.create(&database, &name, uuid, options).await
            }
            CommandKind::DropDatabase => {
                let of_it = |live: &Live| live.source.0 == database && !live.is_gone;
                let all: Vec<usize> =
                    (0..self.live.len()).filter(|at| of_it(&self.live[*at])).collect();
                for at in all {
                    self.drop_at(at).await?;
                }
                Ok(())
            }
            CommandKind::Drop(name) => match self.find(&database, &name, uuid) {
                // The data behind a time series are dropped with it.
                Found::At(at) => self.drop_at(at).await,
                Found::Other | Found::None => Ok(()),
            },
            CommandKind::Rename { from, to, replaces } => {
                self.rename(&database, &from, uuid, to, replaces).await
            }
            CommandKind::CreateIndexes(name, indexes) => {
                if let Found::At(at) = self.find(&database, &name, uuid) {
                    let known = &mut self.live[at].spec.indexes;
                    for index in indexes {
                        known.retain(|known| !has_same_name(known, &index));
                        known.push(index);
                    }
                }
                Ok(())
            }
            CommandKind::DropIndexes(name, gone) => {
                if let Found::At(at) = self.find(&database, &name, uuid) {
                    let all = gone.iter().any(|name| name == "*");
                    self.live[at].spec.indexes.retain(|known| {
                        let name = known.get_str("name").unwrap_or_default();
                        index::is_id(known)
                            || index::is_clustered(known)
                            || !(all || gone.iter().any(|gone| gone == name))
                    });
                }
                Ok(())
            }
            CommandKind::Modify(name, changes) => match self.find(&database, &name, uuid) {
                Found::At(at) => self.modify(at, changes).await,
                Found::Other | Found::None => Ok(()),
            },
            CommandKind::ConvertToCapped(name, size) => {
                let Found::At(at) = self.find(&database, &name, uuid) else { return Ok(()) };
                let spec = &mut self.live[at].spec;
                spec.options.insert("capped", true);
                spec.options.insert("size", size.clone());
                // Only the index on `_id` remains.
                spec.indexes.retain(index::is_id);
                let command = doc! { "convertToCapped": &spec.name, "size": size };
                let database = spec.database.clone();
                self.live[at].uuid = None;
                self.run(&database, command, None).await
            }
            CommandKind::Empty(name) => {
                let Found::At(at) = self.find(&database, &name, uuid) else { return Ok(()) };
                let spec = self.live[at].spec.clone();
                self.drop_target(&spec).await?;
                self.make(&spec).await
            }
        }
    }

    /// Creates a collection that was created during the capture, unless it was already listed.
    async fn create(
        &mut self,
        database: &str,
        name: &str,
        uuid: Option<&str>,
        mut options: Document,
    ) -> Result<(), SourceError> {
        if name == "system.views" || !self.replay.takes_new {
            return Ok(());
        }
        match self.find(database, name, uuid) {
            Found::None => {}
            Found::At(_) | Found::Other => return Ok(()),
        }
        let name = name.strip_prefix(BUCKETS).unwrap_or(name);
        let id_index = options.remove("idIndex");
        // The options belong to the collection behind a time series: the server chooses these itself.
        let kind = if options.contains_key("timeseries") {
            for made in ["validator", "clusteredIndex"] {
                options.remove(made);
            }
            CollectionKind::TimeSeries
        } else if options.contains_key("viewOn") {
            CollectionKind::View
        } else {
            CollectionKind::Collection
        };
        let indexes = match (kind, id_index) {
            (CollectionKind::Collection, Some(Bson::Document(index)))
                if !options.contains_key("clusteredIndex") =>
            {
                vec![index]
            }
            _ => Vec::new(),
        };
        if let Some(pipeline) = options.remove("viewPipeline") {
            options.insert("pipeline", pipeline);
        }
        let spec = CollectionSpec {
            database: self.target_database(database),
            name: name.to_owned(),
            kind,
            options,
            indexes,
            uuid: None,
        };
        self.drop_target(&spec).await?;
        self.make(&spec).await?;
        let source = (database.to_owned(), name.to_owned());
        self.live.push(Live::new(source, uuid.map(str::to_owned), spec));
        Ok(())
    }

    /// Creates a collection that came into existence with its first document. Returns its index among the live ones.
    pub(super) async fn make_plain(&mut self, write: &Write) -> Result<Option<usize>, SourceError> {
        if !self.replay.takes_new || write.collection.starts_with("system.") {
            return Ok(None);
        }
        // For a change or a deletion, the collection must have existed before and been dropped since.
        if !matches!(write.change, Change::Put(_)) {
            return Ok(None);
        }
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        let options = doc! { "idIndex": id };
        self.create(&write.database, &write.collection, write.uuid.as_deref(), options).await?;
        Ok(Some(self.live.len() - 1))
    }

    async fn rename(
        &mut self,
        database: &str,
        from: &str,
        uuid: Option<&str>,
        to: (String, String),
        replaces: bool,
    ) -> Result<(), SourceError> {
        let Found::At(at) = self.find(database, from, uuid) else { return Ok(()) };
        if self.live[at].source == to {
            // The capture listed it under the new name.
            return Ok(());
        }
        let in_the_way = self.live.iter().position(|live| !live.is_gone && live.source == to);
        if let Some(other) = in_the_way {
            if !replaces {
                // That collection took the name later, and will be dropped or renamed before this one gets the name.
                return Err(self.odd(
                    "replay a rename",
                    format!("{}.{} is in the way of {database}.{from}", to.0, to.1),
                ));
            }
            self.drop_at(other).await?;
        }
        let live = &mut self.live[at];
        let old = live.spec.namespace();
        // A name given by the operator is kept.
        let is_named = live.spec.name != live.source.1;
        live.source = to;
        // Some servers assign a new UUID with the name.
        live.uuid = None;
        if is_named {
            return Ok(());
        }
        live.spec.name.clone_from(&live.source.1);
        let new = live.spec.namespace();
        let command = doc! { "renameCollection": old, "to": new, "dropTarget": true };
        self.run("admin", command, None).await
    }

    async fn modify(&mut self, at: usize, changes: Document) -> Result<(), SourceError> {
        let spec = &mut self.live[at].spec;
        let mut options = Document::new();
        for (key, value) in changes {
            match (key.as_str(), value) {
                ("index", Bson::Document(change)) => modify_index(&mut spec.indexes, &change),
                ("cappedSize", value) => {
                    spec.options.insert("size", value.clone());
                    options.insert(key, value);
                }
                ("cappedMax", value) => {
                    spec.options.insert("max", value.clone());
                    options.insert(key, value);
                }
                (_, value) => {
                    spec.options.insert(key.clone(), value.clone());
                    options.insert(key, value);
                }
            }
        }
        if options.is_empty() {
            return Ok(());
        }
        let mut command = doc! { "collMod": &spec.name };
        command.extend(options);
        let database = spec.database.clone();
        self.run(&database, command, None).await
    }

    /// Replays the change of a view, which servers store as a document of `system.views`.
    pub(super) async fn view(&mut self, write: &Write) -> Result<(), SourceError> {
        let Bson::String(namespace) = &write.id else { return Ok(()) };
        let Some((database, name)) = namespace.split_once('.') else { return Ok(()) };
        let found = self.find(database, name, None);
        // The view that shows a time series is created and dropped with its buckets.
        if let Found::At(at) = found
            && self.live[at].spec.kind != CollectionKind::View
        {
            return Ok(());
        }
        let before = match found {
            Found::At(at) => Some(self.live[at].spec.options.clone()),
            Found::Other | Found::None => None,
        };
        let after = match (&write.change, before) {
            (Change::Delete, _) => None,
            (Change::Put(view), _) => Some(
                Document::try_from(view.as_ref())
                    .map_err(|error| self.odd("replay a view", error.to_string()))?,
            ),
            (Change::Update(_), None) => return Ok(()),
            (Change::Update(changes), Some(before)) => {
                Some(diff::apply(changes, before).map_err(|why| self.odd("replay a view", why))?)
            }
        };
        if let Found::At(at) = found {
            self.drop_at(at).await?;
        }
        let Some(mut options) = after else { return Ok(()) };
        options.remove("_id");
        if options.get_str("viewOn").is_ok_and(|on| on.starts_with(BUCKETS)) {
            return Ok(());
        }
        // A view that existed before stays part of the restore; any other one is new.
        let takes = self.replay.takes_new || matches!(found, Found::At(_));
        if !takes {
            return Ok(());
        }
        let spec = CollectionSpec {
            database: self.target_database(database),
            name: match found {
                Found::At(at) => self.live[at].spec.name.clone(),
                Found::Other | Found::None => name.to_owned(),
            },
            kind: CollectionKind::View,
            options,
            indexes: Vec::new(),
            uuid: None,
        };
        self.drop_target(&spec).await?;
        self.make(&spec).await?;
        let source = (database.to_owned(), name.to_owned());
        self.live.push(Live::new(source, None, spec));
        Ok(())
    }

    async fn drop_at(&mut self, at: usize) -> Result<(), SourceError> {
        self.live[at].is_gone = true;
        let spec = self.live[at].spec.clone();
        self.drop_target(&spec).await
    }

    async fn drop_target(&self, spec: &CollectionSpec) -> Result<(), SourceError> {
        let command = doc! { "drop": &spec.name };
        self.run(&spec.database, command, Some(codes::NAMESPACE_NOT_FOUND)).await
    }

    async fn make(&self, spec: &CollectionSpec) -> Result<(), SourceError> {
        let command = rebuild::create_command(spec, &self.replay.writes.concern);
        self.run(&spec.database, command, None).await
    }

    async fn run(
        &self,
        database: &str,
        mut command: Document,
        fine: Option<i32>,
    ) -> Result<(), SourceError> {
        let name = command.keys().next().cloned().unwrap_or_default();
        command.insert("writeConcern", &self.replay.writes.concern);
        let action = format!("replay the oplog's command {name}");
        self.replay.connection.write_tolerating(database, command, &action, fine).await
    }

    /// The target database for one of the captured server.
    fn target_database(&self, database: &str) -> String {
        let known = self.replay.databases;
        known.get(database).cloned().unwrap_or_else(|| {
            // It was created during the capture, so it is restored like the others.
            let renamed = known.iter().find(|(from, to)| from != to);
            match renamed {
                None => database.to_owned(),
                Some((from, to)) => {
                    let prefix = to.strip_suffix(&format!("_{from}")).unwrap_or(to);
                    names::prefixed_database(prefix, database)
                }
            }
        })
    }
}

fn has_same_name(a: &Document, b: &Document) -> bool {
    a.get_str("name").is_ok_and(|name| b.get_str("name").is_ok_and(|other| other == name))
}

/// Applies the `index` of a `collMod` to the recorded indexes.
fn modify_index(indexes: &mut [Document], change: &Document) {
    let is_meant = |index: &Document| match change.get("keyPattern") {
        Some(key) => index.get("key") == Some(key),
        None => has_same_name(index, change),
    };
    for index in indexes.iter_mut().filter(|index| is_meant(index)) {
        for (key, value) in change {
            match (key.as_str(), value) {
                ("name" | "keyPattern", _) => {}
                // Listings omit these options if they are false.
                ("hidden" | "unique" | "prepareUnique", Bson::Boolean(false)) => {
                    index.remove(key);
                }
                _ => {
                    index.insert(key, value.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_modified_by_its_name_or_its_key() {
        let index =
            doc! { "key": { "t": 1 }, "name": "t_1", "expireAfterSeconds": 10, "hidden": true };
        let mut indexes = [index.clone(), doc! { "key": { "u": 1 }, "name": "u_1" }];
        modify_index(&mut indexes, &doc! { "name": "t_1", "expireAfterSeconds": 20 });
        modify_index(&mut indexes, &doc! { "keyPattern": { "t": 1 }, "hidden": false });
        assert_eq!(indexes[0], doc! { "key": { "t": 1 }, "name": "t_1", "expireAfterSeconds": 20 });
        assert_eq!(indexes[1], doc! { "key": { "u": 1 }, "name": "u_1" });
    }
}
