//! Verifies the points of several sources in one job. If a source cannot be tried, the others are
//! still verified.

use std::{sync::Arc, time::Duration};

use crate::{
    engine::repository::{Repository, RepositoryError},
    ground::{Exit, ProofLevel, SourceError, error_chain},
    recovery::{
        points::PointChoice,
        source::{Restorable, Unavailable},
        staged::StagedWork,
        verify::{VerifyReport, verify_source},
        view::RepositoryView,
    },
};

/// Options of a verification job.
#[derive(Clone)]
#[non_exhaustive]
pub struct VerifyJob {
    /// Repository that contains the points.
    pub repository: Repository,
    /// Sources to verify, in this order.
    pub sources: Vec<Arc<dyn Restorable>>,
    /// Wanted sources that are unavailable; they count as not tried.
    pub unavailable: Vec<Unavailable>,
    /// Selection of the point of each source.
    pub point: PointChoice,
    /// Level to prove, with all levels below it.
    pub level: ProofLevel,
    /// Maximum wait for another program's lock.
    pub patience: Duration,
}

/// The result of a verification job.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Verified {
    /// A report for each source that was reached, even if the job ended early. Callers must check
    /// [`exit_of`].
    pub reports: Vec<VerifyReport>,
    /// Why the job ended early, or why its lock could not be released.
    pub stopped: Option<RepositoryError>,
}

/// Verifies each source's point. The caller records the proofs, as
/// [`Site::verify`](crate::Site::verify) does.
///
/// # Errors
/// If the repository cannot be locked.
pub async fn verify(job: &VerifyJob, work: &StagedWork) -> Result<Verified, RepositoryError> {
    let untried = |of: &Unavailable| {
        VerifyReport::untried(&of.source, job.level, Exit::Usage, of.why.clone())
    };
    let mut reports: Vec<VerifyReport> = job.unavailable.iter().map(untried).collect();
    let lock = job.repository.lock_to_read(job.patience).await?;
    let mut cancelled = false;
    let view = RepositoryView::of(&job.repository);
    for source in &job.sources {
        match verify_source(&view, &**source, &job.point, job.level, work).await {
            Ok(report) => reports.push(report),
            Err(SourceError::Cancelled) => cancelled = true,
            Err(_) if work.cancel.is_cancelled() => cancelled = true,
            Err(error) => {
                let why = format!("source {}: {}", source.name(), error_chain(&error));
                tracing::error!(source = %source.name(), error = %error_chain(&error), "not verified");
                reports.push(VerifyReport::untried(
                    source.name(),
                    job.level,
                    Exit::from(&error),
                    why,
                ));
            }
        }
        if cancelled || work.cancel.is_cancelled() {
            break;
        }
    }
    let released = lock.release().await.err();
    let stopped = released.or(cancelled.then_some(RepositoryError::Cancelled));
    Ok(Verified { reports, stopped })
}

/// The common exit status of verifications: 4 if one found damage, 1 if none could be tried, 3 if
/// some could not be tried or are incomplete.
#[must_use]
pub fn exit_of(reports: &[VerifyReport]) -> Exit {
    let exits: Vec<Exit> = reports.iter().map(VerifyReport::exit).collect();
    if reports.iter().all(|report| report.error.is_some()) {
        Exit::Failed
    } else if reports
        .iter()
        .any(|report| report.error.is_none() && report.exit() == Exit::NotVerified)
    {
        Exit::NotVerified
    } else if exits.iter().all(|exit| *exit == Exit::Done) {
        Exit::Done
    } else {
        Exit::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tried_is_a_failure_and_damage_outweighs_what_could_not_be_tried() {
        let source = "mongo".parse().unwrap();
        let report = |proven, held| VerifyReport {
            proven,
            held,
            ..VerifyReport::of("snapshot".into(), None, ProofLevel::Parsed)
        };
        let good = report(Some(ProofLevel::Parsed), None);
        let bad = report(Some(ProofLevel::Stored), None);
        let incomplete = report(None, Some(ProofLevel::Parsed));
        let untried =
            VerifyReport::untried(&source, ProofLevel::Parsed, Exit::Unreachable, "no".into());
        let of = |reports: &[&VerifyReport]| {
            exit_of(&reports.iter().map(|report| (*report).clone()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Exit::Failed);
        assert_eq!(of(&[&untried]), Exit::Failed);
        assert_eq!(of(&[&good]), Exit::Done);
        assert_eq!(of(&[&good, &untried]), Exit::Partial);
        assert_eq!(of(&[&good, &incomplete]), Exit::Partial);
        assert_eq!(of(&[&good, &untried, &bad]), Exit::NotVerified);
    }
}
