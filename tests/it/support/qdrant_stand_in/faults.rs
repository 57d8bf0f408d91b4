//! What the stand-in does wrong when it is asked to.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use serde_json::Value;

use super::replies::failure;

/// Faults of the stand-in.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Calls that are answered with an error.
    pub refusals: Vec<Refusal>,
    /// Every connection of a download breaks after this many bytes.
    pub cut_downloads_after: Option<usize>,
    /// No download ever gets past this byte.
    pub no_download_beyond: Option<usize>,
    /// A download sends nothing more after this many bytes, and does not end.
    pub hang_downloads_after: Option<usize>,
    /// One byte of each download does not match the checksum.
    pub corrupt_downloads: bool,
    /// One component of one vector is changed after an upload.
    pub alter_vector: bool,
    /// A point is written while a snapshot is taken.
    pub write_during_snapshot: bool,
    /// Another snapshot in the same second replaces ours with other bytes.
    pub same_second_snapshot: bool,
    /// An upload creates a collection that answers 500 to everything.
    pub break_uploads: bool,
    /// The description of a snapshot has no checksum.
    pub no_checksums: bool,
    /// Strict mode: a page may have this many points.
    pub most_points: Option<u64>,
    /// Strict mode: this many pages are refused because of the rate.
    pub over_rate: usize,
    /// Each snapshot has other times in its headers.
    pub new_times: bool,
}

/// A call that fails.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub method: Method,
    /// A part of its path.
    pub path: &'static str,
    /// With 200, the call is reported as successful.
    pub status: u16,
    pub error: &'static str,
    /// The server does the work all the same.
    pub done: bool,
    /// Number of calls that fail.
    pub times: usize,
    /// Number of calls that succeed first.
    pub after: usize,
}

impl Refusal {
    pub fn always(method: Method, path: &'static str, status: u16, error: &'static str) -> Self {
        Self { method, path, status, error, done: false, times: usize::MAX, after: 0 }
    }
}

/// The refusals of strict mode, as Qdrant words them.
pub(super) fn strict(faults: &mut Faults, body: &Value) -> Option<Response> {
    let limit = body["limit"].as_u64().unwrap_or(10);
    if let Some(most) = faults.most_points.filter(|most| limit > *most) {
        let error = format!(
            "Bad request: Limit exceeded {limit} > {most} for \"limit\". Help: Reduce the \"limit\" parameter to or below {most}."
        );
        return Some(failure(StatusCode::BAD_REQUEST, &error));
    }
    if faults.over_rate == 0 {
        return None;
    }
    faults.over_rate -= 1;
    let error = "Rate limiting exceeded: Read rate limit exceeded: Operation requires 1 tokens but only 0.5 were available. Retry after 1s";
    let mut refused = failure(StatusCode::TOO_MANY_REQUESTS, error);
    refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Some(refused)
}
