//! `points`.

use kaleem_dr_core::{
    ground::{Exit, SourceName},
    recovery::points::RecoveryPoint,
};
use serde_json::Value;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line, table},
};

pub async fn points(context: &Context) -> Outcome {
    print(&context.load()?.points().await?, context.global.json)?;
    Ok(Exit::Done)
}

fn print(points: &[RecoveryPoint], json: bool) -> Printed {
    if json {
        let points: Vec<Value> = points
            .iter()
            .map(|point| {
                let mut value = serde_json::to_value(point)?;
                value["complete"] = point.is_complete().into();
                Ok(value)
            })
            .collect::<Result<_, serde_json::Error>>()?;
        return document(&points);
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
            point.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            point.host.clone(),
            sources.join(" "),
            state,
        ]);
    }
    line(&rows.to_string())
}
