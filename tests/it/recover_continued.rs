//! A recovery that was killed in the middle of a database keeps the collections that it had restored.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};

use crate::support::{
    mongo_proxy::{Fate, MongoProxy},
    program::start,
    servers,
    site::Site,
};

const DATABASE: &str = "recover_continued";
const LARGE: i32 = 2000;

/// The commands that wrote, each with its collection.
type Writes = Arc<Mutex<Vec<(String, String)>>>;

/// A proxy that notes what is written, and holds inserts into `events` while it is to.
fn proxy(writes: &Writes, holds: &Arc<AtomicBool>, held: &Arc<AtomicBool>) -> MongoProxy {
    let (writes, holds, held) = (writes.clone(), holds.clone(), held.clone());
    MongoProxy::before(&servers::mongo_uri(), move |command: &Document| {
        for kind in ["insert", "drop", "create"] {
            if let Ok(collection) = command.get_str(kind) {
                let write = (kind.to_owned(), collection.to_owned());
                writes.lock().expect("no other thread failed").push(write);
            }
        }
        let is_event = command.get_str("insert").is_ok_and(|name| name == "events");
        if is_event && holds.load(Ordering::SeqCst) {
            held.store(true, Ordering::SeqCst);
            return Fate::Waits(Duration::from_mins(1));
        }
        Fate::Passes
    })
}

async fn fill(database: &Database) {
    database.drop().await.expect("our own database can be dropped");
    for (name, count) in [("accounts", 300), ("events", LARGE)] {
        let documents = (0..count).map(|n| doc! { "_id": n, "text": format!("{name} {n}") });
        database
            .collection::<Document>(name)
            .insert_many(documents)
            .await
            .expect("documents can be inserted");
    }
}

async fn count(database: &Database, name: &str) -> u64 {
    let counted = database.collection::<Document>(name).count_documents(doc! {}).await;
    counted.expect("they can be counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_recovery_keeps_the_collections_that_it_had_restored() {
    let (writes, holds, held) = (Writes::default(), Arc::default(), Arc::default());
    let proxy = proxy(&writes, &holds, &held);
    let uri = proxy.uri().replace("/?", &format!("/{DATABASE}?"));
    let client = Client::with_uri_str(servers::mongo_uri()).await.expect("a valid address");
    let database = client.database(DATABASE);
    fill(&database).await;
    let site = Site::new().with_mongo("mongo", &uri).initialised();
    site.succeed(["backup"]);
    database.drop().await.expect("our own database can be dropped");

    holds.store(true, Ordering::SeqCst);
    let mut killed = start(site.command().args(["recover", "--yes"]));
    let deadline = Instant::now() + Duration::from_mins(1);
    while !held.load(Ordering::SeqCst) {
        let ended = killed.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended before the second collection: {ended:?}");
        assert!(Instant::now() < deadline, "it never came to the second collection");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().expect("it can be killed");
    killed.wait().expect("it ends");
    assert_eq!(count(&database, "accounts").await, 300, "it is restored already");
    assert!(count(&database, "events").await < u64::from(LARGE.unsigned_abs()));

    holds.store(false, Ordering::SeqCst);
    writes.lock().expect("no other thread failed").clear();
    site.succeed(["recover", "--yes"]);
    let again = writes.lock().expect("no other thread failed").clone();
    assert!(again.iter().any(|(_, name)| name == "events"), "{again:?}");
    assert!(again.iter().all(|(_, name)| name != "accounts"), "{again:?}");
    assert_eq!(count(&database, "accounts").await, 300);
    assert_eq!(count(&database, "events").await, u64::from(LARGE.unsigned_abs()));
    database.drop().await.expect("our own database can be dropped");
}
