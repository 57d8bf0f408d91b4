//! Captures that take longer than the server keeps a snapshot, or lose their cursors and connections: each restores to exactly
//! what was there at the moment it says, by a log of the writes.
//!
//! The test server neither keeps history for a while only nor honours `atClusterTime`; a proxy says for it that the snapshot is
//! gone, that a cursor is, that a member steps down, and cuts connections.

use std::{
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
use mongodb::bson::{Document, Timestamp, doc};

use crate::support::{
    mongo_proxy::{Fate, MongoProxy},
    mongo_writer::{DATABASE, Random, Writer, state, write_until},
    points::{Points, progress},
    servers::MongoServer,
};

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

/// Captures through a proxy while a writer writes, restores, and compares with the log. Gives the report of the restore if the
/// capture ended well and needed its oplog.
async fn captured_is_the_moment(
    seed: u64,
    judge: impl Fn(&Document, Duration) -> Fate + Send + Sync + 'static,
) -> Option<RestoreReport> {
    let server = MongoServer::start();
    let first_read = std::sync::OnceLock::new();
    let proxy = MongoProxy::before(&server.uri(), move |command| {
        if command.contains_key("getMore") {
            first_read.get_or_init(Instant::now);
        }
        // So that replies hold few documents, and there are many.
        if command.contains_key("collStats") {
            return Fate::Is(doc! { "ok": 1.0, "avgObjSize": 100_000, "size": 1 });
        }
        // Since the first collection is read.
        judge(command, first_read.get().map_or(Duration::ZERO, Instant::elapsed))
    });
    let writer = Writer::start(&proxy.for_writers().uri(), seed).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, began) = (tokio::spawn(write_until(writer, stop.clone())), Instant::now());
    let points = Points::new().await;
    let job = BackupJob::new(points.repository.clone(), vec![source(&proxy.uri())]);
    let report = backup(&job, &progress(), &CancellationToken::new()).await.expect("a run");
    stop.store(true, Ordering::Relaxed);
    let writer = writing.await.expect("the writer ends");
    let seconds = began.elapsed().as_secs_f64();
    let writes = u32::try_from(writer.log.0.len()).expect("few");
    eprintln!("seed {seed}: {writes} writes, {:.0} a second", f64::from(writes) / seconds);
    assert_eq!(report.exit, Exit::Done, "seed {seed}: {:?}", report.sources[0].error);
    let point = points.latest().await;
    let manifest = point.manifest();
    assert_eq!(manifest.consistency.grade, ConsistencyGrade::PointInTime, "seed {seed}");
    let window = manifest.details.get("oplog_needed")?;
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
    Some(restored)
}

/// Six seeds, or as many as `KALEEM_TEST_MONGO_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("KALEEM_TEST_MONGO_SEEDS").ok().and_then(|count| count.parse().ok());
    2..2 + count.unwrap_or(6_u64)
}

/// A step of time in which a capture goes slowly.
const SLOWLY: Duration = Duration::from_millis(25);

/// The server goes slowly, and loses the snapshot early; counts the reads that learn of it.
fn slow(gone: &Arc<AtomicU64>) -> impl Fn(&Document, Duration) -> Fate + Send + Sync + use<> {
    let gone = gone.clone();
    move |command, elapsed| {
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
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_longer_than_the_snapshot_shows_the_moment_of_its_end() {
    let left = Arc::new(AtomicU64::new(0));
    let restored = captured_is_the_moment(1, slow(&left)).await;
    assert!(left.load(Ordering::SeqCst) >= 2, "the snapshot was gone before the end");
    let restored = restored.expect("the oplog was needed");
    assert!(
        restored
            .warnings
            .iter()
            .any(|warning| warning.contains("entries of the oplog were replayed up to")),
        "{restored:#?}"
    );
    assert!(
        restored.compared.iter().any(|what| what.contains("after the replay")),
        "{restored:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_cursors_connections_and_members_end_no_capture() {
    let (mut compared, mut injected, mut seeds_run) = (0, 0, 0);
    for seed in seeds() {
        let random = std::sync::Mutex::new(Random(seed * 7919 + 1));
        let faults = Arc::new(AtomicU64::new(0));
        let counted = faults.clone();
        let restored = captured_is_the_moment(seed, move |command, elapsed| {
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
        seeds_run += 1;
    }
    assert!(injected > 10, "{injected} faults");
    eprintln!(
        "{injected} faults, {compared} of {seeds_run} captures needed the oplog and were compared"
    );
    assert!(compared * 2 > seeds_run, "only {compared} of {seeds_run} ended well");
}

/// Renames a collection in the middle of a capture, and returns when it is done. The caller is a thread of the proxy.
fn rename(uri: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(uri).await.expect("a valid address");
        let of = |name: &str| format!("{DATABASE}.{name}");
        let command = doc! { "renameCollection": of("made1"), "to": of("kept1") };
        client.database("admin").run_command(command).await.expect("it can be renamed");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_renamed_before_its_indexes_are_listed_keeps_them() {
    let server = MongoServer::start();
    let client = mongodb::Client::with_uri_str(server.uri()).await.expect("a valid address");
    let made = client.database(DATABASE).collection::<Document>("made1");
    made.insert_many([doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": 2 }])
        .await
        .expect("inserts");
    made.create_index(mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build())
        .await
        .expect("an index");
    let (uri, is_renamed) = (server.uri(), AtomicBool::new(false));
    let proxy = MongoProxy::before(&server.uri(), move |command| {
        if command.contains_key("listIndexes") && !is_renamed.swap(true, Ordering::SeqCst) {
            rename(&uri);
        }
        let concern = command.get_document("readConcern");
        if concern.is_ok_and(|of| of.get_str("level").is_ok_and(|level| level == "snapshot")) {
            return Fate::fails(239, "SnapshotTooOld");
        }
        Fate::Passes
    });
    let points = Points::new().await;
    points.capture(&source(&proxy.uri())).await;
    let point = points.latest().await;

    let source = source(&server.uri());
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some("back".into())));
    let plan = source.plan_restore(&point, request).await.expect("a plan");
    let restored = source.restore(&point, plan).await.expect("a restore");
    assert!(restored.is_equal(), "{restored:#?}");
    let kept = client.database("back").collection::<Document>("kept1");
    assert_eq!(kept.count_documents(doc! {}).await.expect("a count"), 2);
    let indexes = kept.list_index_names().await.expect("they can be listed");
    assert_eq!(indexes, ["_id_", "n_1"]);
}
