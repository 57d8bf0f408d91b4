//! `mount`: snapshots over WebDAV, read by rclone as a file manager would, and by plain requests.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::{
    mirror::noise,
    program::{Outcome, run, start},
    servers::variable,
    site::Site,
};

/// A running `mount`. It ends when this value is dropped.
struct Mounted {
    child: Child,
    address: String,
    password: String,
}

impl Mounted {
    fn of(site: &Site) -> Self {
        let mut child = start(site.command().args(["--json", "mount"]));
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        lines.read_line(&mut line).expect("a pipe can be read");
        let said: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |key: &str| said[key].as_str().expect("a text").to_owned();
        assert_eq!(said["user"], "kaleem-dr");
        Self { child, address: text("place"), password: text("password") }
    }

    fn rclone(&self, args: &[&str]) -> Outcome {
        let rclone = variable("KALEEM_TEST_RCLONE");
        let obscured = run(Command::new(&rclone).args(["obscure", &self.password])).stdout;
        run(Command::new(&rclone)
            .args([
                "--config",
                "",
                "--webdav-url",
                &self.address,
                "--webdav-user",
                "kaleem-dr",
                "--webdav-pass",
            ])
            .arg(obscured.trim())
            .args(args))
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Vec<u8>) {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.address));
        let request = request.basic_auth("kaleem-dr", Some(&self.password));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.expect("it answers");
        (answer.status(), answer.bytes().await.expect("a body").to_vec())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.child.id().try_into().expect("a pid")), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("a directory");
    fs::write(tree.join("large"), noise(24 << 20, 3)).expect("a file");
    fs::write(tree.join("deep/er/ملف 100%.txt"), "كليم").expect("a file");
    fs::write(tree.join("empty"), "").expect("a file");
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    fs::write(tree.join("added"), "later").expect("a file");
    site.succeed(["backup"]);
    site.succeed(["verify"]);
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_read_by_rclone_as_they_were() {
    let site = site();
    let mounted = Mounted::of(&site);
    let listed = mounted.rclone(&["lsf", ":webdav:"]);
    assert_eq!(listed.stdout, "configs/\n", "{}", listed.stderr);
    let snapshots = mounted.rclone(&["lsf", ":webdav:configs"]).stdout;
    let names: Vec<&str> = snapshots.lines().collect();
    assert_eq!(names.len(), 3, "two snapshots and the newest: {names:?}");
    assert!(names.contains(&"latest/"), "{names:?}");
    let tree = site.path("tree");
    let below = tree.to_str().expect("UTF-8");
    for (name, has_added) in [("latest", true), (names[0].trim_end_matches('/'), false)] {
        let to = site.path(&format!("copied {name}"));
        let copied = mounted.rclone(&[
            "copy",
            &format!(":webdav:configs/{name}{below}"),
            to.to_str().expect("UTF-8"),
        ]);
        assert_eq!(copied.code, Some(0), "{}", copied.stderr);
        assert_eq!(to.join("added").exists(), has_added, "{name}");
        for file in ["large", "deep/er/ملف 100%.txt", "empty"] {
            assert!(
                fs::read(to.join(file)).expect("a file")
                    == fs::read(tree.join(file)).expect("a file"),
                "{name}: {file}"
            );
        }
    }
    // Nothing can be changed.
    let refused = mounted.rclone(&["--retries", "1", "copy", below, ":webdav:configs/latest/tmp"]);
    assert_ne!(refused.code, Some(0));
    assert_eq!(
        mounted.ask("DELETE", "configs/latest/", &[]).await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    site.restic().check_read_data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_the_range_and_a_stranger_sees_nothing() {
    let site = site();
    let mounted = Mounted::of(&site);
    let large = fs::read(site.path("tree/large")).expect("a file");
    let path = format!("configs/latest{}", site.path("tree/large").display());
    for (from, to) in [(0, 9), (1_000_000, 22_300_000), (large.len() - 5, large.len() - 1)] {
        let (status, bytes) =
            mounted.ask("GET", &path, &[("range", &format!("bytes={from}-{to}"))]).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert!(bytes == large[from..=to], "{from} to {to}");
    }
    assert_eq!(mounted.ask("GET", "configs/nonexistent/x", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(mounted.ask("GET", "../../etc/passwd", &[]).await.0, StatusCode::NOT_FOUND);
    let stranger = Mounted {
        password: "a wrong password".into(),
        address: mounted.address.clone(),
        child: start(&mut Command::new("true")),
    };
    let (status, body) = stranger.ask("PROPFIND", "", &[("depth", "1")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!String::from_utf8_lossy(&body).contains("configs"));
    assert!(
        Path::new(&site.repository())
            .join("locks")
            .read_dir()
            .expect("a repository")
            .next()
            .is_none(),
        "no lock is taken"
    );
}
