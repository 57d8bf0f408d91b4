//! The capture: every collection becomes `<db>/<collection>.bson` and `<collection>.metadata.json`,
//! in mongodump's layout.

use std::{num::NonZeroUsize, sync::Arc};

use bson::Timestamp;
use bytes::BytesMut;
use kaleem_dr_core::{
    engine::{
        artifact::{ArtifactWriter, Capture},
        manifest::ServerInfo,
    },
    ground::{ArtifactPath, SourceError, digest::MultisetDigest},
};
use mongodb::raw_batch_cursor::RawBatch;
use tokio::task::JoinSet;

use super::{
    catalogue::{self, Catalogued},
    documents::{CollectionReader, DataPlace, is_oversized},
    metadata, oplog,
    pieces::{self, PIECE_BYTES},
    ranges::{self, RangedRead, RangedReader},
    snapshot,
};
use crate::mongodb::{
    config::ConsistencyMode,
    names::{self, ROOT},
    server::{
        Connection,
        listing::{self, BUCKETS, CollectionKind, CollectionSpec, Scope},
    },
    users,
};

/// The parameters of a capture, except for the server.
#[derive(Debug)]
pub(crate) struct CaptureOrder<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) consistency: ConsistencyMode,
    pub(crate) parallel: NonZeroUsize,
    /// A collection of at least this many bytes is read in parallel ranges; 0 disables this.
    pub(crate) range_bytes: u64,
    /// Also capture the databases' users and roles.
    pub(crate) users: bool,
    /// Also capture the oplog.
    pub(crate) oplog: bool,
}

/// The content of an artifact to be written.
enum Content {
    Metadata(String),
    Documents(CollectionSpec, DataPlace),
    /// The users and roles of this database.
    Users(String, users::Part),
    /// The oplog after this time.
    Oplog(Timestamp),
}

/// Artifacts in the order of their paths.
type Artifacts = Vec<(ArtifactPath, Content)>;

/// Captures everything in scope.
pub(crate) async fn capture(
    connection: &Arc<Connection>,
    order: CaptureOrder<'_>,
    out: &mut Capture,
) -> Result<(), SourceError> {
    let cancel = out.cancellation();
    let mut tasks = JoinSet::new();
    let result = match cancel.run_until_cancelled(run(connection, order, out, &mut tasks)).await {
        Some(result) => result,
        None => Err(SourceError::Cancelled),
    };
    // Stop the remaining readers and wait for them: no task of ours outlives this call.
    tasks.shutdown().await;
    result
}

async fn run(
    connection: &Arc<Connection>,
    order: CaptureOrder<'_>,
    out: &mut Capture,
    tasks: &mut JoinSet<Result<(), SourceError>>,
) -> Result<(), SourceError> {
    let facts = connection.facts().await?;
    out.set_server(ServerInfo { product: "MongoDB".to_owned(), version: facts.version.clone() });
    let mut listed = snapshot::list(connection, &facts, order.scope, order.consistency).await?;
    refuse_emptiness(connection, order.scope, &listed.collections)?;
    for pattern in order.scope.unmatched(&listed.collections) {
        out.incomplete(pattern, "no collection matches this pattern");
    }
    for spec in &mut listed.collections {
        spec.indexes = listing::list_indexes(connection, spec).await?;
    }
    out.set_consistency(listed.reading.consistency(&listed.collections, out.started()));

    let with_users =
        if order.users { order.scope.databases(connection).await? } else { Vec::new() };
    let (mut artifacts, catalogue) =
        arrange(&listed.collections, &with_users, facts.has_viewless_time_series())?;
    if order.oplog {
        let start = oplog::start(connection, &listed.reading, &listed.collections)?;
        let path = ArtifactPath::join([ROOT, oplog::FILE])
            .map_err(|error| SourceError::Unsupported(error.to_string()))?;
        artifacts.push((path, Content::Oplog(start)));
        sort(&mut artifacts);
    }
    for (path, content) in artifacts {
        match content {
            Content::Metadata(json) => out.whole(path, json.into(), None).await?,
            Content::Oplog(start) => {
                let writer = out.artifact(path).await?;
                let window = oplog::copy(connection, start, writer).await?;
                out.detail(oplog::KEY, window);
            }
            Content::Users(database, part) => {
                let (bytes, items) = users::read(connection, &database, part).await?;
                out.whole(path, bytes.into(), Some(items)).await?;
            }
            Content::Documents(spec, place) => {
                while tasks.len() >= order.parallel.get() {
                    join_next(tasks).await?;
                }
                let writer = out.artifact(path).await?;
                let at = listed.reading.at(&spec);
                let read = RangedRead {
                    connection: connection.clone(),
                    spec,
                    place,
                    at,
                    from: connection.reads_from().await?,
                };
                tasks.spawn(copy(read, order.range_bytes, writer));
            }
        }
        // If one stream fails, the capture ends at once, not when the last stream has been opened.
        while let Some(joined) = tasks.try_join_next() {
            done(joined)?;
        }
    }
    while !tasks.is_empty() {
        join_next(tasks).await?;
    }
    snapshot::verify(connection, order.scope, &listed).await?;
    out.detail(catalogue::KEY, catalogue::to_value(&catalogue));
    Ok(())
}

/// A database without collections is more often a misspelt name than data worth a recovery point.
fn refuse_emptiness(
    connection: &Connection,
    scope: &Scope,
    collections: &[CollectionSpec],
) -> Result<(), SourceError> {
    if collections.is_empty() && scope.named().is_empty() {
        return Err(SourceError::Unsupported(format!(
            "{} lists no collections: check the patterns, and the user's permissions",
            connection.server()
        )));
    }
    match scope
        .named()
        .iter()
        .find(|database| !collections.iter().any(|spec| spec.database == **database))
    {
        None => Ok(()),
        Some(empty) => Err(SourceError::Unsupported(format!(
            "{} lists no collections for the configured database {empty}: check `databases`, the database in the path of \
             the connection string, the patterns, and the user's permissions",
            connection.server()
        ))),
    }
}

/// All artifacts in path order, and the catalogue for the manifest.
fn arrange(
    collections: &[CollectionSpec],
    with_users: &[String],
    viewless_time_series: bool,
) -> Result<(Artifacts, Vec<Catalogued>), SourceError> {
    let path = |database: &str, file: String| {
        ArtifactPath::join([ROOT, database, &file]).map_err(|_| {
            SourceError::Unsupported(format!(
                "the database name `{database}` cannot be used in a path"
            ))
        })
    };
    let mut artifacts = Vec::with_capacity(collections.len() * 2);
    let mut catalogue = Vec::with_capacity(collections.len());
    for database in with_users {
        for part in users::Part::ALL {
            artifacts.push((path(database, part.file())?, Content::Users(database.clone(), part)));
        }
    }
    for spec in collections {
        let stem = names::file_stem(&spec.name);
        let json = metadata::to_json(spec);
        let described = path(&spec.database, format!("{stem}.metadata.json"))?;
        let mut entry = Catalogued {
            specification: json.clone(),
            database: spec.database.clone(),
            metadata: described.as_str().to_owned(),
            data: None,
        };
        artifacts.push((described, Content::Metadata(json)));
        if let Some(place) = DataPlace::of(spec, viewless_time_series) {
            // mongorestore looks for a time series' buckets under this name, whatever the server's
            // own name for them.
            let stem = if spec.kind == CollectionKind::TimeSeries {
                names::file_stem(&format!("{BUCKETS}{}", spec.name))
            } else {
                stem
            };
            let data = path(&spec.database, format!("{stem}.bson"))?;
            entry.data = Some(data.as_str().to_owned());
            artifacts.push((data, Content::Documents(spec.clone(), place)));
        }
        catalogue.push(entry);
    }
    sort(&mut artifacts);
    Ok((artifacts, catalogue))
}

/// Sorts component by component: `-`, `%` and others are less than `/`, so sorting whole paths
/// would give another order.
fn sort(artifacts: &mut Artifacts) {
    artifacts.sort_by(|(a, _), (b, _)| a.as_str().split('/').cmp(b.as_str().split('/')));
}

async fn join_next(tasks: &mut JoinSet<Result<(), SourceError>>) -> Result<(), SourceError> {
    match tasks.join_next().await {
        Some(joined) => done(joined),
        None => Ok(()),
    }
}

fn done(
    joined: Result<Result<(), SourceError>, tokio::task::JoinError>,
) -> Result<(), SourceError> {
    match joined {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(SourceError::Cancelled),
    }
}

/// Reads a collection: sequentially, or in parallel ranges.
enum Reader {
    Whole(CollectionReader),
    Ranged(RangedReader),
}

impl Reader {
    async fn open(read: RangedRead, range_bytes: u64) -> Result<Self, SourceError> {
        if let Some(ranges) = ranges::split(&read.connection, &read.spec, range_bytes).await? {
            return Ok(Self::Ranged(RangedReader::new(read, ranges)));
        }
        let RangedRead { connection, spec, place, at, from } = read;
        CollectionReader::open(&connection, &spec, &place, at, from, None).await.map(Self::Whole)
    }

    async fn next(&mut self) -> Result<Option<RawBatch>, SourceError> {
        match self {
            Self::Whole(reader) => reader.next().await,
            Self::Ranged(reader) => reader.next().await,
        }
    }
}

/// Copies one collection into its artifact.
async fn copy(
    read: RangedRead,
    range_bytes: u64,
    mut writer: ArtifactWriter,
) -> Result<(), SourceError> {
    let path = writer.path().clone();
    let failed = |error: SourceError| match error {
        // These have no relation to the artifact.
        SourceError::Aborted | SourceError::Cancelled => error,
        error => match snapshot::advice(&error) {
            Some(advice) => SourceError::artifact(&path, advice),
            None => SourceError::artifact(&path, error),
        },
    };
    let mut reader = Reader::open(read, range_bytes).await.map_err(failed)?;
    let mut content = MultisetDigest::default();
    let mut pieces = BytesMut::with_capacity(PIECE_BYTES);
    let mut batch = reader.next().await.map_err(failed)?;
    while let Some(current) = batch {
        if is_oversized(&current) {
            pieces::write(&mut writer, &current, &mut content, &mut pieces)
                .await
                .map_err(failed)?;
            drop(current);
            batch = reader.next().await.map_err(failed)?;
        } else {
            // The next reply is requested while this one is hashed and passed on.
            let (next, written) = tokio::join!(
                reader.next(),
                pieces::write(&mut writer, &current, &mut content, &mut pieces)
            );
            written.map_err(failed)?;
            batch = next.map_err(failed)?;
        }
    }
    writer.write(pieces.freeze()).await?;
    writer.finish(Some(content.items()), Some(content.to_hex())).await
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn artifacts_ascend_by_file_names_and_a_view_has_no_data() {
        let spec = |name: &str, kind| CollectionSpec {
            database: "d".into(),
            name: name.into(),
            kind,
            options: doc! {},
            indexes: vec![],
            uuid: None,
        };
        let collections = [
            spec("a", CollectionKind::Collection),
            spec("a b", CollectionKind::Collection),
            spec("a.b", CollectionKind::Collection),
            spec("a-b", CollectionKind::Collection),
            spec("a.metadata", CollectionKind::Collection),
            spec("view", CollectionKind::View),
            spec("weather", CollectionKind::TimeSeries),
        ];
        let (artifacts, catalogue) = arrange(&collections, &["d".to_owned()], false).unwrap();
        let paths: Vec<&str> = artifacts.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/mongo/d/%24admin.system.roles.bson",
                "/mongo/d/%24admin.system.users.bson",
                "/mongo/d/%24admin.system.version.bson",
                "/mongo/d/a%20b.bson",
                "/mongo/d/a%20b.metadata.json",
                "/mongo/d/a-b.bson",
                "/mongo/d/a-b.metadata.json",
                "/mongo/d/a.b.bson",
                "/mongo/d/a.b.metadata.json",
                "/mongo/d/a.bson",
                "/mongo/d/a.metadata.bson",
                "/mongo/d/a.metadata.json",
                "/mongo/d/a.metadata.metadata.json",
                "/mongo/d/system.buckets.weather.bson",
                "/mongo/d/view.metadata.json",
                "/mongo/d/weather.metadata.json",
            ]
        );
        assert_eq!(catalogue.iter().filter(|entry| entry.data.is_none()).count(), 1);
        assert_eq!(
            catalogue.len(),
            collections.len(),
            "users are not a collection of the database"
        );
    }
}
