//! The permissions that a restore needs, asked before anything is written: a login that may drop a collection but not read back
//! what it wrote would stop after the first one.

use bson::{Bson, Document, doc};
use kaleem_dr_core::ground::SourceError;

use crate::mongodb::server::Connection;

/// The actions of a restore on each target database.
pub(crate) const RESTORE: [&str; 7] = [
    "find",
    "listCollections",
    "listIndexes",
    "insert",
    "createCollection",
    "createIndex",
    "dropCollection",
];
/// The additional actions of a replay of the oplog.
pub(crate) const REPLAY: [&str; 3] = ["update", "remove", "collMod"];
/// The additional actions of a drill.
pub(crate) const DRILL: [&str; 2] = ["remove", "dropDatabase"];

/// Refuses a restore for which the login lacks permissions on a target database. Servers without logins, and those that do not
/// report permissions, allow everything.
pub(crate) async fn require(
    connection: &Connection,
    databases: impl Iterator<Item = &String>,
    actions: &[&str],
) -> Result<(), SourceError> {
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = match connection.run("admin", status, "list the user's permissions").await {
        Ok(status) => status,
        Err(error @ SourceError::Unreachable { .. }) => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "the permissions of the login are unknown");
            return Ok(());
        }
    };
    let lacking: Vec<String> = databases
        .filter_map(|database| {
            let missing: Vec<&str> = actions
                .iter()
                .copied()
                .filter(|action| !grants(&status, database, action))
                .collect();
            (!missing.is_empty()).then(|| format!("{} on {database}", missing.join(", ")))
        })
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(SourceError::Refused(format!(
        "the login for restores ({}) lacks the actions {}; nothing was written. Give it the roles readWriteAnyDatabase and dbAdminAnyDatabase on \
         admin, or readWrite and dbAdmin on these databases",
        connection.user().unwrap_or("without a name"),
        lacking.join("; ")
    )))
}

/// Reports whether a login may perform an action on a database or on a part of it.
fn grants(status: &Document, database: &str, action: &str) -> bool {
    let Ok(auth) = status.get_document("authInfo") else { return true };
    let empty = |key: &str| auth.get_array(key).map_or(true, Vec::is_empty);
    if empty("authenticatedUsers") || empty("authenticatedUserPrivileges") {
        return true;
    }
    let Ok(privileges) = auth.get_array("authenticatedUserPrivileges") else { return true };
    privileges.iter().filter_map(Bson::as_document).any(|privilege| {
        let covers = privilege.get_document("resource").is_ok_and(|resource| {
            resource.get_bool("anyResource").unwrap_or(false)
                || resource.get_str("db").is_ok_and(|db| db == database)
                || (resource.get_str("db").is_ok_and(str::is_empty)
                    && resource.get_str("collection").is_ok_and(str::is_empty))
        });
        covers
            && privilege
                .get_array("actions")
                .is_ok_and(|granted| granted.iter().any(|granted| granted.as_str() == Some(action)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_counts_for_its_database_or_a_part_of_it() {
        let status = doc! { "authInfo": {
            "authenticatedUsers": [ { "user": "r", "db": "admin" } ],
            "authenticatedUserPrivileges": [
                { "resource": { "db": "", "collection": "" }, "actions": ["insert"] },
                { "resource": { "db": "", "collection": "system.js" }, "actions": ["find"] },
                { "resource": { "db": "kaleem", "collection": "users" }, "actions": ["find", "remove"] },
                { "resource": { "cluster": true }, "actions": ["update"] },
            ],
        } };
        for (database, action, granted) in [
            ("kaleem", "insert", true),
            ("kaleem", "remove", true),
            ("other", "remove", false),
            ("other", "find", false),
            ("kaleem", "update", false),
        ] {
            assert_eq!(grants(&status, database, action), granted, "{database} {action}");
        }
        assert!(grants(&doc! { "authInfo": { "authenticatedUsers": [] } }, "kaleem", "update"));
    }
}
