//! Runs a verification level by level, and adds each finding to the report.

use std::time::Instant;

use super::VerifyReport;
use crate::{
    engine::{
        manifest::{Incomplete, Manifest},
        repository::{Depth, Proof, RepositoryError, SnapshotReader},
    },
    ground::{
        ProofLevel, SourceError, error_chain,
        finding::Finding,
        progress::{StageProgress, Unit},
        size::size,
    },
    recovery::{
        point::PointReader,
        restore::FilesReport,
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

    /// Reads everything that the snapshot needs, in one pass. Up to [`ProofLevel::Stored`], objects are only hashed. Above it,
    /// every file that is not an artifact is decrypted too, and returned with what was counted if all of it is intact.
    pub(super) async fn data(
        &mut self,
        snapshot: &SnapshotReader,
        manifest: Option<&Manifest>,
        work: &StagedWork,
    ) -> Result<Option<FilesReport>, RepositoryError> {
        let depth =
            if self.report.wanted >= ProofLevel::Readable { Depth::Files } else { Depth::Objects };
        let artifacts = manifest.map_or(&[][..], |manifest| &manifest.artifacts);
        let bar = work.progress.begin("verifying data", Unit::Bytes, None);
        let Proof { objects, size_bytes, wrong, unreadable, contents } =
            snapshot.prove(artifacts, depth, &*bar, &work.cancel).await?;
        bar.finish();
        self.report.findings.extend(wrong.into_iter().map(Finding::error));
        self.report
            .checked
            .push(format!("{objects} objects of {} hash to their names", size(size_bytes)));
        self.reach(ProofLevel::Stored, 0);
        if depth == Depth::Objects {
            return Ok(None);
        }
        self.report.findings.extend(unreadable.into_sentences().into_iter().map(Finding::error));
        let totals = contents.totals;
        if contents.artifacts != artifacts.len() as u64 {
            self.report.findings.push(Finding::error(format!(
                "the manifest lists {} artifacts, but the tree contains {}",
                artifacts.len(),
                contents.artifacts
            )));
        }
        if let Some(manifest) = manifest.filter(|manifest| manifest.tree.files != totals.files) {
            self.report.findings.push(Finding::error(format!(
                "the manifest counts {} files, but the tree contains {}",
                manifest.tree.files, totals.files
            )));
        }
        if self.errors() > 0 {
            return Ok(None);
        }
        if totals.files > 0 || artifacts.is_empty() {
            let read = format!("{} files of {} can be read", totals.files, size(totals.size_bytes));
            self.report.checked.push(read);
        }
        Ok(Some(FilesReport::of_read(&totals, artifacts)))
    }

    /// Reads the artifacts that were not read before.
    pub(super) async fn artifacts(
        &mut self,
        point: &PointReader,
        work: &StagedWork,
    ) -> Result<(), SourceError> {
        let (read, left): (Vec<_>, Vec<_>) =
            point.manifest().artifacts.iter().partition(|artifact| point.is_read(&artifact.path));
        let total = left.iter().map(|artifact| artifact.size_bytes).sum();
        let bar = (!left.is_empty())
            .then(|| work.progress.begin("reading artifacts", Unit::Bytes, Some(total)));
        let mut equal = read.len();
        for artifact in left {
            match read_artifact(point, &artifact.path, bar.as_deref(), work).await {
                Ok(()) => equal += 1,
                Err(SourceError::Cancelled) => return Err(SourceError::Cancelled),
                Err(error) => self.report.findings.push(Finding::error(format!(
                    "{}: {}",
                    artifact.path,
                    error_chain(&error)
                ))),
            }
        }
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

async fn read_artifact(
    point: &PointReader,
    path: &str,
    bar: Option<&dyn StageProgress>,
    work: &StagedWork,
) -> Result<(), SourceError> {
    let mut reader = point.artifact(path).await?;
    while let Some(piece) = reader.next().await? {
        if work.cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        if let Some(bar) = bar {
            bar.advance(piece.len() as u64);
        }
    }
    Ok(())
}
