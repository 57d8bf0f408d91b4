//! The identity of this installation: what snapshots and locks record of this machine, and to whose snapshots a command applies.

use std::{fmt, str::FromStr};

use nix::unistd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keyword on the command line for every host.
const ANY: &str = "any";
/// Limit for a host name, in bytes: what snapshots and labels can contain in practice.
const LONGEST_NAME: usize = 253;

/// The machine's name, as `hostname` prints it.
#[must_use]
pub fn name() -> String {
    unistd::gethostname()
        .map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Name of the user, or the numeric id if there is none.
#[must_use]
pub fn user() -> String {
    let uid = unistd::getuid();
    match unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The host that snapshots belong to: `host` in the config, else the machine's name.
///
/// Several hosts share a repository. Points, proofs, retention and alarms are kept apart by this name, so it has to outlive the machine: a
/// container's or a replacement's name changes, `host = "db1"` does not.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The host name of this machine.
    #[must_use]
    pub fn of_machine() -> Self {
        Self(name())
    }

    /// The name as text, unchanged from the config or the machine.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let fits = !text.is_empty()
            && text.len() <= LONGEST_NAME
            && text != ANY
            && !text.chars().any(|character| {
                character.is_control() || character.is_whitespace() || character == ','
            });
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidHostName(text.to_owned())) }
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHostName;

    fn try_from(text: String) -> Result<Self, InvalidHostName> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// A text that cannot name a host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` cannot name a host: use up to 253 characters without blanks and commas, and not `any`"
)]
pub struct InvalidHostName(String);

/// The hosts to whose snapshots a command applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostScope {
    /// Snapshots of one host, by its exact name.
    One(HostName),
    /// Snapshots of every host in the repository.
    Any,
}

impl HostScope {
    /// Reports whether snapshots of this host are included.
    #[must_use]
    pub fn includes(&self, host: &str) -> bool {
        match self {
            Self::One(name) => name.as_str() == host,
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "host {name}"),
            Self::Any => f.write_str("any host"),
        }
    }
}

impl FromStr for HostScope {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        if text == ANY { Ok(Self::Any) } else { text.parse().map(Self::One) }
    }
}

impl From<HostName> for HostScope {
    fn from(name: HostName) -> Self {
        Self::One(name)
    }
}

/// The host of this installation, and the hosts to whose snapshots a command applies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The host under whose name this installation saves.
    pub host: HostName,
    /// The hosts whose snapshots are included. Another host's are restored in place only if it is named here.
    pub scope: HostScope,
}

impl Identity {
    /// An installation that uses only its own snapshots.
    #[must_use]
    pub fn own(host: HostName) -> Self {
        Self { scope: HostScope::One(host.clone()), host }
    }

    /// Refuses to overwrite data with another host's snapshot, unless that host was named.
    ///
    /// # Errors
    /// The reason, with advice.
    pub fn refuse_replacing_from(&self, snapshot: &str, host: &str) -> Result<(), String> {
        if self.may_replace_from(host) {
            return Ok(());
        }
        Err(format!(
            "snapshot {} is of host {host}, and this is {}: it is not restored in place; if that is what you mean, name the host with --host {host}",
            snapshot, self.host
        ))
    }

    /// Reports whether a snapshot of `host` may be restored in place: it is our own, or its host was named.
    #[must_use]
    pub fn may_replace_from(&self, host: &str) -> bool {
        self.host.as_str() == host || self.scope == HostScope::One(HostName(host.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_command_line_or_a_tag_would_misread_is_refused() {
        for bad in ["", "any", "a b", "a,b", "a\nb", &"x".repeat(254)] {
            assert_eq!(bad.parse::<HostName>(), Err(InvalidHostName(bad.to_owned())));
        }
        assert_eq!("any".parse(), Ok(HostScope::Any));
        assert_eq!("db1.example.org".parse::<HostName>().unwrap().as_str(), "db1.example.org");
    }

    #[test]
    fn another_hosts_snapshot_replaces_nothing_unless_that_host_is_named() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let own = Identity::own(name("db1"));
        assert!(own.may_replace_from("db1") && !own.may_replace_from("web1"));
        let any = Identity { scope: HostScope::Any, ..own.clone() };
        assert!(
            any.may_replace_from("db1") && !any.may_replace_from("web1"),
            "`any` names no host"
        );
        let named = Identity { scope: HostScope::One(name("web1")), ..own };
        assert!(named.may_replace_from("web1"));
    }
}
