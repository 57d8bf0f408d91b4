//! `unlock`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{LockInfo, LockVerdict},
    ground::Exit,
    operate::site::{self, LocksReport},
};
use serde_json::json;

use super::Outcome;
use crate::{
    consent::{Asking, Consent},
    context::Context,
    output::{Printed, age, document, line, table},
};

/// Arguments of `unlock`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Unlock {
    #[command(flatten)]
    pub consent: Consent,
    /// Remove every lock, including those of processes that may still run
    #[arg(long)]
    pub remove_all: bool,
}

pub async fn unlock(context: &Context, args: Unlock) -> Outcome {
    let Unlock { consent, remove_all } = args;
    let site = context.load()?;
    let mut asking = Asking::new(context, consent);
    let wanted = site::Unlock::of(remove_all, consent.dry_run);
    let done = site
        .unlock(wanted, async |found| {
            let question = format!("remove {} locks?", found.going.len());
            asking.agree(&question, || print(found, false)).await
        })
        .await;
    print(&asking.given(done)?, context.global.json)?;
    Ok(Exit::Done)
}

/// Prints the locks that are or would be removed, and those that stay.
fn print(report: &LocksReport, json: bool) -> Printed {
    let LocksReport { going, staying, done, .. } = report;
    if json {
        return document(
            &json!({ "message_type": "locks", "removed": done, "stale": going, "held": staying }),
        );
    }
    if going.is_empty() && staying.is_empty() {
        return line("the repository has no locks");
    }
    let mut rows = table(["", "lock", "holder", "written", "state"]);
    let what = if *done { "removed" } else { "to remove" };
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
        LockVerdict::Running => "its process is running on this machine",
        LockVerdict::Dead => "its process has ended",
        LockVerdict::Unknown if lock.is_stale => {
            "not renewed for half an hour; held by another machine, container or program"
        }
        LockVerdict::Unknown => "held by another machine, container or program",
        LockVerdict::Unreadable if lock.is_stale => "unreadable, and old",
        LockVerdict::Unreadable => "unreadable",
    }
}
