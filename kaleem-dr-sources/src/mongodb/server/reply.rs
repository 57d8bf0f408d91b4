//! Interprets the reply to a write: `ok: 1` alone does not mean that everything was written.

use bson::Document;

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

/// The number of inserted documents according to the reply.
pub(crate) fn inserted(reply: &Document) -> u64 {
    match reply.get("n") {
        Some(bson::Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(bson::Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
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
