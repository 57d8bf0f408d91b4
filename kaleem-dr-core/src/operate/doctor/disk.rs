//! Checks free space, and whether one fault can destroy data and all copies.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Examination, Space};
use crate::{
    engine::{
        ledger::{EventKind, Ledger, LedgerError, Part},
        repository::Location,
    },
    ground::{SourceName, diagnosis::Diagnosis, error_chain, size::size},
    operate::config::{Settings, secret::Environment},
    recovery::source::Restorable,
};

/// Free space must suffice for this many more files of the largest size.
const ROOM_FOR_DUMPS: u64 = 2;
/// The name of the directory of staged files.
const STAGED: &str = "staged files";

/// Each directory that we write to, with its purpose.
pub(crate) fn places(settings: &Settings, environment: &Environment) -> Vec<(String, PathBuf)> {
    let mut places = Vec::new();
    for (name, repository) in &settings.repository {
        if let Ok(Location::Directory(path)) = repository.location(environment) {
            places.push((format!("repository {name}"), path));
        }
    }
    if let Some(staged) = &settings.staged {
        places.push((STAGED.to_owned(), staged.directory.clone()));
    }
    places.push(("state".to_owned(), settings.state_directory.clone()));
    places
        .extend(settings.scratch_directory.iter().map(|path| ("scratch".to_owned(), path.clone())));
    places
}

/// Free space and inodes of each directory.
pub(super) fn room(job: &Examination) -> Vec<Diagnosis> {
    let settings = &job.config.settings;
    let (added, mut found) = match added_last(job) {
        Ok(added) => (added, Vec::new()),
        Err(error) => {
            (Vec::new(), vec![Diagnosis::unseen("the size of the last runs", &error_chain(&error))])
        }
    };
    let staged = settings.staged.as_ref().and_then(|staged| largest_file(&staged.directory));
    for (what, path) in places(settings, &job.environment) {
        let newest = added
            .iter()
            .filter(|part| part.repository == path.display().to_string())
            .max_by_key(|part| part.added_bytes);
        let largest = match newest {
            Some(part) => {
                Some((format!("what the last run added for {}", part.source), part.added_bytes))
            }
            None if what == STAGED => staged.as_ref().map(|(file, bytes)| {
                (format!("the largest staged file, {}", file.display()), *bytes)
            }),
            None => None,
        };
        match job.host.facts.space(&path) {
            Ok(space) => {
                found.extend(of_space(
                    &what,
                    &path,
                    space,
                    u64::from(settings.doctor.min_free_percent),
                    largest.as_ref(),
                ));
            }
            Err(error) => {
                found.push(Diagnosis::unseen(
                    &format!("the free space for {what} in {}", path.display()),
                    &error.to_string(),
                ));
            }
        }
    }
    found
}

/// The size of the newest successful run of each source.
fn added_last(job: &Examination) -> Result<Vec<Part>, LedgerError> {
    let Some(ledger) = Ledger::find(&job.config.settings.state_directory)? else {
        return Ok(Vec::new());
    };
    let parts = ledger.newest_parts(true)?.into_iter();
    Ok(parts.filter(|past| past.kind == EventKind::Backup.word()).map(|past| past.part).collect())
}

fn of_space(
    what: &str,
    path: &Path,
    space: Space,
    min_percent: u64,
    largest: Option<&(String, u64)>,
) -> Vec<Diagnosis> {
    let (shown, free) = (path.display(), space.free_bytes);
    let mut found = Vec::new();
    if let Some((next, bytes)) = largest
        && free < bytes.saturating_mul(ROOM_FOR_DUMPS)
    {
        found.push(
            Diagnosis::error(
                "disk-room-short",
                format!("{shown} ({what}) has {} free", size(free)),
            )
            .because(format!("{next} has {}: the next run may not have enough space", size(*bytes)))
            .fix("free up space, lower `staged.keep`, or use a larger disk"),
        );
    }
    if space.free_percent() < min_percent {
        let percent = space.free_percent();
        found.push(
            Diagnosis::warning(
                "disk-space-low",
                format!(
                    "{shown} ({what}) is {percent} % free: {} of {}",
                    size(free),
                    size(space.total_bytes)
                ),
            )
            .because(format!("less than {min_percent} % (`doctor.min_free_percent`)"))
            .fix("free up space; `kaleem-dr prune` deletes data that no snapshot needs"),
        );
    }
    if space.free_inode_percent() < min_percent {
        let (free, total) = (space.free_inodes, space.total_inodes);
        found.push(
            Diagnosis::warning(
                "disk-inodes-low",
                format!("{shown} ({what}) has {free} of {total} inodes free"),
            )
            .because("without free inodes no file can be created, however many bytes are free")
            .fix(format!("remove small files: `du --inodes -x {shown} | sort -n | tail`")),
        );
    }
    if found.is_empty() {
        found.push(Diagnosis::ok(
            "disk-space",
            format!("{shown} ({what}) is {} % free", space.free_percent()),
        ));
    }
    found
}

/// The largest file in the subdirectories.
fn largest_file(directory: &Path) -> Option<(PathBuf, u64)> {
    let below = fs::read_dir(directory).ok()?.flatten().filter(|entry| entry.path().is_dir());
    let files =
        below.filter_map(|entry| fs::read_dir(entry.path()).ok()).flat_map(Iterator::flatten);
    files
        .filter_map(|file| Some((file.path(), file.metadata().ok()?)))
        .filter(|(_, meta)| meta.is_file())
        .map(|(path, meta)| (path, meta.len()))
        .max_by_key(|(_, bytes)| *bytes)
}

/// Three copies, two devices, one off site.
pub(super) fn copies(
    job: &Examination,
    sources: &[std::sync::Arc<dyn Restorable>],
) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let mut local: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let (mut directories, mut elsewhere) = (0, 0);
    for (name, repository) in &job.config.settings.repository {
        match repository.location(&job.environment) {
            Ok(Location::S3(_)) => elsewhere += 1,
            Ok(Location::Directory(path)) => {
                directories += 1;
                match job.host.facts.device(&path) {
                    Ok(device) => local.entry(device).or_default().push(name.clone()),
                    Err(error) => found.push(Diagnosis::unseen(
                        &format!("the device of repository {name}"),
                        &error.to_string(),
                    )),
                }
            }
            // Opening the repository reports its problems.
            Err(_) => {}
        }
    }
    let devices = local.len();
    for source in sources {
        for path in source.local_paths() {
            match job.host.facts.device(&path) {
                Ok(device) => found.extend(local.get(&device).map(|there| {
                    let others = devices > 1 || elsewhere > 0;
                    same_device(source.name(), &path, there, others)
                })),
                Err(error) => found.push(Diagnosis::unseen(
                    &format!("the device of {}", path.display()),
                    &error.to_string(),
                )),
            }
        }
    }
    if elsewhere == 0 && directories > 0 {
        found.push(
            Diagnosis::warning("no-copy-elsewhere", "every repository is on this machine")
                .because("a fire, a theft or an intruder can destroy the machine with all copies")
                .fix("add a [repository.r2] in a bucket with `mirror_of`, then run `kaleem-dr replicate`"),
        );
    }
    if found.is_empty() {
        found.push(Diagnosis::ok(
            "copies",
            format!(
                "{directories} repositories on other devices than the data, {elsewhere} elsewhere"
            ),
        ));
    }
    found
}

/// A copy on the device of its data protects less; that is harmless if there is another one
/// elsewhere.
fn same_device(
    source: &SourceName,
    path: &Path,
    repositories: &[String],
    others: bool,
) -> Diagnosis {
    let what = format!(
        "{} of source {source} is on the device of repository {}",
        path.display(),
        repositories.join(", ")
    );
    if others {
        return Diagnosis::information("one-device", what)
            .because("another repository is elsewhere: keep it fresh");
    }
    Diagnosis::warning("one-device", what)
        .because("one broken disk destroys the data and their only copy")
        .fix("put the repository on another disk, or add a second one (`mirror_of`, or `also` in [backup])")
}
