//! Requests and replies of Qdrant's API.

use axum::{
    extract::{FromRequest as _, Multipart, Request},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::{Value, json};

pub(in crate::support) async fn read_upload(request: Request) -> Result<Bytes, Response> {
    let text = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned()).into_response();
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|_| text("Multipart error"))?;
    while let Some(field) =
        form.next_field().await.map_err(|_| text("Multipart stream is incomplete"))?
    {
        if field.name() == Some("snapshot") {
            return field.bytes().await.map_err(|_| text("Multipart stream is incomplete"));
        }
    }
    Err(text("Field with name 'snapshot' is required"))
}

pub(in crate::support) fn result(result: &Value) -> Response {
    json_response(StatusCode::OK, &json!({ "result": result, "status": "ok", "time": 0.001 }))
}

pub(in crate::support) fn failure(status: StatusCode, error: &str) -> Response {
    json_response(status, &json!({ "status": { "error": error }, "time": 0.001 }))
}

pub(in crate::support) fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(in crate::support) fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = (first == b'%' && after.len() >= 2)
            .then(|| {
                std::str::from_utf8(&after[..2])
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        if code.is_some() {
            rest = &after[2..];
        }
        bytes.push(code.unwrap_or(first));
    }
    String::from_utf8(bytes).expect("names are UTF-8")
}

pub(in crate::support) fn no_collection(name: &str) -> Response {
    failure(StatusCode::NOT_FOUND, &format!("Not found: Collection `{name}` doesn't exist!"))
}

/// An error if the checksum in the query is not that of the bytes.
pub(in crate::support) fn wrong_checksum(query: &str, bytes: &Bytes) -> Option<Response> {
    let expected = query.split('&').find_map(|pair| pair.strip_prefix("checksum="))?;
    if expected.len() != 64 {
        return Some(failure(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Validation error in query parameters: checksum",
        ));
    }
    let actual = ByteDigest::of(bytes);
    let error = format!("Checksum mismatch: expected {actual}, actual {expected}");
    (actual != expected).then(|| failure(StatusCode::BAD_REQUEST, &error))
}

/// The field of a requested index, and its description in the collection's schema.
pub(in crate::support) fn payload_index(request: &Value) -> (String, Value) {
    let schema = &request["field_schema"];
    let kind = schema["type"].as_str().or(schema.as_str()).unwrap_or_default();
    let mut index = json!({ "data_type": kind });
    if schema.is_object() {
        index["params"] = schema.clone();
    }
    (request["field_name"].as_str().expect("a field").to_owned(), index)
}
