//! A MongoDB restore that was interrupted is continued, and inserts only what is missing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use kaleem_dr_core::{
    ground::SourceError,
    operate::config::secret::{Environment, SecretRef},
    recovery::source::{Existing, Restorable as _, RestoreReport, RestoreRequest, RestoreTarget},
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use mongodb::{
    Client, Database,
    bson::{Document, doc},
};

use crate::support::{
    mongo_proxy::{Fate, MongoProxy},
    points::Points,
    servers,
};

const BATCH: i32 = 50;
const WORKERS: i32 = 2;
const EVENTS: i32 = 1500;
const MARK: &str = "kaleem_dr_restore_in_progress";

/// A database with a point of it, and a proxy that interrupts restores.
struct Scene {
    database: Database,
    source: Arc<MongoSource>,
    points: Points,
    /// Inserts until the next one fails; negative: none fails.
    left: Arc<AtomicI64>,
    /// Commands that wrote, and the documents of inserts.
    writes: Arc<Mutex<Vec<(String, String, usize)>>>,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let client = Client::with_uri_str(servers::mongo_uri()).await.expect("a valid address");
        let database = client.database(name);
        database.drop().await.expect("our own database can be dropped");
        let left = Arc::new(AtomicI64::new(-1));
        let writes = Arc::new(Mutex::new(Vec::new()));
        let (counted, noted) = (left.clone(), writes.clone());
        let proxy = MongoProxy::before(&servers::mongo_uri(), move |command| {
            for kind in ["insert", "drop", "create", "createIndexes"] {
                if let Ok(collection) = command.get_str(kind) {
                    let documents = command.get_array("documents").map_or(0, Vec::len);
                    let write = (kind.to_owned(), collection.to_owned(), documents);
                    noted.lock().expect("no other thread failed").push(write);
                }
            }
            let is_data = command.get_str("insert").is_ok_and(|name| name != MARK);
            if is_data && counted.fetch_sub(1, Ordering::SeqCst) == 0 {
                return Fate::fails(13, "Unauthorized");
            }
            Fate::Passes
        });
        let environment: Environment = [("MONGO_URI", proxy.uri())].into_iter().collect();
        let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
        config.databases = vec![name.to_owned()];
        config.restore_batch_documents = usize::try_from(BATCH)
            .ok()
            .and_then(|documents| documents.try_into().ok())
            .expect("a number");
        config.restore_workers =
            usize::try_from(WORKERS).ok().and_then(|workers| workers.try_into().ok()).expect("one");
        let source = MongoSource::new("mongo".parse().expect("a name"), config, &environment)
            .expect("a valid config");
        let scene =
            Self { database, source: Arc::new(source), points: Points::new().await, left, writes };
        scene.fill().await;
        scene.points.capture(&scene.source).await;
        scene
    }

    async fn fill(&self) {
        let many = |count: i32| (0..count).map(|n| doc! { "_id": n, "text": format!("text {n}") });
        for (name, count) in [("accounts", 120), ("events", EVENTS), ("people", 30)] {
            let documents = self.database.collection::<Document>(name);
            documents.insert_many(many(count)).await.expect("documents can be inserted");
            let index = doc! { "createIndexes": name, "indexes": [ { "key": { "text": 1 }, "name": "text_u", "unique": true } ] };
            self.database.run_command(index).await.expect("an index can be made");
        }
        let view = doc! { "create": "some", "viewOn": "events", "pipeline": [ { "$match": { "_id": { "$lt": 9 } } } ] };
        self.database.run_command(view).await.expect("a view can be made");
    }

    async fn restore(&self, request: RestoreRequest) -> Result<RestoreReport, SourceError> {
        let point = self.points.latest().await;
        let plan = self.source.plan_restore(&point, request).await?;
        self.writes.lock().expect("no other thread failed").clear();
        self.source.restore(&point, plan).await
    }

    /// Restores until an insert fails.
    async fn interrupted(&self, after: i64, request: RestoreRequest) {
        self.left.store(after, Ordering::SeqCst);
        let error = self.restore(request).await.expect_err("it is interrupted");
        self.left.store(-1, Ordering::SeqCst);
        assert!(error.to_string().contains("insert"), "{error}");
    }

    /// The number of documents sent to a collection in the last restore.
    fn sent(&self, collection: &str) -> usize {
        let writes = self.writes.lock().expect("no other thread failed");
        let inserts = writes.iter().filter(|(kind, to, _)| kind == "insert" && to == collection);
        inserts.map(|(_, _, documents)| documents).sum()
    }

    fn dropped(&self, collection: &str) -> bool {
        let writes = self.writes.lock().expect("no other thread failed");
        writes.iter().any(|(kind, of, _)| kind == "drop" && of == collection)
    }

    async fn assert_equal(&self, other: &Database) {
        for name in ["accounts", "events", "people", "some"] {
            assert_eq!(content(&self.database, name).await, content(other, name).await, "{name}");
        }
        for name in ["accounts", "events", "people"] {
            let indexes =
                other.collection::<Document>(name).list_index_names().await.expect("a list");
            assert!(indexes.contains(&"text_u".to_owned()), "{name}: {indexes:?}");
        }
        let names = other.list_collection_names().await.expect("a list");
        assert!(!names.contains(&MARK.to_owned()), "{names:?}");
    }
}

async fn content(database: &Database, name: &str) -> Vec<Document> {
    use futures::TryStreamExt as _;
    let found = database.collection::<Document>(name).find(doc! {}).sort(doc! { "_id": 1 }).await;
    found.expect("it can be read").try_collect().await.expect("it can be read")
}

fn beside(name: &str, existing: Existing) -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::Beside(Some(name.to_owned()))).with_existing(existing)
}

#[tokio::test]
async fn an_interrupted_restore_inserts_only_what_is_missing() {
    let scene = Scene::new("mr_resume").await;
    let copy = scene.database.client().database("mr_resume_copy");
    let (events, window) = (i64::from(EVENTS), i64::from(BATCH * WORKERS));
    // In the first collection, at the start, in the middle and near the end of the large one, and in the last.
    for after in [1, 3, 14, 31, 33] {
        copy.drop().await.expect("our own database can be dropped");
        scene.interrupted(after, beside(copy.name(), Existing::Replace)).await;
        let again = scene.restore(beside(copy.name(), Existing::Replace)).await.unwrap_err();
        assert!(again.to_string().contains("--existing continue"), "{again}");

        let there = i64::try_from(content(&copy, "events").await.len()).expect("a number");
        let report = scene.restore(beside(copy.name(), Existing::Continue)).await;
        let report = report.expect("it is continued");
        assert!(report.is_equal(), "{report:#?}");
        assert_eq!(report.items, 1650);
        let sent = i64::try_from(scene.sent("events")).expect("a number");
        let most = if there == events { 0 } else { events - there + window };
        assert!(sent <= most, "{sent} sent, {there} were there");
        assert!(!scene.dropped("events") && !scene.dropped("accounts"));
        assert_eq!(scene.sent("accounts") > 0, after < 3, "interrupted after {after} inserts");
        scene.assert_equal(&copy).await;
    }
    // It is complete now, so its database is any other.
    let again = scene.restore(beside(copy.name(), Existing::Continue)).await.unwrap_err();
    assert!(again.to_string().contains("already has 4 collections"), "{again}");
    copy.drop().await.expect("our own database can be dropped");
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_rebuilt_and_another_point_is_refused() {
    let scene = Scene::new("mr_resume_other").await;
    let copy = scene.database.client().database("mr_resume_other_copy");
    copy.drop().await.expect("our own database can be dropped");
    scene.interrupted(20, beside(copy.name(), Existing::Replace)).await;
    let foreign = copy.collection::<Document>("events");
    foreign.insert_one(doc! { "_id": -1 }).await.expect("a document can be inserted");
    let changed = copy.collection::<Document>("accounts");
    let set = doc! { "$set": { "text": "another" } };
    changed.update_one(doc! { "_id": 7 }, set).await.expect("a document can be changed");
    let report = scene.restore(beside(copy.name(), Existing::Continue)).await;
    assert!(report.expect("it is continued").is_equal());
    assert!(scene.dropped("events") && scene.dropped("accounts"));
    scene.assert_equal(&copy).await;

    copy.drop().await.expect("our own database can be dropped");
    scene.interrupted(20, beside(copy.name(), Existing::Replace)).await;
    let new = scene.database.collection::<Document>("people");
    new.insert_one(doc! { "_id": 99, "text": "new" }).await.expect("a document can be inserted");
    scene.points.capture(&scene.source).await;
    let other = scene.restore(beside(copy.name(), Existing::Continue)).await.unwrap_err();
    assert!(other.to_string().contains("of another point"), "{other}");
    copy.drop().await.expect("our own database can be dropped");
}

#[tokio::test]
async fn in_place_what_is_equal_already_is_kept() {
    let scene = Scene::new("mr_resume_place").await;
    let in_place = |existing| RestoreRequest::whole(RestoreTarget::InPlace).with_existing(existing);
    scene.interrupted(20, in_place(Existing::Replace)).await;
    assert!(
        content(&scene.database, "events").await.len() < 1500,
        "it was dropped and half filled"
    );
    let report = scene.restore(in_place(Existing::Continue)).await.expect("it is continued");
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!((scene.sent("accounts"), scene.sent("events")), (0, 1500));
    assert!(!scene.dropped("accounts") && scene.dropped("events"));
    assert_eq!(content(&scene.database, "events").await.len(), 1500);
    scene.database.drop().await.expect("our own database can be dropped");
}
