//! Definitions as one file, `defs-<DATE>.json`, which RabbitMQ itself can import.

use std::{fs, fs::File, io::Read as _, path::Path, time::SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use kaleem_dr_core::{
    engine::{
        manifest::{ArtifactRecord, Manifest, ServerInfo},
        source::Source,
    },
    ground::{SourceError, digest::ByteDigest, error_chain, gzip},
    recovery::{
        point::{FilePart, FilePoint, PointReader},
        staged::{Sink, StagedForm, StagedName, StagedWork},
    },
};
use serde::Deserialize;

use super::{ANSWER_LIMIT_BYTES, RabbitmqSource, artifact_path, definitions::Definitions};

#[async_trait]
impl StagedForm for RabbitmqSource {
    fn name(&self) -> StagedName {
        StagedName::new("defs", "json")
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        let mut artifact = point.artifact(artifact_path().as_str()).await?;
        while let Some(piece) = artifact.next().await? {
            out.write(piece).await?;
        }
        Ok(())
    }

    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
        let failed = |action: &str| {
            let (path, action) = (file.to_path_buf(), action.to_owned());
            move |cause| SourceError::Path { path, action, cause }
        };
        let opened = File::open(file).map_err(failed("open"))?;
        let made =
            opened.metadata().and_then(|metadata| metadata.modified()).map_err(failed("read"))?;
        let mut document = Vec::new();
        let plain = gzip::decompressed(opened).map_err(failed("read"))?;
        plain.take(ANSWER_LIMIT_BYTES + 1).read_to_end(&mut document).map_err(failed("read"))?;
        let damaged = |why| SourceError::Damaged { path: file.to_path_buf(), why };
        if document.len() as u64 > ANSWER_LIMIT_BYTES {
            return Err(damaged(format!(
                "it is longer than {ANSWER_LIMIT_BYTES} bytes, which is too long for definitions"
            )));
        }
        let definitions =
            Definitions::parse(&document).map_err(|error| damaged(error_chain(&error)))?;
        let canonical = definitions.to_bytes();

        let unpacked = work.directory()?;
        let copy = unpacked.path().join("definitions.json");
        fs::write(&copy, &canonical).map_err(failed("unpack"))?;
        let path = artifact_path();
        let mut manifest =
            Manifest::of_file(Source::name(self).as_str(), self.kind(), timestamp(made));
        manifest.server = server(&document);
        manifest.artifacts = vec![
            ArtifactRecord::new(
                path.as_str().to_owned(),
                canonical.len() as u64,
                ByteDigest::of(&canonical),
            )
            .with_items(definitions.len()),
        ];
        let part = FilePart::new(copy, canonical.len() as u64);
        let file = FilePoint::new(
            file.to_path_buf(),
            [(path.as_str().to_owned(), part)].into(),
            Some(unpacked),
        );
        Ok(PointReader::of_file(manifest, file, work.progress.clone(), work.cancel.clone()))
    }
}

/// The modification time of a file; the epoch if it is out of range.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

/// The release that wrote the document; ours omit it, so that equal topologies have equal bytes.
fn server(document: &[u8]) -> Option<ServerInfo> {
    #[derive(Deserialize)]
    struct Writer {
        rabbitmq_version: Option<String>,
        /// Its name before 3.8; later releases write both.
        rabbit_version: Option<String>,
        product_name: Option<String>,
    }
    let writer: Writer = serde_json::from_slice(document).ok()?;
    let product = writer.product_name.unwrap_or_else(|| "RabbitMQ".into());
    Some(ServerInfo::new(product, writer.rabbitmq_version.or(writer.rabbit_version)?))
}
