//! The capture: every collection becomes `<db>/<collection>.bson` and `<collection>.metadata.json`,
//! in mongodump's layout.

use std::{num::NonZeroUsize, sync::Arc};

use bson::{Document, Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};
use kaleem_dr_core::{
    engine::{artifact::Capture, change_log::LogSpan, manifest::ServerInfo},
    ground::{ArtifactPath, SourceError},
};
use tokio::task::JoinSet;

use super::{
    batch::Batch,
    catalogue::{self, Catalogued},
    documents::DataPlace,
    identity::{Identity, Whereabouts},
    metadata,
    moment::Moment,
    oplog,
    pieces::DocumentWriter,
    position::{Position, position},
    ranges::{self, RangedReader},
    reader::{CollectionReader, Order, Read},
    slice,
    snapshot::{self, Listed},
};
use crate::mongodb::{
    config::ConsistencyMode,
    names::{self, ROOT},
    server::{
        Connection, ServerFacts, Topology,
        listing::{self, BUCKETS, CollectionKind, CollectionSpec, Scope},
    },
    users,
};

/// Collections whose indexes are listed at once: thousands of them one after the other would take minutes.
const LISTINGS_AT_ONCE: usize = 16;
/// Limit for the renames of one collection that are followed while its indexes are listed.
const RENAMES: u32 = 5;

/// The parameters of a capture, apart from the server.
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
    out.set_server(ServerInfo::new("MongoDB", facts.version.clone()));
    let position = place_in_oplog(connection, &facts, order.consistency).await?;
    let mut listed =
        snapshot::list(connection, &facts, order.scope, order.consistency, &position).await?;
    refuse_emptiness(connection, order.scope, &listed.collections)?;
    for pattern in order.scope.unmatched(&listed.collections) {
        out.incomplete(pattern, "no collection matches this pattern");
    }
    list_indexes(connection, &mut listed.collections).await?;
    let moment = Arc::new(listed.moment(&position));

    let with_users =
        if order.users { order.scope.databases(connection).await? } else { Vec::new() };
    let (mut artifacts, catalogue) =
        arrange(&listed.collections, &with_users, facts.has_viewless_time_series())?;
    if order.oplog {
        let start = oplog::start(connection, &listed.reading, &listed.collections)?;
        let path = artifact_path([ROOT, oplog::FILE])?;
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
                let read = Read {
                    connection: connection.clone(),
                    in_snapshot: listed.reading.is_in_snapshot(&spec),
                    order: Order::resumable(&spec),
                    spec,
                    place,
                    moment: moment.clone(),
                    from: connection.reads_from().await?,
                };
                tasks.spawn(copy(read, order.range_bytes, DocumentWriter::new(writer)));
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
    out.detail(catalogue::KEY, catalogue::to_value(&catalogue));
    complete(connection, order.scope, (&listed, &moment), position.is_ok(), out).await
}

/// Brings the collections to one moment after the last read, as far as possible, and records which one it is.
async fn complete(
    connection: &Connection,
    scope: &Scope,
    (listed, moment): (&Listed, &Moment),
    has_position: bool,
    out: &mut Capture,
) -> Result<(), SourceError> {
    let mut consistency = listed.reading.consistency(&listed.collections, out.started());
    // The place in the oplog that the collections represent, and from which a recovery to a later moment needs it.
    let mut place = listed.reading.at.filter(|_| !listed.is_apart()).zip(moment.read_oplog_after());
    if moment.needs_oplog() || (has_position && listed.is_apart()) {
        let path = artifact_path([oplog::NEEDED_ROOT, oplog::FILE])?;
        let writer = out.artifact(path).await?;
        let window = oplog::copy_needed(connection, moment, scope, listed, writer).await?;
        out.detail(oplog::NEEDED_KEY, window.to_value());
        consistency = snapshot::with_oplog(&window, out.started());
        // The captured oplog contains what is needed of transactions in progress.
        place = Some((window.to, window.to));
    } else {
        snapshot::verify(connection, scope, listed).await?;
    }
    if let Some((to, after)) = place {
        let (after, to) = (slice::position(after.min(to)), slice::position(to));
        out.set_change_log(LogSpan::of_base(scope.fingerprint(), after, to));
    }
    out.set_consistency(consistency);
    Ok(())
}

/// Returns the place in the oplog after which this capture keeps all entries, or the reason why it does without an oplog.
async fn place_in_oplog(
    connection: &Connection,
    facts: &ServerFacts,
    mode: ConsistencyMode,
) -> Result<Result<Position, String>, SourceError> {
    match (facts.topology, mode) {
        (_, ConsistencyMode::PerCollection) => Ok(Err("it is not to be used".to_owned())),
        (Topology::ReplicaSet, _) => position(connection).await,
        (Topology::Standalone, _) => Ok(Err("a standalone server has no oplog".to_owned())),
        (Topology::Sharded, _) => Ok(Err(
            "a sharded cluster has an oplog on each shard, but not one of its own".to_owned(),
        )),
    }
}

/// Lists the indexes of all collections, several at once.
async fn list_indexes(
    connection: &Connection,
    collections: &mut [CollectionSpec],
) -> Result<(), SourceError> {
    let mut listings: Vec<BoxFuture<'_, Result<(), SourceError>>> = Vec::new();
    for spec in collections {
        listings.push(Box::pin(async move {
            spec.indexes = indexes_of(connection, spec).await?;
            Ok(())
        }));
    }
    let mut listed = futures::stream::iter(listings).buffer_unordered(LISTINGS_AT_ONCE);
    while listed.try_next().await?.is_some() {}
    Ok(())
}

/// Lists the indexes of one collection, also if it was renamed since it was listed: without them it would be restored without
/// them. One that was dropped has none; reading it shows that as well.
async fn indexes_of(
    connection: &Connection,
    spec: &CollectionSpec,
) -> Result<Vec<Document>, SourceError> {
    let mut now = spec.clone();
    for _ in 0..RENAMES {
        if let Some(indexes) = listing::list_indexes(connection, &now).await? {
            return Ok(indexes);
        }
        let identity = Identity { connection, spec, is_read_elsewhere: false };
        match identity.locate(&now.name).await? {
            Whereabouts::Same => {}
            Whereabouts::Renamed(name) => now.name = name,
            Whereabouts::Gone => return Ok(Vec::new()),
        }
    }
    Err(SourceError::Server {
        server: connection.server().to_owned(),
        action: format!("list the indexes of {}", spec.namespace()),
        cause: "it is renamed again and again; run the capture again, or leave it out with `exclude_collections`".into(),
    })
}

fn artifact_path<const N: usize>(parts: [&str; N]) -> Result<ArtifactPath, SourceError> {
    ArtifactPath::join(parts).map_err(|error| SourceError::Unsupported(error.to_string()))
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
            artifacts.push((
                path(database, part.file(database))?,
                Content::Users(database.clone(), part),
            ));
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
    Whole(Box<CollectionReader>),
    Ranged(Box<RangedReader>),
}

impl Reader {
    async fn open(read: Read, range_bytes: u64) -> Result<Self, SourceError> {
        if let Some(ranges) = ranges::split(&read.connection, &read.spec, range_bytes).await? {
            return Ok(Self::Ranged(Box::new(RangedReader::new(read, ranges))));
        }
        let reader = CollectionReader::open(read, None).await?;
        Ok(Self::Whole(Box::new(reader)))
    }

    async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        match self {
            Self::Whole(reader) => reader.next().await,
            Self::Ranged(reader) => reader.next().await,
        }
    }
}

/// Copies one collection into its artifact.
async fn copy(read: Read, range_bytes: u64, mut to: DocumentWriter) -> Result<(), SourceError> {
    let path = to.path().clone();
    let failed = |error: SourceError| match error {
        // These have no relation to the artifact.
        SourceError::Aborted | SourceError::Cancelled => error,
        error => match snapshot::advice(&error) {
            Some(advice) => SourceError::artifact(&path, advice),
            None => SourceError::artifact(&path, error),
        },
    };
    let mut reader = Reader::open(read.clone(), range_bytes).await.map_err(failed)?;
    let mut batch = reader.next().await.map_err(failed)?;
    while let Some(current) = batch {
        if current.is_oversized() {
            write(&mut to, &current).await.map_err(failed)?;
            drop(current);
            batch = reader.next().await.map_err(failed)?;
        } else {
            // The next reply is on its way while this one is hashed and handed over.
            let (next, written) = tokio::join!(reader.next(), write(&mut to, &current));
            written.map_err(failed)?;
            batch = next.map_err(failed)?;
        }
    }
    read.identity().note_end(&read.moment).await.map_err(failed)?;
    to.finish().await
}

async fn write(to: &mut DocumentWriter, batch: &Batch) -> Result<(), SourceError> {
    let path = to.path().clone();
    let malformed = |why: String| SourceError::artifact(&path, why);
    for document in batch.documents().map_err(malformed)? {
        to.write(document.map_err(malformed)?).await?;
    }
    Ok(())
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
