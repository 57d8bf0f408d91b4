//! `unlock`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{LockInfo, LockVerdict, Repository},
    ground::Exit,
};
use serde_json::json;

use super::Outcome;
use crate::{
    consent::{self, Consent},
    context::Context,
    failure::Failure,
    output::{Printed, age, document, line, table},
};

/// Which locks to remove.
#[derive(Clone, Copy, Debug, Args)]
pub struct Unlock {
    #[command(flatten)]
    pub consent: Consent,
    /// Remove every lock, also of processes that may be at work
    #[arg(long)]
    pub remove_all: bool,
}

pub async fn unlock(context: &Context, args: Unlock) -> Outcome {
    let Unlock { consent, remove_all } = args;
    let site = context.load()?;
    let repository = site.repository().await?;
    let locks = standing(&repository, consent.dry_run).await?;
    let (going, staying): (Vec<LockInfo>, Vec<LockInfo>) =
        locks.into_iter().partition(|lock| remove_all || lock.is_stale);
    if consent.dry_run || going.is_empty() {
        print(&going, &staying, false, context.global.json)?;
        return Ok(Exit::Done);
    }
    let question = format!("remove {} locks?", going.len());
    consent::ask(consent, &question, &context.cancel, || print(&going, &staying, false, false))
        .await?;
    repository.remove_locks(&going).await?;
    print(&going, &staying, true, context.global.json)?;
    Ok(Exit::Done)
}

/// To look only, nothing is written, and ages are by this machine's clock.
async fn standing(repository: &Repository, look_only: bool) -> Result<Vec<LockInfo>, Failure> {
    Ok(if look_only { repository.locks().await? } else { repository.locks_of_others().await? })
}

/// Locks that go, or went, and those that stay.
fn print(going: &[LockInfo], staying: &[LockInfo], done: bool, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "locks", "removed": done, "stale": going, "held": staying }),
        );
    }
    if going.is_empty() && staying.is_empty() {
        return line("the repository has no locks");
    }
    let mut rows = table(["", "lock", "holder", "written", "known of it"]);
    let what = if done { "removed" } else { "to remove" };
    for (mark, lock) in
        going.iter().map(|lock| (what, lock)).chain(staying.iter().map(|lock| ("stays", lock)))
    {
        let id = lock.object.rsplit('/').next().unwrap_or_default();
        let written =
            lock.age_seconds.map(|seconds| format!("{} ago", age(seconds))).unwrap_or_default();
        rows.add_row([mark, &id[..8.min(id.len())], &lock.holder, &written, verdict(lock)]);
    }
    line(&rows.to_string())
}

fn verdict(lock: &LockInfo) -> &'static str {
    match lock.verdict {
        LockVerdict::Running => "its process runs on this machine",
        LockVerdict::Dead => "its process has ended",
        LockVerdict::Unknown if lock.is_stale => {
            "not renewed for half an hour; of another machine, container or program"
        }
        LockVerdict::Unknown => "of another machine, container or program",
        LockVerdict::Unreadable if lock.is_stale => "unreadable, and old",
        LockVerdict::Unreadable => "unreadable",
    }
}
