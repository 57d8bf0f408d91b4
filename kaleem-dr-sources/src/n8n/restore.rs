//! Restores n8n to disk: the plan, the restore, and the rehearsal.
//!
//! Everything is first written to a directory next to the target, on the same file system, and
//! compared there ([`compare`]); then it is renamed into place ([`Restored`]).

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;
use kaleem_dr_core::{
    engine::manifest::Manifest,
    ground::SourceError,
    recovery::{
        extract_root::DirectoryHandle,
        point::{Origin, PointReader},
        restore::{RestoreOptions, ensure_room, restore_files, turn_a_byte},
        source::{
            Change, Control, PlannedAction, RestorePlan, RestoreReport, RestoreRequest,
            RestoreTarget, ScratchTarget,
        },
    },
};

use super::{
    DATABASE, N8nSource, ROOT, TREES, blocking,
    compare::{artifact_differences, compare},
    path_error,
    place::Restored,
    running,
    staged::unpack,
};

impl N8nSource {
    pub(super) fn plan(
        &self,
        point: &PointReader,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        request.refuse_choices("n8n")?;
        let manifest = point.manifest();
        let in_place = request.to == RestoreTarget::InPlace;
        let target = self.target(&request.to);
        let mut warnings: Vec<String> = manifest
            .incomplete
            .iter()
            .map(|missing| format!("{}: {}", missing.what, missing.why))
            .collect();
        if in_place {
            self.refuse_in_use()?;
        } else if !target.is_absolute() {
            return Err(SourceError::Unsupported(format!(
                "{} must be an absolute path",
                target.display()
            )));
        } else if is_occupied(&target)? {
            return Err(SourceError::Refused(format!(
                "{} is not empty; choose a new directory",
                target.display()
            )));
        }
        let mut actions: Vec<PlannedAction> = manifest
            .artifacts
            .iter()
            .map(|artifact| {
                let path =
                    target.join(artifact.path.trim_start_matches(ROOT).trim_start_matches('/'));
                let change = if path.exists() { Change::Overwrite } else { Change::Create };
                PlannedAction::new(change, path.display().to_string())
                    .with_size(artifact.size_bytes)
            })
            .collect();
        let tree = &manifest.tree;
        if tree.files > 0 {
            let change = if in_place { Change::Overwrite } else { Change::Create };
            let what = format!("files of {}", TREES.join(", "));
            actions.push(
                PlannedAction::new(change, what).with_items(tree.files).with_size(tree.size_bytes),
            );
        }
        if in_place {
            actions.push(PlannedAction::new(
                Change::Leave,
                "existing files that are not in the recovery point",
            ));
        }
        warnings.push(
            "start n8n with its previous environment: with an N8N_ENCRYPTION_KEY other than the key in `config` it does not start"
                .into(),
        );
        let to = if in_place {
            RestoreTarget::InPlace
        } else {
            RestoreTarget::Beside(Some(target.display().to_string()))
        };
        Ok(RestorePlan::new(
            RestoreRequest::whole(to),
            format!("directory {}", target.display()),
            actions,
            warnings,
        ))
    }

    pub(super) async fn put_back(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let in_place = plan.request.to == RestoreTarget::InPlace;
        let target = self.target(&plan.request.to);
        // An existing directory may be a mount point: its parent is then another file system, and possibly read-only.
        let parent = match target.parent() {
            _ if in_place && target.is_dir() => target.clone(),
            Some(parent) => parent.to_path_buf(),
            None => "/".into(),
        };
        if in_place {
            self.refuse_in_use()?;
        } else if is_occupied(&target)? {
            return Err(SourceError::Refused(format!(
                "{} is not empty; choose a new directory",
                target.display()
            )));
        }
        fs::create_dir_all(&parent).map_err(path_error(&parent, "create the directory"))?;
        let scratch = tempfile::Builder::new().prefix(".kaleem-dr-restore-").tempdir_in(&parent);
        let scratch = scratch.map_err(path_error(&parent, "create a temporary directory in"))?;
        let held =
            DirectoryHandle::open(scratch.path()).map_err(path_error(scratch.path(), "open"))?;
        if !held.is_ours().map_err(path_error(scratch.path(), "inspect"))? {
            return Err(SourceError::Refused(format!(
                "{} was replaced by another process in the meantime",
                scratch.path().display()
            )));
        }
        if let Origin::File(_) = point.origin() {
            ensure_room(&parent, point.manifest().size_bytes() + point.manifest().tree.size_bytes)
                .map_err(path_error(&parent, "restore below"))?;
        }
        let base = stage(point, scratch.path()).await?;
        let mut report = compare(base.clone(), point.manifest().clone()).await?;
        report.target = plan.target;
        if !report.is_equal() {
            report.warnings.push(format!(
                "{} was left unchanged, because of the differences",
                target.display()
            ));
            return Ok(report);
        }
        let owner = fs::metadata(&self.config.directory).ok().map(|meta| (meta.uid(), meta.gid()));
        let (there, manifest) = (target.clone(), point.manifest().clone());
        let places: Vec<(&str, PathBuf)> =
            TREES.iter().map(|&name| (name, self.tree(name))).collect();
        let below = base.strip_prefix(scratch.path()).unwrap_or(&base).to_path_buf();
        let restored = Restored { scratch: held, below };
        blocking(move || {
            if in_place {
                restored.move_over(&there, &places, owner)
            } else {
                restored.move_beside(&there, owner)
            }
        })
        .await?;
        drop(scratch);
        let moved = blocking(move || artifact_differences(&target, &manifest)).await?;
        report.differences.extend(moved);
        Ok(report)
    }

    pub(super) async fn try_out(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        let directory = scratch.directory.join(&scratch.name);
        let tried = async {
            fs::create_dir_all(&directory)
                .map_err(path_error(&directory, "create the directory"))?;
            let base = stage(point, &directory).await?;
            scratch.filled();
            let mut report = compare(base.clone(), point.manifest().clone()).await?;
            if scratch.control && report.is_equal() {
                report.control = Some(control(base, point.manifest().clone()).await?);
            }
            Ok(report)
        }
        .await;
        let removed = fs::remove_dir_all(&directory);
        let mut report = tried?;
        removed.map_err(path_error(&directory, "remove after the rehearsal"))?;
        report.target = format!("directory {}", directory.display());
        Ok(report)
    }

    fn target(&self, to: &RestoreTarget) -> PathBuf {
        match to {
            RestoreTarget::InPlace => self.config.directory.clone(),
            RestoreTarget::Beside(Some(path)) => PathBuf::from(path),
            RestoreTarget::Beside(None) => {
                let mut name = self.config.directory.clone().into_os_string();
                name.push(Timestamp::now().strftime("_restored_%Y%m%d_%H%M%S").to_string());
                name.into()
            }
        }
    }

    fn refuse_in_use(&self) -> Result<(), SourceError> {
        match running::holder(&self.database()) {
            None => Ok(()),
            Some(holder) => Err(SourceError::Refused(format!(
                "{} is in use by {holder}: stop n8n before you restore in place, or restore to another directory with --to DIRECTORY",
                self.database().display()
            ))),
        }
    }
}

/// Writes everything of a point into a directory of ours. Returns the path of n8n's directory in
/// it.
async fn stage(point: &PointReader, into: &Path) -> Result<PathBuf, SourceError> {
    match point.origin() {
        Origin::Snapshot(snapshot) => {
            let target = into.join("snapshot");
            let mut options = RestoreOptions::new(target.clone());
            options.include = vec![ROOT.into()];
            options.without_own_files = true;
            let files = restore_files(snapshot, &options, point.progress(), &point.cancellation())
                .await
                .map_err(|error| SourceError::Point(error.into()))?;
            match files.problems.first() {
                Some(problem) => {
                    Err(SourceError::Point(format!("{}: {}", problem.path, problem.why).into()))
                }
                None => Ok(target.join(ROOT.trim_start_matches('/'))),
            }
        }
        Origin::File(file) => {
            let (path, into) = (file.path.clone(), into.join("tar"));
            let (progress, cancel) = (point.progress().clone(), point.cancellation());
            blocking(move || unpack(&path, &into, &*progress, &cancel)).await
        }
    }
}

/// Flips one byte of the restored database, and compares again.
async fn control(base: PathBuf, manifest: Manifest) -> Result<Control, SourceError> {
    let (began, database) = (Instant::now(), base.join(DATABASE));
    let at = turn_a_byte(&database).map_err(path_error(&database, "damage"))?;
    let found = compare(base, manifest).await?.differences;
    Ok(Control::new(
        format!("changed byte {at} of {DATABASE}"),
        found,
        began.elapsed().as_secs_f64(),
    ))
}

fn is_occupied(target: &Path) -> Result<bool, SourceError> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(path_error(target, "read")(error)),
    }
}
