//! `drill --from-nothing`: the whole way of a new machine, in a scratch root: bootstrap from a
//! replica alone, then the drill of every source with the config, the secrets and the state that
//! bootstrap wrote.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;

use super::{
    Drill, Site, SiteError,
    bootstrap::{opened_site, set_up},
};
use crate::{
    engine::{ledger::ChainedReport, repository::Location},
    ground::{error_chain, flock, host::HostScope},
    operate::{
        bootstrap::{Bootstrap, Bootstrapped, BucketKey, Placement},
        config::SourceKind,
        installation::NeededSecret,
    },
    recovery::{
        drill::{DrillJob, DrillReport, ReportKind, drill},
        points::PointChoice,
    },
};

/// Prefix of scratch roots.
const PREFIX: &str = "from-nothing-";
/// File that the drill of a scratch root holds locked.
const HELD: &str = "held";
/// The config in a scratch root.
const CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";

impl Site {
    /// Sets up this host anew in a scratch root, from a replica alone, and drills every source with
    /// that installation; then removes the root. Secrets that are not sealed in the snapshot are
    /// taken from this machine, as an operator would enter them; a note in the report names them.
    /// The replica is the selected repository; by default the first mirror, or the first repository
    /// that backups are copied to, or else the primary one. The history records the report and the
    /// duration.
    ///
    /// # Errors
    /// As [`Site::bootstrap`] and [`Site::drill`]; if the scratch root cannot be written or removed.
    pub async fn drill_from_nothing(
        &self,
        wanted: &Drill,
        kinds: &[SourceKind],
    ) -> Result<(DrillReport, ChainedReport), SiteError> {
        let work = Box::pin(self.set_up_and_drill(wanted, kinds));
        let mut report = self.until_cancelled(work).await?;
        let chained = self.record_drill(&mut report).await?;
        Ok((report, chained))
    }

    async fn set_up_and_drill(
        &self,
        wanted: &Drill,
        kinds: &[SourceKind],
    ) -> Result<DrillReport, SiteError> {
        let began = (Timestamp::now(), Instant::now());
        let replica = self.replica_to_drill()?;
        let root = Root::make(&self.config.settings.scratch())?;
        let options = self.options_of(&replica, root.path())?;
        let mut environment = self.environment.clone();
        environment.overlay([("CREDENTIALS_DIRECTORY", "")].into_iter().collect());
        let secrets = NeededSecret::of(&self.config, &self.environment);
        let own = async |needed: &NeededSecret| {
            let secret = secrets.iter().find(|secret| secret.key == needed.key)?;
            secret.value(&self.environment).ok()
        };
        let done = set_up(&options, (kinds, &environment), own).await?;
        let site = opened_site(&done, (kinds, &environment))?
            .with_repository(&done.repository)
            .with_progress(self.progress.clone())
            .with_cancellation(self.cancel.clone())
            .with_patience(self.patience);
        let (sources, unavailable) = site.sources(&wanted.sources)?;
        let repository = site.repository().await?;
        let setup_seconds = began.1.elapsed().as_secs_f64();
        let host = site.config.settings.host_name();
        let job = DrillJob {
            run: wanted.run.unwrap_or_default(),
            repository,
            sources,
            unavailable,
            point: PointChoice::newest(HostScope::One(host.clone())),
            host,
            level: wanted.level,
            state_directory: site.config.settings.state_directory.clone(),
            // What a killed drill leaves on the servers is noted where the next drill looks.
            scratch_directory: self.config.settings.scratch(),
            patience: self.patience,
        };
        let (mut report, released) = drill(&job, &self.progress, &self.cancel).await?;
        released?;
        root.remove()?;
        report.kind = ReportKind::FromNothing;
        report.started = began.0;
        report.setup_seconds = Some(setup_seconds);
        report.notes = notes(&done);
        Ok(report)
    }

    fn replica_to_drill(&self) -> Result<String, SiteError> {
        if self.chosen.is_some() {
            return Ok(self.chosen_repository()?.0.to_owned());
        }
        let primary = self.chosen_repository()?.0.to_owned();
        let replica = self.replicas(&primary).next().map(str::to_owned);
        Ok(replica.unwrap_or(primary))
    }

    /// Everything that an operator has of a repository: its location, its keys and its password.
    fn options_of(&self, name: &str, root: &Path) -> Result<Bootstrap, SiteError> {
        let access = self.access_to(name)?;
        let mut options =
            Bootstrap::from(access.location.in_words(), access.password.clone(), CONFIG.into());
        if let Location::S3(bucket) = &access.location {
            options.key = Some(BucketKey::new(
                bucket.access_key_id.clone(),
                bucket.secret_access_key.clone(),
            ));
            options.region = Some(bucket.region.clone());
            options.ca_file.clone_from(&bucket.network.ca_file);
        }
        options.host = Some(self.config.settings.host_name());
        options.root = Some(root.to_path_buf());
        let passphrase = self.config.settings.recovery.passphrase.as_ref();
        let passphrase = passphrase.map(|secret| self.environment.secret(secret)).transpose();
        options.passphrase = passphrase.map_err(|error| {
            SiteError::Config(format!("`recovery.passphrase`: {}", error_chain(&error)))
        })?;
        Ok(options)
    }
}

fn notes(done: &Bootstrapped) -> Vec<String> {
    let named = |placement: Placement| {
        let secrets = done.secrets.iter().filter(|placed| placed.placement == placement);
        secrets.map(|placed| placed.secret.key.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut notes = done.notes.clone();
    for (placement, words) in [
        (
            Placement::Typed,
            "these secrets are not sealed in the snapshots; the drill took them from this machine, an operator would have to enter them",
        ),
        (Placement::Missing, "these secrets are missing"),
    ] {
        let keys = named(placement);
        if !keys.is_empty() {
            notes.push(format!("{words}: {keys}"));
        }
    }
    notes
}

/// A scratch root, which is removed after the drill, or by the next one after a kill.
struct Root {
    path: PathBuf,
    _held: flock::FileLock,
}

impl Root {
    fn make(scratch: &Path) -> Result<Self, SiteError> {
        let failed = |cause| SiteError::File {
            path: scratch.to_path_buf(),
            action: "make a scratch root in the directory",
            cause,
        };
        Self::begin(scratch).map_err(failed)
    }

    fn begin(scratch: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
        clear_abandoned(scratch)?;
        let path =
            scratch.join(format!("{PREFIX}{}", ulid::Ulid::generate().to_string().to_lowercase()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(HELD))?;
        let held = flock::try_lock(file)?.ok_or(io::ErrorKind::WouldBlock)?;
        Ok(Self { path, _held: held })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> Result<(), SiteError> {
        fs::remove_dir_all(&self.path).map_err(|cause| SiteError::File {
            path: self.path.clone(),
            action: "remove the scratch root",
            cause,
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // After a failure; if it cannot be removed, the next drill tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Reports whether a directory was not changed for a minute.
fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|data| data.modified()).map(|time| time.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age > std::time::Duration::from_mins(1)))
}

/// Removes the roots of drills that were killed.
fn clear_abandoned(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let is_abandoned = match File::open(path.join(HELD)) {
            Ok(file) => flock::try_lock(file)?.is_some(),
            // It was killed before it made the file, or is being made or removed now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => is_old(&path),
            Err(error) => return Err(error),
        };
        if is_abandoned {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
