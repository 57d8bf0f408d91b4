//! A fake S3 in memory that checks the region of a request's signature, like AWS, but not the
//! signature itself.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use bytes::Bytes;

use super::served::Served;

/// The service. It ends when this value is dropped.
pub struct RegionalS3Fake {
    served: Served,
}

struct Shared {
    region: String,
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl RegionalS3Fake {
    /// A service in this region. It has every bucket.
    pub fn start(region: &str) -> Self {
        let shared = Arc::new(Shared { region: region.to_owned(), objects: Mutex::default() });
        Self { served: Served::start(Router::new().fallback(answer).with_state(shared)) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.served.address)
    }
}

fn reply(status: StatusCode, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("a response")
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("the request comes whole");
    let query = parts.uri.query().unwrap_or_default();
    let region = &shared.region;
    if query.contains("location") {
        let name = if region == "us-east-1" { "" } else { region };
        return reply(
            StatusCode::OK,
            &[],
            format!("<LocationConstraint>{name}</LocationConstraint>"),
        );
    }
    let signed = parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !signed.contains(&format!("/{region}/s3/aws4_request")) {
        let message = format!(
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong; expecting '{region}'</Message>\
             <Region>{region}</Region></Error>"
        );
        return reply(StatusCode::BAD_REQUEST, &[("x-amz-bucket-region", region)], message);
    }
    let path = parts.uri.path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    if key.is_empty() {
        return list(&shared, query);
    }
    object(&shared, &parts.method, &parts.headers, key, body)
}

fn list(shared: &Shared, query: &str) -> Response {
    let asked: reqwest::Url = format!("http://h/?{query}").parse().expect("a query");
    let prefix = asked
        .query_pairs()
        .find(|(name, _)| name == "prefix")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    let mut page = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for (key, content) in
        shared.objects.lock().expect("no panic").iter().filter(|(key, _)| key.starts_with(&prefix))
    {
        write!(
            page,
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"none\"</ETag><Size>{}</Size></Contents>",
            content.len()
        )
        .expect("a string takes all");
    }
    page.push_str("</ListBucketResult>");
    reply(StatusCode::OK, &[("content-type", "application/xml")], page)
}

fn object(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    key: &str,
    body: Bytes,
) -> Response {
    let mut objects = shared.objects.lock().expect("no panic");
    match *method {
        Method::PUT => {
            objects.insert(key.to_owned(), body);
            // Not a digest of the content, so that the client reads back what it wrote.
            reply(StatusCode::OK, &[("etag", "\"none\"")], Body::empty())
        }
        Method::DELETE => {
            objects.remove(key);
            reply(StatusCode::NO_CONTENT, &[], Body::empty())
        }
        _ => {
            let Some(content) = objects.get(key) else {
                return reply(StatusCode::NOT_FOUND, &[], "<Error><Code>NoSuchKey</Code></Error>");
            };
            let range = headers
                .get(header::RANGE)
                .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
            let Some((first, last)) = range else {
                return reply(StatusCode::OK, &[], content.clone());
            };
            let first: usize = first.parse().expect("a number");
            let end =
                last.parse::<usize>().map_or(content.len(), |last| content.len().min(last + 1));
            let said = format!("bytes {first}-{}/{}", end - 1, content.len());
            reply(
                StatusCode::PARTIAL_CONTENT,
                &[("content-range", &said)],
                content.slice(first..end),
            )
        }
    }
}
