//! The configuration: TOML, fully checked before anything runs; each fault is reported with its
//! place.
//!
//! Sources describe themselves: each kind defines its own table, and this module knows none of
//! them. Secrets are referred to, never written in the config. Messages give file, line and column
//! but not the line itself, because it might contain a password that was written there by mistake.

mod draft;
mod envfile;
mod fleet;
mod ini;
mod model;
mod names;
mod order;
mod places;
mod rclone;
mod recovery;
mod references;
mod remote;
mod repository;
pub mod secret;
mod secret_command;
mod serve;
mod template;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::json;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use self::secret::Environment;
pub use self::{
    draft::{DraftSecret, DraftValue, Drafting, SourceDraft},
    envfile::{InvalidEnvFile, config_of_environment, parse_env_file},
    fleet::{FleetHostSettings, FleetSettings},
    model::{BackupSettings, OplogSettings, Settings, SettingsError, StatusSettings},
    names::RepositoryNames,
    order::{RecoveryOrder, RecoveryStage},
    places::{SYSTEM_CONFIG, default_config, new_config_path},
    recovery::{RecoverySettings, SecretsKept},
    references::References,
    repository::RepositorySettings,
    serve::{SHORTEST_TOKEN, ServeSettings},
    template::TEMPLATE,
};
use crate::{
    ground::{Cause, SourceName},
    operate::backup_hooks::{self, BackupHooks},
    recovery::source::Restorable,
};

/// Prefix of variables that override a key: `KALEEM_DR__RETENTION__KEEP_DAILY=14`.
const OVERRIDE_PREFIX: &str = "KALEEM_DR__";
/// Source names that have another meaning on the command line.
const RESERVED_NAMES: [&str; 1] = ["files"];

/// A kind of source: the word in `type = "…"`, and a function that turns its table into a source.
pub struct SourceKind {
    name: &'static str,
    stage: RecoveryStage,
    build: Box<Build>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    draft: Option<(&'static str, Drafting)>,
    runs_commands: bool,
}

/// Parses a source's table, and returns a function that creates the source. Secrets are read only
/// by that function.
type Build =
    dyn Fn(SourceName, ValueDeserializer<'_>) -> Result<Box<Make>, toml::de::Error> + Send + Sync;
type Make = dyn Fn(&Environment) -> Result<Arc<dyn Restorable>, Cause> + Send + Sync;

impl SourceKind {
    /// A kind whose table is a `C`.
    pub fn new<C, S, E>(
        name: &'static str,
        make: impl Fn(SourceName, &C, &Environment) -> Result<S, E> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        C: DeserializeOwned + JsonSchema + Send + Sync + 'static,
        S: Restorable + 'static,
        E: Into<Cause>,
    {
        Self {
            name,
            stage: RecoveryStage::Servers,
            build: Box::new(move |source, table| {
                let config = C::deserialize(table)?;
                let make = make.clone();
                Ok(Box::new(move |environment: &Environment| {
                    let source: Arc<dyn Restorable> =
                        Arc::new(make(source.clone(), &config, environment).map_err(Into::into)?);
                    Ok(source)
                }) as Box<Make>)
            }),
            schema: C::json_schema,
            draft: None,
            runs_commands: false,
        }
    }

    /// Lets `config init` write sources of this kind. `form` describes the text that `drafting` expects, such as `DIRECTORY`.
    #[must_use]
    pub fn drafted(self, form: &'static str, drafting: Drafting) -> Self {
        Self { draft: Some((form, drafting)), ..self }
    }

    /// The word in `type = "…"`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The text that a draft is made of, in words, and the function that makes it; `None` if `config init` cannot write this kind.
    #[must_use]
    pub fn draft(&self) -> Option<(&'static str, Drafting)> {
        self.draft
    }

    /// Sources of this kind run commands of the operator, which the restrictions of a generated unit would hinder.
    #[must_use]
    pub fn running_commands(self) -> Self {
        Self { runs_commands: true, ..self }
    }

    /// Sets when sources of this kind are recovered, unless their table has `after` [default: with
    /// the servers].
    #[must_use]
    pub fn recovered_in(self, stage: RecoveryStage) -> Self {
        Self { stage, ..self }
    }
}

impl fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceKind").field(&self.name).finish()
    }
}

/// A config that was parsed and validated.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// All settings except the sources.
    pub settings: Settings,
    /// The declared sources, by their names.
    pub sources: BTreeMap<SourceName, DeclaredSource>,
    /// The order in which sources are recovered.
    pub order: RecoveryOrder,
    /// The config as it applies, with the variables that override keys and without comments.
    pub effective: toml::Table,
}

/// The jobs that run commands of the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commands {
    /// Backups do: by hooks, or by sources that are commands.
    pub in_backups: bool,
    /// Verifications and drills do, by sources that are commands.
    pub in_proofs: bool,
}

/// A source as the config declares it. Its secrets are read only when the source is created, so
/// that other sources can be listed or restored on a machine that only has the repository's
/// password.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeclaredSource {
    /// Kind of the source: its `type` in the config.
    pub kind: &'static str,
    /// The secret files that its table refers to, by key.
    pub secret_files: Vec<(String, PathBuf)>,
    /// The commands around its capture.
    pub hooks: BackupHooks,
    /// It runs commands of the operator itself.
    pub runs_commands: bool,
    make: Arc<Make>,
}

impl fmt::Debug for DeclaredSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeclaredSource").field(&self.kind).finish()
    }
}

impl DeclaredSource {
    /// Reads its secrets and creates the source. Connects to nothing yet.
    ///
    /// # Errors
    /// If a secret cannot be read, or the values contradict each other.
    pub fn make(&self, environment: &Environment) -> Result<Arc<dyn Restorable>, Cause> {
        (self.make)(environment)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("settings", &self.settings)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// A fault of a config, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}{place}: {message}", path.display())]
#[non_exhaustive]
pub struct ConfigError {
    /// The file, or the name used instead.
    pub path: PathBuf,
    place: Place,
    message: String,
}

#[derive(Debug)]
struct Place(Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Parses and checks a config. `path` names it in messages.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(
        text: &str,
        path: &Path,
        kinds: &[SourceKind],
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let error = |message: String, span: Option<std::ops::Range<usize>>| ConfigError {
            path: path.to_path_buf(),
            place: Place(
                span.filter(|span| *span != (0..0)).map(|span| line_and_column(text, span.start)),
            ),
            message,
        };
        let shape = |fault: toml::de::Error| error(fault.message().to_owned(), fault.span());
        let overrides = overrides(environment);
        let mut document = DeTable::parse(text).map_err(shape)?;
        for over in &overrides {
            override_key(document.get_mut(), over).map_err(|why| {
                error(format!("the environment variable {}: {why}", over.variable), None)
            })?;
        }
        let effective = toml::Table::deserialize(toml::de::Deserializer::from(document.clone()))
            .map_err(shape)?;
        for (key, path) in places::defaults_of_user(environment) {
            let path = DeValue::String(path.to_string_lossy().into_owned().into());
            let key = Spanned::new(0..0, key.into());
            document.get_mut().entry(key).or_insert(Spanned::new(0..0, path));
        }
        let tables = take_table(document.get_mut(), "source")
            .map_err(|span| error("`source` must be a table of tables".into(), Some(span)))?;
        let settings =
            Settings::deserialize(toml::de::Deserializer::from(document)).map_err(shape)?;

        let mut sources = BTreeMap::new();
        let mut wishes = Vec::new();
        for (key, mut table) in tables {
            let name: SourceName =
                key.get_ref().parse().map_err(|fault: crate::ground::InvalidSourceName| {
                    error(fault.to_string(), Some(key.span()))
                })?;
            if RESERVED_NAMES.contains(&name.as_str()) {
                return Err(error(
                    format!(
                        "`{name}` has another meaning on the command line; choose another name"
                    ),
                    Some(key.span()),
                ));
            }
            let span = table.span();
            let DeValue::Table(inner) = table.get_mut() else {
                return Err(error(format!("source {name} must be a table"), Some(span)));
            };
            let known = || kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            let Some(kind) = inner.remove("type") else {
                return Err(error(
                    format!("source {name} needs a `type`: one of {}", known()),
                    Some(span),
                ));
            };
            let wanted = kind.get_ref().as_str().unwrap_or_default().to_owned();
            let Some(builder) = kinds.iter().find(|kind| kind.name == wanted) else {
                return Err(error(
                    format!(
                        "source {name} has the unknown type `{wanted}`; known types are {}",
                        known()
                    ),
                    Some(kind.span()),
                ));
            };
            let after =
                order::take_after(&name, inner).map_err(|(why, at)| error(why, Some(at)))?;
            let hooks =
                backup_hooks::take(&name, inner).map_err(|(why, at)| error(why, Some(at)))?;
            wishes.push(order::Wish { source: name.clone(), stage: builder.stage, after });
            let secret_files = secret_files(table.get_ref());
            let make =
                (builder.build)(name.clone(), ValueDeserializer::from(table)).map_err(|fault| {
                    error(
                        format!("source {name}: {}", fault.message()),
                        fault.span().or(Some(span)),
                    )
                })?;
            sources.insert(
                name,
                DeclaredSource {
                    kind: builder.name,
                    secret_files,
                    hooks,
                    runs_commands: builder.runs_commands,
                    make: make.into(),
                },
            );
        }
        let order = RecoveryOrder::of(&wishes).map_err(|(why, at)| error(why, Some(at)))?;
        if let Some(fault) = fault_of_names(&settings, &sources) {
            return Err(error(fault, None));
        }
        Ok(Self { settings, sources, order, effective })
    }

    /// The jobs that run commands of the operator.
    #[must_use]
    pub fn commands(&self) -> Commands {
        let in_proofs = self.sources.values().any(|source| source.runs_commands);
        let has_hooks = |hooks: &BackupHooks| !hooks.before.is_empty() || !hooks.after.is_empty();
        let around = has_hooks(&self.settings.backup.hooks)
            || self.sources.values().any(|source| has_hooks(&source.hooks));
        Commands { in_backups: in_proofs || around, in_proofs }
    }

    /// The sources that a backup captures: those in `backup.sources`, in that order, or all, by
    /// name.
    #[must_use]
    pub fn backup_sources(&self) -> Vec<SourceName> {
        match &self.settings.backup.sources {
            Some(names) => names.clone(),
            None => self.sources.keys().cloned().collect(),
        }
    }
}

/// The first name that refers to nothing, or fault of a section, as a sentence with the key.
fn fault_of_names(
    settings: &Settings,
    sources: &BTreeMap<SourceName, DeclaredSource>,
) -> Option<String> {
    let repositories = &settings.repository;
    let unknown = settings.backup.sources.iter().flatten().find(|name| !sources.contains_key(name));
    if let Some(unknown) = unknown {
        return Some(format!(
            "`backup.sources` names {unknown}, but there is no [source.{unknown}]"
        ));
    }
    for (name, repository) in repositories {
        if let Some(of) = &repository.mirror_of
            && (of == name || !repositories.contains_key(of))
        {
            return Some(format!(
                "`repository.{name}.mirror_of` names {of}, which is not another repository of this config"
            ));
        }
    }
    if let Some(unknown) =
        settings.backup.also.iter().find(|name| !repositories.contains_key(*name))
    {
        return Some(format!(
            "`backup.also` names {unknown}, but there is no [repository.{unknown}]"
        ));
    }
    let fleet = || settings.fleet.fault(repositories);
    let hooks = || settings.backup.hooks.fault().map(|why| format!("`backup`: {why}"));
    crate::operate::monitor::fault(&settings.monitoring)
        .or_else(|| settings.recovery.fault())
        .or_else(fleet)
        .or_else(hooks)
        .or_else(|| settings.serve.as_ref()?.fault())
}

/// Every `key = { file = "…" }` of a source's table, which is the common form of references to
/// secrets in files.
fn secret_files(table: &DeValue<'_>) -> Vec<(String, PathBuf)> {
    let DeValue::Table(table) = table else { return Vec::new() };
    let mut files = Vec::new();
    for (key, value) in table {
        let DeValue::Table(inner) = value.get_ref() else { continue };
        match inner
            .get("file")
            .and_then(|file| file.get_ref().as_str())
            .filter(|_| inner.len() == 1)
        {
            Some(file) => files.push((key.get_ref().to_string(), PathBuf::from(file))),
            None => files.extend(secret_files(value.get_ref())),
        }
    }
    files
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

type Tables<'i> = Vec<(Spanned<std::borrow::Cow<'i, str>>, Spanned<DeValue<'i>>)>;

fn take_table<'i>(
    document: &mut DeTable<'i>,
    key: &str,
) -> Result<Tables<'i>, std::ops::Range<usize>> {
    let Some(value) = document.remove(key) else { return Ok(Vec::new()) };
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(table.into_iter().collect()),
        _ => Err(span),
    }
}

/// A variable that overrides a key.
struct Override {
    variable: String,
    keys: Vec<String>,
    text: String,
}

fn overrides(environment: &Environment) -> Vec<Override> {
    environment
        .names_with(OVERRIDE_PREFIX)
        .filter_map(|name| {
            let keys = name[OVERRIDE_PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            Some(Override {
                variable: name.to_owned(),
                keys,
                text: environment.get(name)?.to_owned(),
            })
        })
        .collect()
}

/// Applies a variable to the document: as TOML if it parses as a value, otherwise as text.
fn override_key<'i>(document: &mut DeTable<'i>, over: &'i Override) -> Result<(), String> {
    let Some((last, above)) =
        over.keys.split_last().filter(|_| over.keys.iter().all(|key| !key.is_empty()))
    else {
        return Err("it does not name a key; write KALEEM_DR__SECTION__KEY".into());
    };
    let value = match DeValue::parse(&over.text) {
        Ok(value) => value.into_inner(),
        Err(_) => DeValue::String(over.text.as_str().into()),
    };
    let mut table = document;
    for key in above {
        let entry = table
            .entry(Spanned::new(0..0, key.as_str().into()))
            .or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
        let DeValue::Table(inner) = entry.get_mut() else {
            return Err(format!("`{key}` is not a table"));
        };
        table = inner;
    }
    table.insert(Spanned::new(0..0, last.as_str().into()), Spanned::new(0..0, value));
    Ok(())
}

/// The JSON schema of the whole config, for editors and for `config schema`.
#[must_use]
pub fn schema(kinds: &[SourceKind]) -> serde_json::Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let tables: Vec<serde_json::Value> = kinds
        .iter()
        .map(|kind| {
            let mut schema = (kind.schema)(&mut generator);
            if let Some(object) = schema.as_object_mut() {
                let properties = object.entry("properties").or_insert_with(|| json!({}));
                properties["type"] = json!({ "const": kind.name });
                properties["after"] = order::schema();
                properties["hooks"] = generator.subschema_for::<BackupHooks>().to_value();
                if let Some(required) =
                    object.entry("required").or_insert_with(|| json!([])).as_array_mut()
                {
                    required.push(json!("type"));
                }
            }
            schema.to_value()
        })
        .collect();
    let mut root = generator.into_root_schema_for::<Settings>().to_value();
    root["properties"]["source"] = json!({
        "description": "Sources to back up, by name.",
        "type": "object",
        "additionalProperties": { "oneOf": tables },
    });
    root
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_ini(text: &str) {
    if let Ok(ini) = ini::Ini::parse(text) {
        rclone::fuzz(ini);
    }
}

#[cfg(test)]
mod tests;
