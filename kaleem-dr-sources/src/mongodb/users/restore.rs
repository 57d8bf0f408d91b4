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
            report.not_restored.push(Uncompared::new(label(""), told(&error)));
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
    Difference::new(label(database), expected.to_owned(), found.to_owned())
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
mod tests;
