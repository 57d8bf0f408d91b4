//! Buckets of a time series whose measurements have values of several types in one field.
//!
//! Servers since 5.2 create none, but keep earlier ones. They reject such a bucket in a new
//! collection until `collMod` has allowed it; mongorestore does the same.

use bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc};
use kaleem_dr_core::ground::SourceError;

use crate::mongodb::server::Connection;

/// The option that the rejection names as the remedy. The error code differs between releases, this
/// word does not.
const CURE: &str = "timeseriesBucketsMayHaveMixedSchemaData";

/// The indexes of the documents rejected for their mixed schema; `None` if there are none, or if
/// others were rejected too.
fn refused(reply: &Document) -> Option<Vec<usize>> {
    let errors = reply.get_array("writeErrors").ok()?;
    let mut code = None;
    errors
        .iter()
        .map(|error| {
            let error = error.as_document()?;
            let own = error.get_i32("code").ok()?;
            // In a long list of errors, the server omits the messages after the first few.
            if error.get_str("errmsg").is_ok_and(|why| why.contains(CURE)) {
                code = Some(own);
            }
            (code == Some(own)).then(|| usize::try_from(error.get_i32("index").ok()?).ok())?
        })
        .collect::<Option<Vec<_>>>()
        .filter(|refused| !refused.is_empty())
}

/// If an insert into `series` was rejected for a mixed schema, allows it, and returns the insert of
/// the rejected documents with their number.
pub(crate) async fn cure(
    connection: &Connection,
    database: &str,
    series: &str,
    insert: &RawDocument,
    reply: &Document,
) -> Result<Option<(RawDocumentBuf, u64)>, SourceError> {
    let Some(refused) = refused(reply) else { return Ok(None) };
    let action = format!("allow buckets of a mixed schema in {database}.{series}");
    connection.write(database, doc! { "collMod": series, CURE: true }, &action).await?;
    let again = again(insert, &refused)
        .map_err(|error| connection.odd_answer(&action, error.to_string()))?;
    Ok(Some((again, refused.len() as u64)))
}

/// The same insert with only the rejected documents.
fn again(insert: &RawDocument, refused: &[usize]) -> bson::error::Result<RawDocumentBuf> {
    let mut command = RawDocumentBuf::new();
    for field in insert {
        let (name, value) = field?;
        match value.as_array().filter(|_| name == "documents") {
            None => command.append(name, value),
            Some(all) => {
                let mut rest = RawArrayBuf::new();
                for (at, document) in all.into_iter().enumerate() {
                    if refused.contains(&at) {
                        rest.push(document?);
                    }
                }
                command.append(name, rest);
            }
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn error(index: i32, code: i32, why: &str) -> Document {
        doc! { "index": index, "code": code, "errmsg": why }
    }

    #[test]
    fn what_was_refused_for_its_schema_is_sent_again_and_nothing_else() {
        let why = format!("please run collMod with {CURE} and retry your insert");
        let reply = doc! { "n": 1, "writeErrors": [ error(0, 408, &why), error(2, 408, "") ] };
        let refused = refused(&reply).unwrap();
        assert_eq!(refused, [0, 2]);
        let insert = rawdoc! { "insert": "system.buckets.s", "ordered": false, "documents": [ { "_id": 1 }, { "_id": 2 }, { "_id": 3 } ] };
        let again: Document = (&again(&insert, &refused).unwrap()).try_into().unwrap();
        assert_eq!(
            again,
            doc! { "insert": "system.buckets.s", "ordered": false, "documents": [ { "_id": 1 }, { "_id": 3 } ] }
        );
    }

    #[test]
    fn another_refusal_is_not_cured() {
        let why = format!("run collMod with {CURE}");
        assert_eq!(
            refused(
                &doc! { "writeErrors": [ error(0, 408, &why), error(1, 121, "failed validation") ] }
            ),
            None
        );
        assert_eq!(refused(&doc! { "writeErrors": [ error(0, 11000, "E11000") ] }), None);
        assert_eq!(refused(&doc! { "n": 3 }), None);
    }
}
