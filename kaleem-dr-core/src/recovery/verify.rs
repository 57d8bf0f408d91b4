//! Proving a recovery point, at one of four levels, each including those below it.
//!
//! *Stored*: every object that the snapshot needs is there and hashes to its name. *Readable*: every blob decrypts and every
//! artifact is what the manifest says. *Parsed*: the source finds each artifact valid in its own format. *Restored*: it was
//! loaded into a scratch target and is equal by content. What is wrong is a finding and never hides what comes after it.

use std::{collections::HashSet, path::Path, time::Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        ledger::Proof,
        manifest::{ArtifactRecord, Incomplete, MANIFEST_PATH, TreeTotals},
        repository::{Repository, RepositoryError, SnapshotId, SnapshotReader, TreeFile},
    },
    ground::{
        Exit, ProofLevel, RunId, SourceError, SourceName, error_chain,
        finding::Finding,
        progress::{StageProgress, Unit},
        stopwatch::{Stage, Stopwatch},
    },
    recovery::{
        point::{Origin, PointReader},
        points::{ChosenPoint, PointChoice, find_snapshot},
        scratch::Scratch,
        source::{Control, Difference, Restorable, RestoreReport},
        staged::StagedWork,
    },
};

/// So many missing parts are named in a sentence.
const NAMED: usize = 5;

/// How far a verification goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thoroughness {
    /// The level that is to be proven.
    pub level: ProofLevel,
    /// Whether a negative control follows ([`Control`]): the scratch is damaged on purpose and must be found different; below
    /// [`ProofLevel::Restored`], an artifact with a byte turned over must not be read to its end.
    pub control: bool,
}

impl From<ProofLevel> for Thoroughness {
    fn from(level: ProofLevel) -> Self {
        Self { level, control: false }
    }
}

/// What a verification showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyReport {
    /// What was verified, in words: a snapshot or a file.
    pub point: String,
    /// The source it is of, where that is known.
    pub source: Option<String>,
    /// The snapshot; `None` for a file.
    pub snapshot: Option<SnapshotId>,
    /// The host it was captured on.
    #[serde(default)]
    pub host: Option<String>,
    /// The moment its data stand for, where the manifest tells.
    pub consistent_at: Option<Timestamp>,
    /// Bytes of the source in it.
    pub size_bytes: u64,
    /// The level that was asked for.
    pub wanted: ProofLevel,
    /// The highest level that holds, with all below it. An incomplete point is never proven.
    pub proven: Option<ProofLevel>,
    /// What its capture had to leave out, or a rehearsal could not compare.
    #[serde(default)]
    pub incomplete: Vec<Incomplete>,
    /// Of an incomplete point: the highest level that holds for what is in it.
    #[serde(default)]
    pub held: Option<ProofLevel>,
    /// Why it could not be verified at all. Then nothing is known of it.
    #[serde(default)]
    pub error: Option<Untried>,
    /// What was looked at and is well.
    pub checked: Vec<String>,
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
    /// What took how long, in order.
    pub stages: Vec<Stage>,
    /// How long the restore into the scratch target took, with its comparison and without the negative control.
    pub restore_seconds: Option<f64>,
    /// The negative control of that restore.
    pub control: Option<Control>,
    /// How long all of it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// It as a proof for the ledger; `None` where it is of a file, or the snapshot does not say of which moment it is.
    #[must_use]
    pub fn proof(&self, run: RunId, repository: &str, at: Timestamp) -> Option<Proof> {
        Some(Proof {
            run: run.to_string(),
            source: self.source.clone()?,
            host: self.host.clone().unwrap_or_default(),
            repository: repository.to_owned(),
            snapshot: self.snapshot?.to_string(),
            consistent_at: self.consistent_at?,
            at,
            wanted: self.wanted,
            proven: self.proven,
            size_bytes: self.size_bytes,
            restore_seconds: self.restore_seconds,
        })
    }

    /// Of a point of which nothing is known yet.
    pub(crate) fn of(point: String, source: Option<String>, wanted: ProofLevel) -> Self {
        Self {
            point,
            source,
            snapshot: None,
            host: None,
            consistent_at: None,
            size_bytes: 0,
            wanted,
            proven: None,
            incomplete: Vec::new(),
            held: None,
            error: None,
            checked: Vec::new(),
            findings: Vec::new(),
            stages: Vec::new(),
            restore_seconds: None,
            control: None,
            seconds: 0.0,
        }
    }

    /// Of a source whose point could not be verified at all.
    pub(crate) fn untried(
        source: &SourceName,
        wanted: ProofLevel,
        exit: Exit,
        why: String,
    ) -> Self {
        Self {
            error: Some(Untried { exit, why }),
            ..Self::of(format!("source {source}"), Some(source.to_string()), wanted)
        }
    }

    /// Whether all that was asked for is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.is_some_and(|proven| proven >= self.wanted)
    }

    /// How it ended: 4 when something is wrong, 3 when what is there is right but incomplete.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.error {
            Some(untried) => untried.exit,
            None if self.is_proven() => Exit::Done,
            None if self.held.is_some_and(|held| held >= self.wanted) => Exit::Partial,
            None => Exit::NotVerified,
        }
    }
}

/// Why a source's point could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untried {
    /// What kind of failure it is.
    pub exit: Exit,
    /// Why.
    pub why: String,
}

/// Verifies a source's snapshot, chosen as by [`find_snapshot`].
///
/// # Errors
/// As [`verify_point`], and when there is no such snapshot. One that is too damaged to be opened is a report.
pub async fn verify_source(
    repository: &Repository,
    source: &dyn Restorable,
    choice: &PointChoice,
    how: impl Into<Thoroughness>,
    work: &StagedWork,
) -> Result<VerifyReport, SourceError> {
    let how = how.into();
    let point = |error: RepositoryError| SourceError::Point(error.into());
    let ChosenPoint { snapshot, notes } =
        find_snapshot(repository, source.name(), choice).await.map_err(point)?;
    let reader = repository.read(&snapshot).await.map_err(point)?;
    let verified = async {
        match PointReader::open(reader.clone(), work.progress.clone(), work.cancel.clone()).await {
            Ok(point) => verify_point(source, &point, how, work).await,
            Err(RepositoryError::Cancelled) => Err(SourceError::Cancelled),
            Err(error) if !matches!(error, RepositoryError::Damaged { .. }) => Err(point(error)),
            Err(unopened) => {
                let mut report =
                    verify_snapshot(&reader, ProofLevel::Stored, work).await.map_err(point)?;
                report.wanted = how.level;
                report.findings.push(Finding::error(format!(
                    "its manifest cannot be read: {}",
                    error_chain(&unopened)
                )));
                Ok(report)
            }
        }
    };
    let verified = verified.await;
    // What could not be read any more is no damage.
    if work.cancel.is_cancelled() {
        return Err(SourceError::Cancelled);
    }
    let mut report = match verified {
        // Damage that kept it from being looked at further is a finding of this snapshot, and takes its earlier proofs back.
        Err(error) if Exit::from(&error) == Exit::NotVerified => {
            let mut report = VerifyReport::of(
                format!("snapshot {}", snapshot.id().short()),
                Some(source.name().to_string()),
                how.level,
            );
            report.findings.push(Finding::error(error_chain(&error)));
            report
        }
        verified => verified?,
    };
    report.findings.extend(notes.into_iter().map(Finding::warning));
    report.snapshot = Some(snapshot.id());
    report.host = Some(snapshot.host().to_owned());
    report.consistent_at.get_or_insert(snapshot.time().timestamp());
    Ok(report)
}

/// Verifies a recovery point of a source.
///
/// # Errors
/// When it cannot be verified at all: the repository or the scratch target cannot be reached. What is wrong with the point is in
/// the report: whoever asked must look at [`VerifyReport::is_proven`].
pub async fn verify_point(
    source: &dyn Restorable,
    point: &PointReader,
    how: impl Into<Thoroughness>,
    work: &StagedWork,
) -> Result<VerifyReport, SourceError> {
    let Thoroughness { level, control } = how.into();
    let mut proof =
        Verification::of(in_words(point.origin()), Some(source.name().to_string()), level);
    let watch = Stopwatch::over(work.progress.clone());
    let work = &StagedWork { progress: watch.sink(), ..work.clone() };
    let point = &point.telling(watch.sink());
    proof.report.consistent_at = Some(point.manifest().consistency.at);
    proof.report.size_bytes = point.manifest().size_bytes();
    if let Origin::Snapshot(snapshot) = point.origin() {
        proof.report.snapshot = Some(snapshot.snapshot().id());
        proof.report.host = Some(snapshot.snapshot().host().to_owned());
        proof.objects(snapshot, work).await.map_err(|error| SourceError::Point(error.into()))?;
    } else {
        // Opening a file reads it whole, against all that its form has to check it by.
        proof.reach(ProofLevel::Stored, 0);
    }
    if level >= ProofLevel::Readable {
        let (before, manifest) = (proof.errors(), point.manifest());
        if let Origin::Snapshot(snapshot) = point.origin() {
            proof
                .files(snapshot, &manifest.artifacts, Some(&manifest.tree), work)
                .await
                .map_err(|error| SourceError::Point(error.into()))?;
        }
        proof.artifacts(point, work).await?;
        proof.reach(ProofLevel::Readable, before);
        if control && level < ProofLevel::Restored {
            proof.turned_byte(point).await?;
        }
    }
    if level >= ProofLevel::Parsed {
        let before = proof.errors();
        let inspection = watch.time("inspecting the format", source.inspect(point)).await?;
        let well = inspection.is_well();
        proof.report.checked.extend(inspection.checked);
        proof.report.findings.extend(inspection.findings);
        if !well && proof.errors() == before {
            proof.report.findings.push(Finding::error("nothing in it could be inspected"));
        }
        proof.reach(ProofLevel::Parsed, before);
    }
    if level >= ProofLevel::Restored {
        let before = proof.errors();
        proof.rehearsal(source, point, control, work).await?;
        proof.reach(ProofLevel::Restored, before);
    }
    proof.report.stages = watch.stages();
    proof.leave_out(&point.manifest().incomplete);
    Ok(proof.ended())
}

/// Verifies any snapshot, also one that another tool made, at [`ProofLevel::Stored`] or [`ProofLevel::Readable`].
///
/// # Errors
/// As [`verify_point`].
pub async fn verify_snapshot(
    snapshot: &SnapshotReader,
    level: ProofLevel,
    work: &StagedWork,
) -> Result<VerifyReport, RepositoryError> {
    let source = snapshot.snapshot().source().map(|source| source.to_string());
    let mut proof =
        Verification::of(format!("snapshot {}", snapshot.snapshot().id().short()), source, level);
    proof.report.snapshot = Some(snapshot.snapshot().id());
    proof.report.host = Some(snapshot.snapshot().host().to_owned());
    proof.objects(snapshot, work).await?;
    if level >= ProofLevel::Readable {
        let before = proof.errors();
        proof.files(snapshot, &[], None, work).await?;
        proof.reach(ProofLevel::Readable, before);
    }
    Ok(proof.ended())
}

struct Verification {
    report: VerifyReport,
    /// What came back in a rehearsal and could not be compared.
    uncompared: Vec<Incomplete>,
    began: Instant,
}

impl Verification {
    fn of(point: String, source: Option<String>, wanted: ProofLevel) -> Self {
        let report = VerifyReport::of(point, source, wanted);
        Self { report, uncompared: Vec::new(), began: Instant::now() }
    }

    fn errors(&self) -> usize {
        self.report.findings.iter().filter(|finding| finding.is_error).count()
    }

    /// A level holds when all below it hold and it brought no error.
    fn reach(&mut self, level: ProofLevel, errors_before: usize) {
        if self.errors() == errors_before && errors_before == 0 {
            self.report.proven = Some(level);
        }
    }

    /// What its capture had to leave out cannot be proven, however sound the rest is.
    fn leave_out(&mut self, incomplete: &[Incomplete]) {
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

    fn ended(mut self) -> VerifyReport {
        self.report.seconds = self.began.elapsed().as_secs_f64();
        self.report
    }

    async fn objects(
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

    /// Reads every file of the tree that is no artifact, blob by blob: each is decrypted and hashed on the way.
    async fn files(
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
                    files += u64::from(!is_own(&file.path));
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
                "the manifest names {} artifacts, but the tree holds {seen}",
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

    async fn artifacts(
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
            self.report
                .checked
                .push(format!("{equal} of {of} artifacts are what the manifest says"));
        }
        Ok(())
    }

    /// The negative control of a drill that restores nothing: an artifact with one byte turned over must not be read to its end.
    async fn turned_byte(&mut self, point: &PointReader) -> Result<(), SourceError> {
        let smallest = point
            .manifest()
            .artifacts
            .iter()
            .filter(|artifact| artifact.size_bytes > 0)
            .min_by_key(|artifact| artifact.size_bytes);
        let Some(artifact) = smallest else {
            let why = "it holds no artifact that a byte could be turned over in, so nothing shows that reading it can fail";
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

    async fn rehearsal(
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
        // A source that failed has tried to remove what it made; only a second look tells whether it could.
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

    /// What a rehearsal showed. A comparison that does not see the damage of its negative control has shown nothing.
    fn take(&mut self, report: RestoreReport, controlled: bool) {
        let equal = report.is_equal();
        self.report
            .checked
            .extend(report.compared.into_iter().map(|what| format!("restored and equal: {what}")));
        self.report.findings.extend(report.warnings.into_iter().map(Finding::warning));
        self.uncompared.extend(
            report.uncompared.into_iter().map(|left| Incomplete { what: left.what, why: left.why }),
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
                let why = "it holds nothing that could be damaged in the scratch, so nothing shows that the comparison can fail";
                self.report.findings.push(Finding::warning(why));
            }
            _ => {}
        }
        self.report.control = report.control;
    }
}

/// What an incomplete point lacks, in one sentence.
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

fn in_words(origin: &Origin) -> String {
    match origin {
        Origin::Snapshot(snapshot) => format!("snapshot {}", snapshot.snapshot().id().short()),
        Origin::File(file) => file.path.display().to_string(),
    }
}

fn is_own(path: &Path) -> bool {
    path == Path::new(MANIFEST_PATH) || path == Path::new("/RESTORE.md")
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
