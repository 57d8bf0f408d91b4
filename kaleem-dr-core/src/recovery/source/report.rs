//! The result of a restore and of the comparison after it.

use serde::Serialize;

use super::{difference::Difference, rehearsal::Control};
use crate::ground::Exit;

/// The result of a restore, and of the comparison with the manifest afterwards.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The target as text, as in the plan.
    pub target: String,
    /// Items written: documents, definitions, files.
    pub items: u64,
    /// Size of the written data, in bytes, as far as the source counts it.
    pub size_bytes: u64,
    /// Comparisons that found equal content.
    pub compared: Vec<String>,
    /// Differences from the manifest. Empty means that all of `compared` is equal.
    pub differences: Vec<Difference>,
    /// Restored objects that could not be compared with anything.
    pub uncompared: Vec<Uncompared>,
    /// Parts of the point that the target did not accept, so that the restore is only partial.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_restored: Vec<Uncompared>,
    /// Warnings for the operator, as one sentence each.
    pub warnings: Vec<String>,
    /// The operator's commands that ran afterwards.
    pub hooks: Vec<HookReport>,
    /// The negative control of a rehearsal: shows that the comparison can detect a difference. `None` if nothing could be
    /// damaged, or no control was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

impl RestoreReport {
    /// The report of a restore that has not written or compared anything yet.
    pub fn to(target: impl Into<String>) -> Self {
        Self { target: target.into(), ..Self::default() }
    }

    /// Reports whether something was compared, and all of it is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && !self.compared.is_empty()
    }

    /// Removes a scratch name from all texts, because it means nothing to a reader.
    pub(crate) fn without(mut self, name: &str) -> Self {
        // In paths, the name follows the directory with the same name.
        let plain = |text: &mut String| {
            if let Some(at) = text.find(name) {
                let begin = text[..at].rfind(' ').map_or(0, |space| space + 1);
                let rest = &text[text.rfind(name).unwrap_or(at) + name.len()..];
                let directory = text[begin..].starts_with('/');
                let rest = if directory { rest } else { rest.trim_start_matches(['.', '_']) };
                let whole = rest.is_empty() || rest.starts_with([':', ',', ' ']);
                let stands_for = if whole { "the scratch" } else { "" };
                *text = format!("{}{stands_for}{rest}", &text[..begin]);
            }
        };
        let differences = |differences: &mut Vec<Difference>| {
            differences.iter_mut().for_each(|found| plain(&mut found.what));
        };
        self.compared.iter_mut().for_each(plain);
        differences(&mut self.differences);
        if let Some(control) = &mut self.control {
            plain(&mut control.damage);
            differences(&mut control.found);
        }
        self
    }

    /// Reports whether it is equal, nothing is missing, and every hook succeeded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.exit() == Exit::Done
    }

    /// The exit code of a restore with this report: [`Exit::NotVerified`] for a difference or a failed hook, [`Exit::Partial`] if a
    /// part was not restored.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if !self.is_equal() || self.hooks.iter().any(|hook| hook.status != Some(0)) {
            Exit::NotVerified
        } else if self.not_restored.is_empty() {
            Exit::Done
        } else {
            Exit::Partial
        }
    }
}

/// An object that was not compared, or not restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Uncompared {
    /// The object, named as in the plan.
    pub what: String,
    /// The reason, as one sentence.
    pub why: String,
}

impl Uncompared {
    /// An object, and the reason.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// A command that ran after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HookReport {
    /// Program and arguments, as the config lists them.
    pub command: Vec<String>,
    /// Exit status; `None` if it did not start or was killed.
    pub status: Option<i32>,
    /// The end of its output, or the reason why it did not start.
    pub output: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(not_restored: &[&str]) -> RestoreReport {
        let not_restored = not_restored
            .iter()
            .map(|what| Uncompared { what: (*what).to_owned(), why: "refused".to_owned() });
        RestoreReport {
            compared: vec!["7 queues".to_owned()],
            not_restored: not_restored.collect(),
            ..RestoreReport::default()
        }
    }

    #[test]
    fn a_scratch_name_is_left_out_of_what_a_report_says() {
        let report = RestoreReport {
            compared: [
                "collection kdr_drill_1.orders: 7 documents",
                "7 queues",
                "collection kdr_drill_1_a.b: x",
                "q in kdr_drill_1: arguments",
            ]
            .map(str::to_owned)
            .to_vec(),
            differences: vec![Difference {
                what: "/state/scratch/kdr_drill_1/kdr_drill_1/etc/passwd".into(),
                expected: String::new(),
                found: String::new(),
            }],
            ..RestoreReport::default()
        };
        let plain = report.without("kdr_drill_1");
        assert_eq!(report_of(&[]).exit(), Exit::Done);
        assert_eq!(report_of(&["users"]).exit(), Exit::Partial);
        assert_eq!(
            plain.compared,
            [
                "collection orders: 7 documents",
                "7 queues",
                "collection a.b: x",
                "q in the scratch: arguments"
            ]
        );
        assert_eq!(plain.differences[0].what, "/etc/passwd");
    }
}
