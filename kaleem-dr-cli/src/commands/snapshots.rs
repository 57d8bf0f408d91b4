//! `snapshots`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::Snapshot,
    ground::{Exit, RunId, SourceName},
    jiff::Timestamp,
    operate::site::SnapshotFilter,
};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line, moment, restic_snapshot, size, table},
};

/// Arguments of `snapshots`.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// List only snapshots of this source
    #[arg(long)]
    pub source: Option<SourceName>,
    /// List only snapshots of this run
    #[arg(long)]
    pub run: Option<RunId>,
    /// List only snapshots that kaleem-dr made
    #[arg(long)]
    pub own: bool,
}

pub async fn snapshots(context: &Context, args: &Snapshots) -> Outcome {
    let mut filter = SnapshotFilter::of(args.source.clone());
    (filter.run, filter.own) = (args.run, args.own);
    // Every host's snapshots, unless a host is named.
    filter.hosts.clone_from(&context.global.host);
    print(&context.load()?.snapshots(&filter).await?, context.global.json)?;
    Ok(Exit::Done)
}

fn print(snapshots: &[Snapshot], json: bool) -> Printed {
    if json {
        return document(&snapshots.iter().map(restic_snapshot).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    let mut rows =
        table(["snapshot", "time", "host", "source", "run", "size", "new data", "paths"]);
    // Newest first, as all lists for people; JSON has restic's order.
    for snapshot in snapshots.iter().rev() {
        let paths: Vec<String> =
            snapshot.paths().iter().map(|path| path.display().to_string()).collect();
        let marks = [
            (snapshot.is_whole(), " (incomplete)"),
            (!snapshot.is_pinned(), " (pinned)"),
            (!snapshot.is_of_the_future(now), " (DATED IN THE FUTURE)"),
        ];
        let mark: String =
            marks.into_iter().filter(|(is_usual, _)| !is_usual).map(|(_, mark)| mark).collect();
        rows.add_row([
            snapshot.id().short(),
            moment(snapshot.time().timestamp()),
            snapshot.host().to_owned(),
            snapshot.source().map_or_else(|| "-".to_owned(), |source| format!("{source}{mark}")),
            snapshot.run().map_or_else(|| "-".to_owned(), |run| run.to_string()),
            snapshot.size_bytes().map(size).unwrap_or_default(),
            snapshot.added_bytes().map(size).unwrap_or_default(),
            paths.join(" "),
        ]);
    }
    line(&rows.to_string())?;
    line(&format!("{} snapshots", snapshots.len()))
}
