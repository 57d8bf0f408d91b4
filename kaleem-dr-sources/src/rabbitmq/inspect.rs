//! Checks definitions for consistency without a server: every reference must have a target.

use kaleem_dr_core::{
    ground::{error_chain, finding::Finding},
    recovery::source::Inspection,
};

use super::definitions::{Dangling, Definitions, Kind};

/// Limit for the number of findings of one kind that are listed one by one.
const FINDINGS: usize = 100;

/// Checks a document. `path` names it in findings.
pub(crate) fn inspect(document: &[u8], path: &str) -> Inspection {
    let mut inspection = Inspection::default();
    let definitions = match Definitions::parse(document) {
        Ok(definitions) => definitions,
        Err(error) => {
            inspection.findings.push(Finding::error(format!("{path}: {}", error_chain(&error))));
            return inspection;
        }
    };
    let wrong = definitions.dangling();
    let more = wrong.len().saturating_sub(FINDINGS);
    inspection.findings.extend(wrong.into_iter().take(FINDINGS).map(|dangling| {
        let Dangling { identity, noun, name } = dangling;
        Finding::error(format!("{identity} refers to the {noun} `{name}`, which does not exist"))
    }));
    if more > 0 {
        inspection
            .findings
            .push(Finding::error(format!("{more} more definitions refer to missing ones")));
    }
    let counts: Vec<_> = Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let count = definitions.counts()[kind.key()];
            (count > 0).then(|| format!("{count} {}", kind.noun(count > 1)))
        })
        .collect();
    if definitions.vhosts().next().is_none() {
        inspection.findings.push(Finding::error(format!("{path}: it has no virtual host")));
    }
    inspection.checked.push(format!("{path} is consistent: {}", counts.join(", ")));
    inspection
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn findings(document: &Value) -> Vec<String> {
        inspect(document.to_string().as_bytes(), "d")
            .findings
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_refers_to_nothing_is_found() {
        let mut document = json!({
            "users": [{"name": "u"}],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": "u", "vhost": "/"}],
            "exchanges": [{"name": "e", "vhost": "/"}],
            "queues": [{"name": "q", "vhost": "/"}],
            "bindings": [
                {"source": "e", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": ""},
                {"source": "amq.topic", "vhost": "/", "destination": "e", "destination_type": "exchange", "routing_key": ""},
            ],
        });
        assert_eq!(findings(&document), [""; 0]);
        document["queues"] = json!([{"name": "other", "vhost": "gone"}]);
        document["permissions"][0]["user"] = "nobody".into();
        assert_eq!(
            findings(&document),
            [
                "error: permission of nobody in / refers to the user `nobody`, which does not exist",
                "error: queue other in gone refers to the virtual host `gone`, which does not exist",
                "error: binding of e to q with key `` in / refers to the queue `q`, which does not exist",
            ]
        );
        assert!(!inspect(b"{}", "d").is_well());
        assert!(!inspect(b"{\"vhosts\": []}", "d").is_well());
    }
}
