//! The probe: version, size, permissions, and warnings for the operator.

use bson::{Bson, Document, doc};
use kaleem_dr_core::{
    engine::{manifest::ServerInfo, source::Probe},
    ground::SourceError,
};

use super::{
    connection::{Connection, Topology},
    listing::Scope,
};
use crate::mongodb::{config::ConsistencyMode, users};

/// The actions that a capture of one database needs.
const ACTIONS: [&str; 3] = ["find", "listCollections", "listIndexes"];

/// Connects to the server and reads its facts. Writes nothing.
pub(crate) async fn probe(
    connection: &Connection,
    scope: &Scope,
    consistency: ConsistencyMode,
    with_users: bool,
) -> Result<Probe, SourceError> {
    let facts = connection.facts().await?;
    let mut warnings = Vec::new();
    if facts.topology == Topology::Standalone && consistency != ConsistencyMode::PerCollection {
        warnings.push(
            "this is a standalone server: each collection is consistent only in itself; as a replica set with one member it could be \
             captured at a single point in time"
                .to_owned(),
        );
    }
    if facts.topology == Topology::Sharded {
        warnings.push(
            "shard keys and zones are not captured: a restored collection is unsharded until you shard it again".to_owned(),
        );
    }
    let collections = scope.list(connection).await?;
    let databases = scope.databases(connection).await?;
    for database in scope.named() {
        if !collections.iter().any(|spec| spec.database == *database) {
            warnings.push(format!(
                "the database {database} has no visible collection to capture: is its name correct, and may the user read it?"
            ));
        }
    }
    warnings.extend(
        scope
            .unmatched(&collections)
            .into_iter()
            .map(|pattern| format!("no collection matches the pattern `{pattern}`")),
    );
    let mut size_bytes = None;
    for database in &databases {
        // Best effort: a user may be allowed to read a database, but not its statistics.
        if let Ok(stats) = connection
            .run(database, doc! { "dbStats": 1 }, "determine the size of a database")
            .await
            && let Some(bytes) = size(stats.get("dataSize"))
        {
            *size_bytes.get_or_insert(0) += bytes;
        }
    }
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    if let Ok(status) = connection.run("admin", status, "list the user's permissions").await {
        for database in &databases {
            let missing = missing_actions(&status, database, &ACTIONS);
            if !missing.is_empty() {
                warnings.push(format!(
                    "the user may not {} on all of {database}: grant it the role read on {database}, or backup on admin",
                    missing.join(", ")
                ));
            }
        }
    }
    for database in &databases {
        warnings.extend(users::warning(connection, database, with_users).await);
    }
    Ok(Probe::new(Some(ServerInfo::new("MongoDB", facts.version)), size_bytes, warnings))
}

fn size(value: Option<&Bson>) -> Option<u64> {
    match value? {
        Bson::Int32(size) => u64::try_from(*size).ok(),
        Bson::Int64(size) => u64::try_from(*size).ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // A size in bytes; `as` saturates.
        Bson::Double(size) => Some(*size as u64),
        _ => None,
    }
}

/// The given actions that no privilege of this user grants on a whole database. Empty if the server
/// requires no login.
pub(crate) fn missing_actions(
    status: &Document,
    database: &str,
    actions: &[&'static str],
) -> Vec<&'static str> {
    let Ok(auth) = status.get_document("authInfo") else { return Vec::new() };
    if auth.get_array("authenticatedUsers").map_or(true, Vec::is_empty) {
        return Vec::new();
    }
    let Ok(privileges) = auth.get_array("authenticatedUserPrivileges") else { return Vec::new() };
    if privileges.is_empty() {
        // A user without any permission could not have listed the collections: this server does not
        // report permissions.
        return Vec::new();
    }
    let grants = |privilege: &Bson, action: &str| {
        let Some(privilege) = privilege.as_document() else { return false };
        let covers = privilege.get_document("resource").is_ok_and(|resource| {
            resource.get_bool("anyResource").unwrap_or(false)
                || (resource.get_str("collection").is_ok_and(str::is_empty)
                    && resource.get_str("db").is_ok_and(|db| db.is_empty() || db == database))
        });
        covers
            && privilege
                .get_array("actions")
                .is_ok_and(|actions| actions.iter().any(|granted| granted.as_str() == Some(action)))
    };
    actions
        .iter()
        .copied()
        .filter(|action| !privileges.iter().any(|privilege| grants(privilege, action)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_on_a_whole_database_are_looked_for() {
        let status = doc! { "authInfo": {
            "authenticatedUsers": [ { "user": "backup", "db": "admin" } ],
            "authenticatedUserPrivileges": [
                { "resource": { "db": "kaleem", "collection": "" }, "actions": [ "find", "listCollections", "listIndexes" ] },
                { "resource": { "db": "", "collection": "" }, "actions": [ "listCollections" ] },
            ],
        } };
        assert!(missing_actions(&status, "kaleem", &ACTIONS).is_empty());
        assert_eq!(missing_actions(&status, "other", &ACTIONS), ["find", "listIndexes"]);
        assert!(
            missing_actions(&doc! { "authInfo": { "authenticatedUsers": [] } }, "other", &ACTIONS)
                .is_empty()
        );
    }
}
