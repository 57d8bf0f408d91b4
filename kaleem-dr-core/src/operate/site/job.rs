//! The jobs of a site: what a monitor must know of one before it begins.

use super::Site;
use crate::{
    engine::ledger::EventKind,
    ground::{RunId, SourceName},
    operate::monitor::Job,
};

impl Site {
    /// A job on the repository that is meant. Where the config does not say which, the verb will say why.
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

    /// The sources that have a part in a job, and whether a backup takes more than these.
    pub(super) fn parts_of(&self, wanted: &[SourceName]) -> (Vec<String>, bool) {
        let all = self.source_names();
        let named = if wanted.is_empty() { &all[..] } else { wanted };
        let is_narrowed = !wanted.is_empty() && all.iter().any(|name| !wanted.contains(name));
        (named.iter().map(ToString::to_string).collect(), is_narrowed)
    }
}
