//! The jobs of a site: what a monitor must know before a job begins.

use super::Site;
use crate::{
    engine::ledger::EventKind,
    ground::{RunId, SourceName},
    operate::monitor::Job,
};

impl Site {
    /// A job on the selected repository. If the config does not select one, the verb reports the
    /// error.
    pub(super) fn job(
        &self,
        kind: EventKind,
        run: RunId,
        parts: Vec<String>,
        is_narrowed: bool,
    ) -> Job {
        let repositories = self.place().into_iter().collect();
        Job { kind, run, repositories, parts, is_narrowed }
    }

    /// The sources that take part in a job, and whether a backup captures more than these.
    pub(super) fn parts_of(&self, wanted: &[SourceName]) -> (Vec<String>, bool) {
        let all = self.source_names();
        let named = if wanted.is_empty() { &all[..] } else { wanted };
        let is_narrowed = !wanted.is_empty() && all.iter().any(|name| !wanted.contains(name));
        (named.iter().map(ToString::to_string).collect(), is_narrowed)
    }
}
