//! Reads users and roles, and checks whether this is permitted.

use bson::doc;
use kaleem_dr_core::ground::SourceError;

use super::part::Part;
use crate::mongodb::server::Connection;

/// Reads one of the three: its concatenated documents, and their number.
pub(crate) async fn read(
    connection: &Connection,
    database: &str,
    part: Part,
) -> Result<(Vec<u8>, u64), SourceError> {
    let action = format!(
        "read the users and roles of {database} in admin.{} (requires the role backup on admin; without it set users_and_roles = \
         false)",
        part.collection()
    );
    // Sorted by `_id`, so that unchanged users give unchanged bytes.
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

/// A warning if the users of a database exist but are not or cannot be captured.
pub(crate) async fn warning(
    connection: &Connection,
    database: &str,
    captured: bool,
) -> Option<String> {
    match (read(connection, database, Part::Users).await, captured) {
        (Err(_), true) => Some(format!(
            "the user may not read the users of {database}, so captures will fail: grant it the role backup on admin, or set \
             users_and_roles = false"
        )),
        (Ok((_, users)), false) if users > 0 => Some(format!(
            "the {users} users of {database} are not captured, although the login may read them: set users_and_roles = true to include them"
        )),
        _ => None,
    }
}
