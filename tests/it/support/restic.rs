//! Stock restic, used like an operator without kaleem-dr would. It must accept everything that we
//! write.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use super::servers::{S3, restic_program};

/// Stock restic for one repository, with its own cache and password file.
#[derive(Debug)]
pub struct Restic {
    repository: String,
    s3: Option<S3>,
    home: TempDir,
}

impl Restic {
    /// restic on a repository in a directory.
    pub fn on_directory(directory: &Path, password: &str) -> Self {
        Self::new(directory.display().to_string(), None, password)
    }

    /// restic on a repository in the S3 server's bucket.
    pub fn on_s3(s3: S3, prefix: &str, password: &str) -> Self {
        Self::new(format!("s3:{}/{}/{prefix}", s3.endpoint, s3.bucket), Some(s3), password)
    }

    fn new(repository: String, s3: Option<S3>, password: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let restic = Self { repository, s3, home };
        fs::write(restic.password_file(), password).expect("the password file can be written");
        fs::set_permissions(restic.password_file(), fs::Permissions::from_mode(0o600))
            .expect("our file's mode can be set");
        restic
    }

    /// The location in restic's syntax.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The file with the password.
    pub fn password_file(&self) -> PathBuf {
        self.home.path().join("password")
    }

    /// Creates the repository, in restic's format 1 or 2.
    pub fn init(&self, version: u8) {
        self.succeed(["init", "--repository-version", &version.to_string()]);
    }

    /// Backs up some paths.
    pub fn backup<P: AsRef<OsStr>>(&self, paths: impl IntoIterator<Item = P>) {
        let mut args = vec!["backup".into()];
        args.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self.succeed(args);
    }

    /// Checks structure and every byte of the repository.
    pub fn check_read_data(&self) {
        self.succeed(["check", "--read-data"]);
    }

    /// Restores the latest snapshot below a directory; `verify` reads back what was written.
    pub fn restore_latest(&self, target: &Path, verify: bool) {
        let mut args: Vec<&OsStr> =
            vec!["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), target.as_ref()];
        if verify {
            args.push("--verify".as_ref());
        }
        self.succeed(args);
    }

    /// Every snapshot in restic's JSON, oldest first.
    pub fn snapshots(&self) -> Vec<Value> {
        let output = self.succeed(["snapshots", "--json"]);
        // restic prints `null` if there is none.
        serde_json::from_slice::<Option<_>>(&output.stdout)
            .expect("`restic snapshots --json` prints JSON")
            .unwrap_or_default()
    }

    /// The snapshots that are not records: proofs, reports and alarms.
    pub fn data_snapshots(&self) -> Vec<Value> {
        let is_record = |snapshot: &Value| {
            snapshot["tags"]
                .as_array()
                .is_some_and(|tags| tags.contains(&"kaleem-dr-record".into()))
        };
        self.snapshots().into_iter().filter(|snapshot| !is_record(snapshot)).collect()
    }

    /// Runs any command to its end, and returns its output even if it failed.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        let mut command = Command::new(restic_program());
        command
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD_FILE", self.password_file())
            .env("RESTIC_CACHE_DIR", self.home.path().join("cache"));
        if let Some(s3) = &self.s3 {
            command.env("AWS_ACCESS_KEY_ID", &s3.key).env("AWS_SECRET_ACCESS_KEY", &s3.secret);
        }
        command.args(args).output().expect("KALEEM_TEST_RESTIC can be run")
    }

    /// Runs any command; panics with its output if it fails.
    pub fn succeed<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.run(&args);
        assert!(
            output.status.success(),
            "restic {args:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }
}
