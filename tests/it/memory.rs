//! Memory stays flat while far more data than would fit are captured, exported, verified and
//! restored. `BENCH_ONLY=memory make bench` measures the growth over ten times the size.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    program::run_measured,
    qdrant_stand_in::{API_KEY, QdrantStandIn},
    site::Site,
};

/// Size of the captured data.
const DATA_MB: usize = 640;
/// Limit for the peak memory: packs, ranges and blobs in progress, and the index.
const HELD_MB: f64 = 220.0;

/// Bytes that neither compress nor repeat, eight at a time.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    })
}

fn noise_file(path: &Path, megabytes: usize, seed: u64) {
    let mut file = fs::File::create(path).expect("a file can be made");
    let mut noise = noise(seed);
    for _ in 0..megabytes {
        let block: Vec<u8> = noise.by_ref().take(1 << 17).flat_map(u64::to_le_bytes).collect();
        file.write_all(&block).expect("a file can be written");
    }
}

/// Runs every operation on a source's data and checks the peak memory of each.
/// `KALEEM_TEST_MEMORY_SHOW=1` prints it.
fn goes_out_and_comes_back(site: &Site, source: &str, target: &str) {
    let file = text(site.path("exported"));
    for args in [
        &["backup"][..],
        &["export", source, "--output", &file],
        &["verify", source],
        &["verify", source, "--from", &file],
        &["restore", source, "--to", target],
    ] {
        let (outcome, bytes) = run_measured(site.command().args(args));
        assert_eq!(outcome.code, Some(0), "{args:?}: {}{}", outcome.stdout, outcome.stderr);
        #[expect(clippy::cast_precision_loss, reason = "a ratio is wanted")]
        let held = bytes as f64 / 1e6;
        if env::var_os("KALEEM_TEST_MEMORY_SHOW").is_some() {
            #[expect(clippy::print_stdout, reason = "a measurement reads it")]
            {
                println!("{held:.0} MB held by {}", args[0]);
            }
        }
        assert!(held <= HELD_MB, "{args:?} held {held:.0} MB");
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().expect("a UTF-8 path").to_owned()
}

#[test]
fn files_of_which_memory_holds_a_part_only_go_out_and_come_back() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    for n in 0..DATA_MB / 16 {
        noise_file(&tree.join(format!("{n}")), 16, n as u64 + 1);
    }
    let site = site.with_files("configs", &[&tree]).initialised();
    goes_out_and_comes_back(&site, "configs", &text(site.path("restored")));
}

/// `KALEEM_TEST_MEMORY_QDRANT_MB` sets a larger collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_qdrant_collection_of_which_memory_holds_a_part_only_goes_out_and_comes_back() {
    let megabytes = env::var("KALEEM_TEST_MEMORY_QDRANT_MB")
        .map_or(64, |mb| mb.parse().expect("a number of megabytes"));
    let server = QdrantStandIn::start();
    let client = reqwest::Client::new();
    let put = async |path: &str, body: Value| {
        let request =
            client.request(Method::PUT, format!("{}/collections/docs{path}", server.url()));
        let answer = request
            .header("api-key", API_KEY)
            .json(&body)
            .send()
            .await
            .expect("the server answers");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    };
    put("", json!({ "vectors": { "size": 2, "distance": "Dot" } })).await;
    let mut noise = noise(7);
    for megabyte in 0..megabytes {
        let points: Vec<Value> = (0..128)
            .map(|n| {
                let text = noise.by_ref().take(512).fold(String::new(), |mut text, word| {
                    write!(text, "{word:016x}").expect("memory takes all");
                    text
                });
                json!({ "id": megabyte * 128 + n, "payload": { "text": text }, "vector": [n, 1] })
            })
            .collect();
        put("/points?wait=true", json!({ "points": points })).await;
    }
    let site = Site::new()
        .with_qdrant("vectors", &server.url(), API_KEY, &["docs".to_owned()])
        .initialised();
    let work =
        tokio::task::spawn_blocking(move || goes_out_and_comes_back(&site, "vectors", "docs_back"));
    work.await.expect("it ends well");
}
