//! The seam between the library and the things it backs up.
//!
//! A source reaches a server (or a file tree), emits artifacts into a [`Capture`], and puts them back from a
//! [`PointReader`]. It knows nothing of repositories, snapshots or other sources; the library knows nothing of what
//! kind of thing a source is.

use std::{fmt, path::PathBuf, str::FromStr};

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ArtifactPath, Capture},
    diagnosis::Diagnosis,
    failpoint::{self, Step},
    finding::Finding,
    language::Language,
    manifest::ServerInfo,
    point::PointReader,
    repository::SnapshotId,
    staged::StagedForm,
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
    async fn plan_restore(&self, point: &PointReader, request: RestoreRequest) -> Result<RestorePlan, SourceError>;

    /// Carries a plan out, then reads the target back and compares it with the point's manifest.
    ///
    /// # Errors
    /// When something could not be written or read. Differences found afterwards are no error here: they are in the report,
    /// and whoever asked must look at [`RestoreReport::is_equal`].
    async fn restore(&self, point: &PointReader, plan: RestorePlan) -> Result<RestoreReport, SourceError>;

    /// Checks every artifact deeply in its own format, without a server.
    ///
    /// # Errors
    /// When the point cannot be read. What is wrong with its content is in the findings.
    async fn inspect(&self, _point: &PointReader) -> Result<Inspection, SourceError> {
        Err(SourceError::Unsupported(format!("a source of kind {} cannot check its format", self.kind())))
    }

    /// Restores into a scratch target of its own making, compares it with the manifest, and removes it, also after a failure.
    ///
    /// # Errors
    /// As [`Source::restore`], and when the scratch target could not be removed.
    async fn rehearse(&self, _point: &PointReader, _scratch: &ScratchTarget) -> Result<RestoreReport, SourceError> {
        Err(SourceError::Unsupported(format!("a source of kind {} cannot be rehearsed", self.kind())))
    }

    /// Removes what a rehearsal of this scratch name left because it was killed, and says what that was. Only what bears the name
    /// is touched; that nothing was left is no error. Directories are removed by whoever made them.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not let go of it.
    async fn clear_scratch(&self, _name: &str) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    /// How an operator gets this source back by hand out of a restored snapshot, with the tools of its own service: Markdown, with
    /// the names and addresses of this config and no secret. `restored` is the directory the snapshot was restored to.
    fn guide(&self, _language: Language, _restored: &str) -> Option<String> {
        None
    }

    /// What keeps a capture or a restore of this source from working, or will: for `doctor`. Never writes, and says something
    /// also when all is well. A source that knows more than its probe tells adds to what [`Diagnosis::of_probe`] gives.
    async fn diagnose(&self) -> Vec<Diagnosis> {
        Diagnosis::of_probe(self.name(), &self.probe().await)
    }

    /// Paths of this machine that hold the live data, where the source knows them.
    fn local_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// How a point of this source looks as one file; `None` where it has no such form.
    fn staged(&self) -> Option<&dyn StagedForm> {
        None
    }
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

/// What a restore is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreRequest {
    /// Where it goes.
    pub to: RestoreTarget,
    /// Only these parts of the source, in the source's words (a collection, a virtual host), as globs. Empty: everything.
    pub only: Vec<String>,
    /// Parts that get another name.
    pub rename: Vec<Rename>,
    /// What happens to a part that is there already. Beside, nothing may be.
    pub existing: Existing,
    /// What happens to parts that are there but not in the point.
    pub extras: Extras,
}

impl RestoreRequest {
    /// Everything, under the point's own names; what is there is replaced in place, and nothing else is removed.
    #[must_use]
    pub fn whole(to: RestoreTarget) -> Self {
        Self { to, only: Vec::new(), rename: Vec::new(), existing: Existing::default(), extras: Extras::default() }
    }

    /// For sources that can only be restored as a whole.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] when more was asked than where to.
    pub fn refuse_choices(&self, kind: &str) -> Result<(), SourceError> {
        let choices = [
            ("--only", !self.only.is_empty()),
            ("--rename", !self.rename.is_empty()),
            ("--existing", self.existing != Existing::default()),
            ("--extras", self.extras != Extras::default()),
        ];
        match choices.into_iter().find(|(_, made)| *made) {
            None => Ok(()),
            Some((choice, _)) => {
                Err(SourceError::Unsupported(format!("a source of kind {kind} knows no {choice}: leave it out")))
            }
        }
    }
}

/// A part of a source that gets another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rename {
    /// Its name in the point.
    pub from: String,
    /// Its name in the target.
    pub to: String,
}

/// What happens to a part (a collection, a queue) that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// It is removed and made anew.
    #[default]
    Replace,
    /// It stays, and what it lacks of the point is added to it.
    Merge,
}

/// What happens to parts that are there but not in the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extras {
    /// They stay.
    #[default]
    Keep,
    /// They are removed.
    Remove,
}

/// Where a rehearsal may make things of its own, and how it names them.
#[derive(Clone, Debug)]
pub struct ScratchTarget {
    /// Names everything of this rehearsal: `kdr_drill_` and a ULID in lower case. Good as a database, virtual host or collection.
    pub name: String,
    /// An empty directory of its own; whoever made it removes it.
    pub directory: PathBuf,
    /// Whether what was restored is then damaged in one place and compared once more: see [`Control`].
    pub control: bool,
}

impl ScratchTarget {
    /// A source says that it has filled the target, and compares next. It is here that tests make a debug build die.
    pub fn filled(&self) {
        failpoint::pass(Step::Scratch);
    }
}

/// The negative control of a rehearsal: the scratch was damaged on purpose, and the same comparison had to see it. One that
/// does not see it proves nothing by finding the rest equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What was done to the copy: `deleted one document of users`.
    pub damage: String,
    /// What the comparison found then. Empty means that it is blind.
    pub found: Vec<Difference>,
    /// How long it took.
    pub seconds: f64,
}

impl Control {
    /// Whether the comparison saw the damage.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        !self.found.is_empty()
    }
}

/// What a deep check of a point found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inspection {
    /// What was looked at and is well, one sentence each.
    pub checked: Vec<String>,
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// Whether something was looked at, and nothing of it is an error.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.checked.is_empty() && !self.findings.iter().any(|finding| finding.is_error)
    }
}

/// What a restore will do.
#[derive(Clone, Debug, Serialize)]
pub struct RestorePlan {
    /// What was asked, with the names settled.
    pub request: RestoreRequest,
    /// The target in words: `database kaleem_restored on 127.0.0.1:27017`.
    pub target: String,
    /// One line per thing that is touched or left alone.
    pub actions: Vec<PlannedAction>,
    /// What the operator should know first.
    pub warnings: Vec<String>,
    /// The snapshot that is restored; `None` for a file. [`crate::job::plan_restore`] fills it in.
    pub origin: Option<PlanOrigin>,
}

/// The snapshot that a plan restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanOrigin {
    /// Its id.
    pub snapshot: SnapshotId,
    /// The host that it is of.
    pub host: String,
    /// When it was taken.
    pub taken: Timestamp,
}

impl RestorePlan {
    /// A plan as a source makes it.
    #[must_use]
    pub fn new(request: RestoreRequest, target: impl Into<String>, actions: Vec<PlannedAction>, warnings: Vec<String>) -> Self {
        Self { request, target: target.into(), actions, warnings, origin: None }
    }

    /// Whether anything that exists would be changed.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.actions.iter().any(|action| matches!(action.change, Change::Overwrite | Change::Merge | Change::Remove))
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
    /// Why, where that is not plain.
    pub why: Option<String>,
}

impl PlannedAction {
    /// An action of which no more is known.
    pub fn new(change: Change, what: impl Into<String>) -> Self {
        Self { change, what: what.into(), items: None, size_bytes: None, why: None }
    }
}

/// What a restore does to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is not there yet.
    Create,
    /// It is there, and is replaced.
    Overwrite,
    /// It is there and stays; what it lacks of the point is added to it.
    Merge,
    /// It is there but not in the point: it stays as it is.
    Leave,
    /// It is there but not in the point: it is removed, as was asked.
    Remove,
    /// It is there otherwise, and the server keeps it as it is whatever is sent.
    Conflict,
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
    /// What differs from the manifest. Empty means that all of `compared` is equal.
    pub differences: Vec<Difference>,
    /// What came back and could not be compared with anything.
    pub uncompared: Vec<Uncompared>,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
    /// Commands of the operator's that ran afterwards.
    pub hooks: Vec<HookReport>,
    /// In a rehearsal: whether the comparison can see a difference at all. `None` where nothing could be damaged, or nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

impl RestoreReport {
    /// Whether something was compared, and all of it is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && !self.compared.is_empty()
    }

    /// The same with a scratch name left out of what it says of the things in it: it means nothing to a reader.
    pub(crate) fn without(mut self, name: &str) -> Self {
        // In paths the name stands behind the directory of the same name.
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
        let differences = |differences: &mut Vec<Difference>| differences.iter_mut().for_each(|found| plain(&mut found.what));
        self.compared.iter_mut().for_each(plain);
        differences(&mut self.differences);
        if let Some(control) = &mut self.control {
            plain(&mut control.damage);
            differences(&mut control.found);
        }
        self
    }

    /// Whether it is equal, and every hook ended well.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_equal() && self.hooks.iter().all(|hook| hook.status == Some(0))
    }
}

/// Something that was restored and that nothing could be compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uncompared {
    /// What it is.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A command that ran after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its exit status; `None` when it did not start or was killed.
    pub status: Option<i32>,
    /// The end of what it printed, or why it did not start.
    pub output: String,
}

/// One difference between the target and the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A staged file is not what it should be.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it breaks, and what can still be read of it.
        why: String,
    },
    /// What was to be written out could not be.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

impl SourceError {
    /// Wraps the cause of an artifact's failure.
    pub fn artifact(path: &ArtifactPath, cause: impl Into<Cause>) -> Self {
        Self::Artifact { path: path.clone(), cause: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            plain.compared,
            ["collection orders: 7 documents", "7 queues", "collection a.b: x", "q in the scratch: arguments"]
        );
        assert_eq!(plain.differences[0].what, "/etc/passwd");
    }
}
