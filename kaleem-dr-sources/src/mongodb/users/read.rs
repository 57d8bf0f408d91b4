//! Reading users and roles, and whether the login may.

use bson::doc;
use kaleem_dr_core::ground::SourceError;

use super::part::Part;
use crate::mongodb::server::Connection;

/// Reads one of the three: its documents one after the other, and how many they are.
pub(crate) async fn read(
    connection: &Connection,
    database: &str,
    part: Part,
) -> Result<(Vec<u8>, u64), SourceError> {
    let action = format!(
        "read the users and roles of {database} in admin.{} (the role backup on admin allows it; without it set users_and_roles = \
         false)",
        part.collection()
    );
    // In order of `_id`, so that nothing changes from one night to the next by itself.
    let find =
        doc! { "find": part.collection(), "filter": part.filter(database), "sort": { "_id": 1 } };
    let documents = connection.list("admin", find, &action).await?;
    let mut bytes = Vec::new();
    for document in &documents {
        let document = bson::serialize_to_vec(document)
            .map_err(|error| connection.odd_answer(&action, error.to_string()))?;
        bytes.extend_from_slice(&document);
    }
    Ok((bytes, documents.len() as u64))
}

/// What the operator should know of the users of a database: that they are there but not captured, or cannot be.
pub(crate) async fn warning(
    connection: &Connection,
    database: &str,
    captured: bool,
) -> Option<String> {
    match (read(connection, database, Part::Users).await, captured) {
        (Err(_), true) => Some(format!(
            "the login may not read the users of {database}, so captures will fail: grant it the role backup on admin, or set \
             users_and_roles = false"
        )),
        (Ok((_, users)), false) if users > 0 => Some(format!(
            "the {users} users of {database} are not captured: the login may read them, so users_and_roles = true would do"
        )),
        _ => None,
    }
}
