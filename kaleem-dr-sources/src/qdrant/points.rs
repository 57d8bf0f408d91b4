//! The content of a collection as one digest: every id, vector and payload, in any order.
//!
//! Qdrant keeps no checksums of content, and restores a snapshot with an altered vector byte
//! without an error. So the points are read page by page, each is normalised (`canonical`), and
//! the digests of the results are summed.

use std::collections::BTreeMap;

use kaleem_dr_core::{
    CancellationToken,
    ground::{SourceError, digest::MultisetDigest, progress::StageProgress},
};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    api::read_points,
    client::{Failure, QdrantClient},
};

/// Target size of a page of points, in bytes; it determines the number of points requested.
const PAGE_BYTES: u64 = 4 << 20;
const FIRST_PAGE_POINTS: u64 = 64;
const MOST_PAGE_POINTS: u64 = 8192;

/// The number and digest of points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Number of points in the collection.
    pub points: u64,
    /// [`MultisetDigest`] of the points, 64 hex digits.
    pub digest: String,
}

impl QdrantClient {
    /// Reads all points of a collection.
    ///
    /// # Errors
    /// Those of every call, and [`SourceError::Cancelled`].
    pub async fn content(
        &self,
        collection: &str,
        cancel: &CancellationToken,
        stage: &dyn StageProgress,
    ) -> Result<Content, SourceError> {
        let mut digest = MultisetDigest::default();
        let mut offset: Option<Value> = None;
        let (mut limit, mut most) = (FIRST_PAGE_POINTS, MOST_PAGE_POINTS);
        loop {
            let reading = self.scroll(collection, offset.as_ref(), limit);
            let body = match cancel.run_until_cancelled(reading).await {
                None => return Err(SourceError::Cancelled),
                // Strict mode limits the number of points per request, and does not show its limit
                // everywhere.
                Some(Err(error)) if limit > 1 && is_refused(&error) => {
                    limit /= 2;
                    most = limit;
                    continue;
                }
                Some(body) => body?,
            };
            let length = body.len() as u64;
            let not_ours = |error| self.failed(&read_points(collection), Failure::NotOurs(error));
            let page = tokio::task::spawn_blocking(move || Page::of(&body))
                .await
                .map_err(|panic| not_ours(panic.into()))?;
            let page = page.map_err(|error| not_ours(error.into()))?;
            let points = page.digest.items();
            stage.advance(points);
            digest.merge(&page.digest);
            match page.next {
                None => return Ok(Content { points: digest.items(), digest: digest.to_hex() }),
                // Otherwise a server that does not advance would be read forever.
                Some(next) if points == 0 || offset.as_ref() == Some(&next) => {
                    return Err(self.failed(
                        &read_points(collection),
                        format!("its pages do not advance past {next}"),
                    ));
                }
                next => offset = next,
            }
            limit = (points * PAGE_BYTES / length.max(1)).clamp(1, most);
        }
    }
}

/// Reports whether the server may accept the same request for fewer points.
pub(super) fn is_refused(error: &SourceError) -> bool {
    let status = QdrantClient::status_of(error);
    status.is_some_and(|status| {
        [StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS, StatusCode::PAYLOAD_TOO_LARGE]
            .contains(&status)
    })
}

/// A page of points, digested.
pub(super) struct Page {
    pub(super) digest: MultisetDigest,
    next: Option<Value>,
}

impl Page {
    /// Parses a reply of the scroll API.
    pub(super) fn of(body: &[u8]) -> Result<Self, serde_json::Error> {
        let (points, next_page_offset) = Point::page(body)?;
        let mut digest = MultisetDigest::default();
        let mut form = Vec::new();
        for point in points {
            form.clear();
            point.write(&mut form)?;
            digest.add(&form);
        }
        Ok(Self { digest, next: next_page_offset })
    }
}

/// The significant fields of a point; a server may return others (an order value, a version). Kept
/// as text, because a parser may round numbers.
#[derive(Deserialize)]
pub(super) struct Point<'a> {
    #[serde(borrow)]
    pub(super) id: &'a RawValue,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) vector: Option<&'a RawValue>,
    /// The same for all points of a shard.
    #[serde(borrow)]
    pub(super) shard_key: Option<&'a RawValue>,
}

impl<'a> Point<'a> {
    /// Parses a reply of the scroll API: its points, and the offset of the next page.
    pub(super) fn page(body: &'a [u8]) -> Result<(Vec<Self>, Option<Value>), serde_json::Error> {
        #[derive(Deserialize)]
        struct Reply<'a> {
            #[serde(borrow)]
            result: Points<'a>,
        }
        #[derive(Deserialize)]
        struct Points<'a> {
            #[serde(borrow)]
            points: Vec<Point<'a>>,
            next_page_offset: Option<Value>,
        }
        let Points { points, next_page_offset } = serde_json::from_slice::<Reply<'_>>(body)?.result;
        Ok((points, next_page_offset))
    }

    /// Writes `[id,payload,vector,shard key]`. A missing payload equals an empty one.
    pub(super) fn write(&self, form: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        form.push(b'[');
        canonical(self.id, form)?;
        for part in [self.payload, self.vector, self.shard_key] {
            form.push(b',');
            match part {
                Some(part) if !is_empty_object(part.get()) => canonical(part, form)?,
                _ => form.extend(b"null"),
            }
        }
        form.push(b']');
        Ok(())
    }
}

fn is_empty_object(json: &str) -> bool {
    json.strip_prefix('{').is_some_and(|rest| rest.trim_start() == "}")
}

/// Writes JSON without spaces, with keys sorted by their bytes and one spelling for each string and
/// number: an integer in digits, any other number in Rust's shortest exponent form that parses to
/// the same 64-bit float.
fn canonical(value: &RawValue, form: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'[') => {
            form.push(b'[');
            for (at, item) in serde_json::from_str::<Vec<&RawValue>>(json)?.into_iter().enumerate()
            {
                if at > 0 {
                    form.push(b',');
                }
                canonical(item, form)?;
            }
            form.push(b']');
        }
        Some(b'{') => {
            form.push(b'{');
            for (at, (key, item)) in
                serde_json::from_str::<BTreeMap<String, &RawValue>>(json)?.into_iter().enumerate()
            {
                if at > 0 {
                    form.push(b',');
                }
                serde_json::to_writer(&mut *form, &key)?;
                form.push(b':');
                canonical(item, form)?;
            }
            form.push(b'}');
        }
        Some(b'"') => serde_json::to_writer(form, &serde_json::from_str::<String>(json)?)?,
        Some(b'-' | b'0'..=b'9') => spell(json, form),
        _ => form.extend(json.as_bytes()),
    }
    Ok(())
}

/// A server may write a whole number with or without `.0`. Minus zero differs from zero, though.
fn spell(number: &str, form: &mut Vec<u8>) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.parse::<f64>() {
        Ok(float) if number.contains(['.', 'e', 'E']) => {
            let text = if float.fract() == 0.0 && float.abs() < EXACT {
                format!("{float:.0}")
            } else {
                format!("{float:e}")
            };
            form.extend(text.into_bytes());
        }
        _ => form.extend(number.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str) -> String {
        let mut form = Vec::new();
        canonical(serde_json::from_str(json).unwrap(), &mut form).unwrap();
        String::from_utf8(form).unwrap()
    }

    #[test]
    fn one_value_has_one_form_whatever_its_spelling() {
        assert_eq!(
            form(r#"{"b": 1.0, "a": [1, 0.5e0, -0.0, "و\n"], "Z": null}"#),
            r#"{"Z":null,"a":[1,5e-1,-0,"و\n"],"b":1}"#
        );
        assert_eq!(form("0.1"), form("1e-1"));
        assert_ne!(form("0.0"), form("-0.0"));
        assert_eq!(form("18446744073709551615"), "18446744073709551615");
    }

    #[test]
    fn the_least_bit_of_a_number_shows() {
        // Two neighbours that a careless parser takes for one.
        assert_ne!(form("0.30000000000000004"), form("0.3"));
        assert_ne!(form("5e-324"), form("0.0"));
        assert_ne!(form("0.1178722381"), form("0.1178722382"));
    }

    #[test]
    fn a_page_is_the_same_in_any_order_and_an_altered_component_shows() {
        let page = |points: &str| {
            let body = format!(r#"{{"result":{{"points":[{points}],"next_page_offset":null}}}}"#);
            Page::of(body.as_bytes()).unwrap().digest.to_hex()
        };
        let (one, two) = (
            r#"{"id":1,"payload":{"a":1,"b":2},"vector":{"x":[0.25],"y":[1.0]}}"#,
            r#"{"id":"8dbdae82-73b9-42a3-b0f3-2ca6171fe553","payload":{},"vector":[0.5]}"#,
        );
        let turned =
            r#"{"vector":{"y":[1.0],"x":[0.25]},"payload":{"b":2,"a":1},"id":1,"order_value":3}"#;
        assert_eq!(page(&format!("{one},{two}")), page(&format!("{two},{turned}")));
        assert_ne!(page(one), page(&one.replace("0.25", "0.25000003")));
        assert_eq!(page(two), page(&two.replace(r#""payload":{},"#, "")));
        assert_ne!(page(one), page(&one.replace("}}", r#"},"shard_key":"a"}"#)));
    }
}
