//! Downloads a snapshot into an artifact.

use bytes::Bytes;
use kaleem_dr_core::{
    CancellationToken,
    engine::artifact::ArtifactWriter,
    ground::{SourceError, digest::ByteDigest, error_chain},
};

use super::{
    api::Subject,
    tar_edit::{TarEditor, Times},
    temporary::Held,
};

/// Number of attempts to resume a download that makes no progress.
const RESUMPTIONS: u32 = 3;

/// A file being downloaded.
pub(super) struct Transfer<'a> {
    pub(super) held: &'a Held<'a>,
    pub(super) subject: &'a Subject,
    pub(super) cancel: &'a CancellationToken,
}

/// The file as the server sent it.
pub(super) struct Received {
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
}

impl Transfer<'_> {
    /// Streams the file, and resumes after broken connections. What is written has the times of
    /// [`Times`]; what is returned describes the bytes as the server sent them.
    pub(super) async fn run(&self, writer: &mut ArtifactWriter) -> Result<Received, SourceError> {
        let mut sink = Sink { digest: ByteDigest::default(), editor: Times::of_snapshot(), writer };
        let (mut read, mut etag, mut fruitless) = (0, None, 0);
        loop {
            let before = read;
            match self.part(&mut read, &mut etag, &mut sink).await {
                Ok(()) => {
                    let sha256 = sink.finish().await?;
                    return Ok(Received { size_bytes: read, sha256 });
                }
                Err(Broke::Connection(error)) => {
                    fruitless = if read > before { 0 } else { fruitless + 1 };
                    if fruitless > RESUMPTIONS {
                        return Err(error);
                    }
                    tracing::debug!(snapshot = %self.subject, read, error = %error_chain(&error), "resuming the download");
                }
                Err(Broke::ForGood(error)) => return Err(error),
            }
        }
    }

    /// Reads until the end, or until the connection breaks.
    async fn part(
        &self,
        read: &mut u64,
        etag: &mut Option<reqwest::header::HeaderValue>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broke> {
        let Held { client, file } = self.held;
        let asking = client.download(self.subject, &file.name, *read, etag.as_ref());
        let asked = self
            .cancel
            .run_until_cancelled(asking)
            .await
            .ok_or(Broke::ForGood(SourceError::Cancelled))?;
        let mut download = asked.map_err(|error| match error {
            SourceError::Unreachable { .. } => Broke::Connection(error),
            other => Broke::ForGood(other),
        })?;
        *etag = etag.take().or(download.etag.take());
        let mut rest = download.length();
        loop {
            let reading = tokio::time::timeout(client.timeout(), download.response.chunk());
            let chunk = self
                .cancel
                .run_until_cancelled(reading)
                .await
                .ok_or(Broke::ForGood(SourceError::Cancelled))?;
            let action = format!("send snapshot {} of {}", file.name, self.subject);
            let chunk = chunk.map_err(|_| Broke::Connection(client.silent(&action)))?;
            match chunk.map_err(|error| Broke::Connection(client.unreachable(error)))? {
                Some(bytes) => {
                    *read += bytes.len() as u64;
                    rest = rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
                    sink.write(bytes).await.map_err(Broke::ForGood)?;
                }
                None if rest.unwrap_or(0) > 0 => {
                    return Err(Broke::Connection(client.failed(&action, "the connection broke")));
                }
                None => return Ok(()),
            }
        }
    }
}

/// The reason why a part of a download ended early.
enum Broke {
    /// The download can be resumed.
    Connection(SourceError),
    ForGood(SourceError),
}

/// The way of the bytes into the artifact.
struct Sink<'a> {
    digest: ByteDigest,
    editor: TarEditor<Times>,
    writer: &'a mut ArtifactWriter,
}

impl Sink<'_> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        self.digest.update(&bytes);
        let mut edited = Vec::new();
        self.editor.push(bytes, &mut edited).map_err(SourceError::Output)?;
        self.pass(edited).await
    }

    /// The SHA-256 of what the server sent.
    async fn finish(self) -> Result<String, SourceError> {
        let Self { digest, editor, writer } = self;
        let mut edited = Vec::new();
        editor.finish(&mut edited).map_err(SourceError::Output)?;
        for bytes in edited {
            writer.write(bytes).await?;
        }
        Ok(digest.finish())
    }

    /// Passes the pieces on as one, because there may be a piece for each header.
    async fn pass(&mut self, mut edited: Vec<Bytes>) -> Result<(), SourceError> {
        match edited.len() {
            0 => Ok(()),
            1 => self.writer.write(edited.remove(0)).await,
            _ => self.writer.write(edited.concat().into()).await,
        }
    }
}
