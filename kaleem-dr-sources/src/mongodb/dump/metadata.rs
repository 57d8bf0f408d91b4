//! The `<collection>.metadata.json` of a dump: canonical extended JSON, with keys in mongodump's
//! order.
//!
//! Order is significant here (`{a: 1, b: 1}` and `{b: 1, a: 1}` are different indexes), so the text
//! is written and read without a sorted map in between.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bson::{Bson, Document, doc};

use crate::mongodb::server::listing::{CollectionKind, CollectionSpec};

/// Encodes a collection's metadata as mongodump 100 does: options (if any), indexes, uuid (if any),
/// name, type.
pub(crate) fn to_json(spec: &CollectionSpec) -> String {
    let mut metadata = Document::new();
    if !spec.options.is_empty() {
        metadata.insert("options", spec.options.clone());
    }
    metadata.insert("indexes", spec.indexes.clone());
    if let Some(uuid) = &spec.uuid {
        metadata.insert("uuid", uuid);
    }
    metadata.insert("collectionName", &spec.name);
    metadata.insert("type", spec.kind.as_str());
    canonical(&metadata)
}

/// Decodes a collection's metadata. The text does not contain `database`.
///
/// # Errors
/// The reason, if the text is not such metadata.
pub(crate) fn from_json(database: &str, json: &str) -> Result<CollectionSpec, String> {
    let mut metadata: Document =
        serde_json::from_str(json).map_err(|error| format!("it is not extended JSON: {error}"))?;
    let name =
        metadata.get_str("collectionName").map_err(|_| "it has no collectionName")?.to_owned();
    let kind = metadata.get_str("type").unwrap_or("collection");
    let kind = CollectionKind::parse(kind)
        .ok_or_else(|| format!("{name} has an unknown type `{kind}`"))?;
    let uuid = metadata.get_str("uuid").ok().map(str::to_owned);
    let options = match metadata.remove("options") {
        None => doc! {},
        Some(Bson::Document(options)) => options,
        Some(_) => return Err(format!("the options of {name} are not a document")),
    };
    let indexes = match metadata.remove("indexes") {
        None => Vec::new(),
        Some(Bson::Array(indexes)) => indexes
            .into_iter()
            .map(|index| match index {
                Bson::Document(index) => Ok(index),
                _ => Err(format!("an index of {name} is not a document")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("the indexes of {name} are not an array")),
    };
    Ok(CollectionSpec { database: database.to_owned(), name, kind, options, indexes, uuid })
}

/// Encodes a document as canonical extended JSON, with keys in their original order.
pub(crate) fn canonical(document: &Document) -> String {
    let mut json = String::new();
    write_document(&mut json, document);
    json
}

fn write_document(json: &mut String, document: &Document) {
    json.push('{');
    for (at, (key, value)) in document.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        write_text(json, key);
        json.push(':');
        write_value(json, value);
    }
    json.push('}');
}

fn write_value(json: &mut String, value: &Bson) {
    match value {
        Bson::Document(document) => write_document(json, document),
        Bson::Array(values) => {
            json.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                write_value(json, value);
            }
            json.push(']');
        }
        Bson::String(text) => write_text(json, text),
        Bson::Boolean(value) => json.push_str(if *value { "true" } else { "false" }),
        Bson::Null => json.push_str("null"),
        Bson::Int32(value) => write_tagged(json, "$numberInt", &value.to_string()),
        Bson::Int64(value) => write_tagged(json, "$numberLong", &value.to_string()),
        Bson::Double(value) => write_tagged(json, "$numberDouble", &double(*value)),
        Bson::Decimal128(value) => write_tagged(json, "$numberDecimal", &value.to_string()),
        Bson::ObjectId(id) => write_tagged(json, "$oid", &id.to_hex()),
        Bson::Symbol(text) => write_tagged(json, "$symbol", text),
        Bson::DateTime(time) => {
            json.push_str(r#"{"$date":"#);
            write_tagged(json, "$numberLong", &time.timestamp_millis().to_string());
            json.push('}');
        }
        Bson::RegularExpression(regex) => {
            json.push_str(r#"{"$regularExpression":{"pattern":"#);
            write_text(json, regex.pattern.as_str());
            json.push_str(r#","options":"#);
            write_text(json, regex.options.as_str());
            json.push_str("}}");
        }
        Bson::Timestamp(stamp) => {
            put(
                json,
                format_args!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, stamp.time, stamp.increment),
            );
        }
        Bson::Binary(binary) => {
            json.push_str(r#"{"$binary":{"base64":"#);
            write_text(json, &BASE64_STANDARD.encode(&binary.bytes));
            put(json, format_args!(r#","subType":"{:02x}"}}}}"#, u8::from(binary.subtype)));
        }
        Bson::JavaScriptCode(code) => write_tagged(json, "$code", code),
        Bson::JavaScriptCodeWithScope(code) => {
            json.push_str(r#"{"$code":"#);
            write_text(json, &code.code);
            json.push_str(r#","$scope":"#);
            write_document(json, &code.scope);
            json.push('}');
        }
        Bson::Undefined => json.push_str(r#"{"$undefined":true}"#),
        Bson::MaxKey => json.push_str(r#"{"$maxKey":1}"#),
        Bson::MinKey => json.push_str(r#"{"$minKey":1}"#),
        // Its fields are private; for this deprecated type the relaxed form is also the canonical
        // one.
        Bson::DbPointer(_) => {
            json.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
        }
    }
}

fn write_tagged(json: &mut String, tag: &str, text: &str) {
    json.push('{');
    write_text(json, tag);
    json.push(':');
    write_text(json, text);
    json.push('}');
}

fn write_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

fn put(json: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = json.write_fmt(text);
}

fn double(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else {
        // Debug keeps the decimal point (`1.0`) that distinguishes a double from an integer.
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use bson::{Binary, JavaScriptCodeWithScope, Regex, Timestamp, spec::BinarySubtype};

    use super::*;

    /// The output of a real mongodump, one collection a line.
    const REAL: &str = include_str!("testdata/metadata.jsonl");

    #[test]
    fn real_metadata_comes_back_letter_for_letter() {
        assert_eq!(REAL.lines().count(), 25);
        for json in REAL.lines() {
            let spec = from_json("fix", json).unwrap();
            assert_eq!(to_json(&spec), json);
        }
    }

    #[test]
    fn every_type_survives_the_way_through_json() {
        let all = doc! {
            "z": 1_i32, "a": 1_i64, "double": 1.0, "nan": f64::INFINITY, "min": Bson::MinKey, "max": Bson::MaxKey,
            "re": Bson::RegularExpression(Regex { pattern: "a/b".try_into().unwrap(), options: "ix".try_into().unwrap() }),
            "date": bson::DateTime::from_millis(-1), "ts": Bson::Timestamp(Timestamp { time: 0, increment: 7 }),
            "bin": Bson::Binary(Binary { subtype: BinarySubtype::UserDefined(0x80), bytes: vec![0, 255] }),
            "code": Bson::JavaScriptCode("f()".into()), "sym": Bson::Symbol("s".into()), "nul": Bson::Null,
            "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "g()".into(), scope: doc! { "x": 1_i64 } }),
            "dec": Bson::Decimal128("1.50".parse().unwrap()), "und": Bson::Undefined, "id": bson::oid::ObjectId::from_bytes([7; 12]),
            "nested": [ { "b": 1, "a": 2 }, true, "text \u{1}" ],
        };
        let back: Document = serde_json::from_str(&canonical(&all)).unwrap();
        assert_eq!(back, all);
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            all.keys().collect::<Vec<_>>(),
            "the order of keys is kept"
        );
    }

    #[test]
    fn invalid_metadata_is_refused_with_a_reason() {
        assert!(from_json("d", "{").unwrap_err().contains("not extended JSON"));
        assert!(from_json("d", r#"{"indexes":[]}"#).unwrap_err().contains("collectionName"));
        assert!(
            from_json("d", r#"{"collectionName":"c","type":"odd"}"#).unwrap_err().contains("odd")
        );
    }
}
