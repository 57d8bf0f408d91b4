//! The seam between the library and the things it backs up.
//!
//! A source reaches a server (or a file tree), emits artifacts into a [`Capture`], and puts them back from a
//! [`PointReader`]. It knows nothing of repositories, snapshots or other sources; the library knows nothing of what
//! kind of thing a source is.

use std::{fmt, path::PathBuf, str::FromStr};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ArtifactPath, Capture},
    manifest::ServerInfo,
    point::PointReader,
};

/// A boxed cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A thing that can be captured and put back.
#[async_trait]
pub trait Source: Send + Sync {
    /// The source's name, from the config.
    fn name(&self) -> &SourceName;

    /// The source's kind, one word: what a manifest records and a person reads.
    fn kind(&self) -> &'static str;

    /// The path in the snapshot under which everything of this source lies, such as `/mongo`. Several for file trees.
    /// Retention and parent search group snapshots by host, source and these paths, as stock restic does.
    fn roots(&self) -> Vec<PathBuf>;

    /// Reaches the server, reads versions, rights and sizes. Never writes.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`] and [`SourceError::Unauthorised`] name the server and the cause.
    async fn probe(&self) -> Result<Probe, SourceError>;

    /// Emits every artifact, in path order. An error, or a writer that is dropped before its `finish`, leaves no snapshot.
    ///
    /// # Errors
    /// Any failure of the source. [`SourceError::Artifact`] says which stream failed.
    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError>;

    /// What a restore would create, overwrite and leave alone. Never writes.
    ///
    /// # Errors
    /// When the target cannot be reached, or the point cannot be restored there at all.
    async fn plan_restore(&self, point: &PointReader, to: RestoreTarget) -> Result<RestorePlan, SourceError>;

    /// Carries a plan out, then reads the target back and compares it with the point's manifest.
    ///
    /// # Errors
    /// When something could not be written or read. Differences found afterwards are no error here: they are in the report,
    /// and whoever asked must look at [`RestoreReport::is_equal`].
    async fn restore(&self, point: &PointReader, plan: RestorePlan) -> Result<RestoreReport, SourceError>;
}

/// A source's name: lower-case ASCII letters, digits, `-` and `_`, at most 64 characters, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(#[schemars(regex(pattern = r"^[a-z][a-z0-9_-]{0,63}$"))] String);

impl SourceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SourceName {
    type Err = InvalidSourceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= 64
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSourceName(text.to_owned())) }
    }
}

impl TryFrom<String> for SourceName {
    type Error = InvalidSourceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

/// A source name that breaks the rule.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a source name: use 1 to 64 lower-case letters, digits, `-` and `_`, beginning with a letter")]
pub struct InvalidSourceName(String);

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Product and version.
    pub server: Option<ServerInfo>,
    /// Bytes a capture would read, as far as the server tells.
    pub size_bytes: Option<u64>,
    /// What the operator should know before relying on this source, one sentence each.
    pub warnings: Vec<String>,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreTarget {
    /// Next to what is there: another database, virtual host or directory. `None` lets the source pick a name of its own.
    Beside(Option<String>),
    /// Over what is there. Only after a confirmation.
    InPlace,
}

/// What a restore will do.
#[derive(Clone, Debug, Serialize)]
pub struct RestorePlan {
    /// Where it goes.
    pub to: RestoreTarget,
    /// The target in words: `database kaleem_restored on 127.0.0.1:27017`.
    pub target: String,
    /// One line per thing that is touched or left alone.
    pub actions: Vec<PlannedAction>,
    /// What the operator should know first.
    pub warnings: Vec<String>,
}

impl RestorePlan {
    /// Whether anything that exists would be changed.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.actions.iter().any(|action| action.change == Change::Overwrite)
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedAction {
    /// What happens to it.
    pub change: Change,
    /// What it is: `collection users`, `queue orders`, `/etc/nginx`.
    pub what: String,
    /// Items (documents, definitions, files) it holds in the point, where known.
    pub items: Option<u64>,
    /// Bytes it holds in the point, where known.
    pub size_bytes: Option<u64>,
}

/// What a restore does to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is not there yet.
    Create,
    /// It is there, and is replaced.
    Overwrite,
    /// It is there but not in the point: it stays as it is.
    Leave,
}

/// What a restore did, and what a comparison with the manifest showed afterwards.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RestoreReport {
    /// The target in words, as in the plan.
    pub target: String,
    /// Items written: documents, definitions, files.
    pub items: u64,
    /// Bytes written.
    pub size_bytes: u64,
    /// What was compared and found equal.
    pub compared: Vec<String>,
    /// What differs from the manifest. Empty means equal.
    pub differences: Vec<Difference>,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
}

impl RestoreReport {
    /// Whether something was compared, and all of it is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && !self.compared.is_empty()
    }
}

/// One difference between the target and the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs: `collection users: documents`.
    pub what: String,
    /// As the manifest has it.
    pub expected: String,
    /// As the target has it.
    pub found: String,
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No connection to the server.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Address, without credentials.
        server: String,
        /// What the connection said.
        #[source]
        cause: Cause,
    },
    /// The server refused the login, or the login may not do this.
    #[error("{server} does not allow us to {action}")]
    Unauthorised {
        /// Address, without credentials.
        server: String,
        /// What was asked of it: `list collections of kaleem`.
        action: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The server answered with an error.
    #[error("{server} failed to {action}")]
    Server {
        /// Address, without credentials.
        server: String,
        /// What was asked of it.
        action: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// One artifact could not be captured or read back.
    #[error("artifact {path} failed")]
    Artifact {
        /// Its path in the snapshot.
        path: ArtifactPath,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A local path could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What was tried: `open`, `create the directory`.
        action: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// This cannot be done, and trying again will not help.
    #[error("{0}")]
    Unsupported(String),
    /// This is not done unless the operator says so; the sentence says how.
    #[error("{0}")]
    Refused(String),
    /// The repository stopped taking data; its own error says why.
    #[error("the repository stopped taking data")]
    Aborted,
    /// The operator cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The recovery point could not be read.
    #[error("cannot read the recovery point")]
    Point(#[source] Cause),
}

impl SourceError {
    /// Wraps the cause of an artifact's failure.
    pub fn artifact(path: &ArtifactPath, cause: impl Into<Cause>) -> Self {
        Self::Artifact { path: path.clone(), cause: cause.into() }
    }
}
