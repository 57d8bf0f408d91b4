//! Captures a MongoDB database into a repository on disk. Needs a server: `KALEEM_TEST_MONGO_URI`.
#![allow(missing_docs)]

use std::sync::Arc;

use bson::{Document, doc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{Access, Location, Repository},
    ground::{
        Exit,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::{Environment, SecretRef, SecretString},
        job::{BackupJob, backup},
    },
    recovery::source::Restorable,
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use mongodb::Client;

const DATABASE: &str = "kaleem_bench";
const DOCUMENTS: i32 = 20_000;

/// Seeds the database. Returns the size of its documents in bytes.
async fn seed(uri: &str) -> u64 {
    let database = Client::with_uri_str(uri).await.expect("a valid address").database(DATABASE);
    database.drop().await.expect("our own database can be dropped");
    let mut bytes = 0;
    for name in ["a", "b"] {
        for part in (0..DOCUMENTS).step_by(1000) {
            let documents: Vec<Document> = (part..part + 1000)
                .map(|n| doc! { "_id": n, "text": format!("document {n} ").repeat(40), "n": n })
                .collect();
            bytes += documents
                .iter()
                .map(|document| bson::serialize_to_vec(document).map_or(0, |raw| raw.len() as u64))
                .sum::<u64>();
            database
                .collection(name)
                .insert_many(documents)
                .await
                .expect("documents can be inserted");
        }
    }
    bytes
}

fn mongo(c: &mut Criterion) {
    let uri = std::env::var("KALEEM_TEST_MONGO_URI")
        .expect("KALEEM_TEST_MONGO_URI is not set: run `make bench`");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let bytes = runtime.block_on(seed(&uri));
    let environment: Environment = [("MONGO_URI", uri)].into_iter().collect();
    let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    config.databases = vec![DATABASE.to_owned()];
    let source = MongoSource::new("mongo".parse().expect("a name"), config, &environment)
        .expect("a valid config");
    let source: Arc<dyn Restorable> = Arc::new(source);

    let mut group = c.benchmark_group("mongo");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("capture", |b| {
        b.iter_batched(
            || {
                let directory = tempfile::tempdir().expect("a directory can be made");
                let access = Access::new(
                    Location::Directory(directory.path().join("repository")),
                    SecretString::from("bench"),
                );
                (
                    directory,
                    runtime
                        .block_on(Repository::init(&access, 2))
                        .expect("a repository can be made"),
                )
            },
            |(directory, repository)| {
                let job = BackupJob::new(repository, vec![source.clone()]);
                let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
                let report = runtime
                    .block_on(backup(&job, &progress, &CancellationToken::new()))
                    .expect("a run");
                assert_eq!(report.exit, Exit::Done, "{:?}", report.sources);
                directory
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, mongo);
criterion_main!(benches);
