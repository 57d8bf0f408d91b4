//! Writes an archive and opens it again: wall time, and the peak memory of the process.
//!
//! `cargo bench --bench archive`. `BENCH_MB=250` sets the size of the data. Memory must not grow with it.
#![allow(missing_docs)]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark shows figures")]

mod documents;

use std::{
    env,
    fs::{self, File},
    io::Read as _,
    path::Path,
    sync::Arc,
    time::Instant,
};

use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::{ArtifactRecord, Manifest},
    ground::{digest::ByteDigest, progress::Silent},
    jiff::Timestamp,
    operate::config::secret::{Environment, SecretRef},
    recovery::{
        point::{FilePart, FilePoint, PointReader},
        source::Restorable,
        staged::{Sink, StagedWork},
    },
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use serde_json::json;

const DATA: &str = "/mongo/bench/all.bson";
const METADATA: &str = "/mongo/bench/all.metadata.json";
const SPECIFICATION: &str = r#"{"indexes":[],"collectionName":"all","type":"collection"}"#;

#[tokio::main]
async fn main() {
    let megabytes: usize = env::var("BENCH_MB").map_or(250, |text| text.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a directory");
    let point = point(directory.path(), megabytes * 1_000_000);
    let size = point.manifest().size_bytes() as f64 / 1e6;
    println!("{size:.0} MB of documents; {:.0} MB of memory before", peak_megabytes());

    let environment: Environment =
        [("MONGO_URI", "mongodb://127.0.0.1:9/bench")].into_iter().collect();
    let config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    let source =
        MongoSource::new("mongo".parse().expect("a name"), config, &environment).expect("a source");
    let staged = source.staged().expect("MongoDB has a staged form");
    for gzip in [false, true] {
        let file = directory.path().join("archive");
        let begun = Instant::now();
        let mut sink = Sink::new(Box::new(File::create(&file).expect("a file")), gzip);
        staged.write(&point, &mut sink).await.expect("the point can be written");
        let written = sink.finish().await.expect("the file can be written");
        report("write", gzip, begun, size, written);

        let begun = Instant::now();
        let work = StagedWork::new(directory.path());
        let opened = staged.open(&file, &work).await.expect("the archive can be opened");
        report("open", gzip, begun, size, written);

        let begun = Instant::now();
        let inspection = source.inspect(&opened).await.expect("the point can be read");
        assert!(inspection.is_well(), "{:?}", inspection.findings);
        assert_eq!(
            opened.manifest().artifact(DATA).expect("the data").sha256,
            point.manifest().artifacts[0].sha256
        );
        report("inspect", gzip, begun, size, written);
    }
}

fn report(what: &str, gzip: bool, begun: Instant, size: f64, written: u64) {
    let seconds = begun.elapsed().as_secs_f64();
    let form = if gzip { "gzip" } else { "plain" };
    let packed = written as f64 / 1e6;
    println!(
        "{what:8} {form:6} {packed:7.1} MB {seconds:6.2} s {:6.0} MB/s {:6.0} MB of memory",
        size / seconds,
        peak_megabytes()
    );
}

/// Captures a point with one collection.
fn point(directory: &Path, bytes: usize) -> PointReader {
    let data = directory.join("data");
    let (size, documents) = documents::seed(&data, bytes);
    let metadata = directory.join("metadata");
    fs::write(&metadata, SPECIFICATION).expect("the metadata can be written");
    let record = |path: &str, size_bytes: usize, sha256: String, items: Option<u64>| {
        ArtifactRecord::new(path, size_bytes as u64, sha256).with_items(items)
    };
    let now = Timestamp::UNIX_EPOCH;
    let mut manifest = Manifest::of_file("mongo", "mongodb", now);
    manifest.artifacts = vec![
        record(DATA, size, sha256(&data), Some(documents)),
        record(METADATA, SPECIFICATION.len(), ByteDigest::of(SPECIFICATION.as_bytes()), None),
    ];
    manifest.details = [(
        "collections".to_owned(),
        json!([{ "database": "bench", "metadata": METADATA, "data": DATA, "specification": SPECIFICATION }]),
    )]
    .into();
    let part = |path: &Path, size_bytes: usize| FilePart::new(path.to_owned(), size_bytes as u64);
    let parts = [
        (DATA.to_owned(), part(&data, size)),
        (METADATA.to_owned(), part(&metadata, SPECIFICATION.len())),
    ]
    .into();
    let file = FilePoint::new(data.clone(), parts, None);
    PointReader::of_file(manifest, file, Arc::new(Silent), CancellationToken::new())
}

fn sha256(path: &Path) -> String {
    let mut file = File::open(path).expect("the file is there");
    let (mut digest, mut piece) = (ByteDigest::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).expect("the file can be read") {
            0 => return digest.finish(),
            read => digest.update(&piece[..read]),
        }
    }
}

fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("the kernel reports the peak");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") * 1024.0 / 1e6
}
