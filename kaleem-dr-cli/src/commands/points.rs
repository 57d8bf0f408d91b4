//! `points`.

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::document::Point,
    recovery::{change_log::RestorableSpan, points::RecoveryPoint},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line, moment, table},
};

/// Arguments of `points`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Points {
    /// List only the spans of time of which any moment can be restored
    #[arg(long)]
    pub moments: bool,
}

pub async fn points(context: &Context, args: Points) -> Outcome {
    let (site, json) = (context.load()?, context.global.json);
    if !args.moments {
        print(&site.points().await?, json)?;
    }
    if args.moments || !json {
        print_spans(&site.restorable_spans().await?, json)?;
    }
    Ok(Exit::Done)
}

fn print(points: &[RecoveryPoint], json: bool) -> Printed {
    if json {
        return document(&points.iter().map(Point::from).collect::<Vec<_>>());
    }
    let mut rows = table(["run", "time", "host", "sources", ""]);
    for point in points {
        let sources: Vec<&str> = point.snapshots.keys().map(SourceName::as_str).collect();
        let missing: Vec<&str> = point.missing.iter().map(SourceName::as_str).collect();
        let state = match (point.is_of_the_future, missing.is_empty()) {
            (true, _) => "DATED IN THE FUTURE".to_owned(),
            (false, true) => "complete".to_owned(),
            (false, false) => format!("lacks {}", missing.join(" ")),
        };
        rows.add_row([
            point.run.to_string(),
            moment(point.time),
            point.host.clone(),
            sources.join(" "),
            state,
        ]);
    }
    line(&rows.to_string())
}

fn print_spans(spans: &[RestorableSpan], json: bool) -> Printed {
    if json {
        return document(&spans);
    }
    for span in spans {
        let source = &span.source;
        line(&format!(
            "any moment of {source} on {}: {} to {} ({} points, {} slices)",
            span.host, span.from_time, span.to_time, span.bases, span.slices
        ))?;
        if let Some(at) = span.broken_at {
            line(&format!("  then an entry of its change log that cannot be replayed, at {at}"))?;
        }
    }
    Ok(())
}
