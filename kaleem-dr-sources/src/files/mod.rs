//! File trees at their real paths, with all attributes that the file system stores.
//!
//! An unreadable entry is reported, and the run ends as partly done; it is never skipped silently.
//! Unchanged files (same size, mtime and ctime as in the last snapshot) are not read again.

pub(crate) mod draft;
mod excludes;
mod glob;
mod guide;
mod places;
mod restore;
mod staged;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        manifest::{Consistency, ConsistencyGrade},
        source::{Probe, Source},
    },
    ground::{SourceError, SourceName, language::Language},
    recovery::{
        point::PointReader,
        source::{
            Inspection, Restorable, RestorePlan, RestoreReport, RestoreRequest, ScratchTarget,
        },
        staged::StagedForm,
    },
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use self::{
    excludes::{Excludes, Matched},
    places::Places,
    walk::Found,
};

/// Capacity of the channel from the walk to the repository, in batches of entries.
const FOUND_IN_FLIGHT: usize = 8;

/// The config of a source of type `files`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FilesConfig {
    /// Absolute paths of directories or files.
    pub paths: Vec<PathBuf>,
    /// Exclude patterns with restic's semantics: `cache` and `logs/old` match anywhere in a path,
    /// `/srv/cache` from the root, `**` any number of directories; `!keep.log` includes again what
    /// earlier patterns excluded; the last matching pattern decides.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// As `exclude`, but upper and lower case are the same. Such a pattern excludes whatever `exclude` includes again.
    #[serde(default)]
    pub iexclude: Vec<String>,
    /// Files with one pattern of `exclude` on each line; empty lines and those that begin with `#` are skipped.
    #[serde(default)]
    pub exclude_files: Vec<PathBuf>,
    /// Leave out files larger than this: bytes, or with `K`, `M`, `G` or `T` for powers of 1024.
    #[serde(default)]
    pub exclude_larger_than: Option<String>,
    /// Directories of `paths`, or above them, that are read from another place: a snapshot of their volume, made by `hooks.before`. The
    /// files keep their paths.
    #[serde(default)]
    pub snapshot_at: BTreeMap<PathBuf, PathBuf>,
    /// Leave out directories that contain a file with one of these names, such as `.nobackup`.
    #[serde(default)]
    pub exclude_if_present: Vec<String>,
    /// Leave out directories marked by a `CACHEDIR.TAG`.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Do not descend into file systems mounted below the paths.
    #[serde(default)]
    pub one_file_system: bool,
    /// Commands that run, in this order, after an in-place restore that restored everything: a list
    /// of programs with their arguments, such as `["nginx", "-t"]`. The first failure stops them.
    #[serde(default)]
    pub after_restore: Vec<Vec<String>>,
    /// Time limit for each of these commands, in seconds.
    #[serde(default = "default_hook_timeout_seconds")]
    pub hook_timeout_seconds: NonZeroU64,
    /// Also create the named pipes and devices of a tar. Those of a snapshot are always created,
    /// because only kaleem-dr can have put them there.
    #[serde(default)]
    pub special_files_of_tars: bool,
}

impl FilesConfig {
    /// These trees, with the defaults of a config file.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            exclude: Vec::new(),
            iexclude: Vec::new(),
            exclude_files: Vec::new(),
            exclude_larger_than: None,
            snapshot_at: BTreeMap::new(),
            exclude_if_present: Vec::new(),
            exclude_caches: false,
            one_file_system: false,
            after_restore: Vec::new(),
            hook_timeout_seconds: default_hook_timeout_seconds(),
            special_files_of_tars: false,
        }
    }
}

fn default_hook_timeout_seconds() -> NonZeroU64 {
    const { NonZeroU64::new(60).expect("60 is not zero") }
}

impl FilesConfig {
    fn hook_patience(&self) -> Duration {
        Duration::from_secs(self.hook_timeout_seconds.get())
    }
}

/// A source that captures file trees.
#[derive(Debug)]
pub struct FilesSource {
    name: SourceName,
    config: FilesConfig,
    roots: Vec<PathBuf>,
    excludes: Excludes,
    places: Places,
}

impl FilesSource {
    /// Validates the config.
    ///
    /// # Errors
    /// If `paths` is empty, a path is not absolute, or a pattern is invalid.
    pub fn new(name: SourceName, config: FilesConfig) -> Result<Self, SourceError> {
        let mut roots = BTreeSet::new();
        for path in &config.paths {
            let plain = path.components().all(|part| {
                matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
            });
            if !path.is_absolute() || !plain {
                return Err(SourceError::Unsupported(format!(
                    "path {} must be absolute and without `.` or `..`",
                    path.display()
                )));
            }
            roots.insert(path.clone());
        }
        if roots.is_empty() {
            return Err(SourceError::Unsupported(
                "`paths` is empty: there is nothing to back up".into(),
            ));
        }
        // A path below another is captured with it.
        let roots: Vec<PathBuf> = roots
            .iter()
            .filter(|path| !path.ancestors().skip(1).any(|above| roots.contains(above)))
            .cloned()
            .collect();
        if config.after_restore.iter().any(|hook| hook.first().is_none_or(String::is_empty)) {
            return Err(SourceError::Unsupported(
                "a command of `after_restore` is empty: it needs a program".into(),
            ));
        }
        let excludes = Excludes::new(&config)?;
        let places = Places::new(&config.snapshot_at, &roots)?;
        Ok(Self { name, config, roots, excludes, places })
    }

    /// One moment if everything is read from snapshots of volumes.
    fn consistency(&self, at: Timestamp) -> Consistency {
        if self.roots.iter().all(|root| self.places.is_elsewhere(root)) {
            Consistency::new(ConsistencyGrade::PointInTime, at)
                .because("it was read from the snapshots of `snapshot_at`")
        } else {
            Consistency::new(ConsistencyGrade::PerFile, at)
        }
    }

    /// Warns about patterns that matched nothing: what they should exclude ends up in every
    /// snapshot.
    fn report_excludes(&self, matched: &Matched) {
        let doubts = self.excludes.doubts(&self.roots);
        for doubt in &doubts {
            tracing::warn!(source = %self.name, "{doubt}");
        }
        for idle in self.excludes.idle(matched) {
            let pattern = format!("exclude pattern `{idle}`");
            if !doubts.iter().any(|doubt| doubt.starts_with(&pattern)) {
                tracing::warn!(source = %self.name, "{pattern} matched nothing");
            }
        }
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

    fn has_only_files(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let mut warnings = Vec::new();
        for root in &self.roots {
            if let Err(error) = tokio::fs::symlink_metadata(root).await {
                warnings.push(format!("{}: {error}", root.display()));
            }
        }
        warnings.extend(self.excludes.doubts(&self.roots));
        Ok(Probe::new(None, None, warnings))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        out.set_consistency(self.consistency(out.started()));
        let (sender, mut found) = mpsc::channel(FOUND_IN_FLIGHT);
        let excludes = (self.excludes.clone(), self.excludes.unmatched());
        let trees = (self.roots.clone(), self.places.clone());
        let walk = walk::Walk::new(trees, excludes, self.config.one_file_system, sender);
        let walk = tokio::task::spawn_blocking(move || walk.run());
        let mut entries = 0;
        while let Some(batch) = found.recv().await {
            let mut found = Vec::with_capacity(batch.len());
            for next in batch {
                match next {
                    Found::Entry(entry) => found.push(*entry),
                    Found::Problem { path, why } => out.incomplete(path.to_string_lossy(), why),
                }
            }
            entries += found.len();
            out.entries(found).await?;
        }
        let matched = walk.await.map_err(|panic| {
            SourceError::Unsupported(format!("the walk of the file trees aborted: {panic}"))
        })?;
        self.report_excludes(&matched);
        if entries == 0 {
            return Err(SourceError::Path {
                path: self.roots[0].clone(),
                action: "find anything to back up at".into(),
                cause: std::io::ErrorKind::NotFound.into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Restorable for FilesSource {
    fn local_paths(&self) -> Vec<PathBuf> {
        self.roots.clone()
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        restore::plan(&self.config, point, request).await
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        restore::restore(&self.config, point, plan).await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        restore::inspect(point).await
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        restore::rehearse(&self.config, point, scratch).await
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        Some(guide::guide(language, restored, &self.roots, &self.config.after_restore))
    }

    fn staged(&self) -> Option<&dyn StagedForm> {
        Some(self)
    }
}
