//! Buckets of strict services, and of broken ones.

use std::fs;

use axum::{Router, http::StatusCode};

use crate::support::{program::run, regional_s3_fake::RegionalS3Fake, served::Served, site::Site};

/// A site with a source of one file and a repository in a bucket at an endpoint.
fn site_at(endpoint: &str, more: &str) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    fs::write(tree.join("a"), "a").expect("a file can be written");
    let (key, password) = (site.secret("s3.key", "some-key"), site.path("repository.pass"));
    site.with_files("configs", &[&tree]).with(&format!(
        "[repository.bucket]\nlocation = \"s3:{endpoint}/bucket/restic\"\npassword = {{ file = '{}' }}\n\
         access_key_id = {{ file = '{1}' }}\nsecret_access_key = {{ file = '{1}' }}\n{more}",
        password.display(),
        key.display()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_not_configured_is_asked_for() {
    for region in ["us-east-1", "eu-central-1"] {
        let s3 = RegionalS3Fake::start(region);
        let site = site_at(&s3.endpoint(), "");
        for args in [&["init"][..], &["backup"], &["check", "--read-data"], &["snapshots"]] {
            site.succeed(["--repo", "bucket"].iter().chain(args).copied());
        }
        // A wrong value is refused, and the error gives the right one.
        let outcome =
            site_at(&s3.endpoint(), "region = 'af-south-1'").run(["--repo", "bucket", "snapshots"]);
        assert_ne!(outcome.code, Some(0));
        assert!(outcome.stderr.contains(region), "{}", outcome.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_one_short_line() {
    let broken = || async {
        let page = format!(
            "<Error><Code>InternalError</Code><Message>Oops</Message></Error><!--{}-->",
            "x".repeat(9000)
        );
        (StatusCode::INTERNAL_SERVER_ERROR, [("x-secret-header", "of the answer")], page)
    };
    let served = Served::start(Router::new().fallback(broken));
    let site = site_at(&format!("http://{}", served.address), "region = 'us-east-1'");
    let outcome =
        run(site.command().env("RUST_BACKTRACE", "1").args(["--repo", "bucket", "backup"]));
    assert_ne!(outcome.code, Some(0));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(lines.len() < 30, "{}", outcome.stderr);
    assert!(lines.iter().all(|line| line.chars().count() < 500), "{}", outcome.stderr);
    let retry =
        lines.iter().find(|line| line.contains("attempt 1 of 5")).expect("a retry is logged");
    assert!(retry.contains("answered 500") && retry.contains("the next in"), "{retry}");
    for never in ["x-secret-header", "Parts {", "stack backtrace", "xxxx", "   at "] {
        assert!(!outcome.stderr.contains(never), "{never}: {}", outcome.stderr);
    }
}
