//! Making and keeping a repository: `init`, `prune`, `check`.

use kaleem_dr_core::{
    engine::repository::{PruneOptions, ReadData, Repository},
    ground::Exit,
    operate::{monitor::Ended, tripwire::Removal},
};

use serde_json::json;

use super::{JobOutcome, Outcome, forget::guard};
use crate::{args::Consent, context::Context, output};

pub async fn init(context: &Context, version: u32, like: Option<&str>) -> Outcome {
    let loaded = context.load()?;
    let access = context.access(&loaded)?;
    let repository = match like {
        Some(name) => {
            let like = Repository::open(&loaded.access_to(name)?).await?;
            Repository::init_like(&access, version, &like).await?
        }
        None => Repository::init(&access, version).await?,
    };
    output::init(&repository, context.global.json)?;
    Ok(Exit::Done)
}

pub async fn prune(context: &Context, consent: Consent, instant: bool, max_unused_percent: u64) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    if !consent.dry_run {
        guard(&loaded, &repository, &loaded.identity.scope, Removal::Prune).await?;
    }
    let options = PruneOptions { instant, max_unused_percent, dry_run: true, ..PruneOptions::default() };
    let lock = context.lock_to_free(&repository).await?;
    let result = async {
        let plan = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        if consent.dry_run {
            output::prune(&plan, context.global.json)?;
            return Ok(Ended::from(Exit::Done));
        }
        if instant || !plan.deletes_nothing() {
            output::consent(consent, "prune?", &context.cancel, || output::prune(&plan, false)).await?;
        }
        let options = PruneOptions { dry_run: false, ..options };
        let report = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        output::prune(&report, context.global.json)?;
        Ok(Ended::new(Exit::Done, &report))
    }
    .await;
    lock.release().await?;
    result
}

pub async fn check(context: &Context, read_data: bool, subset: Option<ReadData>) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let read = subset.unwrap_or(if read_data { ReadData::All } else { ReadData::Nothing });
    let lock = context.lock_to_read(&repository).await?;
    let report = repository.check(read, &lock, &context.progress, &context.cancel).await;
    lock.release().await?;
    let report = report?;
    output::check(&report, context.global.json)?;
    let exit = if report.errors() == 0 { Exit::Done } else { Exit::NotVerified };
    let message = report.findings.iter().find(|finding| finding.is_error).map(|finding| finding.message.clone());
    Ok(Ended { message, ..Ended::new(exit, &json!({ "num_errors": report.errors(), "findings": report.findings })) })
}
