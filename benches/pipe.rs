//! Throughput from an async source through the artifact pipe into a repository on disk.
#![allow(missing_docs)]

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::{ArtifactWriter, Capture},
        repository::{Access, Location, Repository},
        source::{Probe, Source},
    },
    ground::{
        ArtifactPath, Exit, SourceError, SourceName,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::SecretString,
        job::{BackupJob, backup},
    },
    recovery::{
        point::PointReader,
        source::{Restorable, RestorePlan, RestoreReport, RestoreRequest},
    },
};

const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 64;

/// Emits several artifacts of random data in parallel.
struct Noise {
    name: SourceName,
    artifacts: usize,
    content: Bytes,
}

#[async_trait]
impl Source for Noise {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "noise"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec!["/noise".into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe::new(None, None, Vec::new()))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let mut writers = Vec::new();
        for artifact in 0..self.artifacts {
            let path = ArtifactPath::join(["noise", &artifact.to_string()])
                .expect("a number is a valid name");
            let writer = out.artifact(path).await?;
            writers.push(write(writer, self.content.clone(), artifact, PIECES / self.artifacts));
        }
        futures::future::try_join_all(writers).await?;
        Ok(())
    }
}

#[async_trait]
impl Restorable for Noise {
    async fn plan_restore(
        &self,
        _: &PointReader,
        _: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        Err(SourceError::Unsupported("a benchmark restores nothing".into()))
    }

    async fn restore(&self, _: &PointReader, _: RestorePlan) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported("a benchmark restores nothing".into()))
    }
}

/// Each piece starts at another offset of the random data, so that no two are duplicates.
async fn write(
    mut writer: ArtifactWriter,
    noise: Bytes,
    artifact: usize,
    pieces: usize,
) -> Result<(), SourceError> {
    for piece in 0..pieces {
        let start = artifact * pieces + piece;
        writer.write(noise.slice(start..start + PIECE_BYTES)).await?;
    }
    writer.finish(None, None).await
}

fn noise() -> Bytes {
    let mut state = 88_172_645_463_325_252_u64;
    (0..PIECE_BYTES + PIECES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        })
        .collect()
}

fn pipe(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let noise = noise();
    let mut group = c.benchmark_group("pipe");
    group.sample_size(10).throughput(Throughput::Bytes((PIECES * PIECE_BYTES) as u64));
    for artifacts in [1, 4] {
        group.bench_with_input(
            BenchmarkId::new("artifacts", artifacts),
            &artifacts,
            |b, &artifacts| {
                b.iter_batched(
                    || {
                        let directory = tempfile::tempdir().expect("a directory can be made");
                        let access = Access::new(
                            Location::Directory(directory.path().join("repository")),
                            SecretString::from("bench"),
                        );
                        let repository = runtime
                            .block_on(Repository::init(&access, 2))
                            .expect("a repository can be made");
                        (directory, repository)
                    },
                    |(directory, repository)| {
                        let name = "noise".parse().expect("a name");
                        let job = BackupJob::new(
                            repository,
                            vec![Arc::new(Noise { name, artifacts, content: noise.clone() })],
                        );
                        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
                        let report = runtime
                            .block_on(backup(&job, &progress, &CancellationToken::new()))
                            .expect("a run");
                        assert_eq!(report.exit, Exit::Done);
                        directory
                    },
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(benches, pipe);
criterion_main!(benches);
