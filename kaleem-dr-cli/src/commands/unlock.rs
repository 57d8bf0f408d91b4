//! `unlock`.

use kaleem_dr_core::{
    engine::repository::{Repository, StandingLock},
    ground::Exit,
};

use super::Outcome;
use crate::{args::Consent, context::Context, output};

pub async fn unlock(context: &Context, consent: Consent, remove_all: bool) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let locks = standing(&repository, consent.dry_run).await?;
    let (going, staying): (Vec<StandingLock>, Vec<StandingLock>) =
        locks.into_iter().partition(|lock| remove_all || lock.is_stale);
    if consent.dry_run || going.is_empty() {
        output::locks(&going, &staying, false, context.global.json)?;
        return Ok(Exit::Done);
    }
    let question = format!("remove {} locks?", going.len());
    output::consent(consent, &question, &context.cancel, || output::locks(&going, &staying, false, false)).await?;
    repository.remove_locks(&going).await?;
    output::locks(&going, &staying, true, context.global.json)?;
    Ok(Exit::Done)
}

/// To look only, nothing is written, and ages are by this machine's clock.
async fn standing(repository: &Repository, look_only: bool) -> Result<Vec<StandingLock>, crate::failure::Failure> {
    Ok(if look_only { repository.locks().await? } else { repository.locks_of_others().await? })
}
