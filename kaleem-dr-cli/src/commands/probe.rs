//! `probe`.

use kaleem_dr_core::{
    engine::source::Probe,
    ground::{Exit, SourceName},
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
};

pub async fn probe(context: &Context) -> Outcome {
    let mut failure: Option<Failure> = None;
    let mut probes = Vec::new();
    for (name, probe) in context.load()?.probe().await {
        match probe {
            Ok(probe) => probes.push((name, probe)),
            Err(error) => {
                let found = Failure::from(&error);
                output::failure(&found, context.global.json);
                failure = Some(found);
            }
        }
    }
    print(&probes, context.global.json)?;
    Ok(failure.map_or(Exit::Done, |failure| failure.exit))
}

fn print(probes: &[(SourceName, Probe)], json: bool) -> Printed {
    for (source, probe) in probes {
        if json {
            let mut value = serde_json::to_value(probe)?;
            value["source"] = source.as_str().into();
            document(&value)?;
            continue;
        }
        let server = probe.server.as_ref().map_or_else(
            || "readable".to_owned(),
            |server| format!("{} {}", server.product, server.version),
        );
        let bytes = probe.size_bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        line(&format!("{source}: {server}{bytes}"))?;
        probe.warnings.iter().try_for_each(|warning| line(&format!("  note: {warning}")))?;
    }
    Ok(())
}
