//! A writer that logs each write with its time, so that the content at any moment is known.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client, Database,
    bson::{Bson, Document, Timestamp, doc},
};

/// The database that it writes to.
pub const DATABASE: &str = "live";
const COLLECTIONS: [&str; 3] = ["accounts", "events", "orders"];
/// Limit for the collections that it makes, and for those that it renames: however long it writes, there are not more.
const MADE: usize = 24;

/// A small generator with a seed, so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

/// An address that waits for a server on a busy machine.
pub fn patient(uri: &str) -> String {
    let separator = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{separator}connectTimeoutMS=60000&heartbeatFrequencyMS=60000")
}

/// All collections of a database by their names: documents by what their `_id` shows.
pub type State = BTreeMap<String, BTreeMap<String, Document>>;

/// What was written, and when it was, as the server says.
#[derive(Default)]
pub struct Log(pub Vec<(Timestamp, Vec<Effect>)>);

#[derive(Clone, Debug)]
pub enum Effect {
    Put(String, Document),
    Delete(String, Bson),
    Rename(String, String),
    Drop(String),
}

impl Log {
    /// What was there at a time.
    pub fn at(&self, time: Timestamp) -> State {
        self.while_at(|at| at <= time)
    }

    /// What was there just before a time.
    pub fn before(&self, time: Timestamp) -> State {
        self.while_at(|at| at < time)
    }

    fn while_at(&self, counts: impl Fn(Timestamp) -> bool) -> State {
        let mut state = State::new();
        for (_, effects) in self.0.iter().take_while(|(at, _)| counts(*at)) {
            for effect in effects.clone() {
                match effect {
                    Effect::Put(name, document) => {
                        let id = document.get("_id").expect("an _id").to_string();
                        state.entry(name).or_default().insert(id, document);
                    }
                    Effect::Delete(name, id) => {
                        state.entry(name).or_default().remove(&id.to_string());
                    }
                    Effect::Rename(from, to) => {
                        let moved = state.remove(&from).unwrap_or_default();
                        state.insert(to, moved);
                    }
                    Effect::Drop(name) => {
                        state.remove(&name);
                    }
                }
            }
        }
        state.retain(|_, documents| !documents.is_empty());
        state
    }
}

/// One writer: it alone writes, and logs what it wrote.
pub struct Writer {
    database: Database,
    pub log: Log,
    now: State,
    random: Random,
    made: u64,
}

impl Writer {
    pub async fn start(uri: &str, seed: u64) -> Self {
        let client = Client::with_uri_str(patient(uri)).await.expect("a valid address");
        let database = client.database(DATABASE);
        database.drop().await.expect("our own database can be dropped");
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut writer = Self { database, log: Log::default(), now: State::new(), random, made: 0 };
        for name in COLLECTIONS {
            let documents: Vec<Document> = (0..240)
                .map(|n| doc! { "_id": n, "n": 0, "list": [1, 2, 3], "filler": "f".repeat(60) })
                .collect();
            let command = doc! { "insert": name, "documents": &documents };
            let effects =
                documents.into_iter().map(|document| Effect::Put(name.to_owned(), document));
            writer.done(command, effects.collect()).await;
        }
        writer
    }

    /// Runs a command, and logs its effects with its time.
    async fn done(&mut self, command: Document, effects: Vec<Effect>) {
        let database = self.database.clone();
        self.done_on(&database, command, effects).await;
    }

    async fn done_on(&mut self, database: &Database, command: Document, effects: Vec<Effect>) {
        let reply = database.run_command(command).await.expect("the server writes");
        assert!(reply.get("writeErrors").is_none(), "{reply}");
        let at = reply.get_timestamp("operationTime").expect("it says when");
        self.log.0.push((at, effects));
    }

    /// Reads a document as the server has it by now: what an operator made of it.
    async fn fresh(&self, name: &str, id: &Bson) -> Document {
        let collection = self.database.collection::<Document>(name);
        let found = collection.find_one(doc! { "_id": id }).await;
        found.expect("the server reads").expect("it is there")
    }

    fn pick(&mut self) -> &'static str {
        COLLECTIONS[usize::try_from(self.random.below(3)).expect("small")]
    }

    /// Some writes of any kind, one after the other.
    pub async fn write_times(&mut self, times: u32) {
        self.now = self.log.at(Timestamp { time: u32::MAX, increment: 0 });
        for _ in 0..times {
            self.write().await;
        }
    }

    /// One write of any kind.
    pub async fn write(&mut self) {
        let name = self.pick();
        let id = Bson::Int32(i32::try_from(self.random.below(260)).expect("small"));
        let is_there =
            self.now.get(name).is_some_and(|documents| documents.contains_key(&id.to_string()));
        match self.random.below(11) {
            10 => self.transaction().await,
            0..=1 if !is_there => {
                let document = doc! { "_id": id, "n": 7, "list": [], "new": true };
                self.put(name, document).await;
            }
            2 if is_there => {
                let command =
                    doc! { "delete": name, "deletes": [ { "q": { "_id": &id }, "limit": 1 } ] };
                self.now.get_mut(name).expect("it is there").remove(&id.to_string());
                self.done(command, vec![Effect::Delete(name.to_owned(), id)]).await;
            }
            3..=5 if is_there => {
                self.update(
                    name,
                    id,
                    doc! { "$inc": { "n": 1 }, "$push": { "list": 9 }, "$set": { "o.p": 1 } }
                        .into(),
                )
                .await;
            }
            6 if is_there => {
                let pipeline = vec![doc! { "$set": { "m": { "$add": ["$n", 1] }, "list": [] } }];
                self.update(name, id, Bson::from(pipeline)).await;
            }
            7 if is_there => {
                self.put(name, doc! { "_id": id, "n": 1, "list": [4], "replaced": true }).await;
            }
            8 => {
                self.drop_oldest().await;
                self.made += 1;
                let name = format!("made{}", self.made);
                self.put(&name, doc! { "_id": 1, "n": 0, "list": [] }).await;
            }
            9 if self.made > 0 => {
                let name = format!("made{}", self.made);
                let Some(documents) = self.now.remove(&name) else { return };
                // A renamed one is never dropped: the proxy lists it with its first UUID, and the test server's oplog has another one.
                if self.random.below(2) == 0 || self.numbers("kept").len() >= MADE {
                    self.done(doc! { "drop": &name }, vec![Effect::Drop(name)]).await;
                } else {
                    let to = format!("kept{}", self.made);
                    let of = |name: &str| format!("{DATABASE}.{name}");
                    let command = doc! { "renameCollection": of(&name), "to": of(&to) };
                    self.now.insert(to.clone(), documents);
                    let admin = self.database.client().database("admin");
                    self.done_on(&admin, command, vec![Effect::Rename(name, to)]).await;
                }
            }
            _ => {}
        }
    }

    /// Drops the oldest collection that it made, if there are many.
    async fn drop_oldest(&mut self) {
        let numbers = self.numbers("made");
        if numbers.len() >= MADE {
            let name = format!("made{}", numbers[0]);
            self.now.remove(&name);
            self.done(doc! { "drop": &name }, vec![Effect::Drop(name)]).await;
        }
    }

    /// The numbers of the collections with such a name, the oldest first.
    fn numbers(&self, prefix: &str) -> Vec<u64> {
        let numbers = self.now.keys().filter_map(|name| name.strip_prefix(prefix)?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    }

    /// Puts a document into two collections at once.
    async fn transaction(&mut self) {
        let client = self.database.client().clone();
        let mut session = client.start_session().await.expect("the server has sessions");
        session.start_transaction().await.expect("a transaction begins");
        let mut effects = Vec::new();
        for name in [COLLECTIONS[0], COLLECTIONS[1]] {
            let id = i32::try_from(self.random.below(260)).expect("small");
            let document = doc! { "_id": id, "n": 3, "list": [], "together": true };
            let collection = self.database.collection::<Document>(name);
            let written = collection
                .replace_one(doc! { "_id": id }, &document)
                .upsert(true)
                .session(&mut session)
                .await;
            if written.is_err() {
                // A busy machine loses connections; nothing of it counts then.
                drop(session.abort_transaction().await);
                return;
            }
            effects.push(Effect::Put(name.to_owned(), document));
        }
        session.commit_transaction().await.expect("it is committed");
        for effect in &effects {
            if let Effect::Put(name, document) = effect {
                let id = document.get("_id").expect("an _id").to_string();
                self.now.entry(name.clone()).or_default().insert(id, document.clone());
            }
        }
        // This is the only writer, so the newest entry of the oplog is that of the commit. The reply to the commit may have a later
        // time.
        let newest = client
            .database("local")
            .collection::<Document>("oplog.rs")
            .find_one(doc! { "op": { "$ne": "n" } })
            .sort(doc! { "$natural": -1 })
            .await;
        let newest = newest.expect("the oplog can be read").expect("it has entries");
        self.log.0.push((newest.get_timestamp("ts").expect("its time"), effects));
    }

    async fn put(&mut self, name: &str, document: Document) {
        let query = doc! { "_id": document.get("_id").expect("an _id") };
        let command =
            doc! { "update": name, "updates": [ { "q": query, "u": &document, "upsert": true } ] };
        let id = document.get("_id").expect("an _id").to_string();
        self.now.entry(name.to_owned()).or_default().insert(id, document.clone());
        self.done(command, vec![Effect::Put(name.to_owned(), document)]).await;
    }

    async fn update(&mut self, name: &str, id: Bson, change: Bson) {
        let command = doc! { "update": name, "updates": [ { "q": { "_id": &id }, "u": change } ] };
        self.done(command, Vec::new()).await;
        let document = self.fresh(name, &id).await;
        let (_, effects) = self.log.0.last_mut().expect("it was logged");
        effects.push(Effect::Put(name.to_owned(), document));
    }
}

/// Writes until it is told to stop.
pub async fn write_until(mut writer: Writer, stop: Arc<AtomicBool>) -> Writer {
    writer.now = writer.log.at(Timestamp { time: u32::MAX, increment: 0 });
    while !stop.load(Ordering::Relaxed) {
        writer.write().await;
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    writer
}

/// What is in a database.
pub async fn state(uri: &str, database: &str) -> State {
    use futures::TryStreamExt as _;
    let client = Client::with_uri_str(patient(uri)).await.expect("a valid address");
    let database = client.database(database);
    let mut state = State::new();
    for name in database.list_collection_names().await.expect("they can be listed") {
        let documents: Vec<Document> = database
            .collection(&name)
            .find(doc! {})
            .await
            .expect("it can be read")
            .try_collect()
            .await
            .expect("it can be read");
        if !documents.is_empty() {
            let by_id = documents
                .into_iter()
                .map(|document| (document.get("_id").expect("an _id").to_string(), document));
            state.insert(name, by_id.collect());
        }
    }
    state
}
