//! Warnings about definitions that are restored to another release.

use kaleem_dr_core::engine::manifest::ServerInfo;

use super::definitions::{Definitions, Kind};

/// Major and minor number of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Warnings for definitions that were captured from one release and are restored to another.
///
/// From the release notes: classic mirroring was removed in 4.0; 4.3 rejects by default queues that
/// are transient and not exclusive, and the old classic queue modes.
pub(crate) fn warnings(
    taken: Option<&ServerInfo>,
    here: &ServerInfo,
    definitions: &Definitions,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let (from, to) = (taken.and_then(|server| release(&server.version)), release(&here.version));
    match (from, to) {
        (Some(from), Some(to)) if from > to => warnings.push(format!(
            "the definitions are from {}, which is newer than this {}: unknown settings are rejected or lost",
            taken.map_or("", |server| &server.version),
            here.version
        )),
        (Some(from), Some(to)) if from < to => warnings.push(format!(
            "the definitions are from {}, but this is {}: the comparison afterwards shows what changed in between",
            taken.map_or("", |server| &server.version),
            here.version
        )),
        (None, _) => warnings.push("the RabbitMQ release of the definitions is not known".into()),
        _ => {}
    }
    if to.is_some_and(|to| to >= (4, 0)) {
        let mirrored = count(definitions, Kind::Policies, |item| {
            item["definition"]
                .as_object()
                .is_some_and(|definition| definition.keys().any(|key| key.starts_with("ha-")))
        });
        if mirrored > 0 {
            warnings.push(format!(
                "{mirrored} policies mirror classic queues (`ha-…`), which 4.0 removed: it may reject them; use quorum queues"
            ));
        }
    }
    if to.is_some_and(|to| to >= (4, 3)) {
        let transient = count(definitions, Kind::Queues, |item| item["durable"] == false);
        if transient > 0 {
            warnings.push(format!(
                "{transient} queues are transient, which 4.3 rejects unless every node has \
                 `deprecated_features.permit.transient_nonexcl_queues = true`"
            ));
        }
        let old = count(definitions, Kind::Queues, |item| {
            item["arguments"].get("x-queue-mode").is_some()
                || item["arguments"].get("x-queue-version").is_some_and(|n| *n == 1)
        });
        if old > 0 {
            warnings.push(format!(
                "{old} queues have `x-queue-mode` or `x-queue-version: 1`, which 4.3 rejects"
            ));
        }
    }
    warnings
}

fn count(
    definitions: &Definitions,
    kind: Kind,
    matches: impl Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
) -> usize {
    definitions.iter().filter(|(identity, item)| identity.kind() == kind && matches(item)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(version: &str) -> ServerInfo {
        ServerInfo::new("RabbitMQ", version)
    }

    #[test]
    fn settings_that_a_release_rejects_are_reported_before() {
        let document = json!({
            "vhosts": [{"name": "/"}],
            "policies": [{"vhost": "/", "name": "ha", "definition": {"ha-mode": "all"}}],
            "queues": [
                {"vhost": "/", "name": "t", "durable": false, "arguments": {}},
                {"vhost": "/", "name": "m", "durable": true, "arguments": {"x-queue-mode": "lazy"}},
            ],
        });
        let definitions = Definitions::parse(document.to_string().as_bytes()).unwrap();
        let told = |from: Option<&str>, to: &str| {
            warnings(from.map(server).as_ref(), &server(to), &definitions).join("\n")
        };
        assert_eq!(told(Some("3.10.8"), "3.10.12"), "");
        assert!(told(Some("4.0.1"), "3.13.2").contains("newer than this 3.13.2"));
        assert!(told(None, "3.13.2").contains("not known"));
        let newest = told(Some("3.10.8"), "4.3.5");
        for words in [
            "1 policies mirror",
            "1 queues are transient",
            "1 queues have `x-queue-mode`",
            "this is 4.3.5",
        ] {
            assert!(newest.contains(words), "{words}: {newest}");
        }
        assert!(!told(Some("4.0.0"), "4.1.0").contains("transient"));
    }
}
