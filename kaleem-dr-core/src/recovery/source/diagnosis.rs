//! Converts a probe of a source into a diagnosis for `doctor`.

use crate::{
    engine::source::Probe,
    ground::{SourceError, SourceName, diagnosis::Diagnosis, error_chain},
};

/// Converts the result of a probe into a diagnosis.
#[must_use]
pub fn diagnosis_of_probe(
    source: &SourceName,
    probe: &Result<Probe, SourceError>,
) -> Vec<Diagnosis> {
    match probe {
        Ok(probe) => {
            let server = probe.server.as_ref();
            let server = server.map_or_else(String::new, |server| {
                format!(": {} {}", server.product, server.version)
            });
            let mut found = vec![Diagnosis::ok(
                "source-reachable",
                format!("source {source} can be captured{server}"),
            )];
            found.extend(probe.warnings.iter().map(|why| {
                let fix = format!(
                    "correct it at the server or in [source.{source}], then run `kaleem-dr probe`"
                );
                Diagnosis::warning("source-warning", format!("source {source}: {why}")).fix(fix)
            }));
            found
        }
        Err(error) => vec![diagnosis_of_source_error(source, error)],
    }
}

/// Explains why a source cannot be captured.
#[must_use]
pub fn diagnosis_of_source_error(source: &SourceName, error: &SourceError) -> Diagnosis {
    let what = format!("source {source}: {}", error_chain(error));
    match error {
        SourceError::Unreachable { server, .. } => Diagnosis::error("source-unreachable", what)
            .fix(format!("start the server, or correct its address {server} in [source.{source}]")),
        SourceError::Unauthorised { .. } => {
            Diagnosis::error("source-unauthorised", what).fix(format!(
                "correct the secret named in [source.{source}], or grant that user the permissions"
            ))
        }
        _ => Diagnosis::error("source-failed", what)
            .fix(format!("correct [source.{source}] in the config, then run `kaleem-dr probe`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_down_is_not_one_that_keeps_us_out() {
        let source: SourceName = "mongo".parse().unwrap();
        let down =
            SourceError::Unreachable { server: "127.0.0.1:9".into(), cause: "refused".into() };
        let out = SourceError::Unauthorised {
            server: "127.0.0.1:9".into(),
            action: "log in".into(),
            cause: "no".into(),
        };
        assert_eq!(diagnosis_of_source_error(&source, &down).id, "source-unreachable");
        assert_eq!(diagnosis_of_source_error(&source, &out).id, "source-unauthorised");
    }
}
