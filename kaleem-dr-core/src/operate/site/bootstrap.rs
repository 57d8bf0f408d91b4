//! `bootstrap`: sets up a new machine from a repository alone.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Doctor, Site, SiteError};
use crate::{
    CancellationToken,
    engine::repository::{Repository, RepositoryError, Snapshot},
    ground::{error_chain, host::HostName},
    operate::{
        bootstrap::{
            Bootstrap, Bootstrapped, HostPoints, NewConfig, Origin, PlacedSecret, Placement,
            Placing, lacking,
        },
        config::{
            SourceKind, parse_env_file,
            secret::{Environment, SecretRef, SecretString},
        },
        doctor::{DoctorReport, Host},
        installation::{
            INSTALLATION, Installation, Machine, Measurements, NeededSecret, SEALED_SECRETS,
            SealedSecrets,
        },
    },
};

/// Number of a host's newest snapshots in which its description is sought.
const SOUGHT: usize = 20;

/// Findings about repositories that `recover` fills. To follow their advice would be wrong: a repository that
/// `init` creates has another id than its mirrors.
const LEFT_TO_RECOVER: [&str; 3] = ["repository-missing", "mirror-missing", "mirror-never-made"];

/// A repository that is read with nothing but the options.
struct Opened {
    repository: Repository,
    snapshots: Vec<Snapshot>,
    environment: Environment,
}

/// The description that was found, with the snapshot's time and the sealed secrets.
struct Found {
    installation: Installation,
    described: Timestamp,
    sealed: Option<Vec<u8>>,
}

impl Site {
    /// Reads the installation of a host from a repository, and writes its config, its secrets as far
    /// as they are known, and which repository to recover from. `ask` returns a secret that is
    /// neither given nor sealed; `None` leaves it missing. The repository is only read, without a
    /// lock. Returns what was done, and the findings of [`Site::doctor`] afterwards, except those about
    /// repositories that [`Site::recover`] fills.
    ///
    /// # Errors
    /// [`SiteError::Refused`] if the repository has several hosts and none is named, or an existing
    /// file has other content; if the repository cannot be read, or no snapshot of the host
    /// describes its installation. Nothing is written then.
    pub async fn bootstrap(
        wanted: &Bootstrap,
        (kinds, environment): (&[SourceKind], &Environment),
        cancel: &CancellationToken,
        ask: impl AsyncFnMut(&NeededSecret) -> Option<SecretString>,
    ) -> Result<(Bootstrapped, DoctorReport), SiteError> {
        let work = Box::pin(set_up(wanted, (kinds, environment), ask));
        let done = cancel
            .run_until_cancelled(work)
            .await
            .unwrap_or(Err(RepositoryError::Cancelled.into()))?;
        let site = opened_site(&done, (kinds, environment))?.with_cancellation(cancel.clone());
        let mut report = site.doctor(Doctor::of(Host::this("/".into()))).await;
        report.findings.retain(|found| !LEFT_TO_RECOVER.contains(&found.id));
        Ok((done, report))
    }
}

/// Everything of a bootstrap except the examination afterwards.
pub(super) async fn set_up(
    wanted: &Bootstrap,
    (kinds, environment): (&[SourceKind], &Environment),
    mut ask: impl AsyncFnMut(&NeededSecret) -> Option<SecretString>,
) -> Result<Bootstrapped, SiteError> {
    let opened = open(wanted, environment).await?;
    let hosts = HostPoints::of(&opened.snapshots, Timestamp::now());
    let host = choose_host(wanted, &hosts, &opened.repository.location())?;
    let found = find(&opened, &host).await?;
    let location = opened.repository.location();
    let config =
        NewConfig::of(wanted, (&found.installation, &host), (&location, &opened.environment))
            .map_err(SiteError::Config)?;
    let sealed = unsealed(wanted, &found).await?;
    let path = config_path(wanted);
    let mut placing =
        Placing::new(config.environment_file(), NewConfig::credentials(wanted.root.as_deref()));
    let needed = config.secrets(&found.installation);
    let is_needed = |key: &&String| needed.iter().any(|secret| secret.key == **key);
    if let Some(unknown) = wanted.secrets.keys().find(|key| !is_needed(key)) {
        let known: Vec<&str> = needed.iter().map(|secret| secret.key.as_str()).collect();
        return Err(SiteError::Config(format!(
            "no key `{unknown}` of the config refers to a secret; these do: {}",
            known.join(", ")
        )));
    }
    let mut secrets = Vec::new();
    for secret in needed {
        let value = value_of(&secret, (wanted, &config, sealed.as_ref()), environment);
        let value = match value {
            None if matches!(secret.place, SecretRef::Command(_)) => None,
            None => ask(&secret).await.map(|value| (value, Placement::Typed)),
            known => known,
        };
        let placement = match value {
            None => Placement::Missing,
            Some((value, placement)) => {
                if placement != Placement::Present {
                    placing.secret(&secret.place, &value);
                }
                placement
            }
        };
        secrets.push(PlacedSecret { secret, placement });
    }
    placing.file(&path, config.text());
    let machine = Machine::of_this();
    let done = Bootstrapped {
        host: host.to_string(),
        hosts,
        from: location,
        repository: config.repository.clone(),
        described: found.described,
        config: path.clone(),
        environment_file: placing.environment_file(),
        credentials: placing.credentials(),
        secrets,
        notes: lacking(&found.installation, &machine),
    };
    let made = check(wanted, &config, (kinds, environment))?;
    write(wanted, &placing)?;
    let Installation { measured: restores, passes, .. } = found.installation;
    let origin = Origin::new(config.repository, Measurements { restores, passes });
    let state = &made.config.settings.state_directory;
    origin.save(state).map_err(|cause| SiteError::File {
        path: Origin::path(state),
        action: "write the repository to recover from",
        cause,
    })?;
    Ok(done)
}

/// Opens the repository with the options' secrets, which are in no file yet.
async fn open(wanted: &Bootstrap, environment: &Environment) -> Result<Opened, SiteError> {
    let mut environment = environment.clone();
    environment.overlay(wanted.variables());
    let site =
        Site::parse(&wanted.repository_text(), Path::new("--from"), &[], environment.clone())?;
    let repository = site.repository().await?.without_locks();
    let snapshots = repository.snapshots().await?;
    Ok(Opened { repository, snapshots, environment })
}

fn choose_host(
    wanted: &Bootstrap,
    hosts: &[HostPoints],
    location: &str,
) -> Result<HostName, SiteError> {
    let listed = || {
        let host = |host: &HostPoints| {
            format!("{} ({} points, the newest of {})", host.host, host.points, host.newest)
        };
        hosts.iter().map(host).collect::<Vec<_>>().join(", ")
    };
    let invalid =
        |error: crate::ground::host::InvalidHostName| SiteError::Config(error.to_string());
    match (&wanted.host, hosts) {
        (_, []) => {
            Err(SiteError::NothingMatches(format!("{location} contains no snapshot of kaleem-dr")))
        }
        (Some(host), hosts) if hosts.iter().any(|points| points.host == host.as_str()) => {
            Ok(host.clone())
        }
        (Some(host), _) => Err(SiteError::NothingMatches(format!(
            "{location} has no point of host {host}; it has points of {}",
            listed()
        ))),
        (None, [only]) => only.host.parse().map_err(invalid),
        (None, _) => Err(SiteError::Refused(format!(
            "{location} has points of several hosts; name the one to take over with --host: {}",
            listed()
        ))),
    }
}

/// The newest description of a host. Older ones are read if the newest cannot be.
async fn find(opened: &Opened, host: &HostName) -> Result<Found, SiteError> {
    let now = Timestamp::now();
    let mut of_host: Vec<&Snapshot> = opened
        .snapshots
        .iter()
        .filter(|snapshot| {
            snapshot.is_ours()
                && snapshot.host() == host.as_str()
                && !snapshot.is_of_the_future(now)
        })
        .collect();
    of_host.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time().timestamp()));
    let mut first = None;
    for snapshot in of_host.into_iter().take(SOUGHT) {
        match described_by(opened, snapshot).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(snapshot = %snapshot.id().short(), error = %error_chain(&error), "the description of the installation cannot be read");
                first = first.or(Some(error));
            }
        }
    }
    Err(first.unwrap_or_else(|| {
        SiteError::NothingMatches(format!(
            "no snapshot of host {host} describes its installation: an older release made them. Write a config with this repository, and restore \
             the sources one by one"
        ))
    }))
}

async fn described_by(opened: &Opened, snapshot: &Snapshot) -> Result<Option<Found>, SiteError> {
    let reader = opened.repository.read(snapshot).await?;
    let Some(json) = reader.enclosure(INSTALLATION).await? else { return Ok(None) };
    Ok(Some(Found {
        installation: Installation::parse(&json)?,
        described: snapshot.time().timestamp(),
        sealed: reader.enclosure(SEALED_SECRETS).await?,
    }))
}

async fn unsealed(wanted: &Bootstrap, found: &Found) -> Result<Option<SealedSecrets>, SiteError> {
    let (sealed, passphrase) = match (&found.sealed, &wanted.passphrase) {
        (Some(sealed), Some(passphrase)) => (sealed.clone(), passphrase.clone()),
        (None, Some(_)) => {
            return Err(SiteError::NothingMatches(
                "a passphrase was given, but the snapshot has no sealed secrets".to_owned(),
            ));
        }
        (_, None) => return Ok(None),
    };
    let opening = tokio::task::spawn_blocking(move || SealedSecrets::open(&sealed, &passphrase));
    let opened = opening.await.map_err(|panic| SiteError::Config(panic.to_string()))?;
    Ok(Some(opened?))
}

/// The value of a secret: given, known from the other options, sealed, or in its place already.
fn value_of(
    secret: &NeededSecret,
    (wanted, config, sealed): (&Bootstrap, &NewConfig, Option<&SealedSecrets>),
    environment: &Environment,
) -> Option<(SecretString, Placement)> {
    if matches!(secret.place, SecretRef::Command(_)) {
        return Some((secret.value(environment).ok()?, Placement::Present));
    }
    let given = wanted.secrets.get(&secret.key).or_else(|| config.known(&secret.key));
    let sealed = || sealed.and_then(|sealed| sealed.value(&secret.key));
    given
        .map(|value| (value.clone(), Placement::Given))
        .or_else(|| Some((sealed()?.clone(), Placement::Unsealed)))
        .or_else(|| Some((secret.value(environment).ok()?, Placement::Present)))
}

/// Parses the new config as the program will.
fn check(
    wanted: &Bootstrap,
    config: &NewConfig,
    (kinds, environment): (&[SourceKind], &Environment),
) -> Result<Site, SiteError> {
    Site::parse(&config.text(), &config_path(wanted), kinds, environment.clone())
}

fn write(wanted: &Bootstrap, placing: &Placing) -> Result<(), SiteError> {
    let failed = |path: PathBuf, action, cause| SiteError::File { path, action, cause };
    let in_the_way = placing.in_the_way().map_err(|cause| {
        failed(config_path(wanted), "compare existing files with the new ones for", cause)
    })?;
    if !in_the_way.is_empty() && !wanted.replace {
        let names: Vec<String> = in_the_way.iter().map(|path| path.display().to_string()).collect();
        return Err(SiteError::Refused(format!(
            "nothing was written, because existing files have other content: {}; --replace overwrites them",
            names.join(", ")
        )));
    }
    placing.write().map_err(|(path, cause)| failed(path, "write the file", cause))
}

/// Path of the new config, below the scratch root if there is one.
fn config_path(wanted: &Bootstrap) -> PathBuf {
    match &wanted.root {
        Some(root) => root.join(wanted.config.strip_prefix("/").unwrap_or(&wanted.config)),
        None => wanted.config.clone(),
    }
}

/// The site of the written config, with the written variables and credentials.
pub(super) fn opened_site(
    done: &Bootstrapped,
    (kinds, environment): (&[SourceKind], &Environment),
) -> Result<Site, SiteError> {
    let mut environment = environment.clone();
    if let Some(path) = &done.environment_file {
        let text = std::fs::read_to_string(path).map_err(|cause| SiteError::File {
            path: path.clone(),
            action: "read the variables",
            cause,
        })?;
        let variables = parse_env_file(&text, None)
            .map_err(|error| SiteError::Config(format!("{}: {error}", path.display())))?;
        environment.overlay(variables);
    }
    if let Some(directory) = &done.credentials {
        let directory = directory.display().to_string();
        environment.overlay([("CREDENTIALS_DIRECTORY", directory)].into_iter().collect());
    }
    Site::open(&done.config, kinds, environment)
}
