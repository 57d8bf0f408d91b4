//! mongodump archives: real ones are read byte for byte, an independent reader reads ours, and both
//! are restored.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bson::{Document, RawDocument, doc};
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        manifest::ArtifactRecord,
        repository::{Access, Location, Repository, select},
    },
    ground::{
        Exit, SourceError,
        digest::ByteDigest,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::{Environment, SecretRef, SecretString},
        job::{BackupJob, backup},
    },
    recovery::{
        point::PointReader,
        source::{Restorable, RestoreRequest, RestoreTarget},
        staged::{Sink, StagedWork},
    },
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use serde_json::Value;

use crate::support::{archive::Archive, servers};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongo").join(name)
}

/// A source for tests that need no server.
fn source(uri: &str, database: &str) -> MongoSource {
    let environment: Environment = [("MONGO_URI", uri)].into_iter().collect();
    let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    config.databases = vec![database.to_owned()];
    MongoSource::new("mongo".parse().expect("a name"), config, &environment)
        .expect("a valid config")
}

fn offline() -> MongoSource {
    source("mongodb://127.0.0.1:9/", "d")
}

async fn open(
    source: &MongoSource,
    file: &Path,
    scratch: &Path,
) -> Result<PointReader, SourceError> {
    let work = StagedWork::new(scratch);
    source.staged().expect("MongoDB has a staged form").open(file, &work).await
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn write(point: &PointReader, gzip: bool) -> Vec<u8> {
    let out = Shared::default();
    let mut sink = Sink::new(Box::new(out.clone()), gzip);
    offline()
        .staged()
        .expect("a staged form")
        .write(point, &mut sink)
        .await
        .expect("the point can be written");
    let written = sink.finish().await.expect("memory takes it");
    let bytes = out.0.lock().expect("no writer panicked").clone();
    assert_eq!(written, bytes.len() as u64);
    bytes
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut plain).expect("gzip");
    plain
}

async fn bytes(point: &PointReader, path: &str) -> Vec<u8> {
    let reader = point.artifact(path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    reader.read_all(1 << 26).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
}

/// All artifacts by path.
fn artifacts(point: &PointReader) -> BTreeMap<String, ArtifactRecord> {
    point
        .manifest()
        .artifacts
        .iter()
        .map(|artifact| (artifact.path.clone(), artifact.clone()))
        .collect()
}

fn split(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut documents = Vec::new();
    while !stream.is_empty() {
        let length = u32::from_le_bytes(stream[..4].try_into().expect("four bytes")) as usize;
        let (document, rest) = stream.split_at(length);
        documents.push(document);
        stream = rest;
    }
    documents
}

/// Type and value of a document's id, as bytes.
fn id(document: &[u8]) -> Vec<u8> {
    let mut at = 4;
    for element in RawDocument::from_bytes(document).expect("a document").iter_elements() {
        let element = element.expect("an element");
        let value = at + 1 + element.key().as_str().len() + 1;
        if element.key().as_str() == "_id" {
            return [&document[at..=at], &document[value..value + element.size()]].concat();
        }
        at = value + element.size();
    }
    Vec::new()
}

fn listing() -> Vec<Value> {
    let listing: Value =
        serde_json::from_slice(&fs::read(fixture("listing.json")).expect("the listing"))
            .expect("JSON");
    listing["archives"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_real_archive_is_read_to_the_byte_plain_and_compressed() {
    let scratch = tempfile::tempdir().expect("a directory");
    for archive in listing() {
        let file = archive["file"].as_str().unwrap();
        let point = open(&offline(), &fixture(file), scratch.path())
            .await
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let manifest = point.manifest();
        assert_eq!(
            (manifest.kind.as_str(), manifest.server.as_ref().unwrap().version.as_str()),
            ("mongodb", "8.2.11")
        );
        let collections = manifest.details["collections"].as_array().unwrap();
        let namespaces = archive["namespaces"].as_array().unwrap();
        assert_eq!(collections.len(), namespaces.len());
        let mut documents = 0;
        for namespace in namespaces {
            let described = namespace["metadata_json"].as_str().unwrap();
            let listed = collections
                .iter()
                .find(|listed| listed["specification"] == described)
                .expect("a collection with its metadata");
            assert_eq!(listed["database"], namespace["db"]);
            assert_eq!(
                bytes(&point, listed["metadata"].as_str().unwrap()).await,
                described.as_bytes()
            );
            if namespace["type"] == "view" {
                assert!(listed.get("data").is_none());
                continue;
            }
            let path = listed["data"].as_str().unwrap();
            let record = manifest.artifact(path).unwrap();
            assert_eq!(
                (record.items, record.size_bytes),
                (namespace["count"].as_u64(), namespace["bytes"].as_u64().unwrap())
            );
            assert_eq!(record.sha256, namespace["sha256_archive_order"]);
            let stream = bytes(&point, path).await;
            let mut sorted = split(&stream);
            sorted.sort_by_key(|document| (id(document), document.to_vec()));
            assert_eq!(
                ByteDigest::of(&sorted.concat()),
                namespace["sha256_docs_sorted_by_id"],
                "{path}"
            );
            documents += sorted.len();
        }
        assert_eq!(documents, 175);
        drop(point);
        assert_eq!(
            fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "what was unpacked goes with the point"
        );
    }
}

#[tokio::test]
async fn what_we_write_is_read_by_another_reader_and_comes_back_equal() {
    let scratch = tempfile::tempdir().expect("a directory");
    let real = Archive::read(&fs::read(fixture("small.archive")).unwrap());
    let point = open(&offline(), &fixture("small.archive"), scratch.path()).await.unwrap();
    let plain = write(&point, false).await;
    let ours = Archive::read(&plain);
    let by_name = |archive: &Archive| -> BTreeMap<String, _> {
        archive.namespaces.iter().map(|namespace| (namespace.name(), namespace.clone())).collect()
    };
    assert_eq!(
        by_name(&ours),
        by_name(&real),
        "prelude, names of blocks and documents in their order"
    );
    assert_eq!(ours.header.get_str("server_version").unwrap(), "8.2.11");
    assert!(ours.header.get_str("tool_version").unwrap().starts_with("kaleem-dr "));
    assert_eq!(plain.len(), real_length_with(&ours, &real));

    let packed = write(&point, true).await;
    assert_eq!(unpacked(&packed), plain);
    for (name, bytes) in
        [("plain", &plain), ("packed", &packed), ("interleaved", &real.interleaved())]
    {
        let file = scratch.path().join(name);
        fs::write(&file, bytes).unwrap();
        let again = open(&offline(), &file, scratch.path())
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(artifacts(&again), artifacts(&point), "{name}");
        assert_eq!(again.manifest().details, point.manifest().details, "{name}");
    }
}

/// The expected length of our archive: that of the real one, except for the tool's version and the
/// order of entries.
fn real_length_with(ours: &Archive, real: &Archive) -> usize {
    let tool = |archive: &Archive| archive.header.get_str("tool_version").expect("a version").len();
    fs::read(fixture("small.archive")).expect("the fixture").len() + tool(ours) - tool(real)
}

/// Everything except plain collections: a time series, users, the oplog.
fn special() -> Archive {
    let entry = |db: &str, collection: &str, kind: &str, metadata: &str| {
        doc! { "db": db, "collection": collection, "metadata": metadata, "size": 0, "type": kind }
    };
    let document = |document: Document| bson::serialize_to_vec(&document).expect("bytes");
    let series = r#"{"options":{"timeseries":{"timeField":"t"}},"indexes":[],"collectionName":"weather","type":"timeseries"}"#;
    let namespace = |entry, blocks: &str, documents| crate::support::archive::Namespace {
        entry,
        blocks: blocks.into(),
        documents,
    };
    Archive {
        header: doc! { "concurrent_collections": 4, "version": "0.1", "server_version": "8.0.4", "tool_version": "100.13.0" },
        namespaces: vec![
            namespace(
                entry("kaleem", "weather", "timeseries", series),
                "system.buckets.weather",
                vec![document(doc! { "_id": 1 })],
            ),
            namespace(
                entry("kaleem", "$admin.system.roles", "", ""),
                "$admin.system.roles",
                vec![],
            ),
            namespace(
                entry("kaleem", "$admin.system.users", "", ""),
                "$admin.system.users",
                vec![
                    document(doc! { "_id": "kaleem.reader" }),
                    document(doc! { "_id": "kaleem.writer" }),
                ],
            ),
            namespace(entry("", "oplog", "", ""), "oplog", vec![document(doc! { "op": "n" })]),
        ],
    }
}

#[tokio::test]
async fn time_series_users_and_the_oplog_keep_their_places() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("special");
    fs::write(&file, special().interleaved()).unwrap();
    let point = open(&offline(), &file, scratch.path()).await.unwrap();
    let items: BTreeMap<String, Option<u64>> =
        artifacts(&point).into_iter().map(|(path, artifact)| (path, artifact.items)).collect();
    let expected = [
        ("/mongo/kaleem/%24admin.system.roles.bson", Some(0)),
        ("/mongo/kaleem/%24admin.system.users.bson", Some(2)),
        ("/mongo/kaleem/system.buckets.weather.bson", Some(1)),
        ("/mongo/kaleem/weather.metadata.json", None),
        ("/mongo/oplog.bson", Some(1)),
    ];
    assert_eq!(items, expected.into_iter().map(|(path, items)| (path.to_owned(), items)).collect());
    assert_eq!(point.manifest().details["collections"].as_array().unwrap().len(), 1);

    let ours = Archive::read(&write(&point, false).await);
    assert_eq!(ours.namespaces, special().namespaces);
}

#[tokio::test]
async fn from_8_3_on_a_time_series_is_written_under_its_own_name() {
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("special");
    let mut viewless = special();
    viewless.header.insert("server_version", "8.3.0");
    viewless.namespaces[0].blocks = "weather".into();
    fs::write(&file, viewless.interleaved()).unwrap();
    let point = open(&offline(), &file, scratch.path()).await.unwrap();
    assert!(point.manifest().artifact("/mongo/kaleem/system.buckets.weather.bson").is_some());
    assert_eq!(Archive::read(&write(&point, false).await).namespaces, viewless.namespaces);
}

#[tokio::test]
async fn a_damaged_archive_is_refused_with_the_place_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().expect("a directory");
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("cut.archive");
    let whole = fs::read(fixture("small.archive")).unwrap();
    fs::write(&file, &whole[..whole.len() - 4]).unwrap();
    let error = open(&offline(), &file, scratch.path()).await.unwrap_err();
    let SourceError::Damaged { path, why } = &error else { panic!("{error:?}") };
    assert_eq!(path, &file);
    assert!(
        why.starts_with(&format!(
            "at byte {} of the uncompressed archive, in fix.",
            whole.len() - 4
        )),
        "{why}"
    );
    assert!(
        why.contains("25 of its 25 namespaces are intact") || why.contains("24 of its 25"),
        "{why}"
    );

    let packed = fs::read(fixture("small.archive.gz")).unwrap();
    fs::write(&file, &packed[..packed.len() / 2]).unwrap();
    let error = open(&offline(), &file, scratch.path()).await.unwrap_err();
    assert!(error.to_string().contains("reading it failed"), "{error}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_point_that_breaks_while_it_is_written_leaves_no_whole_file() {
    let scratch = tempfile::tempdir().expect("a directory");
    let point = open(&offline(), &fixture("small.archive"), scratch.path()).await.unwrap();
    // Damage one of the unpacked files.
    let unpacked = fs::read_dir(scratch.path()).unwrap().next().unwrap().unwrap().path();
    let data = fs::read_dir(unpacked).unwrap().map(|entry| entry.unwrap().path());
    let data = data
        .filter(|path| path.extension().is_some_and(|extension| extension == "bson"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&data).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&data, bytes).unwrap();
    let out = Shared::default();
    let mut sink = Sink::new(Box::new(out.clone()), true);
    let error = offline().staged().unwrap().write(&point, &mut sink).await.unwrap_err();
    assert!(matches!(error, SourceError::Point(_)), "{error:?}");
    drop(sink);
}

#[tokio::test]
async fn an_inspection_walks_everything_and_names_what_is_wrong() {
    let scratch = tempfile::tempdir().expect("a directory");
    let point = open(&offline(), &fixture("small.archive.gz"), scratch.path()).await.unwrap();
    let inspection = offline().inspect(&point).await.unwrap();
    assert!(inspection.is_well(), "{:?}", inspection.findings);
    assert_eq!(inspection.checked.len(), 25 + 23, "{:#?}", inspection.checked);

    // Data with the correct length and checksum can still be invalid BSON: the reader accepts it,
    // the inspection does not.
    let mut broken = special();
    let mut document = broken.namespaces[2].documents[1].clone();
    document[4] = 0x20;
    broken.namespaces[2].documents[1] = document;
    let odd = r#"{"options":{},"indexes":[{"v":2,"name":"x"},{"name":"x","key":{"a":1}}],"collectionName":"weather","type":"timeseries"}"#;
    broken.namespaces[0].entry.insert("metadata", odd);
    let file = scratch.path().join("broken");
    fs::write(&file, broken.interleaved()).unwrap();
    let point = open(&offline(), &file, scratch.path()).await.unwrap();
    let inspection = offline().inspect(&point).await.unwrap();
    let findings: Vec<String> = inspection.findings.iter().map(ToString::to_string).collect();
    let first = broken.namespaces[2].documents[0].len();
    for expected in [
        "weather.metadata.json: a time series must have a `timeField`".to_owned(),
        "index 1 has no key".to_owned(),
        "two indexes have the name `x`".to_owned(),
        format!("%24admin.system.users.bson: document 2 is malformed at byte {}", first + 4),
    ] {
        assert!(
            findings.iter().any(|finding| finding.contains(&expected)),
            "{expected}: {findings:#?}"
        );
    }
    assert!(!inspection.is_well());
}

async fn restored(source: &MongoSource, point: &PointReader, database: &str) {
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some(database.to_owned())));
    let plan = source.plan_restore(point, request).await.expect("a plan");
    let report = source.restore(point, plan).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(report.is_equal(), "{:#?}", report.differences);
}

#[tokio::test]
async fn a_snapshot_goes_through_an_archive_into_another_database_and_is_equal() {
    let uri = servers::mongo_uri();
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let database = client.database("archive_out");
    for name in ["archive_out", "archive_back", "archive_dump"] {
        client.database(name).drop().await.unwrap();
    }
    let users: Vec<Document> = (0..3000)
        .map(|n| doc! { "_id": n, "name": format!("user {n}"), "tags": ["a", n] })
        .collect();
    database.collection("users").insert_many(users).await.unwrap();
    let index = mongodb::IndexModel::builder().keys(doc! { "name": 1, "_id": -1 }).build();
    database.collection::<Document>("users").create_index(index).await.unwrap();
    database.create_collection("log").capped(true).size(1 << 20).await.unwrap();
    database.collection("log").insert_many((0..50).map(|n| doc! { "line": n })).await.unwrap();
    database.create_collection("empty").await.unwrap();
    database
        .create_collection("names")
        .view_on("users".to_owned())
        .pipeline([doc! { "$project": { "name": 1 } }])
        .await
        .unwrap();

    let directory = tempfile::tempdir().unwrap();
    let access = Access::new(
        Location::Directory(directory.path().join("repository")),
        SecretString::from("archive"),
    );
    let repository = Repository::init(&access, 2).await.unwrap();
    let source = Arc::new(source(&uri, "archive_out"));
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let cancel = CancellationToken::new();
    let job = BackupJob::new(repository.clone(), vec![source.clone() as Arc<dyn Restorable>]);
    let report = backup(&job, &progress, &cancel).await.unwrap();
    assert_eq!(report.exit, Exit::Done, "{:?}", report.sources);
    let reader = repository
        .read(
            select(
                &repository.snapshots().await.unwrap(),
                "latest",
                &kaleem_dr_core::ground::host::HostScope::Any,
            )
            .unwrap(),
        )
        .await
        .unwrap();
    let snapshot = PointReader::open(reader, progress, cancel).await.unwrap();
    let inspection = source.inspect(&snapshot).await.unwrap();
    assert!(inspection.is_well(), "{:?}", inspection.findings);
    assert_eq!(inspection.checked.len(), 4 + 3, "{:?}", inspection.checked);

    let packed = write(&snapshot, true).await;
    let archive = Archive::read(&unpacked(&packed));
    assert_eq!(archive.namespaces.len(), 4);
    let file = directory.path().join("mongo.archive.gz");
    fs::write(&file, packed).unwrap();
    let point = open(&source, &file, directory.path()).await.unwrap();
    assert_eq!(artifacts(&point), artifacts(&snapshot));
    restored(&source, &point, "archive_back").await;

    // As mongodump writes it, four collections in parallel.
    let file = directory.path().join("mongo.archive");
    fs::write(&file, archive.interleaved()).unwrap();
    let point = open(&source, &file, directory.path()).await.unwrap();
    restored(&source, &point, "archive_dump").await;
    for name in ["archive_out", "archive_back", "archive_dump"] {
        client.database(name).drop().await.unwrap();
    }
}
