//! Our compressor compared with `gzip -6` on the same documents, in alternating rounds: wall time, CPU time, size.
//!
//! `cargo bench --bench gzip`. `BENCH_MB=250 BENCH_ROUNDS=3` set the size and the number of rounds.
#![allow(missing_docs)]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark shows figures")]

mod documents;

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use kaleem_dr_core::ground::gzip::GzipWriter;

fn main() {
    let number = |name: &str, otherwise| {
        env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (megabytes, rounds) = (number("BENCH_MB", 250), number("BENCH_ROUNDS", 3));
    let directory = tempfile::tempdir().expect("a directory");
    let plain = directory.path().join("plain");
    let (size, _) = documents::seed(&plain, megabytes * 1_000_000);
    println!(
        "{:.0} MB of documents, {} cores",
        size as f64 / 1e6,
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    for round in 1..=rounds {
        let ours = measure(|| ours(&plain, &directory.path().join("ours.gz")));
        let peers = measure(|| peers(&plain, &directory.path().join("peers.gz")));
        for (name, (seconds, cpu, packed)) in [("ours", &ours), ("gzip -6", &peers)] {
            println!(
                "round {round}  {name:8} {seconds:6.2} s  {cpu:6.2} s of cores  {:6.1} MB  {:6.0} MB/s",
                *packed as f64 / 1e6,
                size as f64 / 1e6 / seconds
            );
        }
        println!(
            "round {round}  {:.2} times the speed, {:.2} times less work, {:+.1} % in size",
            peers.0 / ours.0,
            peers.1 / ours.1,
            100.0 * (ours.2 as f64 / peers.2 as f64 - 1.0)
        );
    }
}

fn measure(work: impl FnOnce() -> u64) -> (f64, f64, u64) {
    let (begun, before) = (Instant::now(), cpu_seconds());
    let packed = work();
    (begun.elapsed().as_secs_f64(), cpu_seconds() - before, packed)
}

/// CPU time of this process and its finished children, on all cores (proc(5), stat).
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc is there");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(4).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>()
        / 100.0
}

fn ours(plain: &Path, packed: &Path) -> u64 {
    let mut input = File::open(plain).expect("the plain file");
    let mut writer = GzipWriter::new(File::create(packed).expect("a file"));
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = input.read(&mut piece).expect("the plain file can be read");
        if read == 0 {
            break;
        }
        writer.write_all(&piece[..read]).expect("the file can be written");
    }
    writer.finish().and_then(|file| file.metadata()).expect("the file can be ended").len()
}

fn peers(plain: &Path, packed: &Path) -> u64 {
    let output = File::create(packed).expect("a file");
    let status = Command::new("gzip")
        .args(["-6", "-c"])
        .arg(plain)
        .stdout(output)
        .status()
        .expect("gzip can be run");
    assert!(status.success());
    fs::metadata(packed).expect("the file is there").len()
}
