//! Problems of an old installation: a diagnosis with its place, and whether it blocks the
//! migration.

use serde::Serialize;

use crate::ground::diagnosis::{Diagnosis, Severity};

/// A finding. Its diagnosis never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The problem, its effect, and the fix.
    pub diagnosis: Diagnosis,
    /// The finding must be resolved before anything is switched over.
    pub blocks: bool,
    /// The file, with the line if there is one.
    pub place: Option<String>,
}

impl Finding {
    fn new(diagnosis: Diagnosis, why: &str, advice: &str) -> Self {
        Self { diagnosis: diagnosis.because(why).fix(advice), blocks: false, place: None }
    }

    /// Creates an error: data or secrets are at risk, or a restore cannot work.
    pub(super) fn error(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::error(code, what), why, advice)
    }

    /// Creates a warning: something may go wrong.
    pub(super) fn warning(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::warning(code, what), why, advice)
    }

    pub(super) fn information(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Diagnosis::information(code, what), why, advice)
    }

    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// Makes the finding block the migration.
    pub(super) fn blocking(self) -> Self {
        Self { blocks: true, ..self }
    }
}

/// The JSON of `migrate --json`: flat, with field names that scripts rely on.
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
