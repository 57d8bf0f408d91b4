//! Repositories in buckets: their configuration, the errors for unreachable ones, and the
//! verification of every write.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use kaleem_dr_core::engine::repository::store::{
    BasicStore as _, ObjectStore as _, OpendalStore, Rate, S3Access,
};
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use serde_json::Value;

use super::support::{
    servers::{self, S3},
    site::Site,
};

/// A prefix for one test.
fn prefix(name: &str) -> String {
    format!("remote-{name}-{}", std::process::id())
}

/// A table `[repository.NAME]` with a location and the site's password.
fn table(site: &Site, name: &str, location: &str, more: &str) -> String {
    let password = site.path("repository.pass");
    format!(
        "[repository.{name}]\nlocation = {location:?}\npassword = {{ file = {} }}\n{more}",
        quoted(&password)
    )
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("UTF-8"))
}

/// The access keys for a table, in files of the site.
fn keys(site: &Site, s3: &S3) -> String {
    let (key, secret) = (site.secret("s3.key", &s3.key), site.secret("s3.secret", &s3.secret));
    format!(
        "access_key_id = {{ file = {} }}\nsecret_access_key = {{ file = {} }}\n",
        quoted(&key),
        quoted(&secret)
    )
}

/// A site with a repository `bucket` below a prefix.
fn site_in(s3: &S3, prefix: &str) -> Site {
    let site = Site::new();
    let location = format!("s3:{}/{}/{prefix}", s3.endpoint, s3.bucket);
    let table = table(&site, "bucket", &location, &keys(&site, s3));
    site.with(&table)
}

fn access(s3: &S3, prefix: &str) -> S3Access {
    let (key, secret) = (s3.key.clone().into(), s3.secret.clone().into());
    let mut access = S3Access::new(&s3.endpoint, &s3.bucket, key, secret);
    prefix.clone_into(&mut access.prefix);
    "us-east-1".clone_into(&mut access.region);
    access.tuning.retries = 2;
    access.tuning.retry_delay = Duration::from_millis(10);
    access
}

fn store(s3: &S3, prefix: &str) -> OpendalStore {
    OpendalStore::s3(&access(s3, prefix)).expect("the access data make sense")
}

#[test]
fn a_bucket_can_be_named_in_each_of_its_ways() {
    let s3 = servers::s3();
    let below = prefix("names");
    let (bucket, endpoint) = (&s3.bucket, &s3.endpoint);
    let site = site_in(&s3, &below);
    let rclone = site.secret(
        "rclone.conf",
        &format!(
            "[r2]\ntype = s3\nprovider = Other\naccess_key_id = {}\nsecret_access_key = {}\nendpoint = {endpoint}\n\n[backup]\ntype = alias\nremote = r2:{bucket}",
            s3.key, s3.secret
        ),
    );
    let shared = site.secret(
        "credentials",
        &format!("[kaleem]\naws_access_key_id = {}\naws_secret_access_key = {}", s3.key, s3.secret),
    );
    let named = format!("rclone_config = {}\n", quoted(&rclone));
    let tables = [
        table(
            &site,
            "apart",
            &format!("s3://{bucket}/{below}"),
            &format!("endpoint = {endpoint:?}\n{}", keys(&site, &s3)),
        ),
        table(&site, "rclone", &format!("rclone:r2:{bucket}/{below}"), &named),
        table(&site, "alias", &format!("rclone:backup:{below}"), &named),
        table(&site, "found", &format!("rclone:r2:{bucket}/{below}"), ""),
        table(&site, "profile", &format!("s3:{endpoint}/{bucket}/{below}"), ""),
    ];
    let site = site.with(&tables.concat());
    site.succeed(["--repo", "bucket", "init"]);
    let id = |name: &str| {
        let mut command = site.command();
        command
            .env("RCLONE_CONFIG", &rclone)
            .env("AWS_SHARED_CREDENTIALS_FILE", &shared)
            .env("AWS_PROFILE", "kaleem");
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        let outcome = super::support::program::run(command.args(["--repo", name, "stats"]));
        assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
        outcome.stdout
    };
    let first = id("bucket");
    for name in ["apart", "rclone", "alias", "found", "profile"] {
        assert_eq!(id(name), first, "{name}");
    }
}

#[test]
fn a_key_that_is_refused_ends_with_7_and_what_to_do() {
    let s3 = servers::s3();
    let wrong = S3 { secret: "canary-canary".into(), ..s3 };
    let outcome = site_in(&wrong, &prefix("denied")).run(["--repo", "bucket", "snapshots"]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("the service answered 403") && !outcome.stderr.contains("Parts {"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("Object Read & Write") && !outcome.stderr.contains("canary"),
        "{}",
        outcome.stderr
    );
    let nobody = S3 { endpoint: format!("http://127.0.0.1:{}", servers::free_port()), ..wrong };
    let outcome = site_in(&nobody, &prefix("nobody")).run(["--repo", "bucket", "snapshots"]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("endpoint right"), "{}", outcome.stderr);
}

#[test]
fn a_key_that_is_none_of_r2s_is_refused_before_anything_is_sent() {
    let r2 = S3 {
        endpoint: "https://0123456789abcdef.r2.cloudflarestorage.com".into(),
        key: "AKIACANARYCANARYCANA".into(),
        secret: "canary/canary/canary/canary/canary/canary".into(),
        bucket: "kaleem-backup".into(),
    };
    let outcome = site_in(&r2, "restic").run(["--repo", "bucket", "snapshots"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("20 characters") && outcome.stderr.contains("R2 API token"),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.to_lowercase().contains("canary"), "{}", outcome.stderr);
}

/// Runs `r2 check`; returns its exit code and report.
fn checked(site: &Site) -> (Option<i32>, Value) {
    let (outcome, mut lines) = site.json(["--repo", "bucket", "r2", "check"]);
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    (outcome.code, lines.remove(0))
}

fn finding<'a>(report: &'a Value, step: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    findings
        .iter()
        .find(|finding| finding["step"] == step)
        .unwrap_or_else(|| panic!("no {step} in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_bucket_passes_its_check_and_is_left_as_it_was() {
    let s3 = servers::s3();
    let below = prefix("check");
    let site = site_in(&s3, &below);
    let (code, report) = checked(&site);
    assert_eq!(code, Some(0), "{report}");
    for step in ["put", "get", "list", "overwrite", "delete", "lifecycle"] {
        assert_eq!(finding(&report, step)["verdict"], "ok", "{report}");
    }
    assert!(
        finding(&report, "conditional-put")["message"]
            .as_str()
            .expect("text")
            .contains("is honoured"),
        "{report}"
    );
    let left = store(&s3, "").list(&below).await.expect("the bucket can be listed");
    assert!(left.is_empty(), "{left:?}");
    let outcome = site.run(["--repo", "bucket", "r2", "check"]);
    assert!(outcome.stdout.contains("a repository is safe there"), "{}", outcome.stdout);
    let outcome = site.run(["--repo", "local", "r2", "check"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    let wrong = S3 { secret: "wrong-wrong-wrong".into(), ..s3 };
    let (code, report) = checked(&site_in(&wrong, &below));
    assert_eq!(code, Some(7), "{report}");
    assert!(
        finding(&report, "put")["advice"].as_str().expect("advice").contains("Object Read & Write"),
        "{report}"
    );
}

/// A signed PUT of a bucket setting.
async fn put(s3: &S3, path: &str, body: &str) {
    let address = format!("{}/{path}", s3.endpoint);
    let digest = kaleem_dr_core::ground::digest::ByteDigest::of(body.as_bytes());
    let request = http::Request::put(&address)
        .header("x-amz-content-sha256", digest)
        .body(())
        .expect("a request");
    let (mut parts, ()) = request.into_parts();
    let key = StaticCredentialProvider::new(&s3.key, &s3.secret);
    let signer = reqsign_core::Signer::new(
        reqsign_core::Context::new(),
        key,
        RequestSigner::new("s3", "auto"),
    );
    signer.sign(&mut parts, None).await.expect("it can be signed");
    let sent = reqwest::Client::new()
        .put(address)
        .headers(parts.headers)
        .body(body.to_owned())
        .send()
        .await;
    let answer = sent.expect("the server answers");
    let status = answer.status();
    assert!(status.is_success(), "{path}: {status}: {}", answer.text().await.unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_expires_packs_fails_the_check_by_its_name() {
    let own = S3 { bucket: format!("kaleem-dr-rules-{}", std::process::id()), ..servers::s3() };
    put(&own, &own.bucket, "").await;
    let site = site_in(&own, "restic");
    let (code, report) = checked(&site);
    assert_eq!(code, Some(0), "{report}");
    let rules = "<LifecycleConfiguration><Rule><ID>tidy-up</ID><Status>Enabled</Status><Filter><Prefix>restic/</Prefix></Filter>\
        <Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>";
    put(&own, &format!("{}?lifecycle", own.bucket), rules).await;
    let (code, report) = checked(&site);
    assert_eq!(code, Some(4), "{report}");
    let found = finding(&report, "lifecycle");
    let message = found["message"].as_str().expect("text");
    assert!(
        found["verdict"] == "error" && message.contains("tidy-up") && message.contains("destroys"),
        "{report}"
    );
    // Next to it, a repository is safe.
    let (code, report) = checked(&site_in(&own, "other"));
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_key_is_rotated_by_writing_its_file_anew() {
    let (old, new) = (servers::s3(), servers::s3_with_second_key());
    let site = site_in(&old, &prefix("rotation"));
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    fs::write(tree.join("a"), "a").expect("a file can be written");
    let site = site.with_files("configs", &[&tree]);
    site.succeed(["--repo", "bucket", "init"]);
    site.succeed(["--repo", "bucket", "backup"]);
    for (name, value) in [("s3.key", &new.key), ("s3.secret", &new.secret)] {
        let next = site.secret("next", value);
        fs::rename(next, site.path(name)).expect("a file can be put in the place of another");
    }
    site.succeed(["--repo", "bucket", "r2", "check"]);
    site.succeed(["--repo", "bucket", "backup"]);
    let (_, mut lines) = site.json(["--repo", "bucket", "snapshots"]);
    assert_eq!(lines.remove(0).as_array().expect("snapshots").len(), 2);
    // The old key is revoked: whoever still uses it is refused.
    site.secret("s3.key", "kaleem-revoked");
    site.secret("s3.secret", &old.secret);
    let outcome = site.run(["--repo", "bucket", "r2", "check"]);
    assert_eq!(outcome.code, Some(7), "{}{}", outcome.stdout, outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_together_keep_to_their_limit() {
    let mut limited = access(&servers::s3(), &prefix("limit"));
    limited.network.upload_limit = Rate::bytes_per_second(2 << 20);
    let store = OpendalStore::s3(&limited).expect("the access data make sense");
    let half = || vec![Bytes::from(vec![7; 2 << 20])];
    let begun = Instant::now();
    let (a, b) = tokio::join!(store.write("a", half()), store.write("b", half()));
    a.and(b).expect("both are written");
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "4 MiB at 2 MiB/s took {:?}",
        begun.elapsed()
    );

    let mut limited = access(&servers::s3(), &prefix("limit"));
    limited.network.download_limit = Rate::bytes_per_second(1 << 20);
    let store = OpendalStore::s3(&limited).expect("the access data make sense");
    let begun = Instant::now();
    assert_eq!(store.read("a", None).await.expect("it can be read").len(), 2 << 20);
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "2 MiB at 1 MiB/s took {:?}",
        begun.elapsed()
    );
}

/// A proxy between us and the bucket that fails in one way.
#[derive(Default)]
struct Faults {
    flip_a_byte: AtomicBool,
    /// Hides `Content-MD5` from the service.
    no_content_md5: AtomicBool,
    cut_listings: AtomicBool,
    endless_listings: AtomicBool,
    stranger: AtomicBool,
    /// Number of requests still to be answered with this status.
    refusals: AtomicUsize,
    status: AtomicUsize,
    gets: AtomicUsize,
}

struct Middle {
    endpoint: String,
    http: reqwest::Client,
    faults: Arc<Faults>,
}

impl Middle {
    /// Starts it; the returned S3 leads through it.
    async fn start(s3: &S3) -> (S3, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let middle = Arc::new(Self {
            endpoint: s3.endpoint.clone(),
            http: reqwest::Client::new(),
            faults: faults.clone(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
        tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(pass).with_state(middle)).await
        });
        (S3 { endpoint, ..s3.clone() }, faults)
    }
}

async fn pass(State(middle): State<Arc<Middle>>, request: Request) -> Response {
    let faults = &middle.faults;
    let (mut parts, body) = request.into_parts();
    let mut body = to_bytes(body, usize::MAX).await.expect("the request comes whole").to_vec();
    let answer = |status: usize, body: Vec<u8>| {
        let status = u16::try_from(status).expect("a status");
        Response::builder().status(status).body(Body::from(body)).expect("a response")
    };
    let refused = faults
        .refusals
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok();
    if refused {
        return answer(faults.status.load(Ordering::SeqCst), Vec::new());
    }
    let is_listing = parts.uri.query().is_some_and(|query| query.contains("list-type"));
    if is_listing && faults.stranger.load(Ordering::SeqCst) {
        return answer(200, b"<html><body>Please log in</body></html>".to_vec());
    }
    if parts.method == "GET" {
        faults.gets.fetch_add(1, Ordering::SeqCst);
    }
    if parts.method == "PUT" && faults.flip_a_byte.load(Ordering::SeqCst) && !body.is_empty() {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    if faults.no_content_md5.load(Ordering::SeqCst) {
        parts.headers.remove("content-md5");
    }
    let address = format!("{}{}", middle.endpoint, parts.uri);
    // With the signed Host header.
    let sent =
        middle.http.request(parts.method, address).headers(parts.headers).body(body).send().await;
    let mut got = sent.expect("the server answers");
    let (status, headers) = (got.status(), std::mem::take(got.headers_mut()));
    let mut body = got.bytes().await.expect("the answer comes whole").to_vec();
    let mut response = Response::builder().status(status);
    if is_listing {
        if faults.cut_listings.load(Ordering::SeqCst) {
            body.truncate(body.len() - 12);
        }
        if faults.endless_listings.load(Ordering::SeqCst) {
            let text = String::from_utf8(body).expect("UTF-8");
            body = text.replace("<IsTruncated>false", "<IsTruncated>true").into_bytes();
        }
    }
    for (name, value) in
        headers.iter().filter(|(name, _)| !is_listing || *name != http::header::CONTENT_LENGTH)
    {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).expect("a response")
}

/// 56 MiB without repetitions.
fn large() -> Vec<Bytes> {
    (0_u8..56).map(|n| Bytes::from(vec![n; 1 << 20])).collect()
}

async fn write_streamed(
    store: &OpendalStore,
    key: &str,
    content: Vec<Bytes>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut writer = store.writer(key).await?;
    for bytes in content {
        writer.write(bytes).await?;
    }
    Ok(writer.finish().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_on_its_way_is_found_and_the_object_taken_back() {
    let s3 = servers::s3();
    let below = prefix("flipped");
    let (through, faults) = Middle::start(&s3).await;
    let (direct, through) = (store(&s3, &below), store(&through, &below));
    through.write("small", vec![Bytes::from_static(b"as it is")]).await.expect("it arrives");
    through.write("large", large()).await.expect("it arrives in parts");
    write_streamed(&through, "streamed", large()).await.expect("it arrives in parts");
    write_streamed(&through, "short", vec![Bytes::from_static(b"as it is")])
        .await
        .expect("it arrives");
    assert_eq!(faults.gets.load(Ordering::SeqCst), 0, "the ETag proves it, nothing was read back");
    assert_eq!(direct.read("streamed", None).await.expect("it is there"), large().concat());
    faults.flip_a_byte.store(true, Ordering::SeqCst);
    for (ignorant, said) in [(false, "BadDigest"), (true, "not what was sent")] {
        faults.no_content_md5.store(ignorant, Ordering::SeqCst);
        for (key, error) in [
            (
                "bad-small",
                through
                    .write("bad-small", vec![Bytes::from_static(b"as it is")])
                    .await
                    .map_err(Into::into),
            ),
            ("bad-large", through.write("bad-large", large()).await.map_err(Into::into)),
            ("bad-streamed", write_streamed(&through, "bad-streamed", large()).await),
        ] {
            let error = kaleem_dr_core::ground::error_chain(&*error.expect_err(key));
            assert!(error.contains(said), "{key}: {error}");
            assert_eq!(
                direct.size(key).await.expect("the bucket answers"),
                None,
                "{key} is not there"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_whole_or_an_error() {
    let s3 = servers::s3();
    let below = prefix("listing");
    let (through, faults) = Middle::start(&s3).await;
    let through = store(&through, &below);
    for n in 0..3 {
        through
            .write(&format!("data/{n}"), vec![Bytes::from_static(b"x")])
            .await
            .expect("it is written");
    }
    assert_eq!(through.list("data").await.expect("it can be listed").len(), 3);
    for (fault, why) in [
        (&faults.cut_listings, "cut"),
        (&faults.endless_listings, "no continuation"),
        (&faults.stranger, "not a listing"),
    ] {
        fault.store(true, Ordering::SeqCst);
        let listed = tokio::time::timeout(Duration::from_secs(30), through.list("data"))
            .await
            .expect("it ends");
        let error = kaleem_dr_core::ground::error_chain(&listed.expect_err(why));
        assert!(error.contains(why), "{why}: {error}");
        fault.store(false, Ordering::SeqCst);
    }
    assert_eq!(through.list("data").await.expect("it can be listed").len(), 3);
    through
        .delete_many((0..3).map(|n| format!("data/{n}")).collect())
        .await
        .expect("they can be deleted");
    assert!(through.list("data").await.expect("it can be listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let s3 = servers::s3();
    let below = prefix("again");
    let (through, faults) = Middle::start(&s3).await;
    let through = store(&through, &below);
    for status in [429, 500, 501, 502, 503, 504] {
        faults.status.store(status, Ordering::SeqCst);
        faults.refusals.store(2, Ordering::SeqCst);
        through
            .write("a", vec![Bytes::from(status.to_string())])
            .await
            .unwrap_or_else(|error| panic!("{status}: {error:?}"));
        faults.refusals.store(2, Ordering::SeqCst);
        let read =
            through.read("a", None).await.unwrap_or_else(|error| panic!("{status}: {error:?}"));
        assert_eq!(read, status.to_string());
    }
    faults.status.store(403, Ordering::SeqCst);
    faults.refusals.store(1, Ordering::SeqCst);
    assert!(
        through.write("a", vec![Bytes::from_static(b"x")]).await.is_err(),
        "what does not pass is not tried again"
    );
}
