//! What is wrong with an old installation: a diagnosis, with its place, and whether the migration waits for it.

use serde::Serialize;

use crate::ground::diagnosis::{Diagnosis, Severity};

/// One thing that was found. The diagnosis never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is there, why that is bad, and what to do.
    pub diagnosis: Diagnosis,
    /// Whether nothing is switched over until it is settled.
    pub blocks: bool,
    /// A file, with the line where there is one.
    pub place: Option<String>,
}

impl Finding {
    fn new(diagnosis: Diagnosis, why: &str, advice: &str) -> Self {
        Self { diagnosis: diagnosis.because(why).fix(advice), blocks: false, place: None }
    }

    /// Data or secrets are at risk, or a restore cannot work.
    pub(super) fn error(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::error(code, what), why, advice)
    }

    /// It may go wrong.
    pub(super) fn warning(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::warning(code, what), why, advice)
    }

    /// Worth knowing.
    pub(super) fn information(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::information(code, what), why, advice)
    }

    /// At a place.
    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// Nothing is changed before it is settled.
    pub(super) fn blocking(self) -> Self {
        Self { blocks: true, ..self }
    }
}

/// The JSON of `migrate --json`: flat, and with names of its own, which scripts rely on.
#[derive(Serialize)]
struct View<'a> {
    code: &'static str,
    severity: Severity,
    blocks: bool,
    place: Option<&'a str>,
    what: &'a str,
    why: &'a str,
    advice: &'a str,
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Diagnosis { id, severity, what, cause, fix, .. } = &self.diagnosis;
        let view = View {
            code: id,
            severity: *severity,
            blocks: self.blocks,
            place: self.place.as_deref(),
            what,
            why: cause.as_deref().unwrap_or_default(),
            advice: fix.as_deref().unwrap_or_default(),
        };
        view.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_finding_has_the_names_and_the_order_that_scripts_know() {
        let finding = Finding::warning("old-prune", "it prunes", "two rules", "switch it off")
            .at("/etc/cron.d/kaleem-backups:3")
            .blocking();
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"code":"old-prune","severity":"warning","blocks":true,"place":"/etc/cron.d/kaleem-backups:3","what":"it prunes","why":"two rules","advice":"switch it off"}"#
        );
    }
}
