//! The object store on disk: writes packs, reads them whole and by range.
#![allow(missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kaleem_dr_core::engine::repository::store::{BasicStore as _, OpendalStore};

/// The approximate size of a pack, in bytes.
const PACK_BYTES: usize = 16 << 20;
/// The approximate size of a restore's reads, in bytes.
const RANGE_BYTES: u64 = 4 << 20;

fn store(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let store = OpendalStore::directory(directory.path()).expect("it is a directory");
    let pack = Bytes::from(vec![7; PACK_BYTES]);
    runtime
        .block_on(store.write("data/ab/pack", vec![pack.clone()]))
        .expect("a pack can be written");

    let mut group = c.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Bytes(PACK_BYTES as u64));
    group.bench_function("write", |b| {
        b.iter(|| {
            runtime
                .block_on(store.write("data/cd/pack", vec![pack.clone()]))
                .expect("a pack can be written");
        });
    });
    group.bench_function("read", |b| {
        b.iter(|| runtime.block_on(store.read("data/ab/pack", None)).expect("a pack can be read"));
    });
    group.throughput(Throughput::Bytes(RANGE_BYTES));
    group.bench_function("read a range", |b| {
        b.iter(|| {
            runtime
                .block_on(store.read("data/ab/pack", Some(1 << 20..(1 << 20) + RANGE_BYTES)))
                .expect("a range")
        });
    });
    group.finish();
}

criterion_group!(benches, store);
criterion_main!(benches);
