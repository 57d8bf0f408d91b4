//! An operator's request for a restore.

use serde::Serialize;

use crate::ground::SourceError;

/// The target of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreTarget {
    /// Next to the live data: another database, virtual host or directory. With `None`, the source chooses a name.
    Beside(Option<String>),
    /// Over the live data. Requires a confirmation.
    InPlace,
}

/// An operator's request for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoreRequest {
    /// The target: next to the live data, or in place.
    pub to: RestoreTarget,
    /// Only these parts of the source, named as in the source (a collection, a virtual host), as globs. Empty: everything.
    pub only: Vec<String>,
    /// Parts that get a new name; each must be in the point.
    pub rename: Vec<Rename>,
    /// The treatment of existing parts. Next to the live data, only an interrupted restore may have left any.
    pub existing: Existing,
    /// The treatment of parts that exist but are not in the point.
    pub extras: Extras,
}

impl RestoreRequest {
    /// A request for everything, under the point's own names; in place, existing parts are replaced, and nothing else is removed.
    #[must_use]
    pub fn whole(to: RestoreTarget) -> Self {
        Self {
            to,
            only: Vec::new(),
            rename: Vec::new(),
            existing: Existing::default(),
            extras: Extras::default(),
        }
    }

    /// Restores only these parts of the source, named as in the source, as globs.
    #[must_use]
    pub fn with_only(self, only: Vec<String>) -> Self {
        Self { only, ..self }
    }

    /// Renames parts. Each must be in the point.
    #[must_use]
    pub fn with_rename(self, rename: Vec<Rename>) -> Self {
        Self { rename, ..self }
    }

    /// Sets the treatment of existing parts.
    #[must_use]
    pub fn with_existing(self, existing: Existing) -> Self {
        Self { existing, ..self }
    }

    /// Sets the treatment of parts that exist but are not in the point.
    #[must_use]
    pub fn with_extras(self, extras: Extras) -> Self {
        Self { extras, ..self }
    }

    /// Refuses all options, for sources that can only be restored as a whole.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] if the request has more than a target.
    pub fn refuse_choices(&self, kind: &str) -> Result<(), SourceError> {
        let choices = [
            ("--only", !self.only.is_empty()),
            ("--rename", !self.rename.is_empty()),
            ("--existing", self.existing != Existing::default()),
            ("--extras", self.extras != Extras::default()),
        ];
        match choices.into_iter().find(|(_, made)| *made) {
            None => Ok(()),
            Some((choice, _)) => Err(SourceError::Unsupported(format!(
                "a source of kind {kind} knows no {choice}: leave it out"
            ))),
        }
    }
}

/// A new name for a part of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rename {
    /// Its name in the point.
    pub from: String,
    /// Its name in the target.
    pub to: String,
}

impl Rename {
    /// Gives the part `from` of the point the name `to` in the target.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into() }
    }
}

/// The treatment of a part (a collection, a queue) that already exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// It is removed and created again.
    #[default]
    Replace,
    /// It is kept, and what it lacks of the point is added.
    Merge,
    /// It is the work of an interrupted restore of the same point: what equals the point is kept, and the rest is completed or
    /// created again. Also next to the live data.
    Continue,
}

/// The treatment of parts that exist but are not in the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extras {
    /// Keep them; nothing that the point lacks is touched.
    #[default]
    Keep,
    /// Remove them, after a confirmation by the operator.
    Remove,
}
