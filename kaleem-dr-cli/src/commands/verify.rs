//! `verify`.

use kaleem_dr_core::{
    engine::{
        ledger::Ledger,
        repository::{Repository, select},
    },
    ground::{ProofLevel, SourceName, host::HostScope},
    jiff::Timestamp,
    operate::{job, job::VerifyJob, monitor::Ended},
    recovery::{
        points::PointChoice,
        verify::{VerifyReport, verify_point, verify_snapshot},
    },
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

/// Verifies what lies in the repository.
pub async fn reports(context: &Context, loaded: &Loaded, args: &Verify) -> Result<Vec<VerifyReport>, Failure> {
    let repository = context.repository(loaded).await?;
    let Some(wanted) = &args.snapshot else {
        // What is newest has to be proven, whole or not.
        let point = loaded.point(&args.point, true);
        return points(context, loaded, repository, &args.sources, point, args.level).await;
    };
    let snapshots = repository.snapshots().await?;
    let snapshot = select(&snapshots, wanted, &loaded.identity.scope)?;
    let declared = snapshot.source().filter(|source| snapshot.is_ours() && loaded.config.sources.contains_key(source));
    if let Some(name) = declared {
        let point = PointChoice { wanted: snapshot.id().to_string(), ..PointChoice::newest(HostScope::Any) };
        return points(context, loaded, repository, &[name], point, args.level).await;
    }
    let level = args.level.unwrap_or(ProofLevel::Readable);
    if level > ProofLevel::Readable {
        return Err(Failure::usage(format!(
            "no source of the config made snapshot {}, so its format is unknown; --level readable is the most",
            snapshot.id().short()
        )));
    }
    let lock = context.lock_to_read(&repository).await?;
    let report = async { verify_snapshot(&repository.read(snapshot).await?, level, &context.staged_work(loaded)).await }.await;
    lock.release().await?;
    let report = report?;
    if let Some(proof) = report.proof(context.run, &repository.location(), Timestamp::now()) {
        Ledger::open(&loaded.config.settings.state_directory)?.record_proof(&proof)?;
    }
    Ok(vec![report])
}

async fn points(
    context: &Context,
    loaded: &Loaded,
    repository: Repository,
    names: &[SourceName],
    point: PointChoice,
    level: Option<ProofLevel>,
) -> Result<Vec<VerifyReport>, Failure> {
    let (sources, unavailable) = loaded.sources(names)?;
    let job = VerifyJob {
        run: context.run,
        repository,
        sources,
        unavailable,
        point,
        level: level.unwrap_or(ProofLevel::Parsed),
        state_directory: loaded.config.settings.state_directory.clone(),
        patience: context.global.retry_lock,
    };
    Ok(job::verify(&job, &context.staged_work(loaded)).await?)
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
