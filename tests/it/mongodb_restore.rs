//! Options of a MongoDB restore: parts, other names, merging, removing extras; and its rehearsal.

use std::sync::Arc;

use kaleem_dr_core::{
    CancellationToken,
    ground::SourceError,
    operate::config::secret::{Environment, SecretRef},
    recovery::{
        point::PointReader,
        source::{
            Change, Existing, Extras, Rename, Restorable, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget, ScratchTarget,
        },
    },
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use mongodb::{
    Client, Database, IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::support::{
    points::{Points, progress},
    servers,
};

/// A database for one test, and a recovery point of it.
struct Scene {
    database: Database,
    source: Arc<MongoSource>,
    points: Points,
}

impl Scene {
    /// Creates `users` with a unique index on `email`, `orders`, and a view on `users`; then backs
    /// them up.
    async fn new(name: &str) -> Self {
        Self::with(name, |_| ()).await
    }

    async fn with(name: &str, configure: impl FnOnce(&mut MongoConfig)) -> Self {
        let client = Client::with_uri_str(servers::mongo_uri()).await.expect("a valid address");
        let database = client.database(name);
        database.drop().await.expect("our own database can be dropped");
        let users: Vec<Document> =
            (0..50).map(|n| doc! { "_id": n, "email": format!("e{n}"), "n": n }).collect();
        database.collection("users").insert_many(users).await.expect("documents can be inserted");
        let unique = IndexOptions::builder().unique(true).name("email_u".to_owned()).build();
        let index = IndexModel::builder().keys(doc! { "email": 1 }).options(unique).build();
        database
            .collection::<Document>("users")
            .create_index(index)
            .await
            .expect("an index can be made");
        database
            .collection("orders")
            .insert_one(doc! { "_id": "o1", "total": 7 })
            .await
            .expect("a document can be inserted");
        let view = doc! { "create": "adults", "viewOn": "users", "pipeline": [ { "$match": { "n": { "$gte": 18 } } } ] };
        database.run_command(view).await.expect("a view can be made");

        let environment: Environment = [("MONGO_URI", servers::mongo_uri())].into_iter().collect();
        let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
        config.databases = vec![name.to_owned()];
        configure(&mut config);
        let source = Arc::new(
            MongoSource::new("mongo".parse().expect("a name"), config, &environment)
                .expect("a valid config"),
        );
        let points = Points::new().await;
        points.capture(&source).await;
        Self { database, source, points }
    }

    async fn point(&self) -> PointReader {
        self.points.latest().await
    }

    async fn plan(&self, request: RestoreRequest) -> Result<RestorePlan, SourceError> {
        self.source.plan_restore(&self.point().await, request).await
    }

    async fn restore(&self, request: RestoreRequest) -> RestoreReport {
        let plan = self.plan(request).await.expect("a plan");
        self.source.restore(&self.point().await, plan).await.expect("a restore")
    }

    async fn insert(&self, collection: &str, document: Document) {
        self.database
            .collection(collection)
            .insert_one(document)
            .await
            .expect("a document can be inserted");
    }

    async fn update(&self, collection: &str, filter: Document, update: Document) {
        self.database
            .collection::<Document>(collection)
            .update_one(filter, update)
            .await
            .expect("a document can be changed");
    }

    async fn delete(&self, collection: &str, filter: Document) {
        self.database
            .collection::<Document>(collection)
            .delete_many(filter)
            .await
            .expect("documents can be deleted");
    }

    async fn find(&self, collection: &str, filter: Document) -> Option<Document> {
        self.database
            .collection::<Document>(collection)
            .find_one(filter)
            .await
            .expect("a document can be looked for")
    }

    async fn collections(&self, database: &Database) -> Vec<String> {
        let mut names = database.list_collection_names().await.expect("collections can be listed");
        names.retain(|name| !name.starts_with("system."));
        names.sort();
        names
    }

    fn beside(&self, suffix: &str) -> (Database, RestoreTarget) {
        let name = format!("{}_{suffix}", self.database.name());
        (self.database.client().database(&name), RestoreTarget::Beside(Some(name)))
    }

    async fn end(self, others: &[Database]) {
        for database in others.iter().chain([&self.database]) {
            database.drop().await.expect("our own database can be dropped");
        }
    }
}

fn in_place() -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::InPlace)
}

fn change_of(plan: &RestorePlan, what: &str) -> (Change, String) {
    let action = plan
        .actions
        .iter()
        .find(|action| action.what == what)
        .unwrap_or_else(|| panic!("{what} is not in {plan:#?}"));
    (action.change, action.why.clone().unwrap_or_default())
}

#[tokio::test]
async fn one_collection_is_restored_next_to_the_live_one_under_another_name() {
    let scene = Scene::new("mr_only").await;
    let (copy, to) = scene.beside("copy");
    copy.drop().await.expect("our own database can be dropped");
    let request = RestoreRequest::whole(to)
        .with_only(vec!["mr_only.users".into()])
        .with_rename(vec![Rename::new("users", "people")]);
    let report = scene.restore(request).await;
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!((report.items, scene.collections(&copy).await), (50, vec!["people".to_owned()]));
    let indexes = copy
        .collection::<Document>("people")
        .list_index_names()
        .await
        .expect("indexes can be listed");
    assert!(indexes.contains(&"email_u".to_owned()), "{indexes:?}");

    let ghost = in_place().with_only(vec!["ghost".into()]);
    let error = scene.plan(ghost).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused(why) if why.contains("`ghost`")), "{error:?}");
    scene.end(&[copy]).await;
}

#[tokio::test]
async fn a_replacement_leaves_what_is_not_asked_for() {
    let scene = Scene::new("mr_replace").await;
    scene.delete("users", doc! {}).await;
    scene.insert("users", doc! { "_id": "intruder" }).await;
    scene.update("orders", doc! { "_id": "o1" }, doc! { "$set": { "total": 8 } }).await;
    let request = in_place().with_only(vec!["users".into()]);
    let plan = scene.plan(request.clone()).await.unwrap();
    assert_eq!(change_of(&plan, "collection mr_replace.users").0, Change::Overwrite);
    let (change, why) = change_of(&plan, "collection mr_replace.orders");
    assert!(change == Change::Leave && why.contains("not selected"), "{why}");
    assert!(plan.overwrites());

    let report = scene.restore(request).await;
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(scene.find("users", doc! { "_id": "intruder" }).await, None);
    assert_eq!(
        scene.find("orders", doc! {}).await,
        Some(doc! { "_id": "o1", "total": 8 }),
        "it was not asked for"
    );
    scene.end(&[]).await;
}

#[tokio::test]
async fn a_merge_adds_what_is_missing_and_counts_what_it_keeps() {
    let scene = Scene::new("mr_merge").await;
    scene.delete("users", doc! { "_id": { "$lt": 20 } }).await;
    scene.update("users", doc! { "_id": 30 }, doc! { "$set": { "n": -1 } }).await;
    scene.insert("users", doc! { "_id": "new", "email": "new" }).await;
    scene
        .database
        .collection::<Document>("users")
        .drop_index("email_u")
        .await
        .expect("an index can be dropped");
    scene
        .database
        .collection::<Document>("orders")
        .drop()
        .await
        .expect("a collection can be dropped");
    let request = in_place().with_existing(Existing::Merge);
    let plan = scene.plan(request.clone()).await.unwrap();
    let users = change_of(&plan, "collection mr_merge.users");
    assert!(users.0 == Change::Merge && users.1.contains("a new _id"), "{users:?}");
    assert_eq!(change_of(&plan, "collection mr_merge.orders").0, Change::Create);
    assert_eq!(change_of(&plan, "view mr_merge.adults").0, Change::Leave);
    assert!(plan.overwrites(), "what is there is touched, so it takes a yes");

    let report = scene.restore(request).await;
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(report.items, 21, "20 users and one order");
    let said = report
        .compared
        .iter()
        .find(|line| line.contains("mr_merge.users: all"))
        .expect("the numbers are reported");
    assert!(
        said.contains(
            "29 were equal already, 20 were inserted and are equal, 1 have other content"
        ),
        "{said}"
    );
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("1 documents of the point existed with other content"))
    );
    assert_eq!(
        scene.find("users", doc! { "_id": 30 }).await.unwrap().get_i32("n").unwrap(),
        -1,
        "it stays"
    );
    assert!(scene.find("users", doc! { "_id": "new" }).await.is_some(), "it stays");
    let indexes = scene
        .database
        .collection::<Document>("users")
        .list_index_names()
        .await
        .expect("indexes can be listed");
    assert!(indexes.contains(&"email_u".to_owned()), "a missing index is built: {indexes:?}");
    scene.end(&[]).await;
}

#[tokio::test]
async fn a_document_that_another_unique_key_keeps_out_is_a_difference() {
    let scene = Scene::new("mr_unique").await;
    scene.delete("users", doc! { "_id": 3 }).await;
    scene.insert("users", doc! { "_id": "thief", "email": "e3" }).await;
    let report = scene
        .restore(in_place().with_existing(Existing::Merge).with_only(vec!["users".into()]))
        .await;
    assert!(!report.is_equal());
    let difference = &report.differences[0];
    assert!(
        difference.what.contains("mr_unique.users") && difference.found.contains("1 are missing"),
        "{difference:?}"
    );
    assert!(difference.found.contains("E11000"), "{difference:?}");
    scene.end(&[]).await;
}

#[tokio::test]
async fn extras_are_removed_only_when_asked_and_only_what_captures_take() {
    let scene =
        Scene::with("mr_extras", |config| config.exclude_collections = vec!["cache_*".into()])
            .await;
    scene.insert("late", doc! { "_id": 1 }).await;
    scene.insert("cache_pages", doc! { "_id": 1 }).await;
    let kept = scene.plan(in_place()).await.unwrap();
    assert_eq!(change_of(&kept, "collection mr_extras.late").0, Change::Leave);

    let request = in_place().with_extras(Extras::Remove);
    let plan = scene.plan(request.clone()).await.unwrap();
    assert_eq!(
        change_of(&plan, "collection mr_extras.late"),
        (Change::Remove, "it is not in the point".to_owned())
    );
    let (change, why) = change_of(&plan, "collection mr_extras.cache_pages");
    assert!(change == Change::Leave && why.contains("captures leave it out"), "{why}");

    // What appears after the plan was shown is not removed.
    let point = scene.point().await;
    scene.insert("latest", doc! { "_id": 1 }).await;
    let report = scene.source.restore(&point, plan).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(
        scene.collections(&scene.database).await,
        ["adults", "cache_pages", "latest", "orders", "users"]
    );
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("mr_extras.latest was created after")),
        "{report:#?}"
    );
    scene.end(&[]).await;
}

#[tokio::test]
async fn a_rehearsal_compares_and_leaves_nothing() {
    let scene = Scene::new("mr_drill").await;
    let scratch =
        ScratchTarget::new(format!("kdr_drill_{}", scene.database.name()), std::env::temp_dir());
    scene
        .source
        .drop_scratch_database(&scratch.name)
        .await
        .expect("what an earlier run left can be dropped");
    let report = scene.source.rehearse(&scene.point().await, &scratch).await.unwrap();
    assert!(report.is_equal() && report.items == 51, "{report:#?}");
    let ours = |names: Vec<String>| {
        names.into_iter().filter(|name| name.contains("mr_drill")).collect::<Vec<_>>()
    };
    assert_eq!(ours(scene.source.scratch_databases().await.unwrap()), Vec::<String>::new());

    // A killed rehearsal leaves its database behind, which can be found and dropped.
    let left =
        scene.database.client().database(&format!("kdr_drill_{}_left", scene.database.name()));
    left.collection("a").insert_one(doc! { "_id": 1 }).await.expect("a document can be inserted");
    assert_eq!(ours(scene.source.scratch_databases().await.unwrap()), [left.name()]);
    scene.source.drop_scratch_database(left.name()).await.unwrap();
    assert_eq!(ours(scene.source.scratch_databases().await.unwrap()), Vec::<String>::new());
    let error = scene.source.drop_scratch_database(scene.database.name()).await.unwrap_err();
    assert!(matches!(error, SourceError::Refused(_)), "{error:?}");
    scene.end(&[]).await;
}

#[tokio::test]
async fn a_rehearsal_that_fails_leaves_nothing_either() {
    let scene = Scene::new("mr_broken").await;
    let point = scene.point().await;
    // The data of one collection differ from the manifest: this is detected at the end, after
    // documents were inserted.
    let mut manifest = point.manifest().clone();
    for artifact in &mut manifest.artifacts {
        if artifact.path.ends_with("users.bson") {
            artifact.sha256 = "0".repeat(64);
        }
    }
    let mut parts = std::collections::BTreeMap::new();
    let directory = tempfile::tempdir().expect("a directory can be made");
    for (at, artifact) in point.manifest().artifacts.iter().enumerate() {
        let bytes = point.artifact(&artifact.path).await.unwrap().read_all(1 << 20).await.unwrap();
        let path = directory.path().join(at.to_string());
        std::fs::write(&path, &bytes).expect("a file can be written");
        let part = kaleem_dr_core::recovery::point::FilePart::new(path, bytes.len() as u64);
        parts.insert(artifact.path.clone(), part);
    }
    let file = kaleem_dr_core::recovery::point::FilePoint::new(
        directory.path().to_path_buf(),
        parts,
        None,
    );
    let broken = PointReader::of_file(manifest, file, progress(), CancellationToken::new());
    let name = format!("kdr_drill_{}", scene.database.name());
    let scratch = ScratchTarget::new(name.clone(), directory.path());
    scene
        .source
        .drop_scratch_database(&name)
        .await
        .expect("what an earlier run left can be dropped");
    let error = scene.source.rehearse(&broken, &scratch).await.unwrap_err();
    assert!(matches!(error, SourceError::Point(_)), "{error:?}");
    assert!(!scene.source.scratch_databases().await.unwrap().contains(&name));

    let elsewhere = ScratchTarget::new("mr_broken_copy", directory.path());
    let refused = scene.source.rehearse(&point, &elsewhere).await.unwrap_err();
    assert!(
        matches!(refused, SourceError::Refused(_)),
        "only names of rehearsals are ever dropped: {refused:?}"
    );
    scene.end(&[]).await;
}
