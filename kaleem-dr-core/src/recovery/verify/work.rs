//! Runs a verification level by level, and adds each finding to the report.

use std::{collections::HashSet, path::Path, time::Instant};

use super::VerifyReport;
use crate::{
    engine::{
        manifest::{ArtifactRecord, Incomplete, TreeTotals, is_own_path},
        repository::{RepositoryError, SnapshotReader, TreeFile},
    },
    ground::{
        ProofLevel, SourceError, error_chain,
        finding::Finding,
        progress::{StageProgress, Unit},
    },
    recovery::{
        point::PointReader,
        scratch::Scratch,
        source::{Control, Difference, Restorable, RestoreReport},
        staged::StagedWork,
    },
};

/// Limit for the missing parts named in a sentence.
const NAMED: usize = 5;

pub(super) struct Verification {
    pub(super) report: VerifyReport,
    /// Restored objects that a rehearsal could not compare.
    pub(super) uncompared: Vec<Incomplete>,
    pub(super) began: Instant,
}

impl Verification {
    pub(super) fn of(point: String, source: Option<String>, wanted: ProofLevel) -> Self {
        let report = VerifyReport::of(point, source, wanted);
        Self { report, uncompared: Vec::new(), began: Instant::now() }
    }

    pub(super) fn errors(&self) -> usize {
        self.report.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// A level is proven if all levels below it are and it added no error.
    pub(super) fn reach(&mut self, level: ProofLevel, errors_before: usize) {
        if self.errors() == errors_before && errors_before == 0 {
            self.report.proven = Some(level);
        }
    }

    /// Parts that the capture left out cannot be proven, however sound the rest is.
    pub(super) fn leave_out(&mut self, incomplete: &[Incomplete]) {
        if !incomplete.is_empty() {
            self.report.findings.push(Finding::warning(left_out(incomplete)));
        }
        for left in &self.uncompared {
            self.report.findings.push(Finding::warning(format!(
                "{} came back and could not be compared: {}",
                left.what, left.why
            )));
        }
        self.report.incomplete = incomplete.iter().chain(&self.uncompared).cloned().collect();
        if !self.report.incomplete.is_empty() {
            self.report.held = self.report.proven.take();
        }
    }

    pub(super) fn ended(mut self) -> VerifyReport {
        self.report.seconds = self.began.elapsed().as_secs_f64();
        self.report
    }

    pub(super) async fn objects(
        &mut self,
        snapshot: &SnapshotReader,
        work: &StagedWork,
    ) -> Result<(), RepositoryError> {
        let bar = work.progress.begin("verifying objects", Unit::Bytes, None);
        let found = snapshot.verify_objects(&*bar, &work.cancel).await?;
        bar.finish();
        self.report.findings.extend(found.wrong.into_iter().map(Finding::error));
        self.report.checked.push(format!(
            "{} objects of {} bytes hash to their names",
            found.objects, found.size_bytes
        ));
        self.reach(ProofLevel::Stored, 0);
        Ok(())
    }

    /// Reads every file of the tree that is not an artifact, blob by blob, which decrypts and hashes each one.
    pub(super) async fn files(
        &mut self,
        snapshot: &SnapshotReader,
        artifacts: &[ArtifactRecord],
        expected: Option<&TreeTotals>,
        work: &StagedWork,
    ) -> Result<(), RepositoryError> {
        let artifacts: HashSet<&Path> =
            artifacts.iter().map(|artifact| Path::new(&artifact.path)).collect();
        let bar = work.progress.begin("reading files", Unit::Bytes, None);
        let mut walk = snapshot.files();
        let (mut files, mut bytes, mut seen) = (0u64, 0u64, 0usize);
        while let Some(file) = walk.next().await {
            let file = match file {
                Ok(file) => file,
                Err(RepositoryError::Cancelled) => return Err(RepositoryError::Cancelled),
                Err(error) => {
                    self.report.findings.push(Finding::error(error_chain(&error)));
                    continue;
                }
            };
            if artifacts.contains(file.path.as_path()) {
                seen += 1;
                continue;
            }
            if work.cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            match read_file(snapshot, &file, &*bar).await {
                Ok(read) => {
                    bytes += read;
                    files += u64::from(!is_own_path(&file.path));
                }
                Err(why) => self
                    .report
                    .findings
                    .push(Finding::error(format!("{}: {why}", file.path.display()))),
            }
        }
        bar.finish();
        if seen != artifacts.len() {
            self.report.findings.push(Finding::error(format!(
                "the manifest lists {} artifacts, but the tree contains {seen}",
                artifacts.len()
            )));
        }
        if let Some(expected) = expected.filter(|expected| expected.files != files) {
            self.report.findings.push(Finding::error(format!(
                "the manifest counts {} files, but {files} could be read",
                expected.files
            )));
        }
        self.report.checked.push(format!("{files} files of {bytes} bytes can be read"));
        Ok(())
    }

    pub(super) async fn artifacts(
        &mut self,
        point: &PointReader,
        work: &StagedWork,
    ) -> Result<(), SourceError> {
        let bar = work.progress.begin(
            "reading artifacts",
            Unit::Bytes,
            Some(point.manifest().size_bytes()),
        );
        let mut equal = 0usize;
        for artifact in &point.manifest().artifacts {
            match read_artifact(point, &artifact.path, &*bar, work).await {
                Ok(()) => equal += 1,
                Err(SourceError::Cancelled) => return Err(SourceError::Cancelled),
                Err(error) => self.report.findings.push(Finding::error(format!(
                    "{}: {}",
                    artifact.path,
                    error_chain(&error)
                ))),
            }
        }
        bar.finish();
        let of = point.manifest().artifacts.len();
        if of > 0 {
            self.report.checked.push(format!("{equal} of {of} artifacts match the manifest"));
        }
        Ok(())
    }

    /// The negative control of a drill that restores nothing: an artifact with one byte turned over must not be read to its end.
    pub(super) async fn turned_byte(&mut self, point: &PointReader) -> Result<(), SourceError> {
        let smallest = point
            .manifest()
            .artifacts
            .iter()
            .filter(|artifact| artifact.size_bytes > 0)
            .min_by_key(|artifact| artifact.size_bytes);
        let Some(artifact) = smallest else {
            let why = "it has no artifact in which a byte could be changed, so nothing shows that reading it can fail";
            self.report.findings.push(Finding::warning(why));
            return Ok(());
        };
        let began = Instant::now();
        let mut reader = point.artifact(&artifact.path).await?.with_a_byte_turned();
        let ended = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error_chain(&error)),
            }
        };
        let damage = format!("turned a byte of {} over on its way", artifact.path);
        if ended.is_none() {
            self.report.findings.push(Finding::error(format!(
                "reading is blind: we {damage}, and it was read to its end"
            )));
        }
        let found = ended.map(|why| Difference {
            what: artifact.path.clone(),
            expected: artifact.sha256.clone(),
            found: why,
        });
        let found = found.into_iter().collect();
        self.report.control =
            Some(Control { damage, found, seconds: began.elapsed().as_secs_f64() });
        Ok(())
    }

    pub(super) async fn rehearsal(
        &mut self,
        source: &dyn Restorable,
        point: &PointReader,
        control: bool,
        work: &StagedWork,
    ) -> Result<(), SourceError> {
        let failed = |action: &str| {
            let (path, action) = (work.scratch.clone(), action.to_owned());
            move |cause| SourceError::Path { path, action, cause }
        };
        let scratch = Scratch::begin(&work.scratch, source.name(), control)
            .map_err(failed("make a scratch target in"))?;
        let began = Instant::now();
        let rehearsed = source.rehearse(point, scratch.target()).await;
        let seconds = began.elapsed().as_secs_f64();
        // A source that failed has tried to remove what it created; only a second attempt shows whether that succeeded.
        let name = scratch.target().name.clone();
        let left = match &rehearsed {
            Ok(_) => Ok(Vec::new()),
            Err(_) => source.clear_scratch(&name).await,
        };
        let removed = scratch.end(left.is_ok());
        let report = rehearsed?;
        removed.map_err(failed("remove the scratch directory in"))?;
        self.report.restore_seconds =
            Some(seconds - report.control.as_ref().map_or(0.0, |control| control.seconds));
        self.take(report.without(&name), control);
        Ok(())
    }

    /// Adds the result of a rehearsal. A comparison that does not detect the damage of its negative control proves nothing.
    pub(super) fn take(&mut self, report: RestoreReport, controlled: bool) {
        let equal = report.is_equal();
        self.report
            .checked
            .extend(report.compared.into_iter().map(|what| format!("restored and equal: {what}")));
        self.report.findings.extend(report.warnings.into_iter().map(Finding::warning));
        self.uncompared.extend(
            report
                .uncompared
                .into_iter()
                .chain(report.not_restored)
                .map(|left| Incomplete { what: left.what, why: left.why }),
        );
        for difference in report.differences {
            let message = format!(
                "{}: expected {}, found {}",
                difference.what, difference.expected, difference.found
            );
            self.report.findings.push(Finding::error(message));
        }
        if !equal && self.errors() == 0 {
            self.report.findings.push(Finding::error("the rehearsal compared nothing"));
        }
        match &report.control {
            Some(control) if !control.is_caught() => {
                let why = format!(
                    "the comparison is blind: we {} in the scratch, and it found no difference",
                    control.damage
                );
                self.report.findings.push(Finding::error(why));
            }
            None if controlled && equal => {
                let why = "it has nothing that could be damaged in the scratch target, so nothing shows that the comparison can fail";
                self.report.findings.push(Finding::warning(why));
            }
            _ => {}
        }
        self.report.control = report.control;
    }
}

/// Describes the missing parts of an incomplete point in one sentence.
pub(crate) fn left_out(incomplete: &[Incomplete]) -> String {
    let named: Vec<String> =
        incomplete.iter().take(NAMED).map(|left| format!("{} ({})", left.what, left.why)).collect();
    let more = if incomplete.len() > NAMED { ", …" } else { "" };
    format!(
        "the point is incomplete: {} missing: {}{more}",
        counted(incomplete.len(), "part is", "parts are"),
        named.join(", ")
    )
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

async fn read_file(
    snapshot: &SnapshotReader,
    file: &TreeFile,
    bar: &dyn StageProgress,
) -> Result<u64, String> {
    let mut pieces = snapshot.stream_file(file).map_err(|error| error_chain(&error))?;
    let mut read = 0;
    while let Some(piece) = pieces.recv().await {
        let piece = piece.map_err(|error| error_chain(&error))?;
        read += piece.len() as u64;
        bar.advance(piece.len() as u64);
    }
    if read == file.size_bytes {
        Ok(read)
    } else {
        Err(format!("it is {} bytes long, but {read} were read", file.size_bytes))
    }
}

async fn read_artifact(
    point: &PointReader,
    path: &str,
    bar: &dyn StageProgress,
    work: &StagedWork,
) -> Result<(), SourceError> {
    let mut reader = point.artifact(path).await?;
    while let Some(piece) = reader.next().await? {
        if work.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        bar.advance(piece.len() as u64);
    }
    Ok(())
}
