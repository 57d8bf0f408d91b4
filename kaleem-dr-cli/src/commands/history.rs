//! `history`.

use clap::Args;
use kaleem_dr_core::{engine::ledger::PastEvent, ground::Exit};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{self, Printed, document, line, moment, table},
};

/// Arguments of `history`.
#[derive(Clone, Copy, Debug, Args)]
pub struct History {
    /// Maximum number of jobs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
    /// After the ledger was lost, add the runs, proofs and drill reports that the repositories have
    #[arg(long)]
    pub rebuild: bool,
}

pub async fn history(context: &Context, args: History) -> Outcome {
    if args.rebuild { rebuilt(context, args.last).await } else { recorded(context, args.last) }
}

/// Prints the events of the ledger.
fn recorded(context: &Context, last: usize) -> Outcome {
    print(&context.load()?.past(last)?, context.global.json)?;
    Ok(Exit::Done)
}

/// Adds runs from the repositories to the ledger, then prints its events.
async fn rebuilt(context: &Context, last: usize) -> Outcome {
    let (site, json) = (context.load()?, context.global.json);
    let rebuilt = site.rebuild_past().await?;
    for (repository, added) in rebuilt.repositories {
        match added {
            Ok(runs) => print_rebuilt(&repository, runs, json)?,
            Err(error) => output::failure(&error.into(), json),
        }
    }
    let (proofs, reports) = (rebuilt.proofs, rebuilt.reports);
    if json {
        document(
            &json!({ "message_type": "rebuilt_evidence", "proofs": proofs, "reports": reports }),
        )?;
    } else {
        line(&format!("{proofs} proofs and {reports} drill reports added"))?;
        print(&site.past(last)?, false)?;
    }
    Ok(rebuilt.exit)
}

fn print_rebuilt(repository: &str, runs: usize, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "rebuilt", "repository": repository, "runs": runs }),
        );
    }
    line(&format!("{runs} runs added from {repository}"))
}

fn print(events: &[PastEvent], json: bool) -> Printed {
    if json {
        return document(&events);
    }
    let mut rows = table(["run", "job", "repository", "ended", "took", "exit"]);
    for event in events {
        rows.add_row([
            event.run.to_string(),
            event.kind.clone(),
            event.repository.clone(),
            moment(event.finished),
            format!("{:.1} s", event.finished.duration_since(event.started).as_secs_f64()),
            event.exit.to_string(),
        ]);
    }
    line(&rows.to_string())
}
