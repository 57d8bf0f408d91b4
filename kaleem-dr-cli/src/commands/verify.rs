//! `verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use kaleem_dr_core::{
    Site,
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
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr verify                                newest point of every source, each format checked
  kaleem-dr verify mongo --level restored         site into a scratch database, compared, removed
  kaleem-dr verify --snapshot 4f3a --level readable
  kaleem-dr verify mongo --from mongo.archive.gz";

/// What to prove, and how far.
#[derive(Debug, Args)]
pub struct Verify {
    /// Sources of the config; all of them when none is named
    pub sources: Vec<SourceName>,
    /// Run or snapshot to verify, by the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Any one snapshot, also one that another tool made
    #[arg(long, value_name = "ID", conflicts_with_all = ["sources", "point", "from"])]
    pub snapshot: Option<String>,
    /// A staged file of the one source named
    #[arg(long, value_name = "FILE", conflicts_with = "point")]
    pub from: Option<PathBuf>,
    /// stored, readable, parsed, or restored [default: parsed; of other tools' snapshots, readable]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<ProofLevel>,
}

impl Verify {
    fn options(&self) -> Options {
        let Self { sources, point, snapshot, level, from: _ } = self;
        Options {
            sources: sources.clone(),
            point: point.clone(),
            snapshot: snapshot.clone(),
            level: *level,
        }
    }
}

/// What to prove of a repository, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sources of the config; all of them when none is named.
    pub sources: Vec<SourceName>,
    /// Run or snapshot, by the beginning of its id, or `latest`.
    pub point: String,
    /// Instead, any one snapshot.
    pub snapshot: Option<String>,
    /// Parsed, when none is named; of other tools' snapshots, readable.
    pub level: Option<ProofLevel>,
}

pub async fn verify(context: &Context, args: &Verify) -> JobOutcome {
    let site = context.load()?;
    let reports = match &args.from {
        Some(path) => vec![file(&site, args, path).await?],
        None => run(context, &site, &args.options()).await?,
    };
    print(&reports, context.global.json)?;
    Ok(Ended::of_verification(&reports))
}

/// Verifies what lies in the repository.
pub async fn run(
    context: &Context,
    site: &Site,
    options: &Options,
) -> Result<Vec<VerifyReport>, Failure> {
    let repository = site.repository().await?;
    let Some(wanted) = &options.snapshot else {
        // What is newest has to be proven, whole or not.
        let point = site.point(&options.point, true);
        return points(context, site, repository, &options.sources, point, options.level).await;
    };
    let snapshots = repository.snapshots().await?;
    let snapshot = select(&snapshots, wanted, &site.identity().scope)?;
    let declared = snapshot
        .source()
        .filter(|source| snapshot.is_ours() && site.config().sources.contains_key(source));
    if let Some(name) = declared {
        let point = PointChoice {
            wanted: snapshot.id().to_string(),
            ..PointChoice::newest(HostScope::Any)
        };
        return points(context, site, repository, &[name], point, options.level).await;
    }
    let level = options.level.unwrap_or(ProofLevel::Readable);
    if level > ProofLevel::Readable {
        return Err(Failure::usage(format!(
            "no source of the config made snapshot {}, so its format is unknown; --level readable is the most",
            snapshot.id().short()
        )));
    }
    let lock = context.lock_to_read(&repository).await?;
    let report = async {
        verify_snapshot(&repository.read(snapshot).await?, level, &site.staged_work()).await
    }
    .await;
    lock.release().await?;
    let report = report?;
    if let Some(proof) = report.proof(context.run, &repository.location(), Timestamp::now()) {
        Ledger::open(&site.config().settings.state_directory)?.record_proof(&proof)?;
    }
    Ok(vec![report])
}

async fn points(
    context: &Context,
    site: &Site,
    repository: Repository,
    names: &[SourceName],
    point: PointChoice,
    level: Option<ProofLevel>,
) -> Result<Vec<VerifyReport>, Failure> {
    let (sources, unavailable) = site.sources(names)?;
    let job = VerifyJob {
        run: context.run,
        repository,
        sources,
        unavailable,
        point,
        level: level.unwrap_or(ProofLevel::Parsed),
        state_directory: site.config().settings.state_directory.clone(),
        patience: context.global.retry_lock,
    };
    Ok(job::verify(&job, &site.staged_work()).await?)
}

async fn file(site: &Site, args: &Verify, path: &Path) -> Result<VerifyReport, Failure> {
    let [name] = args.sources.as_slice() else {
        return Err(Failure::usage(
            "name the one source whose form the file has: `kaleem-dr verify mongo --from FILE`",
        ));
    };
    let source = site.source(name)?;
    let work = site.staged_work();
    let point = source.staged().ok_or_else(|| no_form(name))?.open(path, &work).await?;
    Ok(verify_point(&*source, &point, args.level.unwrap_or(ProofLevel::Parsed), &work).await?)
}

/// What was proven, of each point.
pub fn print(reports: &[VerifyReport], json: bool) -> Printed {
    for report in reports {
        if json {
            let mut value = serde_json::to_value(report)?;
            value["message_type"] = "verification".into();
            value["is_proven"] = report.is_proven().into();
            document(&value)?;
            continue;
        }
        if let Some(untried) = &report.error {
            line(&format!("NOT VERIFIED: {}", untried.why))?;
            continue;
        }
        let of = report.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
        let proven = report.proven.map_or("NOTHING", ProofLevel::as_str);
        let wanted = match report.held {
            _ if report.is_proven() => String::new(),
            Some(held) => format!("; what is there is {held}, but the point is incomplete"),
            None => format!("; {} was asked for", report.wanted),
        };
        line(&format!(
            "{}{of}: {proven} is proven{wanted}, in {:.1} s",
            report.point, report.seconds
        ))?;
        report.checked.iter().try_for_each(|what| line(&format!("  {what}")))?;
        report.findings.iter().try_for_each(|finding| line(&format!("  {finding}")))?;
    }
    Ok(())
}
