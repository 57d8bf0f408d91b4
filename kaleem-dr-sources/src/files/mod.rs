//! File trees at their real paths, with everything a file system knows of them.
//!
//! What cannot be read is reported and the run ends as done in part; it never passes unseen. Unchanged files (same size,
//! mtime and ctime as in the last snapshot) are not read again.

mod walk;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use jiff::Timestamp;
use kaleem_dr_core::{
    artifact::Capture,
    manifest::{Consistency, ConsistencyGrade},
    point::{Origin, PointReader},
    repository::SnapshotReader,
    restore::{RestoreOptions, restore_files},
    source::{
        Change, Difference, PlannedAction, Probe, RestorePlan, RestoreReport, RestoreRequest, RestoreTarget, Source, SourceError,
        SourceName,
    },
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use self::walk::{Excludes, Found};

/// Found entries that may wait for the repository.
const FOUND_IN_FLIGHT: usize = 1024;

/// File trees.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Absolute paths of directories or files.
    pub paths: Vec<PathBuf>,
    /// Globs to leave out: matched against the whole path where they hold a `/`, else against each name.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Leave out directories that hold a file of one of these names, such as `.nobackup`.
    #[serde(default)]
    pub exclude_if_present: Vec<String>,
    /// Leave out directories marked by a `CACHEDIR.TAG`.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Do not go into other file systems mounted below the paths.
    #[serde(default)]
    pub one_file_system: bool,
}

/// A file-tree source.
#[derive(Debug)]
pub struct FilesSource {
    name: SourceName,
    config: FilesConfig,
    roots: Vec<PathBuf>,
    excludes: Excludes,
}

impl FilesSource {
    /// Checks the config.
    ///
    /// # Errors
    /// When no path is named, one is not absolute, or a pattern is not valid.
    pub fn new(name: SourceName, config: FilesConfig) -> Result<Self, SourceError> {
        let mut roots = BTreeSet::new();
        for path in &config.paths {
            let plain =
                path.components().all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
            if !path.is_absolute() || !plain {
                return Err(SourceError::Unsupported(format!(
                    "path {} must be absolute and without `.` or `..`",
                    path.display()
                )));
            }
            roots.insert(path.clone());
        }
        if roots.is_empty() {
            return Err(SourceError::Unsupported("`paths` names nothing to back up".into()));
        }
        // A path below another is captured with it.
        let roots: Vec<PathBuf> =
            roots.iter().filter(|path| !path.ancestors().skip(1).any(|above| roots.contains(above))).cloned().collect();
        let excludes = Excludes::new(&config)?;
        Ok(Self { name, config, roots, excludes })
    }
}

#[async_trait]
impl Source for FilesSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn roots(&self) -> Vec<PathBuf> {
        self.roots.clone()
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let mut warnings = Vec::new();
        for root in &self.roots {
            if let Err(error) = tokio::fs::symlink_metadata(root).await {
                warnings.push(format!("{}: {error}", root.display()));
            }
        }
        Ok(Probe { server: None, size_bytes: None, warnings })
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        out.set_consistency(Consistency { grade: ConsistencyGrade::PerFile, at: out.started(), note: None });
        let (sender, mut found) = mpsc::channel(FOUND_IN_FLIGHT);
        let walk = walk::Walk::new(self.roots.clone(), self.excludes.clone(), self.config.one_file_system, sender);
        let walk = tokio::task::spawn_blocking(move || walk.run());
        let mut entries = 0u64;
        while let Some(next) = found.recv().await {
            match next {
                Found::Entry(entry) => {
                    out.entry(*entry).await?;
                    entries += 1;
                }
                Found::Problem { path, why } => out.incomplete(path.to_string_lossy(), why),
            }
        }
        walk.await.map_err(|panic| SourceError::Unsupported(format!("the walk of the file trees broke off: {panic}")))?;
        if entries == 0 {
            return Err(SourceError::Path {
                path: self.roots[0].clone(),
                action: "find anything to back up at".into(),
                cause: std::io::ErrorKind::NotFound.into(),
            });
        }
        Ok(())
    }

    async fn plan_restore(&self, point: &PointReader, request: RestoreRequest) -> Result<RestorePlan, SourceError> {
        request.refuse_choices(self.kind())?;
        let (to, snapshot) = (request.to, snapshot(point)?);
        let target = directory(&to);
        let tree = &point.manifest().tree;
        let mut actions = Vec::new();
        for root in &snapshot.snapshot().paths() {
            let path = below(&target, root);
            let there = tokio::fs::symlink_metadata(&path).await.is_ok();
            let change = if there { Change::Overwrite } else { Change::Create };
            actions.push(PlannedAction::new(change, path.display().to_string()));
        }
        if to == RestoreTarget::InPlace {
            actions.push(PlannedAction::new(Change::Leave, "files that are there but not in the snapshot"));
        }
        let warnings = vec![format!("{} files with {} bytes", tree.files, tree.size_bytes)];
        let to = match to {
            RestoreTarget::InPlace => RestoreTarget::InPlace,
            // Settled here: a default name holds the time.
            RestoreTarget::Beside(_) => RestoreTarget::Beside(Some(target.display().to_string())),
        };
        Ok(RestorePlan {
            request: RestoreRequest::whole(to),
            target: format!("directory {}", target.display()),
            actions,
            warnings,
        })
    }

    async fn restore(&self, point: &PointReader, plan: RestorePlan) -> Result<RestoreReport, SourceError> {
        let options = RestoreOptions {
            target: directory(&plan.request.to),
            include: Vec::new(),
            exclude: Vec::new(),
            without_own_files: true,
            overwrite: plan.request.to == RestoreTarget::InPlace,
            verify: true,
            dry_run: false,
        };
        let files = restore_files(snapshot(point)?, &options, point.progress(), &point.cancellation())
            .await
            .map_err(|error| SourceError::Point(error.into()))?;
        let mut report = RestoreReport {
            target: plan.target,
            items: files.files + files.links,
            size_bytes: files.size_bytes,
            compared: vec![format!("{} files read back and compared with the snapshot", files.verified)],
            ..RestoreReport::default()
        };
        let tree = &point.manifest().tree;
        let mut count = |what: &str, expected: u64, found: u64| {
            if expected == found {
                report.compared.push(format!("{what}: {found}"));
            } else {
                report.differences.push(Difference {
                    what: what.into(),
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        };
        count("files", tree.files, files.files + files.links);
        count("directories", tree.directories, files.directories);
        count("links, pipes, sockets and devices", tree.others, files.others);
        for problem in files.problems {
            report.differences.push(Difference { what: problem.path, expected: "restored".into(), found: problem.why });
        }
        Ok(report)
    }
}

fn snapshot(point: &PointReader) -> Result<&SnapshotReader, SourceError> {
    match point.origin() {
        Origin::Snapshot(snapshot) => Ok(snapshot),
        Origin::File(file) => Err(SourceError::Unsupported(format!("{} cannot be restored from", file.path.display()))),
    }
}

/// Where a restore goes on disk.
fn directory(to: &RestoreTarget) -> PathBuf {
    match to {
        RestoreTarget::InPlace => PathBuf::from("/"),
        RestoreTarget::Beside(Some(path)) => PathBuf::from(path),
        RestoreTarget::Beside(None) => {
            PathBuf::from(format!("/var/tmp/kaleem_restored_{}", Timestamp::now().strftime("%Y%m%d_%H%M%S")))
        }
    }
}

fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap_or(path))
}
