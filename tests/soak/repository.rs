//! The repositories of a world, seen from outside: by stock restic, and as files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    program::{self, Ended},
    tree::{Content, content_of},
};

pub const PASSWORD: &str = "soak-password";

/// A snapshot as listed by stock restic.
#[derive(Clone, Debug)]
pub struct Listed {
    pub host: String,
    pub time: String,
    /// The snapshot that it is a copy of.
    pub original: Option<String>,
}

/// A repository on disk.
#[derive(Clone, Debug)]
pub struct Repository {
    pub directory: PathBuf,
    password_file: PathBuf,
}

impl Repository {
    /// Creates a repository without snapshots. Its only key is cheap to derive (N = 1024), so that
    /// thousands of commands are fast.
    pub fn lay_out(directory: &Path, kind: &str, password_file: &Path) -> io::Result<Self> {
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/soak").join(kind);
        for part in ["data", "index", "keys", "locks", "snapshots"] {
            fs::create_dir_all(directory.join(part))?;
        }
        for entry in fs::read_dir(made)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let place = name
                .strip_prefix("key-")
                .map_or_else(|| directory.join("config"), |id| directory.join("keys").join(id));
            fs::copy(&path, place)?;
        }
        Ok(Self::at(directory, password_file))
    }

    /// A location that may become a repository.
    pub fn at(directory: &Path, password_file: &Path) -> Self {
        Self { directory: directory.to_path_buf(), password_file: password_file.to_path_buf() }
    }

    pub fn exists(&self) -> bool {
        self.directory.join("config").exists()
    }

    /// Stock restic, without a cache and without a lock.
    pub fn restic(&self, args: &[&str]) -> Ended {
        let mut command = Command::new("restic");
        command
            .arg("--no-cache")
            .arg("--repo")
            .arg(&self.directory)
            .arg("--password-file")
            .arg(&self.password_file);
        program::run(command.args(args))
    }

    /// The reason why stock restic does not find it whole; `None` if it does.
    pub fn complaint(&self, read_data: bool) -> Option<String> {
        let args: &[&str] = if read_data {
            &["check", "--no-lock", "--read-data"]
        } else {
            &["check", "--no-lock"]
        };
        let checked = self.restic(args);
        let clean = checked.is_done() && checked.stdout.contains("no errors were found");
        (!clean)
            .then(|| format!("restic check in {}: {}", self.directory.display(), checked.said()))
    }

    /// Every snapshot with data by id, as listed by stock restic; records are not among them.
    pub fn snapshots(&self) -> Result<BTreeMap<String, Listed>, String> {
        let listed = self.restic(&["snapshots", "--no-lock", "--json"]);
        if !listed.is_done() {
            return Err(format!("restic snapshots: {}", listed.said()));
        }
        let all: Option<Vec<Value>> =
            serde_json::from_str(&listed.stdout).map_err(|error| error.to_string())?;
        let text = |snapshot: &Value, field: &str| snapshot[field].as_str().map(str::to_owned);
        Ok(all
            .unwrap_or_default()
            .iter()
            .filter(|snapshot| !snapshot["tags"].to_string().contains("\"kaleem-dr-record\""))
            .map(|snapshot| {
                let listed = Listed {
                    host: text(snapshot, "hostname").unwrap_or_default(),
                    time: text(snapshot, "time").unwrap_or_default(),
                    original: text(snapshot, "original"),
                };
                (text(snapshot, "id").unwrap_or_default(), listed)
            })
            .collect())
    }

    /// The content of a snapshot below a tree's path, restored by stock restic.
    pub fn restored(&self, snapshot: &str, tree: &Path) -> Result<Content, String> {
        let target = tempfile::tempdir().map_err(|error| error.to_string())?;
        let to = target.path().to_str().expect("UTF-8");
        let restored = self.restic(&["restore", "--no-lock", snapshot, "--target", to]);
        if !restored.is_done() {
            return Err(format!("restic restore {snapshot}: {}", restored.said()));
        }
        let below = target.path().join(tree.strip_prefix("/").expect("absolute"));
        content_of(&below).map_err(|error| error.to_string())
    }

    /// Every object except locks, by key, with its length.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        let mut objects = BTreeMap::new();
        for part in ["data", "index", "keys", "snapshots"] {
            let mut pending = vec![self.directory.join(part)];
            while let Some(directory) = pending.pop() {
                let Ok(entries) = fs::read_dir(&directory) else { continue };
                for entry in entries.flatten() {
                    let path = entry.path();
                    if path.is_dir() {
                        pending.push(path);
                    } else if let (Ok(meta), Ok(key)) =
                        (entry.metadata(), path.strip_prefix(&self.directory))
                    {
                        objects.insert(key.display().to_string(), meta.len());
                    }
                }
            }
        }
        objects
    }
}
