//! Interprets the reply to a write: `ok: 1` alone does not mean that everything was written.

use bson::{Bson, Document};

use super::error::codes;

/// The error in the reply to an insert: an insert with write errors is still answered with `ok: 1`.
pub(crate) fn complaint(reply: &Document, sent: u64) -> Option<String> {
    if let Ok(errors) = reply.get_array("writeErrors")
        && !errors.is_empty()
    {
        let first = errors[0]
            .as_document()
            .and_then(|error| error.get_str("errmsg").ok())
            .unwrap_or("no reason was given");
        return Some(format!(
            "{} of {sent} documents were rejected, the first one: {first}",
            errors.len()
        ));
    }
    if let Some(why) = unacknowledged(reply) {
        return Some(why);
    }
    let inserted = inserted(reply);
    (inserted != sent)
        .then(|| format!("{sent} documents were sent, but the reply counts {inserted} inserted"))
}

/// The reply to an insert that was sent again, with documents that had arrived before counted as inserted.
pub(crate) fn without_duplicates(mut reply: Document) -> Document {
    let Ok(errors) = reply.get_array("writeErrors") else { return reply };
    let is_duplicate = |error: &Bson| {
        error.as_document().and_then(|error| error.get_i32("code").ok())
            == Some(codes::DUPLICATE_KEY)
    };
    let (arrived, others): (Vec<Bson>, Vec<Bson>) = errors.iter().cloned().partition(is_duplicate);
    let inserted = inserted(&reply) + arrived.len() as u64;
    reply.insert("n", i64::try_from(inserted).unwrap_or(i64::MAX));
    reply.insert("writeErrors", others);
    reply
}

/// The number of inserted documents according to the reply.
pub(crate) fn inserted(reply: &Document) -> u64 {
    match reply.get("n") {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}

/// The error if a write succeeded on fewer members than requested: a failover may still undo it.
pub(crate) fn unacknowledged(reply: &Document) -> Option<String> {
    let error = reply.get_document("writeConcernError").ok()?;
    Some(
        error
            .get_str("errmsg")
            .unwrap_or("fewer members than requested have acknowledged the write")
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn documents_that_had_arrived_before_an_insert_was_repeated_are_no_complaint() {
        let duplicate = doc! { "index": 1, "code": 11000, "errmsg": "E11000 duplicate key" };
        let reply = doc! { "n": 2, "ok": 1.0, "writeErrors": [ &duplicate ] };
        assert_eq!(complaint(&without_duplicates(reply), 3), None);
        let other = doc! { "index": 2, "code": 121, "errmsg": "Document failed validation" };
        let reply = doc! { "n": 1, "ok": 1.0, "writeErrors": [ &duplicate, other ] };
        let why = complaint(&without_duplicates(reply), 3).unwrap();
        assert!(why.contains("failed validation"), "{why}");
    }

    #[test]
    fn an_answer_that_is_ok_but_refuses_documents_is_a_complaint() {
        assert_eq!(complaint(&doc! { "n": 3, "ok": 1.0 }, 3), None);
        let refused = doc! { "n": 2, "ok": 1.0, "writeErrors": [ { "index": 1, "code": 11000, "errmsg": "E11000 duplicate key" } ] };
        let why = complaint(&refused, 3).unwrap();
        assert!(why.contains("1 of 3") && why.contains("E11000"), "{why}");
        assert!(complaint(&doc! { "n": 2, "ok": 1.0 }, 3).unwrap().contains("counts 2"));
        let unsafe_write = doc! { "n": 3, "ok": 1.0, "writeConcernError": { "errmsg": "waiting for replication timed out" } };
        assert!(complaint(&unsafe_write, 3).unwrap().contains("timed out"));
    }
}
