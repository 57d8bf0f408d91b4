//! Captures that take longer than the server keeps a snapshot, or lose their cursors and connections: each restores to exactly
//! what was there at the moment it says, by a log of the writes.
//!
//! The test server neither keeps history for a while only nor honours `atClusterTime`; a proxy says for it that the snapshot is
//! gone, that a cursor is, that a member steps down, and cuts connections.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::ConsistencyGrade,
    ground::Exit,
    operate::{
        config::secret::{Environment, SecretRef},
        job::{BackupJob, backup},
    },
    recovery::source::{Restorable as _, RestoreReport, RestoreRequest, RestoreTarget},
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use mongodb::{
    Client, Database,
    bson::{Bson, Document, Timestamp, doc},
};

use crate::support::{
    mongo_proxy::{Fate, MongoProxy},
    points::{Points, progress},
    servers::MongoServer,
};

const DATABASE: &str = "live";
const COLLECTIONS: [&str; 3] = ["accounts", "events", "orders"];

fn source(uri: &str) -> Arc<MongoSource> {
    let environment: Environment = [("MONGO_URI", uri)].into_iter().collect();
    let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    config.databases = vec![DATABASE.into()];
    config.parallel_collections = std::num::NonZeroUsize::new(2).expect("two");
    Arc::new(
        MongoSource::new("mongo".parse().expect("a name"), config, &environment)
            .expect("a valid config"),
    )
}

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

/// All collections of a database by their names: documents by what their `_id` shows.
type State = BTreeMap<String, BTreeMap<String, Document>>;

/// What was written, and when it was, as the server says.
#[derive(Default)]
struct Log(Vec<(Timestamp, Vec<Effect>)>);

#[derive(Clone, Debug)]
enum Effect {
    Put(String, Document),
    Delete(String, Bson),
    Rename(String, String),
    Drop(String),
}

impl Log {
    /// What was there at a time.
    fn at(&self, time: Timestamp) -> State {
        let mut state = State::new();
        for (_, effects) in self.0.iter().take_while(|(at, _)| *at <= time) {
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
struct Writer {
    database: Database,
    log: Log,
    now: State,
    random: Random,
    made: u64,
}

impl Writer {
    async fn start(uri: &str, seed: u64) -> Self {
        let client = Client::with_uri_str(uri).await.expect("a valid address");
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

    /// One write of any kind.
    async fn write(&mut self) {
        let name = self.pick();
        let id = Bson::Int32(i32::try_from(self.random.below(260)).expect("small"));
        let is_there =
            self.now.get(name).is_some_and(|documents| documents.contains_key(&id.to_string()));
        match self.random.below(10) {
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
                self.made += 1;
                let name = format!("made{}", self.made);
                self.put(&name, doc! { "_id": 1, "n": 0, "list": [] }).await;
            }
            9 if self.made > 0 => {
                let name = format!("made{}", self.made);
                let Some(documents) = self.now.remove(&name) else { return };
                if self.random.below(2) == 0 {
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
async fn write_until(mut writer: Writer, stop: Arc<AtomicBool>) -> Writer {
    writer.now = writer.log.at(Timestamp { time: u32::MAX, increment: 0 });
    while !stop.load(Ordering::Relaxed) {
        writer.write().await;
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    writer
}

/// What is in a database.
async fn state(uri: &str, database: &str) -> State {
    use futures::TryStreamExt as _;
    let client = Client::with_uri_str(uri).await.expect("a valid address");
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

/// Captures through a proxy while a writer writes. Gives the exit of the capture, what the proxy did, and the moment that the
/// point shows; what is restored of it is compared with the log.
async fn captured_is_the_moment(
    server: &MongoServer,
    seed: u64,
    judge: impl Fn(&Document, Duration) -> Fate + Send + Sync + 'static,
) -> (Exit, Option<RestoreReport>) {
    let writer = Writer::start(&server.uri(), seed).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(writer, stop.clone()));
    let began = std::sync::OnceLock::new();
    let proxy = MongoProxy::before(&server.uri(), move |command| {
        if command.contains_key("getMore") {
            began.get_or_init(Instant::now);
        }
        // So that replies hold few documents, and there are many.
        if command.contains_key("collStats") {
            return Fate::Is(doc! { "ok": 1.0, "avgObjSize": 100_000, "size": 1 });
        }
        // Since the first collection is read.
        judge(command, began.get().map_or(Duration::ZERO, Instant::elapsed))
    });
    let points = Points::new().await;
    let job = BackupJob::new(points.repository.clone(), vec![source(&proxy.uri())]);
    let report = backup(&job, &progress(), &CancellationToken::new()).await.expect("a run");
    stop.store(true, Ordering::Relaxed);
    let writer = writing.await.expect("the writer ends");
    if report.exit != Exit::Done {
        // Only a rename during a read ends a capture, and leaves no snapshot.
        let error = report.sources[0].error.as_deref().unwrap_or_default();
        assert!(error.contains("was renamed to live.kept"), "seed {seed}: {error}");
        assert!(report.sources[0].snapshot.is_none(), "seed {seed}");
        return (report.exit, None);
    }
    let point = points.latest().await;
    let manifest = point.manifest();
    assert_eq!(manifest.consistency.grade, ConsistencyGrade::PointInTime, "seed {seed}");
    let Some(window) = manifest.details.get("oplog_needed") else { return (report.exit, None) };
    let part = |name: &str| u32::try_from(window["to"][name].as_u64().expect("a number"));
    let moment =
        Timestamp { time: part("t").expect("seconds"), increment: part("i").expect("small") };
    assert_eq!(manifest.consistency.at.as_second(), i64::from(moment.time));

    let source = source(&server.uri());
    let target = format!("back{seed}");
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some(target.clone())));
    let plan = source.plan_restore(&point, request).await.expect("a plan");
    let restored = source.restore(&point, plan).await.expect("a restore");
    assert!(restored.is_equal(), "seed {seed}: {restored:#?}");
    let (found, expected) = (state(&server.uri(), &target).await, writer.log.at(moment));
    for name in expected.keys().chain(found.keys()) {
        assert_eq!(found.get(name), expected.get(name), "seed {seed}: {name} at {moment:?}");
    }
    (report.exit, Some(restored))
}

/// Six seeds, or as many as `KALEEM_TEST_MONGO_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("KALEEM_TEST_MONGO_SEEDS").ok().and_then(|count| count.parse().ok());
    2..2 + count.unwrap_or(6_u64)
}

/// A step of time in which a capture goes slowly.
const SLOWLY: Duration = Duration::from_millis(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_longer_than_the_snapshot_shows_the_moment_of_its_end() {
    let server = MongoServer::start();
    let left = Arc::new(AtomicU64::new(0));
    let gone = left.clone();
    let (exit, restored) = captured_is_the_moment(&server, 1, move |command, elapsed| {
        let is_over = elapsed > Duration::from_millis(60);
        if command.contains_key("getMore") {
            if is_over && gone.fetch_add(1, Ordering::SeqCst) < 2 {
                return Fate::fails(239, "SnapshotTooOld");
            }
            return Fate::Waits(SLOWLY);
        }
        let concern = command.get_document("readConcern");
        if is_over
            && concern.is_ok_and(|of| of.get_str("level").is_ok_and(|level| level == "snapshot"))
        {
            return Fate::fails(239, "SnapshotTooOld");
        }
        Fate::Passes
    })
    .await;
    assert_eq!(exit, Exit::Done);
    assert!(left.load(Ordering::SeqCst) >= 2, "the snapshot was gone before the end");
    let restored = restored.expect("the oplog was needed");
    assert!(
        restored.warnings.iter().any(|warning| warning.contains("entries of the oplog up to")),
        "{restored:#?}"
    );
    assert!(
        restored.compared.iter().any(|what| what.contains("after the replay")),
        "{restored:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_cursors_connections_and_members_end_no_capture() {
    let server = MongoServer::start();
    let (mut compared, mut injected) = (0, 0);
    for seed in seeds() {
        let random = std::sync::Mutex::new(Random(seed * 7919 + 1));
        let faults = Arc::new(AtomicU64::new(0));
        let counted = faults.clone();
        let (_, restored) = captured_is_the_moment(&server, seed, move |command, elapsed| {
            let of_reads = command.contains_key("getMore") || command.contains_key("find");
            if !of_reads || elapsed.is_zero() {
                return Fate::Passes;
            }
            let is_oplog = |name: &str| command.get_str(name).is_ok_and(|of| of == "oplog.rs");
            let of_oplog = is_oplog("find") || is_oplog("collection");
            let mut random = random.lock().expect("no other thread failed");
            let fate = match random.below(12) {
                0 => Fate::fails(43, "CursorNotFound"),
                1 => Fate::fails(175, "QueryPlanKilled"),
                // The oplog is not read in a snapshot.
                2 if !of_oplog => Fate::fails(239, "SnapshotTooOld"),
                3 => Fate::Cut,
                _ => return Fate::Waits(Duration::from_millis(5)),
            };
            counted.fetch_add(1, Ordering::SeqCst);
            fate
        })
        .await;
        injected += faults.load(Ordering::SeqCst);
        compared += u32::from(restored.is_some());
    }
    assert!(injected > 10, "{injected} faults");
    assert!(compared > 0, "no capture needed the oplog and ended well");
}
