//! The live server and its operations in tests: connect, list, read, write and clean up.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bson::{Timestamp, doc};
use bytes::{Bytes, BytesMut};
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{
        SourceError,
        digest::{ByteDigest, MultisetDigest},
    },
    operate::config::secret::{SecretRef, SecretString},
};
use mongodb::event::{EventHandler, command::CommandEvent};

use crate::mongodb::{
    config::MongoConfig,
    dump::{CollectionReader, DataPlace, Read, moment::Moment},
    restore::{Destination, Writes},
    server::{
        Connection,
        listing::{CollectionSpec, Scope},
    },
};

pub(super) fn connect(events: Option<EventHandler<CommandEvent>>) -> Arc<Connection> {
    let uri = std::env::var("KALEEM_TEST_MONGO_URI")
        .expect("KALEEM_TEST_MONGO_URI is not set: run `make test`");
    let mut connection =
        Connection::new(SecretString::from(uri), &SecretRef::Env("KALEEM_TEST_MONGO_URI".into()))
            .unwrap();
    connection.events = events;
    Arc::new(connection)
}

/// The name of a database for one test.
pub(super) fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("kdr_inner_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) async fn drop_databases(connection: &Connection, names: &[&str]) {
    for name in names {
        connection.run(name, doc! { "dropDatabase": 1 }, "drop").await.unwrap();
    }
}

pub(super) fn scope(database: &str) -> Scope {
    Scope::new(&MongoConfig::new(SecretRef::Env("M".into())), Some(database)).unwrap()
}

/// Everything in a collection, in reading order, and its record as in a capture.
pub(super) async fn read(
    connection: &Arc<Connection>,
    spec: &CollectionSpec,
    at: Option<Timestamp>,
) -> (ArtifactRecord, Bytes) {
    let place = DataPlace::of(spec, false).unwrap();
    let read = Read {
        moment: Arc::new(Moment::new(at, None)),
        in_snapshot: at.is_some(),
        ..Read::now(connection, spec, &place)
    };
    let mut reader = CollectionReader::open(read, None).await.unwrap();
    let (mut bytes, mut digest) = (BytesMut::new(), MultisetDigest::default());
    while let Some(batch) = reader.next().await.unwrap() {
        for document in batch.documents().unwrap() {
            digest.add(document.as_ref().unwrap());
            bytes.extend_from_slice(document.unwrap());
        }
    }
    let record = ArtifactRecord::new("", bytes.len() as u64, ByteDigest::of(&bytes))
        .with_content(digest.items(), digest.to_hex());
    (record, bytes.freeze())
}

pub(super) async fn destination(connection: &Connection, spec: &CollectionSpec) -> Destination {
    let facts = connection.facts().await.unwrap();
    Destination::new(spec, &DataPlace::of(spec, false).unwrap(), &facts, &writes())
}

pub(super) fn writes() -> Writes {
    Writes::of(&MongoConfig::new(SecretRef::Env("M".into())))
}

/// Bytes as a stream of pieces that split documents anywhere.
pub(super) fn pieces(
    bytes: &Bytes,
    length: usize,
) -> impl futures::Stream<Item = Result<Bytes, SourceError>> + Unpin + use<> {
    let pieces: Vec<_> =
        bytes.chunks(length).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures::stream::iter(pieces)
}
