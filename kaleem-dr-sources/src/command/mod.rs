//! A source that is whatever a command prints: `pg_dumpall`, `slapcat`, `etcdctl snapshot save -`.
//!
//! The output is one artifact. The command must end with status 0, after its last byte: otherwise there is no snapshot. A restore
//! gives the bytes to another command, runs the first one again, and compares what it prints.

mod guide;
mod process;
mod restore;

use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::{
    engine::{
        artifact::{ArtifactWriter, Capture},
        manifest::{Consistency, ConsistencyGrade},
        source::{Probe, Source},
    },
    ground::{ArtifactPath, SourceError, SourceName, language::Language},
    operate::config::secret::{Environment, SecretError, SecretRef, SecretString},
    recovery::{
        point::PointReader,
        source::{
            Inspection, Restorable, RestorePlan, RestoreReport, RestoreRequest, ScratchTarget,
        },
    },
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::process::{Output, Process};

/// The directory of all commands' outputs in a snapshot.
const ROOT: &str = "command";
/// Placeholder of the directory of a rehearsal in the commands of `scratch`.
const SCRATCH: &str = "{scratch}";
/// Placeholder of the name of a rehearsal, which no other one has: for a scratch database.
const NAME: &str = "{name}";

/// The config of a source of type `command`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommandConfig {
    /// Program and arguments that print the data, without a shell. It must end with 0, and print something.
    pub dump: Vec<String>,
    /// Name of the output in the snapshot.
    #[serde(default = "output")]
    pub file: String,
    /// Program and arguments that read the data from standard input and load them, for a restore in place.
    #[serde(default)]
    pub restore: Vec<String>,
    /// Program and arguments that read the data from standard input and end with 0 if their format is valid, for `verify`.
    #[serde(default)]
    pub check: Vec<String>,
    /// Commands for drills, which load the data into a scratch target and print it again.
    #[serde(default)]
    pub scratch: Option<ScratchCommands>,
    /// Two runs of `dump` on the same data print the same bytes. Without this, what was restored cannot be compared.
    #[serde(default = "yes")]
    pub repeatable: bool,
    /// Working directory of the commands.
    #[serde(default = "root")]
    pub directory: PathBuf,
    /// Variables of the commands, in addition to a plain `PATH`; values are references to secrets.
    #[serde(default)]
    pub environment: BTreeMap<String, SecretRef>,
    /// Time limit for each command, in minutes.
    #[serde(default = "timeout_minutes")]
    pub timeout_minutes: NonZeroU64,
}

/// The commands of a drill; `{scratch}` in them is replaced by the path of an empty directory, which is removed afterwards, and `{name}`
/// by a name that no other rehearsal has, of letters, digits and `_`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScratchCommands {
    /// Reads the data from standard input, and loads them into the scratch target.
    pub restore: Vec<String>,
    /// Prints what the scratch target contains, as `dump` prints the live data.
    pub dump: Vec<String>,
    /// Removes what these two created outside of the directory. It runs after each rehearsal, whatever its result, and for those that
    /// were killed; it must end with 0 if nothing is left.
    #[serde(default)]
    pub remove: Vec<String>,
}

impl CommandConfig {
    /// A command that prints the data, with the defaults of a config file.
    #[must_use]
    pub fn new(dump: Vec<String>) -> Self {
        Self {
            dump,
            file: output(),
            restore: Vec::new(),
            check: Vec::new(),
            scratch: None,
            repeatable: yes(),
            directory: root(),
            environment: BTreeMap::new(),
            timeout_minutes: timeout_minutes(),
        }
    }
}

fn output() -> String {
    "output".into()
}

fn yes() -> bool {
    true
}

fn root() -> PathBuf {
    "/".into()
}

fn timeout_minutes() -> NonZeroU64 {
    const { NonZeroU64::new(24 * 60).expect("it is not zero") }
}

/// The reason why a config is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandConfigError {
    /// A command is an empty list, or its program is an empty word.
    #[error("`{0}` needs a program and its arguments, such as [\"pg_dumpall\", \"--clean\"]")]
    Empty(&'static str),
    /// The name of the output cannot be that of a file.
    #[error("`file`: {0:?} must be the name of a file, without `/`")]
    File(String),
    /// A rehearsal could not be compared.
    #[error("`scratch` needs `repeatable`: what `scratch.dump` prints could not be compared")]
    NotComparable,
    /// The working directory is relative.
    #[error("`directory`: {} must be an absolute path", .0.display())]
    Relative(PathBuf),
    /// A variable could not be read.
    #[error("cannot read the variable {name}")]
    Variable {
        /// Name of the variable.
        name: String,
        /// Why it could not be read.
        #[source]
        cause: SecretError,
    },
}

/// A source that captures the output of a command.
#[derive(Debug)]
pub struct CommandSource {
    name: SourceName,
    config: CommandConfig,
    path: ArtifactPath,
    variables: Vec<(String, SecretString)>,
}

impl CommandSource {
    /// Validates the config, and reads the variables of the commands.
    ///
    /// # Errors
    /// If a command is empty, the name of the output is not one of a file, the directory is relative, or a variable cannot be read.
    pub fn new(
        name: SourceName,
        config: CommandConfig,
        environment: &Environment,
    ) -> Result<Self, CommandConfigError> {
        let is_empty = |words: &[String]| words.first().is_none_or(String::is_empty);
        let scratch = config.scratch.as_ref();
        let required = [
            ("dump", Some(&config.dump)),
            ("scratch.restore", scratch.map(|scratch| &scratch.restore)),
            ("scratch.dump", scratch.map(|scratch| &scratch.dump)),
        ];
        for (key, words) in required {
            if words.is_some_and(|words| is_empty(words)) {
                return Err(CommandConfigError::Empty(key));
            }
        }
        if scratch.is_some() && !config.repeatable {
            return Err(CommandConfigError::NotComparable);
        }
        if !config.directory.is_absolute() {
            return Err(CommandConfigError::Relative(config.directory));
        }
        let path = (!config.file.contains('/'))
            .then(|| ArtifactPath::join([ROOT, name.as_str(), &config.file]).ok())
            .flatten()
            .ok_or_else(|| CommandConfigError::File(config.file.clone()))?;
        let variables = config.environment.iter().map(|(variable, secret)| {
            let value = environment.secret(secret);
            value
                .map(|value| (variable.clone(), value))
                .map_err(|cause| CommandConfigError::Variable { name: variable.clone(), cause })
        });
        let variables = variables.collect::<Result<_, _>>()?;
        Ok(Self { name, config, path, variables })
    }

    /// A process of one of the commands, which has not started yet.
    fn process<'a>(&'a self, words: &'a [String]) -> Process<'a> {
        Process {
            words: words.to_vec(),
            directory: &self.config.directory,
            variables: &self.variables,
            patience: Duration::from_mins(self.config.timeout_minutes.get()),
        }
    }
}

#[async_trait]
impl Output for ArtifactWriter {
    async fn take(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        self.write(bytes).await
    }
}

#[async_trait]
impl Source for CommandSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "command"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![PathBuf::from(format!("/{ROOT}/{}", self.name))]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        self.process(&self.config.dump).find()?;
        let mut warnings = Vec::new();
        if self.config.restore.is_empty() {
            warnings.push("`restore` is not set: the output can only be restored as a file".into());
        } else if self.config.scratch.is_none() {
            warnings.push(
                "`scratch` is not set: drills restore the output as a file, and do not try `restore`".into(),
            );
        }
        Ok(Probe::new(None, None, warnings))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let cancel = out.cancellation();
        out.set_consistency(
            Consistency::new(ConsistencyGrade::PerCollection, out.started())
                .because("it is as consistent as the command's output"),
        );
        let mut writer = out.artifact(self.path.clone()).await?;
        let dump = self.process(&self.config.dump);
        let printed = dump.read(&cancel, &mut writer).await?;
        if printed == 0 {
            return Err(SourceError::artifact(
                &self.path,
                format!("{} ended with status 0, but printed nothing", self.config.dump[0]),
            ));
        }
        writer.finish(None, None).await
    }
}

#[async_trait]
impl Restorable for CommandSource {
    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        self.plan(point, &request)
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        self.put_back(point, plan).await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        self.look_into(point).await
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        self.try_out(point, scratch).await
    }

    async fn clear_scratch(&self, name: &str) -> Result<Vec<String>, SourceError> {
        self.remove_rehearsal(name).await
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        let file = format!("{restored}{}", self.path.as_str());
        Some(guide::guide(language, &file, &self.config.restore))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(config: &str) -> String {
        let config: CommandConfig = serde_json::from_str(config).unwrap();
        let source = CommandSource::new("db".parse().unwrap(), config, &Environment::default());
        source.err().unwrap().to_string()
    }

    #[test]
    fn a_config_that_cannot_work_is_refused_with_its_key() {
        assert!(fault(r#"{ "dump": [] }"#).contains("`dump`"));
        assert!(fault(r#"{ "dump": ["a"], "file": "a/b" }"#).contains("`file`"));
        assert!(fault(r#"{ "dump": ["a"], "file": ".." }"#).contains("`file`"));
        assert!(fault(r#"{ "dump": ["a"], "directory": "x" }"#).contains("`directory`"));
        let scratch = r#"{ "dump": ["a"], "scratch": { "restore": [], "dump": ["a"] } }"#;
        assert!(fault(scratch).contains("`scratch.restore`"));
        let blind = r#"{ "dump": ["a"], "repeatable": false, "scratch": { "restore": ["a"], "dump": ["a"] } }"#;
        assert!(fault(blind).contains("`repeatable`"));
        let variable = r#"{ "dump": ["a"], "environment": { "PGPASSWORD": { "env": "NONE" } } }"#;
        assert!(fault(variable).contains("PGPASSWORD"));
    }
}
