//! A site to back up: a directory with a config, secrets, a repository, and the data of its
//! sources.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    program::{Outcome, kaleem_dr, run},
    restic::Restic,
    servers::{self, Rabbitmq},
};

/// The repository password of every site.
pub const PASSWORD: &str = "site-password";

/// A site. Its directory is removed when it is dropped.
pub struct Site {
    directory: TempDir,
    config: String,
    /// The repository, if it is not in the usual place.
    shared: Option<PathBuf>,
}

impl Site {
    /// A site without sources.
    pub fn new() -> Self {
        Self::on(None)
    }

    /// Another host, with its own state, on the repository of this site, which already exists.
    pub fn neighbour(&self, host: &str) -> Self {
        Self::on(Some(self.repository())).named(host)
    }

    /// The same site with another host name.
    pub fn named(mut self, host: &str) -> Self {
        self.config.insert_str(0, &format!("host = {host:?}\n"));
        self.written()
    }

    /// A site in a directory below another, with its repository in a place of this name.
    pub fn within(parent: &Path, repository: &str) -> Self {
        let directory = tempfile::tempdir_in(parent).expect("a temporary directory can be made");
        let repository = directory.path().join(repository);
        Self::in_directory(directory, Some(repository))
    }

    fn on(shared: Option<PathBuf>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self::in_directory(directory, shared)
    }

    fn in_directory(directory: TempDir, shared: Option<PathBuf>) -> Self {
        let site = Self { directory, config: String::new(), shared };
        site.secret("repository.pass", PASSWORD);
        let config = format!(
            "state_directory = {:?}\ncache_directory = {:?}\n[repository.local]\nlocation = {:?}\npassword = {{ file = {:?} }}\n",
            site.path("state"),
            site.path("cache"),
            site.repository(),
            site.path("repository.pass"),
        );
        Self { config, ..site }.written()
    }

    /// Adds TOML to the config.
    pub fn with(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self.written()
    }

    /// The same site with another config.
    pub fn rewritten(self, config: String) -> Self {
        Self { config, ..self }.written()
    }

    /// Adds a source of file trees.
    pub fn with_files(self, name: &str, paths: &[&Path]) -> Self {
        self.with(&format!("[source.{name}]\ntype = \"files\"\npaths = {paths:?}"))
    }

    /// Adds a source with one database.
    pub fn with_mongo(self, name: &str, uri: &str) -> Self {
        let secret = self.secret(&format!("{name}.uri"), uri);
        self.with(&format!("[source.{name}]\ntype = \"mongodb\"\nuri = {{ file = {secret:?} }}"))
    }

    /// Adds a Qdrant source with some of its collections.
    pub fn with_qdrant(self, name: &str, url: &str, api_key: &str, collections: &[String]) -> Self {
        let secret = self.secret(&format!("{name}.key"), api_key);
        self.with(&format!(
            "[source.{name}]\ntype = \"qdrant\"\nurl = {url:?}\napi_key = {{ file = {secret:?} }}\ncollections = {collections:?}"
        ))
    }

    /// Adds a mirror of its repository in a directory.
    pub fn with_mirror(self, name: &str, directory: &Path) -> Self {
        let password = self.path("repository.pass");
        self.with(&format!(
            "[repository.{name}]\nlocation = {directory:?}\nmirror_of = \"local\"\npassword = {{ file = {password:?} }}"
        ))
    }

    /// Adds the shared broker as a source.
    pub fn with_rabbitmq(self, name: &str) -> Self {
        self.with_rabbitmq_at(name, &servers::rabbitmq())
    }

    /// Adds a broker as a source.
    pub fn with_rabbitmq_at(
        self,
        name: &str,
        Rabbitmq { url, username, password }: &Rabbitmq,
    ) -> Self {
        let secret = self.secret(&format!("{name}.pass"), password);
        self.with(&format!(
            "[source.{name}]\ntype = \"rabbitmq\"\nurl = {url:?}\nusername = {username:?}\npassword = {{ file = {secret:?} }}"
        ))
    }

    fn written(self) -> Self {
        fs::write(self.config_path(), &self.config).expect("the config can be written");
        self
    }

    /// Creates the repository.
    pub fn initialised(self) -> Self {
        self.succeed(["init"]);
        self
    }

    /// Creates the repository and backs up once.
    pub fn initialised_and_backed_up(&self) {
        self.succeed(["init"]);
        self.succeed(["backup"]);
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the site's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.shared.clone().unwrap_or_else(|| self.path("repository"))
    }

    pub fn config_path(&self) -> PathBuf {
        self.path("kaleem-dr.toml")
    }

    /// Writes a secret with mode 600. Returns its path.
    pub fn secret(&self, name: &str, value: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("{value}\n")).expect("a secret can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        path
    }

    /// The program for this site, ready for arguments, without environment variables that affect
    /// it.
    pub fn command(&self) -> Command {
        let mut command = kaleem_dr();
        for variable in
            ["RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "KALEEM_DR_FAILPOINT"]
        {
            command.env_remove(variable);
        }
        command.env("KALEEM_DR_CONFIG", self.config_path());
        command
    }

    /// Runs the program.
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        run(self.command().args(args))
    }

    /// Runs the program and expects success.
    #[track_caller]
    pub fn succeed<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(
            outcome.code,
            Some(0),
            "stdout:\n{}\nstderr:\n{}",
            outcome.stdout,
            outcome.stderr
        );
        outcome
    }

    /// Runs the program with `--json` and parses each line.
    pub fn json<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> (Outcome, Vec<Value>) {
        let outcome = run(self.command().arg("--json").args(args));
        let lines = outcome
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
            })
            .collect();
        (outcome, lines)
    }

    /// The snapshots listed by the program.
    pub fn snapshots(&self) -> Vec<Value> {
        let (outcome, mut lines) = self.json(["snapshots"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        lines.remove(0).as_array().expect("a list of snapshots").clone()
    }

    /// Stock restic for its repository.
    pub fn restic(&self) -> Restic {
        Restic::on_directory(&self.repository(), PASSWORD)
    }
}
