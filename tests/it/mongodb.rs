//! A MongoDB from the operator's point of view: reachable or not, readable or not, and never a
//! password in the output.

use std::time::{Duration, Instant};

use kaleem_dr_core::{
    engine::source::Source as _,
    ground::SourceError,
    operate::config::secret::{Environment, SecretRef},
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoConfigError, MongoSource};
use mongodb::bson::doc;

const CANARY: &str = "c4n4ry";

fn live_uri() -> String {
    std::env::var("KALEEM_TEST_MONGO_URI")
        .expect("KALEEM_TEST_MONGO_URI is not set: run `make test`")
}

fn source(uri: &str, databases: &[&str]) -> Result<MongoSource, MongoConfigError> {
    let environment: Environment = [("MONGO_URI", uri)].into_iter().collect();
    let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    config.databases = databases.iter().map(ToString::to_string).collect();
    MongoSource::new("mongo".parse().expect("a name"), config, &environment)
}

/// An error with all of its causes, in its display and debug forms.
fn shown(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}\n{error}\n{error:?}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_probe_reads_version_and_size() {
    let uri = live_uri();
    let database = format!("kdr_probe_{}", std::process::id());
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    client
        .database(&database)
        .collection("users")
        .insert_one(doc! { "_id": 1, "text": "x".repeat(500) })
        .await
        .unwrap();

    let probe = source(&uri, &[&database]).unwrap().probe().await.unwrap();
    assert_eq!(probe.server.unwrap().product, "MongoDB");
    assert!(probe.size_bytes.unwrap() >= 500);
    client.database(&database).drop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_is_reported_within_seconds_and_without_the_password() {
    let uri = format!("mongodb://backup:{CANARY}@127.0.0.1:9/kaleem?authSource=admin");
    let begun = Instant::now();
    let error = source(&uri, &[]).unwrap().probe().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error:?}");
    let shown = shown(&error);
    assert!(shown.contains("127.0.0.1:9") && !shown.contains(CANARY), "{shown}");
}

#[test]
fn a_malformed_connection_string_is_refused_without_being_shown() {
    let error =
        source(&format!("mongodb://backup:{CANARY}@host:notaport/kaleem"), &[]).unwrap_err();
    assert!(!shown(&error).contains(CANARY), "{}", shown(&error));
}

#[test]
fn a_source_without_a_database_is_refused_with_what_to_do() {
    let error = source("mongodb://127.0.0.1:27017", &[]).unwrap_err();
    assert!(error.to_string().contains("set `databases`"), "{error}");
}
