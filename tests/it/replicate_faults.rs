//! Ten thousand faults of an S3 server and the network in front of it: a mirror is equal, or the
//! pass reports why it is not.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use kaleem_dr_core::{
    CancellationToken,
    engine::{
        ledger::Ledger,
        replicate::{MirrorJob, MirrorReport, mirror},
        repository::{
            Access, InitOptions, Location, Repository, RepositoryError,
            store::{BasicStore as _, OpendalStore, S3Access, Tuning},
        },
    },
    ground::{
        Exit,
        digest::ByteDigest,
        progress::{ProgressSink, Silent},
    },
    operate::config::secret::SecretString,
};

use crate::support::{
    faulty_s3::FaultyS3,
    mirror::{S3Mirror, noise, objects},
    restic::Restic,
    servers::S3,
    site::{PASSWORD, Site},
};

/// Total number of faults that must have occurred.
const WANTED: u64 = 10_000;
/// Number of faults per thousand requests; it changes from seed to seed.
const RATES: [u64; 3] = [60, 200, 450];
const KEY: &str = "s3s-fs-test";
const SECRET: &str = "s3s-fs-test-secret";

/// A repository of many small objects, each named by its hash. Nothing here needs to decrypt them.
fn sealed_objects(directory: &Path, count: usize, seed: u64) {
    for (place, share) in
        [("keys", 1), ("data", count), ("index", 1 + count / 10), ("snapshots", 1 + count / 5)]
    {
        for number in 0..share {
            let length = 200 + (number * 7919) % 9000;
            let bytes = noise(length, seed ^ (number as u64) << 8 ^ place.len() as u64);
            let name = ByteDigest::of(&bytes);
            let parent =
                if place == "data" { format!("data/{}", &name[..2]) } else { place.to_owned() };
            fs::create_dir_all(directory.join(&parent)).expect("a directory can be made");
            fs::write(directory.join(parent).join(name), bytes).expect("an object can be written");
        }
    }
}

fn repository(directory: &Path, count: usize, seed: u64) {
    for place in ["keys", "data", "index", "snapshots", "locks"] {
        fs::create_dir_all(directory.join(place)).expect("a directory can be made");
    }
    fs::write(directory.join("config"), noise(155, 0)).expect("a config can be written");
    sealed_objects(directory, count, seed);
}

/// Settings with short time-outs.
fn impatience() -> Tuning {
    let patience = Duration::from_millis(250);
    let retry_delay = Duration::from_millis(2);
    let mut tuning = Tuning::default();
    tuning.call_timeout = patience;
    tuning.io_timeout = patience;
    tuning.retries = 3;
    tuning.retry_delay = retry_delay;
    tuning
}

fn client(
    endpoint: String,
    bucket: &str,
    prefix: &str,
    key: &str,
    secret: &str,
    tuning: Tuning,
) -> OpendalStore {
    let mut access =
        S3Access::new(endpoint, bucket, SecretString::from(key), SecretString::from(secret));
    prefix.clone_into(&mut access.prefix);
    "us-east-1".clone_into(&mut access.region);
    access.tuning = tuning;
    OpendalStore::s3(&access).expect("the access data are good")
}

async fn pass(
    from: &OpendalStore,
    to: &OpendalStore,
    ledger: &Ledger,
) -> Result<MirrorReport, RepositoryError> {
    let mut job = MirrorJob::new(Arc::new(from.clone()), Arc::new(to.clone()));
    job.ledger = Some(ledger.clone());
    job.options.delete_foreign = true;
    job.options.max_delete_percent = 100;
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    mirror(&job, &progress, &CancellationToken::new()).await
}

/// The content of the mirror, read without faults.
async fn far_objects(store: &OpendalStore) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for place in ["keys", "data", "index", "snapshots"] {
        for object in store.list(place).await.expect("a list without faults") {
            let bytes = store.read(&object.key, None).await.expect("a read without faults");
            found.insert(object.key, ByteDigest::of(&bytes));
        }
    }
    if let Some(size) = store.size("config").await.expect("a look without faults") {
        let bytes = store.read("config", None).await.expect("a read without faults");
        assert_eq!(bytes.len() as u64, size);
        found.insert("config".to_owned(), ByteDigest::of(&bytes));
    }
    found
}

/// Asserts that both sides have the same objects with the same content; shows the first
/// differences.
fn assert_equal(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>, seed: u64) {
    let differing = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        one.iter()
            .find(|(key, hash)| other.get(*key) != Some(hash))
            .map(|(key, hash)| format!("{key}, hash {hash}"))
    };
    let (odd, missing) = (differing(found, wanted), differing(wanted, found));
    assert!(odd.is_none() && missing.is_none(), "seed {seed}: found {odd:?}, wanted {missing:?}");
}

/// Asserts that every object on the mirror matches its name.
fn assert_true_to_names(far: &BTreeMap<String, String>, seed: u64) {
    for (key, hash) in far.iter().filter(|(key, _)| *key != "config") {
        assert_eq!(
            key.rsplit('/').next(),
            Some(hash.as_str()),
            "seed {seed}: {key} is not what its name says"
        );
    }
}

/// Replicates under faults, back and forth, until `wanted` faults have occurred. `proof` is the
/// same location without faults: for the test's own reads, and for passes that must succeed.
async fn survive(
    faulty: &FaultyS3,
    far: &OpendalStore,
    proof: &OpendalStore,
    refuses_before_it_stores: bool,
    wanted: u64,
) {
    let home = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&home.path().join("state")).expect("a ledger");
    let (near_path, back_path) = (home.path().join("near"), home.path().join("back"));
    repository(&near_path, 30, 1);
    let near = OpendalStore::directory(&near_path).expect("a store");
    let (mut seed, mut succeeded, mut failed) = (0, 0_u32, 0_u32);
    while faulty.injected() < wanted {
        seed += 1;
        // The near side changes: some objects are new, some are gone.
        if seed % 4 == 0 {
            fs::remove_dir_all(&near_path).expect("it can be changed");
            repository(
                &near_path,
                20 + (usize::try_from(seed).expect("a small seed") * 7) % 30,
                seed / 8,
            );
        }
        let before = objects(&near_path);
        faulty.misbehave(seed, RATES[usize::try_from(seed).expect("a small seed") % RATES.len()]);
        let result = pass(&near, far, &ledger).await;
        faulty.behave();
        assert_equal(&objects(&near_path), &before, seed);
        let there = far_objects(proof).await;
        match result {
            Ok(report) => {
                assert_eq!(report.exit, Exit::Done, "seed {seed}: {report:?}");
                assert_equal(&there, &before, seed);
                succeeded += 1;
            }
            Err(error) => {
                assert!(!kaleem_dr_core::ground::error_chain(&error).is_empty());
                if refuses_before_it_stores {
                    assert_true_to_names(&there, seed);
                }
                failed += 1;
            }
        }
        if seed % 5 == 0 {
            // And back, so that reads meet faults too.
            pass(&near, proof, &ledger).await.expect("without faults, a pass succeeds");
            let _ = fs::remove_dir_all(&back_path);
            for place in ["keys", "data", "index", "snapshots", "locks"] {
                fs::create_dir_all(back_path.join(place)).expect("a directory can be made");
            }
            let back = OpendalStore::directory(&back_path).expect("a store");
            faulty
                .misbehave(seed, RATES[usize::try_from(seed).expect("a small seed") % RATES.len()]);
            let result = pass(far, &back, &ledger).await;
            faulty.behave();
            let came = objects(&back_path);
            assert_true_to_names(&came, seed);
            if result.is_ok() {
                assert_equal(&came, &before, seed);
            }
            assert_equal(&far_objects(proof).await, &before, seed);
        }
    }
    assert!(
        succeeded > 0 && failed > 0,
        "{succeeded} passes succeeded and {failed} failed: the test proves little"
    );
    pass(&near, proof, &ledger).await.expect("without faults, a pass succeeds");
    assert_equal(&far_objects(proof).await, &objects(&near_path), seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_before_seaweedfs_never_look_like_success() {
    let place = S3Mirror::new("faults");
    let faulty = FaultyS3::before(&place.s3.endpoint);
    let S3 { bucket, key, secret, .. } = &place.s3;
    let far = client(faulty.endpoint(), bucket, &place.prefix, key, secret, impatience());
    let proof = client(faulty.endpoint(), bucket, &place.prefix, key, secret, Tuning::default());
    survive(&faulty, &far, &proof, true, WANTED / 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_before_s3s_fs_never_look_like_success() {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join("bucket")).expect("a bucket is a directory");
    let faulty = FaultyS3::before_s3s_fs(home.path(), KEY, SECRET);
    let far = client(faulty.endpoint(), "bucket", "prefix", KEY, SECRET, impatience());
    let proof = client(faulty.endpoint(), "bucket", "prefix", KEY, SECRET, Tuning::default());
    // This server stores a body that does not match `Content-MD5`, and then refuses it.
    survive(&faulty, &far, &proof, false, WANTED / 2).await;
}

/// Ten thousand objects of a real repository; stock restic reads every byte of the mirror.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_objects_and_a_second_pass_that_moves_nothing() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    for number in 0..10_040_u64 {
        fs::write(tree.join(number.to_string()), noise(1500, number))
            .expect("a file can be written");
    }
    let far = S3Mirror::new("many");
    let through = FaultyS3::before(&far.s3.endpoint);
    let behind =
        S3Mirror { s3: S3 { endpoint: through.endpoint(), ..far.s3.clone() }, ..far.clone() };
    let site = site.with_files("configs", &[&tree]);
    let site = behind.of(site, "r2");
    let local = Location::Directory(site.repository());
    let access = Access::new(local.clone(), SecretString::from(PASSWORD));
    // One pack per file.
    let mut options = InitOptions::default();
    options.pack_bytes = 1000;
    Repository::init_in(local.store_to_fill().expect("a directory"), &access, options)
        .await
        .expect("a repository");
    site.succeed(["backup"]);
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(lines[0]["copied"]["objects"].as_u64().expect("a count") >= 10_000, "{lines:?}");
    Restic::on_s3(far.s3.clone(), &far.prefix, PASSWORD).check_read_data();

    let (requests, lists) = through.requests();
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["copied"]["bytes"], 0);
    let (requests, lists) = (through.requests().0 - requests, through.requests().1 - lists);
    // Keys, index and snapshots need one page each, and the packs ten or eleven.
    assert!((13..=14).contains(&lists), "each prefix is listed once, in {lists} pages");
    assert_eq!(
        requests,
        lists + 3,
        "the config is read, twice, and the bucket's region is asked for"
    );
}
