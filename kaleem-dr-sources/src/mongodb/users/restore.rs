//! Restores users and roles like mongorestore: into temporary collections of `admin`, from which
//! the server itself merges them with `_mergeAuthzCollections`.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use bytes::Bytes;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::PointReader,
        source::{Difference, Extras, RestoreReport, Uncompared},
    },
};

use super::part::{Part, label};
use crate::mongodb::{
    dump::{DataPlace, DocumentSplitter},
    restore::{Destination, Writes, load},
    server::{
        Connection, code, codes,
        listing::{self, CollectionKind, CollectionSpec},
    },
};

/// mongorestore's names: the role `restore` has read access only to these.
const TEMPORARY: [(Part, &str); 2] = [(Part::Users, "tempusers"), (Part::Roles, "temproles")];
/// Limit for the users and roles of a database, in bytes.
const LARGEST: u64 = 64 << 20;
/// The schema of servers from 2.6 on, assumed for a dump without a version document.
const OLDEST_SCHEMA: i64 = 3;

/// Restores the users and roles of one database and compares them. A failure of the server is
/// reported as a difference, because the data are already restored.
pub(crate) async fn restore(
    connection: &Arc<Connection>,
    writes: &Writes,
    point: &PointReader,
    database: &str,
    extras: Extras,
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    let mut wanted = Wanted::read(point, database).await?;
    if wanted.users.is_empty() && wanted.roles.is_empty() && extras == Extras::Keep {
        return Ok(());
    }
    let result = async {
        check_schema(connection, wanted.schema).await?;
        let kept = wanted.keep_login(connection).await?;
        report.warnings.extend(kept.into_iter().map(|login| {
            format!("the login in use, {login}, is kept as it is: with another password, this restore could not finish")
        }));
        take_over(connection, writes, &wanted, extras).await
    }
    .await;
    let differences = match result {
        Ok(()) => wanted.differences(connection, extras).await?,
        Err(error @ SourceError::Point(_)) => return Err(error),
        // A dump of a whole server contains accounts that the request did not ask for: without them the rest is still restored.
        Err(error) if wanted.is_whole_server => {
            report.uncompared.push(Uncompared {
                what: label(""),
                why: format!("not restored: {}", told(&error)),
            });
            return Ok(());
        }
        Err(error) => vec![difference(database, "they are restored", &told(&error))],
    };
    if differences.is_empty() {
        report.items += (wanted.users.len() + wanted.roles.len()) as u64;
        report.compared.push(format!(
            "{}: {} users and {} roles",
            label(wanted.database()),
            wanted.users.len(),
            wanted.roles.len()
        ));
    }
    report.differences.extend(differences);
    Ok(())
}

/// The users and roles of the point.
struct Wanted {
    database: String,
    users: Vec<Document>,
    roles: Vec<Document>,
    schema: i64,
    /// They belong to all databases, as in a dump of a whole server.
    is_whole_server: bool,
}

impl Wanted {
    async fn read(point: &PointReader, database: &str) -> Result<Self, SourceError> {
        let version = documents(point, database, Part::Version).await?;
        let schema = version
            .iter()
            .find(|document| document.get_str("_id").is_ok_and(|id| id == "authSchema"));
        let users = documents(point, database, Part::Users).await?;
        let roles = documents(point, database, Part::Roles).await?;
        let of_another =
            |document: &Document| document.get_str("db").is_ok_and(|of| of != database);
        Ok(Self {
            database: database.to_owned(),
            is_whole_server: database == "admin" && users.iter().chain(&roles).any(of_another),
            users,
            roles,
            schema: schema
                .and_then(|schema| whole(schema.get("currentVersion")))
                .unwrap_or(OLDEST_SCHEMA),
        })
    }

    /// The database they belong to; empty for those of a whole server.
    fn database(&self) -> &str {
        if self.is_whole_server { "" } else { &self.database }
    }

    /// Keeps the login in use as it is on the server, instead of restoring it from the point. Returns the names of such logins.
    async fn keep_login(&mut self, connection: &Connection) -> Result<Vec<String>, SourceError> {
        let action = "determine the current login";
        let status = connection.run("admin", doc! { "connectionStatus": 1 }, action).await?;
        let logins = status
            .get_document("authInfo")
            .and_then(|info| info.get_array("authenticatedUsers"))
            .map(|users| users.iter().filter_map(Bson::as_document).collect::<Vec<_>>())
            .unwrap_or_default();
        let mut ids = Vec::new();
        for login in logins {
            if let (Ok(user), Ok(database)) = (login.get_str("user"), login.get_str("db"))
                && (self.is_whole_server || database == self.database)
            {
                ids.push(format!("{database}.{user}"));
            }
        }
        if ids.is_empty() {
            return Ok(ids);
        }
        let find = doc! { "find": Part::Users.collection(), "filter": { "_id": { "$in": &ids } } };
        let found = connection.list("admin", find, "read the login in use").await?;
        self.users
            .retain(|user| !user.get_str("_id").is_ok_and(|id| ids.iter().any(|own| own == id)));
        self.users.extend(found);
        Ok(ids)
    }

    /// Reads users and roles back and compares them. Reports names but not contents, which include password hashes.
    async fn differences(
        &self,
        connection: &Connection,
        extras: Extras,
    ) -> Result<Vec<Difference>, SourceError> {
        let database = self.database();
        let mut differences = Vec::new();
        for (part, wanted) in [(Part::Users, &self.users), (Part::Roles, &self.roles)] {
            let action = format!("read back the {}", label(database));
            let find = doc! { "find": part.collection(), "filter": part.filter(database) };
            let found = connection.list("admin", find, &action).await?;
            for document in wanted.iter().filter(|wanted| !found.contains(wanted)) {
                let name = document.get_str("_id").unwrap_or("one without a name");
                differences.push(difference(
                    database,
                    &format!("{name} exists as captured"),
                    "it is missing or different",
                ));
            }
            if extras == Extras::Remove && found.len() != wanted.len() {
                differences.push(difference(
                    database,
                    &format!("{} documents in admin.{}", wanted.len(), part.collection()),
                    &found.len().to_string(),
                ));
            }
        }
        Ok(differences)
    }
}

async fn documents(
    point: &PointReader,
    database: &str,
    part: Part,
) -> Result<Vec<Document>, SourceError> {
    let odd = |why: String| {
        SourceError::Point(format!("the {} are malformed: {why}", label(database)).into())
    };
    let record = part
        .of(point.manifest(), database)
        .ok_or_else(|| odd(format!("{} is missing", part.file(database))))?;
    let bytes = point.artifact(&record.path).await?.read_all(LARGEST).await?;
    let mut splitter = DocumentSplitter::default();
    splitter.push(&bytes);
    let mut documents = Vec::new();
    while let Some(document) = splitter.next().map_err(odd)? {
        documents.push(
            bson::deserialize_from_slice(&document)
                .map_err(|_| odd("a document cannot be read".to_owned()))?,
        );
    }
    splitter.finish().map_err(odd)?;
    Ok(documents)
}

/// A server accepts users with its own schema, and with the older one that it can read.
async fn check_schema(connection: &Connection, dumped: i64) -> Result<(), SourceError> {
    let action = "report the schema of its users";
    let admin = connection.client().await?.database("admin");
    let asked = admin.run_command(doc! { "getParameter": 1, "authSchemaVersion": 1 });
    // The driver's error is not converted: one of its errors is a valid reply.
    let reply = match connection.answer(action, async { Ok(asked.await) }).await? {
        Ok(reply) => reply,
        // A server without the parameter supports only one schema, and rejects others itself.
        Err(error) if code(&error) == Some(codes::INVALID_OPTIONS) => return Ok(()),
        Err(error) => return Err(connection.error(action, &error)),
    };
    let own = whole(reply.get("authSchemaVersion"))
        .ok_or_else(|| connection.odd_answer(action, "its reply has no authSchemaVersion"))?;
    if (OLDEST_SCHEMA..=own).contains(&dumped) {
        return Ok(());
    }
    Err(SourceError::Unsupported(format!(
        "the users were captured in schema {dumped}, but {} has schema {own}: create them by hand, or restore to a server of the \
         version they come from",
        connection.server()
    )))
}

/// Loads both collections under temporary names and has the server merge them. The temporary ones
/// are dropped in any case.
async fn take_over(
    connection: &Arc<Connection>,
    writes: &Writes,
    wanted: &Wanted,
    extras: Extras,
) -> Result<(), SourceError> {
    let existing = listing::list_database(connection, "admin").await?;
    if let Some((_, name)) =
        TEMPORARY.iter().find(|(_, name)| existing.iter().any(|spec| spec.name == *name))
    {
        return Err(SourceError::Refused(format!(
            "admin.{name} exists: another restore of users is running, or an interrupted one left it; in that case drop it, and restore \
             again"
        )));
    }
    let merged = merge(connection, writes, wanted, extras).await;
    let mut dropped = Ok(());
    for (_, name) in TEMPORARY {
        let command = doc! { "drop": name, "writeConcern": &writes.concern };
        let action = format!("drop admin.{name}, which contains password hashes: do this by hand");
        if let Err(error) = connection
            .write_tolerating("admin", command, &action, Some(codes::NAMESPACE_NOT_FOUND))
            .await
        {
            dropped = Err(error);
        }
    }
    merged.and(dropped)
}

async fn merge(
    connection: &Arc<Connection>,
    writes: &Writes,
    wanted: &Wanted,
    extras: Extras,
) -> Result<(), SourceError> {
    let facts = connection.facts().await?;
    for (part, name) in TEMPORARY {
        let documents = if part == Part::Users { &wanted.users } else { &wanted.roles };
        let action = format!("load the {}", label(wanted.database()));
        let bytes: Vec<Result<Bytes, SourceError>> = documents
            .iter()
            .map(|document| {
                bson::serialize_to_vec(document)
                    .map(Bytes::from)
                    .map_err(|_| connection.odd_answer(&action, "one cannot be written"))
            })
            .collect();
        let spec = CollectionSpec {
            database: "admin".to_owned(),
            name: name.to_owned(),
            kind: CollectionKind::Collection,
            options: doc! {},
            indexes: Vec::new(),
            uuid: None,
        };
        let place = DataPlace { collection: name.to_owned(), raw_data: false };
        let destination = Destination::new(&spec, &place, &facts, writes);
        load::load(connection, &destination, futures::stream::iter(bytes), |_| ()).await?;
    }
    let command = doc! {
        "_mergeAuthzCollections": 1,
        "tempUsersCollection": "admin.tempusers",
        "tempRolesCollection": "admin.temproles",
        "drop": extras == Extras::Remove,
        "db": wanted.database(),
        "writeConcern": &writes.concern,
    };
    let action = format!("take over the {}", label(wanted.database()));
    connection.write("admin", command, &action).await
}

fn difference(database: &str, expected: &str, found: &str) -> Difference {
    Difference { what: label(database), expected: expected.to_owned(), found: found.to_owned() }
}

fn whole(number: Option<&Bson>) -> Option<i64> {
    match number? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        #[allow(clippy::cast_possible_truncation)]
        // A small integer written by the shell; `as` saturates.
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

fn told(error: &SourceError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
    };

    use kaleem_dr_core::{
        CancellationToken,
        engine::manifest::{ArtifactRecord, Manifest},
        ground::{digest::ByteDigest, progress::Silent},
        operate::config::secret::SecretRef,
        recovery::point::{FilePart, FilePoint},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::mongodb::{config::MongoConfig, server::Recorder};

    const HASH: &str = "c4n4ry-hash";

    fn user(name: &str) -> Document {
        doc! {
            "_id": format!("kaleem.{name}"), "user": name, "db": "kaleem", "roles": [ { "role": "readWrite", "db": "kaleem" } ],
            "credentials": { "SCRAM-SHA-256": { "iterationCount": 15000, "storedKey": HASH } },
        }
    }

    /// A point with these users, without roles, and with this schema.
    fn point(users: &[Document]) -> (PointReader, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let (mut parts, mut artifacts) = (BTreeMap::new(), Vec::new());
        let schema = [doc! { "_id": "authSchema", "currentVersion": 5 }];
        for (part, documents) in
            [(Part::Roles, &[][..]), (Part::Users, users), (Part::Version, &schema[..])]
        {
            let bytes: Vec<u8> = documents
                .iter()
                .flat_map(|document| bson::serialize_to_vec(document).unwrap())
                .collect();
            let path = format!("/mongo/kaleem/{}", part.file("kaleem"));
            let file = directory.path().join(part.file("kaleem"));
            std::fs::write(&file, &bytes).unwrap();
            let size_bytes = bytes.len() as u64;
            artifacts.push(ArtifactRecord {
                path: path.clone(),
                size_bytes,
                sha256: ByteDigest::of(&bytes),
                items: Some(documents.len() as u64),
                content_digest: None,
            });
            parts.insert(path, FilePart { path: file, offset_bytes: 0, size_bytes });
        }
        let manifest =
            Manifest { artifacts, ..Manifest::of_file("", "mongodb", jiff::Timestamp::UNIX_EPOCH) };
        let file = FilePoint { path: directory.path().to_path_buf(), parts, unpacked: None };
        (
            PointReader::of_file(manifest, file, Arc::new(Silent), CancellationToken::new()),
            directory,
        )
    }

    fn cursor(documents: &[Document]) -> Document {
        doc! { "cursor": { "id": 0_i64, "ns": "admin.x", "firstBatch": documents.to_vec() } }
    }

    /// A server that merges users as a real one does, or does not know the command.
    async fn server(schema: i32, takes_over: bool, left: &'static [&'static str]) -> Recorder {
        let (temporary, taken) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Recorder::start(move |command| match command.keys().next().map(String::as_str)? {
            "getParameter" => Some(doc! { "authSchemaVersion": schema }),
            "connectionStatus" => Some(doc! { "authInfo": { "authenticatedUsers": [] } }),
            "listCollections" => {
                let listed: Vec<_> = left
                    .iter()
                    .map(|name| doc! { "name": *name, "type": "collection", "options": {} })
                    .collect();
                Some(cursor(&listed))
            }
            "insert" => {
                let documents = command.get_array("documents").unwrap();
                temporary.lock().unwrap().extend(
                    documents.iter().map(|document| document.as_document().unwrap().clone()),
                );
                Some(doc! { "n": i32::try_from(documents.len()).unwrap() })
            }
            "_mergeAuthzCollections" if takes_over => {
                taken.store(true, Ordering::SeqCst);
                Some(doc! {})
            }
            "drop" => Some(doc! {}),
            "find"
                if command.get_str("find").is_ok_and(|of| of == "system.users")
                    && taken.load(Ordering::SeqCst) =>
            {
                Some(cursor(&temporary.lock().unwrap()))
            }
            "find" => Some(cursor(&[])),
            _ => None,
        })
        .await
    }

    async fn restored(server: &Recorder, users: &[Document], extras: Extras) -> RestoreReport {
        let (point, _directory) = point(users);
        let writes = Writes::of(&MongoConfig::new(SecretRef::Env("M".into())));
        let mut report = RestoreReport::default();
        restore(&server.connection, &writes, &point, "kaleem", extras, &mut report).await.unwrap();
        report
    }

    #[tokio::test]
    async fn users_are_taken_over_from_collections_that_do_not_stay() {
        let server = server(5, true, &[]).await;
        let report = restored(&server, &[user("app"), user("reports")], Extras::Keep).await;
        assert!(report.is_equal(), "{report:#?}");
        assert_eq!(report.compared, ["users and roles of kaleem: 2 users and 0 roles"]);
        let merged = server.sent("_mergeAuthzCollections");
        assert_eq!(
            merged,
            [doc! {
                "_mergeAuthzCollections": 1, "tempUsersCollection": "admin.tempusers", "tempRolesCollection": "admin.temproles",
                "drop": false, "db": "kaleem", "writeConcern": { "w": "majority" }, "$db": "admin",
            }]
        );
        let inserted = server.sent("insert");
        assert_eq!(
            (inserted.len(), inserted[0].get_str("insert").unwrap()),
            (1, "tempusers"),
            "there are no roles"
        );
        let dropped: Vec<_> = server
            .sent("drop")
            .iter()
            .map(|drop| drop.get_str("drop").unwrap().to_owned())
            .collect();
        assert_eq!(dropped, ["tempusers", "temproles"]);
        let none = self::server(5, true, &[]).await;
        assert!(restored(&none, &[], Extras::Keep).await.differences.is_empty());
        assert!(none.sent("_mergeAuthzCollections").is_empty(), "there is nothing to take over");
        let other = self::server(5, true, &[]).await;
        restored(&other, &[user("app")], Extras::Remove).await;
        assert!(other.sent("_mergeAuthzCollections")[0].get_bool("drop").unwrap());
    }

    #[tokio::test]
    async fn a_server_that_cannot_is_a_difference_without_a_password_in_it() {
        let incapable = server(5, false, &[]).await;
        let report = restored(&incapable, &[user("app")], Extras::Keep).await;
        assert!(
            !report.is_equal() && report.differences[0].found.contains("no such command"),
            "{report:#?}"
        );
        assert_eq!(incapable.sent("drop").len(), 2, "what was loaded does not stay");
        assert!(!format!("{report:?}").contains(HASH), "{report:?}");

        let old = server(3, true, &[]).await;
        let report = restored(&old, &[user("app")], Extras::Keep).await;
        assert!(report.differences[0].found.contains("has schema 3"), "{report:#?}");
        assert!(old.sent("insert").is_empty());

        let busy = server(5, true, &["tempusers"]).await;
        let report = restored(&busy, &[user("app")], Extras::Keep).await;
        assert!(report.differences[0].found.contains("admin.tempusers exists"), "{report:#?}");
        assert!(busy.sent("drop").is_empty(), "what another restore is working on is left alone");
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_afterwards_is_a_difference() {
        // It reports success without having merged them.
        let liar = Recorder::start(|command| match command.keys().next().map(String::as_str)? {
            "getParameter" => Some(doc! { "authSchemaVersion": 5 }),
            "connectionStatus" => Some(doc! {}),
            "insert" => Some(doc! { "n": 1 }),
            "_mergeAuthzCollections" | "drop" => Some(doc! {}),
            "listCollections" | "find" => Some(cursor(&[])),
            _ => None,
        })
        .await;
        let report = restored(&liar, &[user("app")], Extras::Keep).await;
        assert_eq!(report.differences.len(), 1);
        assert!(report.differences[0].expected.contains("kaleem.app"), "{report:#?}");
    }
}
