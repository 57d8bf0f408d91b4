//! `config init`: writes the first config of a machine, with its secrets.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

use super::{Site, SiteError};
use crate::{
    ground::{durable_file, error_chain},
    operate::{
        config::{
            DraftSecret, DraftValue, SourceDraft, SourceKind, TEMPLATE, schema,
            secret::{Environment, ExposeSecret as _, SecretRef, SecretString},
        },
        first_config::{
            FirstConfig, NewRepository, NewSecret, Reference, SecretOrigin, Written, drafts,
            excluded, text,
        },
    },
};

/// The name of the table of the repository.
const REPOSITORY: &str = "repository.local";
/// The schema next to a config.
const SCHEMA: &str = "kaleem-dr.schema.json";

/// A secret whose file does not exist yet, with its value.
struct Unwritten {
    path: PathBuf,
    value: SecretString,
}

/// The secrets of a new config.
#[derive(Default)]
struct Secrets {
    references: Vec<Reference>,
    report: Vec<NewSecret>,
    unwritten: Vec<Unwritten>,
    missing: Vec<String>,
}

impl Site {
    /// Writes a config with a repository and sources, and its secrets into files with mode 600: a random password of the repository,
    /// and what `ask` returns for a question. Existing files of secrets are used as they are.
    ///
    /// # Errors
    /// [`SiteError::Config`] with all faults: the config exists, a path is wrong, or a secret is needed and there is no answer. Nothing
    /// is written then. [`SiteError::File`] if a file cannot be written.
    pub async fn first_config(
        wanted: &FirstConfig,
        (kinds, environment): (&[SourceKind], &Environment),
        ask: impl AsyncFnMut(&str) -> Option<SecretString>,
    ) -> Result<Written, SiteError> {
        refuse_existing(&wanted.config)?;
        let (repository, mut sources) = examined(wanted, kinds, environment)?;
        let secrets = secrets_of(wanted, (&repository, &mut sources), environment, ask).await?;
        let own_schema = wanted.schema.is_none().then(|| wanted.directory().join(SCHEMA));
        let schema_place = match &wanted.schema {
            Some(path) => format!("file://{}", path.display()),
            None => format!("./{SCHEMA}"),
        };
        let text = text(&schema_place, &repository.location, &sources, &secrets.references);
        let site = Self::parse(&text, &wanted.config, kinds, environment.clone())?;

        let mut written = Vec::new();
        let warnings = write(wanted, (&text, own_schema.as_deref(), kinds), &secrets, &mut written)
            .and_then(|()| site.check_config())
            .inspect_err(|_| {
                for path in &written {
                    // The error has the reason why it was written in vain.
                    let _ = fs::remove_file(path);
                }
            })?;
        Ok(Written {
            config: wanted.config.clone(),
            secrets: secrets.report,
            schema: own_schema,
            repository_exists: repository.exists,
            warnings,
        })
    }
}

impl Site {
    /// Writes the example of a config, to be edited, to a new file with mode 600.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the file exists; [`SiteError::File`] if it cannot be written.
    pub fn example_config(path: &Path) -> Result<(), SiteError> {
        refuse_existing(path)?;
        make_directory(path.parent().unwrap_or(Path::new("/")))?;
        durable_file::create_new(path, TEMPLATE.as_bytes(), 0o600)
            .map_err(failed(path, "write the config"))
    }
}

fn refuse_existing(config: &Path) -> Result<(), SiteError> {
    if config.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(SiteError::Config(format!("{} exists; it is not overwritten", config.display())))
}

fn make_directory(path: &Path) -> Result<(), SiteError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed(path, "create the directory"))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SiteError {
    let path = path.to_path_buf();
    move |cause| SiteError::File { path, action, cause }
}

/// Sources to write, each with its kind.
type Drafts = Vec<(&'static str, SourceDraft)>;

/// The repository and the sources, if nothing is wrong with them.
fn examined(
    wanted: &FirstConfig,
    kinds: &[SourceKind],
    environment: &Environment,
) -> Result<(NewRepository, Drafts), SiteError> {
    let mut faults = Vec::new();
    let repository =
        NewRepository::at(&wanted.repository, environment).map_err(|why| faults.push(why)).ok();
    let mut sources = drafts(&wanted.sources, kinds, environment)
        .map_err(|why| faults.extend(why))
        .unwrap_or_default();
    let directory = repository.as_ref().and_then(|repository| repository.directory.as_deref());
    for (_, source) in &mut sources {
        match directory.map(|directory| excluded(source, directory)) {
            Some(Ok(exclude)) if !exclude.is_empty() => exclude_from(source, exclude),
            Some(Err(why)) => faults.push(why),
            _ => {}
        }
    }
    match (repository, &faults[..]) {
        (Some(repository), []) if !sources.is_empty() => Ok((repository, sources)),
        (_, []) => Err(SiteError::Config("name at least one source, such as files:/home".into())),
        (_, faults) => Err(SiteError::Config(faults.join("\n  "))),
    }
}

fn exclude_from(source: &mut SourceDraft, exclude: Vec<String>) {
    let existing = source.keys.iter_mut().find(|(key, _)| *key == "exclude");
    match existing {
        Some((_, DraftValue::List(patterns))) => patterns.extend(exclude),
        _ => source.keys.push(("exclude", DraftValue::List(exclude))),
    }
}

/// The secrets of the repository and of the sources; those of sources that have no optional one lose its key.
async fn secrets_of(
    wanted: &FirstConfig,
    (repository, sources): (&NewRepository, &mut [(&'static str, SourceDraft)]),
    environment: &Environment,
    mut ask: impl AsyncFnMut(&str) -> Option<SecretString>,
) -> Result<Secrets, SiteError> {
    let directory = wanted.directory();
    let mut secrets = Secrets::default();
    let password = if repository.exists {
        let question = format!("password of the existing repository {}", repository.location);
        DraftSecret::asked("password", "pass", question)
    } else {
        let random: [u8; 32] = rand::random();
        DraftSecret::known("password", "pass", BASE64_STANDARD_NO_PAD.encode(random).into())
    };
    let mut all = vec![(REPOSITORY.to_owned(), "repository".to_owned(), password)];
    if repository.needs_key(environment) {
        for (key, ending, question) in [
            ("access_key_id", "id", "access key id of the bucket"),
            ("secret_access_key", "key", "secret access key of the bucket"),
        ] {
            let secret = DraftSecret::asked(key, ending, question);
            all.push((REPOSITORY.to_owned(), "repository".to_owned(), secret));
        }
    }
    for (_, source) in &*sources {
        for secret in &source.secrets {
            all.push((format!("source.{}", source.name), source.name.clone(), secret.clone()));
        }
    }
    for (table, name, secret) in all {
        let path = directory.join(format!("{name}.{}", secret.ending));
        let origin = if path.symlink_metadata().is_ok() {
            environment
                .secret(&SecretRef::File(path.clone()))
                .map_err(|error| SiteError::Config(error_chain(&error)))?;
            SecretOrigin::Present
        } else if let Some(value) = &secret.known {
            secrets.unwritten.push(Unwritten { path: path.clone(), value: value.clone() });
            if table == REPOSITORY { SecretOrigin::Random } else { SecretOrigin::Given }
        } else if let Some(answer) = ask(&secret.question).await {
            let value = secret.of_answer(answer);
            secrets.unwritten.push(Unwritten { path: path.clone(), value });
            SecretOrigin::Typed
        } else {
            if !secret.is_optional {
                secrets.missing.push(format!("{} ({})", path.display(), secret.question));
            }
            continue;
        };
        secrets.report.push(NewSecret {
            key: format!("{table}.{}", secret.key),
            path: path.clone(),
            origin,
        });
        secrets.references.push(Reference { table, key: secret.key, path });
    }
    if secrets.missing.is_empty() {
        return Ok(secrets);
    }
    Err(SiteError::Config(format!(
        "nothing was written, because secrets are missing; run this on a terminal, which asks for them, or write each into its file with \
         mode 600 first (of a source with an address: the whole address with the password):\n  {}",
        secrets.missing.join("\n  ")
    )))
}

/// Writes the secrets, the schema and the config, in this order; `written` lists what was written, also if it fails.
fn write(
    wanted: &FirstConfig,
    (text, schema_path, kinds): (&str, Option<&Path>, &[SourceKind]),
    secrets: &Secrets,
    written: &mut Vec<PathBuf>,
) -> Result<(), SiteError> {
    make_directory(wanted.directory())?;
    for secret in &secrets.unwritten {
        let line = SecretString::from(format!("{}\n", secret.value.expose_secret()));
        let bytes = line.expose_secret().as_bytes();
        durable_file::create_new(&secret.path, bytes, 0o600)
            .map_err(failed(&secret.path, "write the secret"))?;
        written.push(secret.path.clone());
    }
    if let Some(path) = schema_path.filter(|path| path.symlink_metadata().is_err()) {
        let schema = format!("{:#}\n", schema(kinds));
        durable_file::create_new(path, schema.as_bytes(), 0o644)
            .map_err(failed(path, "write the schema"))?;
        written.push(path.to_path_buf());
    }
    durable_file::create_new(&wanted.config, text.as_bytes(), 0o600)
        .map_err(failed(&wanted.config, "write the config"))?;
    written.push(wanted.config.clone());
    Ok(())
}
