//! Applies an update from the oplog to a document.
//!
//! A `u` entry contains either the whole new document or the changes: `$v: 2` with a `diff` (MongoDB from 5.0; the server's
//! `src/mongo/db/update/document_diff_serialization.h` describes the format), or `$v: 1` with `$set` and `$unset` over dotted
//! paths (MongoDB 4.x). Applied in the order of the oplog, changes lead to the same document as on the server, even if the
//! document is already newer than the first of them. A change that no longer fits, such as one of an array that has become a
//! number, is skipped, as the server does: a later entry sets what it would have changed.

use bson::{Bson, Document};

/// The longest array that a change may create, in elements. The server refuses to grow an array by more at once
/// (`kMaxPaddingAllowed`).
const LONGEST_PADDING: usize = 1_500_000;

/// Applies the changes in the `o` of a `u` entry to a document.
///
/// # Errors
/// The reason, as the end of a sentence about the entry, if the changes are malformed or of an unknown version.
pub(crate) fn apply(changes: &Document, document: Document) -> Result<Document, String> {
    if let Ok(diff) = changes.get_document("diff") {
        // The form of a change stream's update description. MongoDB writes no such diff; some compatible servers do.
        if diff.contains_key("updatedFields") || diff.contains_key("removedFields") {
            return described(diff, document);
        }
        return object(diff, document);
    }
    let known = |key: &String| ["$v", "$set", "$unset"].contains(&key.as_str());
    if let Some(unknown) = changes.keys().find(|key| !known(key)) {
        return Err(format!("updates a document in the unknown way `{unknown}`"));
    }
    let mut document = document;
    for (path, value) in fields(changes, "$set")? {
        set(&mut document, path, value.clone());
    }
    for (path, _) in fields(changes, "$unset")? {
        unset(&mut document, path);
    }
    Ok(document)
}

/// The fields of a section; empty if there is no such section.
fn fields<'a>(
    of: &'a Document,
    section: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Bson)>, String> {
    match of.get(section) {
        None => Ok(None),
        Some(Bson::Document(fields)) => Ok(Some(fields.iter())),
        Some(_) => Err(format!("has a malformed section `{section}`")),
    }
    .map(|fields| fields.into_iter().flatten())
}

/// A diff's change of one field.
enum Change<'a> {
    Delete,
    Update(&'a Bson),
    /// The field is appended.
    Insert,
    Sub(&'a Document),
}

/// Applies a diff to a document. Existing fields keep their order; new ones are appended in the order of the diff.
fn object(diff: &Document, document: Document) -> Result<Document, String> {
    let mut changes = std::collections::HashMap::new();
    let mut appended = Vec::new();
    for (section, value) in diff {
        match (section.as_str(), value) {
            ("d", Bson::Document(deleted)) => {
                changes.extend(deleted.keys().map(|name| (name.as_str(), Change::Delete)));
            }
            ("u", Bson::Document(updated)) => {
                for (name, value) in updated {
                    changes.insert(name.as_str(), Change::Update(value));
                    appended.push((name, value));
                }
            }
            ("i", Bson::Document(inserted)) => {
                for (name, value) in inserted {
                    changes.insert(name.as_str(), Change::Insert);
                    appended.push((name, value));
                }
            }
            (name, Bson::Document(sub)) if name.starts_with('s') => {
                changes.insert(&name[1..], Change::Sub(sub));
            }
            (unknown, _) => {
                return Err(format!("holds a diff with the unknown section `{unknown}`"));
            }
        }
    }
    let mut result = Document::new();
    for (name, value) in document {
        let kept = match changes.get(name.as_str()) {
            None => value,
            Some(Change::Delete | Change::Insert) => continue,
            Some(Change::Update(new)) => (*new).clone(),
            Some(Change::Sub(sub)) => self::sub(sub, value)?,
        };
        result.insert(name, kept);
    }
    for (name, value) in appended {
        if !result.contains_key(name) {
            result.insert(name.clone(), value.clone());
        }
    }
    Ok(result)
}

/// Applies a diff to a document or an array; any other value stays unchanged.
fn sub(diff: &Document, value: Bson) -> Result<Bson, String> {
    let of_array = diff.get_bool("a").unwrap_or(false);
    match value {
        Bson::Document(inner) if !of_array => object(diff, inner).map(Bson::Document),
        Bson::Array(items) if of_array => array(diff, items).map(Bson::Array),
        other => Ok(other),
    }
}

/// Applies a diff to an array: elements by index, and a new length.
fn array(diff: &Document, mut items: Vec<Bson>) -> Result<Vec<Bson>, String> {
    let mut length = None;
    let grown = |items: &mut Vec<Bson>, index: usize| {
        if index >= items.len() {
            items.resize(index + 1, Bson::Null);
        }
    };
    for (section, value) in diff {
        match section.split_at_checked(1) {
            Some(("a", "")) => {}
            Some(("l", "")) => {
                let asked = value.as_i32().and_then(|length| usize::try_from(length).ok());
                length = Some(asked.ok_or("holds a diff with a malformed length of an array")?);
            }
            Some((kind @ ("u" | "s"), index)) => {
                let index = index
                    .parse::<usize>()
                    .ok()
                    .filter(|index| *index < items.len() + LONGEST_PADDING)
                    .ok_or("holds a diff with a malformed index of an array")?;
                grown(&mut items, index);
                if kind == "u" {
                    items[index] = value.clone();
                } else {
                    let diff = value
                        .as_document()
                        .ok_or("holds a malformed diff of an array's element")?;
                    let old = std::mem::replace(&mut items[index], Bson::Null);
                    items[index] = sub(diff, old)?;
                }
            }
            _ => return Err(format!("holds a diff with the unknown section `{section}`")),
        }
    }
    if let Some(length) = length {
        if length > items.len() + LONGEST_PADDING {
            return Err("holds a diff with a malformed length of an array".to_owned());
        }
        items.resize(length, Bson::Null);
    }
    Ok(items)
}

/// Applies a change stream's update description: truncated arrays, then removed and updated fields by dotted path.
fn described(diff: &Document, mut document: Document) -> Result<Document, String> {
    let malformed = |what: &str| format!("has a malformed section `{what}`");
    if let Ok(shortened) = diff.get_array("truncatedArrays") {
        for array in shortened {
            let array = array.as_document().ok_or_else(|| malformed("truncatedArrays"))?;
            let path = array.get_str("field").map_err(|_| malformed("truncatedArrays"))?;
            let length = match array.get("newSize") {
                Some(Bson::Int32(length)) => usize::try_from(*length).ok(),
                Some(Bson::Int64(length)) => usize::try_from(*length).ok(),
                _ => None,
            };
            let length = length.ok_or_else(|| malformed("truncatedArrays"))?;
            if let Some(Bson::Array(items)) = at(&mut document, path) {
                items.truncate(length);
            }
        }
    }
    if let Ok(removed) = diff.get_array("removedFields") {
        for path in removed {
            unset(&mut document, path.as_str().ok_or_else(|| malformed("removedFields"))?);
        }
    }
    for (path, value) in fields(diff, "updatedFields")? {
        set(&mut document, path, value.clone());
    }
    Ok(document)
}

/// The value at a dotted path; a number in the path is an index if it applies to an array.
fn at<'a>(document: &'a mut Document, path: &str) -> Option<&'a mut Bson> {
    let mut names = path.split('.');
    let mut found = document.get_mut(names.next()?)?;
    for name in names {
        found = match found {
            Bson::Document(inner) => inner.get_mut(name)?,
            Bson::Array(items) => items.get_mut(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found)
}

/// Sets the value at a dotted path and creates the documents on the way. A path through a scalar value is skipped.
fn set(document: &mut Document, path: &str, value: Bson) {
    match path.split_once('.') {
        None => {
            document.insert(path, value);
        }
        Some((name, rest)) => {
            let inner = document.entry(name.to_owned()).or_insert(Bson::Document(Document::new()));
            set_inside(inner, rest, value);
        }
    }
}

fn set_inside(inner: &mut Bson, path: &str, value: Bson) {
    match inner {
        Bson::Document(document) => set(document, path, value),
        Bson::Array(items) => {
            let (index, rest) = match path.split_once('.') {
                None => (path, None),
                Some((index, rest)) => (index, Some(rest)),
            };
            let Some(index) =
                index.parse::<usize>().ok().filter(|index| *index < items.len() + LONGEST_PADDING)
            else {
                return;
            };
            if index >= items.len() {
                items.resize(index + 1, Bson::Null);
            }
            match rest {
                None => items[index] = value,
                Some(rest) => {
                    if items[index] == Bson::Null {
                        items[index] = Bson::Document(Document::new());
                    }
                    set_inside(&mut items[index], rest, value);
                }
            }
        }
        _ => {}
    }
}

/// Removes the field at a dotted path. An element of an array becomes null, as with `$unset`.
fn unset(document: &mut Document, path: &str) {
    let Some((parent, name)) = path.rsplit_once('.') else {
        document.remove(path);
        return;
    };
    match at(document, parent) {
        Some(Bson::Document(inner)) => {
            inner.remove(name);
        }
        Some(Bson::Array(items)) => {
            if let Some(item) = name.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                *item = Bson::Null;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn diff(diff: Document) -> Document {
        doc! { "$v": 2, "diff": diff }
    }

    #[test]
    fn a_diff_deletes_updates_in_place_and_appends() {
        let before = doc! { "_id": 1, "a": 1, "b": 2, "c": 3 };
        let changes =
            diff(doc! { "d": { "a": false }, "u": { "b": 20 }, "i": { "z": 1, "c": 30 } });
        let after = apply(&changes, before).unwrap();
        let order: Vec<&String> = after.keys().collect();
        assert_eq!(after, doc! { "_id": 1, "b": 20, "z": 1, "c": 30 });
        assert_eq!(order, ["_id", "b", "z", "c"], "an inserted field goes to the end");
    }

    #[test]
    fn a_diff_reaches_into_documents_and_arrays() {
        let before =
            doc! { "_id": 1, "o": { "x": 1, "y": { "z": 1 } }, "l": [1, { "k": 1 }, 3, 4] };
        let changes = diff(doc! {
            "so": { "u": { "x": 2 }, "sy": { "i": { "w": 5 } } },
            "sl": { "a": true, "l": 3, "u0": 10, "s1": { "u": { "k": 2 } } },
        });
        let after = apply(&changes, before).unwrap();
        let wanted =
            doc! { "_id": 1, "o": { "x": 2, "y": { "z": 1, "w": 5 } }, "l": [10, { "k": 2 }, 3] };
        assert_eq!(after, wanted);
    }

    #[test]
    fn a_diff_on_a_newer_document_skips_what_no_longer_fits() {
        let changes = diff(
            doc! { "so": { "u": { "x": 2 } }, "sl": { "a": true, "u5": "new" }, "u": { "n": 1 } },
        );
        let after = apply(&changes, doc! { "_id": 1, "o": 7, "l": [1] }).unwrap();
        let null = Bson::Null;
        assert_eq!(
            after,
            doc! { "_id": 1, "o": 7, "l": [1, &null, &null, &null, &null, "new"], "n": 1 }
        );
        assert_eq!(apply(&changes, after.clone()).unwrap(), after, "twice is as good as once");
    }

    #[test]
    fn old_servers_set_and_unset_by_paths() {
        let changes = doc! { "$v": 1, "$set": { "a.b": 2, "l.1.k": 3, "n.m": 1 }, "$unset": { "gone": true, "l.0": true } };
        let before = doc! { "_id": 1, "a": { "b": 1 }, "l": [1, { "k": 1 }], "gone": 1 };
        assert_eq!(
            apply(&changes, before).unwrap(),
            doc! { "_id": 1, "a": { "b": 2 }, "l": [Bson::Null, { "k": 3 }], "n": { "m": 1 } }
        );
        let through = doc! { "$set": { "a.b": 2 } };
        assert_eq!(apply(&through, doc! { "a": 1 }).unwrap(), doc! { "a": 1 });
    }

    #[test]
    fn an_update_description_is_applied_by_paths() {
        let changes = diff(doc! {
            "updatedFields": { "s.t": 2, "l.2": 4 }, "removedFields": ["y"],
            "truncatedArrays": [ { "field": "m.l", "newSize": 1 } ],
        });
        let before =
            doc! { "_id": 1, "s": { "t": 1 }, "l": [1, 2], "y": 5, "m": { "l": [1, 2, 3] } };
        assert_eq!(
            apply(&changes, before).unwrap(),
            doc! { "_id": 1, "s": { "t": 2 }, "l": [1, 2, 4], "m": { "l": [1] } }
        );
    }

    #[test]
    fn what_is_unknown_or_malformed_is_refused() {
        for (changes, why) in [
            (diff(doc! { "b": { "f": { "o": 1 } } }), "unknown section `b`"),
            (diff(doc! { "sl": { "a": true, "x1": 1 } }), "unknown section `x1`"),
            (diff(doc! { "sl": { "a": true, "u-1": 1 } }), "malformed index"),
            (diff(doc! { "sl": { "a": true, "u99999999999": 1 } }), "malformed index"),
            (diff(doc! { "sl": { "a": true, "l": -1 } }), "malformed length"),
            (doc! { "$inc": { "n": 1 } }, "unknown way `$inc`"),
            (doc! { "$set": 1 }, "malformed section"),
        ] {
            let error = apply(&changes, doc! { "_id": 1, "l": [1] }).unwrap_err();
            assert!(error.contains(why), "{changes}: {error}");
        }
    }
}
