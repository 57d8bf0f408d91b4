//! Scratch targets of rehearsals, and the remains of killed ones.
//!
//! Before a rehearsal creates anything, it writes and locks a note with its name; the name contains a ULID, so everything with
//! this name is ours. The note is deleted when everything else is removed. A note that no process has locked belongs to a process
//! that died: the next run removes everything with this name, using the source it belongs to, and the note last.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::{
    ground::{
        SourceName,
        durable_file::sync_directory,
        error_chain,
        flock::{self, FileLock},
    },
    recovery::source::{Restorable, ScratchTarget},
};

/// The prefix of every scratch name.
pub const PREFIX: &str = "kdr_drill_";
const NOTE: &str = "scratch";

/// A scratch target in use.
#[derive(Debug)]
#[must_use = "its objects are only removed by `end`, or by a later run"]
pub struct Scratch {
    target: ScratchTarget,
    note: PathBuf,
    /// Locked until this value is dropped.
    _held: FileLock,
}

/// The content of a note.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    source: SourceName,
}

/// The result of clearing the scratch target of a rehearsal that died.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Cleared {
    /// Scratch name of the rehearsal.
    pub name: String,
    /// The source that was rehearsed.
    pub source: Option<SourceName>,
    /// The removed objects, as the source names them.
    pub removed: Vec<String>,
    /// The reason why not everything could be removed; the next run tries again.
    pub error: Option<String>,
}

impl Scratch {
    /// Records a new scratch target of a source under `directory`, and creates its directory.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn begin(directory: &Path, source: &SourceName, control: bool) -> io::Result<Self> {
        private_directory(directory)?;
        let name = format!("{PREFIX}{}", Ulid::generate().to_string().to_lowercase());
        let note = note_of(directory, &name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&note)?;
        serde_json::to_writer(&mut file, &Note { source: source.clone() })?;
        file.flush()?;
        let held = flock::try_lock(file)?.ok_or(io::ErrorKind::WouldBlock)?;
        // Durable before anything is created on a server: otherwise a crash of the machine would leave objects that no note
        // records.
        held.sync_all()?;
        sync_directory(directory)?;
        let target = ScratchTarget { directory: directory.join(&name), name, control };
        private_directory(&target.directory)?;
        Ok(Self { target, note, _held: held })
    }

    /// Name and directory of the scratch target.
    #[must_use]
    pub fn target(&self) -> &ScratchTarget {
        &self.target
    }

    /// Removes the directory. With `clean`, the source has removed everything that it created, and the note is deleted too;
    /// otherwise the note is kept so that the next run cleans up.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn end(self, clean: bool) -> io::Result<()> {
        fs::remove_dir_all(&self.target.directory)?;
        if clean { fs::remove_file(&self.note) } else { Ok(()) }
    }
}

/// Removes what killed rehearsals left behind. Those of sources that are not in `sources`, or cannot be reached, stay recorded.
///
/// # Errors
/// If the notes cannot be read. The list contains what could not be removed.
pub async fn clear_abandoned(
    directory: &Path,
    sources: &[Arc<dyn Restorable>],
) -> io::Result<Vec<Cleared>> {
    let mut all = Vec::new();
    for (name, note) in abandoned(directory)? {
        all.push(clear(directory, name, &note, sources).await);
    }
    Ok(all)
}

/// The scratch names of rehearsals that died and have not been cleaned up yet.
///
/// # Errors
/// If the notes cannot be read.
pub fn left_over(directory: &Path) -> io::Result<Vec<String>> {
    Ok(abandoned(directory)?.into_iter().map(|(name, _)| name).collect())
}

async fn clear(
    directory: &Path,
    name: String,
    note: &FileLock,
    sources: &[Arc<dyn Restorable>],
) -> Cleared {
    let said: Option<Note> = serde_json::from_reader(io::BufReader::new(&**note)).ok();
    let mut cleared =
        Cleared { source: said.map(|note| note.source), removed: Vec::new(), error: None, name };
    let path = note_of(directory, &cleared.name);
    let Some(of) = &cleared.source else {
        // It died while writing the note, before it created anything.
        cleared.error = fs::remove_file(&path).err().map(|error| error.to_string());
        return cleared;
    };
    let Some(source) = sources.iter().find(|source| source.name() == of) else {
        cleared.error = Some(format!("the source {of} is not at hand now"));
        return cleared;
    };
    match source.clear_scratch(&cleared.name).await {
        Ok(removed) => cleared.removed = removed,
        Err(error) => {
            cleared.error = Some(error_chain(&error));
            return cleared;
        }
    }
    let scratch = directory.join(&cleared.name);
    match fs::remove_dir_all(&scratch) {
        Ok(()) => cleared.removed.push(format!("directory {}", scratch.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            cleared.error = Some(format!("{}: {error}", scratch.display()));
            return cleared;
        }
    }
    cleared.error =
        fs::remove_file(&path).err().map(|error| format!("{}: {error}", path.display()));
    cleared
}

/// The notes that no process has locked; they are locked now.
fn abandoned(directory: &Path) -> io::Result<Vec<(String, FileLock)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_none_or(|extension| extension != NOTE) || !name.starts_with(PREFIX) {
            continue;
        }
        let file = match File::open(&path) {
            // Its rehearsal has ended in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if let Ok(Some(held)) = flock::try_lock(file)
            && path.exists()
        {
            found.push((name, held));
        }
    }
    Ok(found)
}

fn note_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{NOTE}"))
}

fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_nobody_holds_is_left_over() {
        let home = tempfile::tempdir().unwrap();
        let source: SourceName = "mongo".parse().unwrap();
        let alive = Scratch::begin(home.path(), &source, false).unwrap();
        let dead = Scratch::begin(home.path(), &source, false).unwrap();
        let name = dead.target().name.clone();
        drop(dead);
        assert_eq!(left_over(home.path()).unwrap(), std::slice::from_ref(&name));
        let cleared = clear_abandoned(home.path(), &[]).await.unwrap();
        assert_eq!(cleared[0].error.as_deref(), Some("the source mongo is not at hand now"));
        assert!(note_of(home.path(), &name).exists(), "it is tried again");
        alive.end(true).unwrap();
        assert_eq!(left_over(home.path()).unwrap(), [name]);
    }
}
