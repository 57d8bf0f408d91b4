//! Fills a collection with points instead of files, for a server whose release refuses the files.
//!
//! Qdrant's engine reads the points from the files of a point, and they are written through the API.
//! Indexes are built anew, which takes longer than an upload.

use std::{path::Path, sync::Arc};

use kaleem_dr_core::{
    ground::{
        SourceError,
        progress::{StageProgress, Unit},
    },
    recovery::point::PointReader,
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{
    client::QdrantClient,
    contents::Stored,
    engine::{self, Lines},
    points::{Point, is_refused},
};

/// Number of pages read ahead.
const PAGES: usize = 2;
/// Limit for the points of one request, in bytes: Qdrant accepts 32 MB (`max_request_size_mb`).
const REQUEST_BYTES: usize = 8 << 20;

/// Writes every point of a stored collection into `target`.
///
/// # Errors
/// If the engine cannot be run or does not read the files, or the server does not take the points.
pub(super) async fn fill(
    client: &QdrantClient,
    point: &PointReader,
    stored: &Stored,
    target: &str,
    program: &Path,
) -> Result<(), SourceError> {
    let expected = stored.description.points.about();
    let stage =
        point.progress().begin(&format!("write the points of {target}"), Unit::Items, expected);
    let (sender, mut pages) = mpsc::channel::<Vec<u8>>(PAGES);
    let lines: Lines = Arc::new(move |line| {
        sender.blocking_send(line.to_vec()).map_err(|_| "writing the points failed".into())
    });
    // It owns the sender, so the pages end when it ends.
    let reading = engine::pages(point, stored, program, lines);
    // It owns the receiver: if it fails, the engine cannot pass on anything more, and ends.
    let stage_of_writing = stage.clone();
    let writing = async move {
        let cancel = point.cancellation();
        while let Some(page) = pages.recv().await {
            cancel
                .run_until_cancelled(write(client, target, &page, stage_of_writing.as_ref()))
                .await
                .ok_or(SourceError::Cancelled)??;
        }
        Ok::<_, SourceError>(())
    };
    let (read, written) = tokio::join!(reading, writing);
    written?;
    read?.map_err(|why| {
        client.failed(
            &format!("receive the points of {target}: Qdrant's engine cannot read its files"),
            why,
        )
    })?;
    stage.finish();
    Ok(())
}

impl Point<'_> {
    fn request(&self) -> String {
        let text = |part: Option<&RawValue>, absent: &str| {
            part.map_or_else(|| absent.to_owned(), |part| part.get().to_owned())
        };
        format!(
            r#"{{"id":{},"vector":{},"payload":{}}}"#,
            self.id.get(),
            text(self.vector, "{}"),
            text(self.payload, "null")
        )
    }
}

async fn write(
    client: &QdrantClient,
    target: &str,
    page: &[u8],
    stage: &dyn StageProgress,
) -> Result<(), SourceError> {
    let (points, _) = Point::page(page).map_err(|error| {
        SourceError::Point(format!("a page of Qdrant's engine: {error}").into())
    })?;
    let key = points.iter().find_map(|point| point.shard_key).map(RawValue::get);
    let points: Vec<String> = points.iter().map(Point::request).collect();
    let mut todo = vec![&points[..]];
    while let Some(part) = todo.pop() {
        let is_long = part.iter().map(String::len).sum::<usize>() > REQUEST_BYTES;
        let written = if part.is_empty() || (is_long && part.len() > 1) {
            None
        } else {
            Some(client.upsert(target, body(part, key)).await)
        };
        match written {
            Some(Ok(())) => stage.advance(part.len() as u64),
            // Strict mode limits the number of points per request.
            Some(Err(error)) if part.len() == 1 || !is_refused(&error) => return Err(error),
            _ => {
                let (first, second) = part.split_at(part.len() / 2);
                todo.extend([second, first].into_iter().filter(|half| !half.is_empty()));
            }
        }
    }
    Ok(())
}

fn body(points: &[String], key: Option<&str>) -> String {
    let key = key.map_or(String::new(), |key| format!(r#","shard_key":{key}"#));
    format!(r#"{{"points":[{}]{key}}}"#, points.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_passed_on_with_every_digit_and_their_key() {
        let line = r#"{"shard":1,"result":{"points":[{"id":18446744073709551615,"payload":{"a":0.1},"vector":{"t":[0.30000001]},"shard_key":"k"},{"id":"u","payload":null,"vector":null,"shard_key":"k"}],"next_page_offset":null}}"#;
        let (points, _) = Point::page(line.as_bytes()).unwrap();
        let points: Vec<_> = points.iter().map(Point::request).collect();
        let expected = r#"{"points":[{"id":18446744073709551615,"vector":{"t":[0.30000001]},"payload":{"a":0.1}},{"id":"u","vector":{},"payload":null}],"shard_key":"k"}"#;
        assert_eq!(body(&points, Some(r#""k""#)), expected);
    }
}
