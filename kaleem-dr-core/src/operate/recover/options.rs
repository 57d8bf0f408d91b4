//! The options of `recover`.

use crate::{
    ground::{RunId, SourceName},
    recovery::change_log::Moment,
};

/// Options of [`Site::recover`](crate::Site::recover): what to recover, and from when.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that an operator sets")]
#[non_exhaustive]
pub struct Recover {
    /// Id of the job; a new one by default, or that of the recovery that it continues.
    pub run: Option<RunId>,
    /// Sources to recover; all of the config if empty.
    pub only: Vec<SourceName>,
    /// `latest` for points that belong together, or the id prefix of a run.
    pub point: String,
    /// Recovers sources with a change log to this moment, and others to their newest point before it.
    pub moment: Option<Moment>,
    /// Restores over the live data; otherwise next to them, and no repositories are created.
    pub in_place: bool,
    /// Recovers sources again that an earlier recovery has recovered.
    pub again: bool,
    /// Plans, and writes nothing.
    pub dry_run: bool,
    /// Overwrites also what could not be planned before the operator agreed, such as a source whose
    /// secret is restored with another one.
    pub overwrite_unplanned: bool,
}

impl Recover {
    /// Recovers everything over the live data, to the newest points that belong together.
    #[must_use]
    pub fn in_place() -> Self {
        Self {
            run: None,
            only: Vec::new(),
            point: "latest".to_owned(),
            moment: None,
            in_place: true,
            again: false,
            dry_run: false,
            overwrite_unplanned: false,
        }
    }

    /// Recovers everything next to the live data.
    #[must_use]
    pub fn beside() -> Self {
        Self { in_place: false, ..Self::in_place() }
    }
}
