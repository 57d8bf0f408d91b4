//! The systemd that runs the units: the machine's, or a user's own.

use std::path::{Path, PathBuf};

/// Directory of the machine's units.
const UNITS: &str = "/etc/systemd/system";
/// Directory of unencrypted credentials.
const CREDENTIALS: &str = "/etc/kaleem-dr/credentials";

/// A service manager. A user's runs jobs with the rights of that user, and needs no root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// The machine's.
    #[default]
    System,
    /// A user's.
    User {
        /// The user's directory of configuration: `$XDG_CONFIG_HOME`, or else `~/.config`.
        configuration: PathBuf,
    },
}

impl Manager {
    /// Directory of its units.
    #[must_use]
    pub fn units(&self) -> PathBuf {
        match self {
            Self::System => UNITS.into(),
            Self::User { configuration } => configuration.join("systemd/user"),
        }
    }

    /// Reports whether it is a user's.
    #[must_use]
    pub fn is_user(&self) -> bool {
        *self != Self::System
    }

    pub(super) fn credentials(&self) -> PathBuf {
        match self {
            Self::System => CREDENTIALS.into(),
            Self::User { configuration } => configuration.join("kaleem-dr/credentials"),
        }
    }

    /// The command that controls it, with a trailing space.
    pub(super) fn systemctl(&self) -> &'static str {
        if self.is_user() { "systemctl --user " } else { "systemctl " }
    }

    /// The link of a timer or of the page's service, which starts it at boot or, of a user's, with
    /// the user's manager.
    pub(super) fn link(&self, unit: &str) -> PathBuf {
        let target = match (unit.strip_suffix(".timer"), self.is_user()) {
            (Some(_), _) => "timers.target.wants",
            (None, false) => "multi-user.target.wants",
            (None, true) => "default.target.wants",
        };
        self.units().join(target).join(unit)
    }

    pub(super) fn is_unit(&self, path: &Path) -> bool {
        path.parent() == Some(&self.units())
    }
}
