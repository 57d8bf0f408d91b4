//! `verify`.

use kaleem_dr_core::{
    jiff::Timestamp,
    ledger::{Ledger, Proof},
    monitor::Ended,
    repository::{Repository, select},
    verify::{ProofLevel, VerifyReport, verify_point, verify_snapshot, verify_source},
};

use super::{JobOutcome, export::no_form};
use crate::{
    args::Verify,
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn verify(context: &Context, args: &Verify) -> JobOutcome {
    let loaded = context.load()?;
    let reports =
        if args.from.is_some() { vec![file(context, &loaded, args).await?] } else { reports(context, &loaded, args).await? };
    output::verified(&reports, context.global.json)?;
    Ok(Ended::of_verification(&reports))
}

/// Keeps what was shown of snapshots: RPO counts from it.
fn keep(context: &Context, loaded: &Loaded, repository: &Repository, reports: &[VerifyReport]) -> Result<(), Failure> {
    let ledger = Ledger::open(&loaded.config.settings.state_directory)?;
    let (location, now) = (repository.location(), Timestamp::now());
    for proof in reports.iter().filter_map(|report| Proof::of(report, context.run, &location, now)) {
        ledger.record_proof(&proof)?;
    }
    Ok(())
}

/// Verifies what lies in the repository.
pub async fn reports(context: &Context, loaded: &Loaded, args: &Verify) -> Result<Vec<VerifyReport>, Failure> {
    let repository = context.repository(loaded).await?;
    let lock = context.lock_to_read(&repository).await?;
    let reports = snapshots(context, loaded, &repository, args).await;
    lock.release().await?;
    let reports = reports?;
    keep(context, loaded, &repository, &reports)?;
    Ok(reports)
}

async fn file(context: &Context, loaded: &Loaded, args: &Verify) -> Result<VerifyReport, Failure> {
    let ([name], Some(path)) = (args.sources.as_slice(), &args.from) else {
        return Err(Failure::usage("name the one source whose form the file has: `kaleem-dr verify mongo --from FILE`"));
    };
    let source = loaded.source(name)?;
    let work = context.staged_work(loaded);
    let point = source.staged().ok_or_else(|| no_form(name))?.open(path, &work).await?;
    Ok(verify_point(&*source, &point, args.level.unwrap_or(ProofLevel::Parsed), &work).await?)
}

async fn snapshots(
    context: &Context,
    loaded: &Loaded,
    repository: &Repository,
    args: &Verify,
) -> Result<Vec<VerifyReport>, Failure> {
    let work = context.staged_work(loaded);
    if let Some(wanted) = &args.snapshot {
        let snapshots = repository.snapshots().await?;
        let snapshot = select(&snapshots, wanted)?;
        let declared = snapshot.source().filter(|source| snapshot.is_ours() && loaded.config.sources.contains_key(source));
        let Some(name) = declared else {
            let level = args.level.unwrap_or(ProofLevel::Readable);
            if level > ProofLevel::Readable {
                return Err(Failure::usage(format!(
                    "snapshot {} is of no source of the config, so nothing knows its format; --level readable is the most",
                    snapshot.id().short()
                )));
            }
            return Ok(vec![verify_snapshot(&repository.read(snapshot).await?, level, &work).await?]);
        };
        let source = loaded.source(&name)?;
        let level = args.level.unwrap_or(ProofLevel::Parsed);
        return Ok(vec![verify_source(repository, &*source, wanted, level, &work).await?]);
    }
    let names = if args.sources.is_empty() { loaded.config.backup_sources() } else { args.sources.clone() };
    let mut reports = Vec::new();
    for name in names {
        let source = loaded.source(&name)?;
        let level = args.level.unwrap_or(ProofLevel::Parsed);
        reports.push(verify_source(repository, &*source, &args.point, level, &work).await?);
    }
    Ok(reports)
}
