//! Proves a recovery point at one of four levels, each of which includes those below it.
//!
//! *Stored*: every object that the snapshot needs exists and hashes to its name. *Readable*: every blob decrypts and every
//! artifact matches the manifest. *Parsed*: the source finds each artifact valid in its own format. *Restored*: it was loaded
//! into a scratch target and has equal content. Each problem is a finding and never hides what comes after it.

mod report;
mod work;

use crate::{
    engine::repository::{RepositoryError, SnapshotReader},
    ground::{Exit, ProofLevel, SourceError, error_chain, finding::Finding, stopwatch::Stopwatch},
    recovery::{
        point::{Origin, PointReader},
        points::PointChoice,
        source::{Restorable, change_log},
        staged::StagedWork,
        view::RepositoryView,
    },
};

pub use self::report::{Untried, VerifyReport};
use self::work::Verification;
#[cfg(feature = "operate")]
pub(crate) use self::work::left_out;

/// The extent of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thoroughness {
    /// The level to prove, with all levels below it.
    pub level: ProofLevel,
    /// Run a negative control as well ([`Control`](super::source::Control)): the scratch target is damaged on purpose and must be
    /// found different; below [`ProofLevel::Restored`], an artifact with one byte changed must not be read to its end.
    pub control: bool,
}

impl Thoroughness {
    /// Proves a level, with a negative control.
    #[must_use]
    pub fn controlled(level: ProofLevel) -> Self {
        Self { level, control: true }
    }
}

impl From<ProofLevel> for Thoroughness {
    fn from(level: ProofLevel) -> Self {
        Self { level, control: false }
    }
}

/// Verifies a source's snapshot, chosen as by [`choose`](super::points::choose).
///
/// # Errors
/// As [`verify_point`], and if the snapshot does not exist. A snapshot that is too damaged to be opened is not an error: the report
/// says so.
pub async fn verify_source(
    view: &RepositoryView,
    source: &dyn Restorable,
    choice: &PointChoice,
    how: impl Into<Thoroughness>,
    work: &StagedWork,
) -> Result<VerifyReport, SourceError> {
    let how = how.into();
    let point = |error: RepositoryError| SourceError::Point(error.into());
    if choice.moment.is_some() {
        change_log(source)?;
    }
    let chosen = view.choose(source.name(), choice).await.map_err(point)?;
    let snapshot = &chosen.snapshot;
    let verified = async {
        let reader = view.read(snapshot).await.map_err(point)?;
        match chosen.open_with(&reader, &work.progress, &work.cancel).await {
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
    // After a cancellation, unread data are not damage.
    if work.cancel.is_cancelled() {
        return Err(SourceError::Cancelled);
    }
    let mut report = match verified {
        // Damage that prevents further checks is a finding of this snapshot, and revokes its earlier proofs.
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
    report.findings.extend(chosen.notes.iter().cloned().map(Finding::warning));
    report.snapshot = Some(snapshot.id());
    report.host = Some(snapshot.host().to_owned());
    report.consistent_at.get_or_insert(snapshot.time().timestamp());
    Ok(report)
}

/// Verifies a recovery point of a source.
///
/// # Errors
/// If it cannot be verified at all: the repository or the scratch target cannot be reached. Defects of the point are in the
/// report: the caller must check [`VerifyReport::is_proven`].
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
    proof.report.consistent_at = Some(point.manifest().consistency.at);
    proof.report.size_bytes = point.manifest().size_bytes();
    let mut point = point.unread().telling(watch.sink());
    if let Origin::Snapshot(snapshot) = point.origin() {
        proof.report.snapshot = Some(snapshot.snapshot().id());
        proof.report.host = Some(snapshot.snapshot().host().to_owned());
        let files = proof
            .data(snapshot, Some(point.manifest()), work)
            .await
            .map_err(|error| SourceError::Point(error.into()))?;
        point = point.with_files_read(files);
    } else {
        // Opening a file reads it completely and checks it with all means of its form.
        proof.reach(ProofLevel::Stored, 0);
    }
    // The inspection reads artifacts, and each one that it reads to its end is compared with the manifest. So it comes first, and
    // what it left unread follows.
    let inspection = if level >= ProofLevel::Parsed {
        Some(watch.time("inspecting the format", source.inspect(&point)).await)
    } else {
        None
    };
    if level >= ProofLevel::Readable {
        proof.artifacts(&point, work).await?;
        proof.reach(ProofLevel::Readable, 0);
        if control && level < ProofLevel::Restored {
            proof.turned_byte(&point).await?;
        }
    }
    if let Some(inspection) = inspection.transpose()? {
        let before = proof.errors();
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
        proof.rehearsal(source, &point, control, work).await?;
        proof.reach(ProofLevel::Restored, before);
    }
    proof.report.stages = watch.stages();
    proof.leave_out(&point.manifest().incomplete);
    Ok(proof.ended())
}

/// Verifies any snapshot, including those of other tools, at [`ProofLevel::Stored`] or [`ProofLevel::Readable`].
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
    proof.data(snapshot, None, work).await?;
    if level >= ProofLevel::Readable {
        proof.reach(ProofLevel::Readable, 0);
    }
    Ok(proof.ended())
}

fn in_words(origin: &Origin) -> String {
    match origin {
        Origin::Snapshot(snapshot) => format!("snapshot {}", snapshot.snapshot().id().short()),
        Origin::File(file) => file.path.display().to_string(),
    }
}
