//! Extracts a tar from an untrusted origin, compressed or not.
//!
//! Nothing is ever written outside the target, whatever the archive contains: see [`crate::recovery::extract_root`]. Rejected
//! members are reported, and the rest is still extracted. Every file is read back and compared with the archive. As in GNU tar,
//! the last member of a name wins, and a leading `/` is removed.

mod extraction;
mod members;
mod names;
mod number;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use self::{
    extraction::Extraction,
    members::{Damage, Member, MemberKind, Members},
    names::relative,
};
pub(crate) use self::{
    members::{BLOCK_BYTES, padding},
    names::encode_attribute,
};
use crate::{
    CancellationToken,
    ground::{
        gzip::decompressed,
        progress::{ProgressSink, Unit},
    },
    recovery::restore::{FileProblem, FilesReport, Selection},
};

/// Limit for the number of rejected members: no backup creates an archive with more.
const PROBLEMS_LIMIT: usize = 10_000;
/// Limit for the number of places in a survey.
const ROOTS_LIMIT: usize = 64;

/// The selection and options of an extraction.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UntarOptions {
    /// Directory under which the archive's names are created. It is created if it does not exist.
    pub target: PathBuf,
    /// Extract only what is under these absolute paths (`/etc/nginx` for the member `etc/nginx`), or matches these globs; empty
    /// for everything.
    pub include: Vec<String>,
    /// Overwrite existing files, and follow links to directories that existed before. Otherwise a target that is not empty is
    /// refused.
    pub in_place: bool,
    /// Also create named pipes and devices.
    pub special_files: bool,
    /// Limit for the total size of all files, in bytes, holes included. Each file must also fit into its file system.
    pub limit_bytes: Option<u64>,
}

impl UntarOptions {
    /// Extracts everything but pipes and devices into an empty or new directory, without a limit.
    pub fn to(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            include: Vec::new(),
            in_place: false,
            special_files: false,
            limit_bytes: None,
        }
    }
}

/// The reason why an archive could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UntarError {
    /// It is damaged, or not a tar.
    #[error("{0}")]
    Damaged(String),
    /// The operation needs the operator's consent; the text explains how to give it.
    #[error("{0}")]
    Refused(String),
    /// A local path could not be used.
    #[error("{}: cannot {action}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// The operator cancelled before the end of the archive.
    #[error("cancelled")]
    Cancelled,
}

impl From<Damage> for UntarError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

/// The content of an archive.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// Totals of the selected members; nothing was written or verified.
    pub report: FilesReport,
    /// The topmost paths, absolute, up to a limit.
    pub roots: Vec<PathBuf>,
    /// Bytes of files without their holes.
    pub stored_bytes: u64,
    /// The newest modification time of a file, in seconds since 1970.
    pub newest_seconds: Option<i64>,
}

/// Reads an archive to its end and counts its content. Blocking.
///
/// # Errors
/// [`UntarError::Damaged`] with the position of the damage and the last complete member.
pub fn survey(
    archive: &Path,
    include: &[String],
    cancel: &CancellationToken,
) -> Result<Survey, UntarError> {
    let selection = selection(include)?;
    let mut members = open(archive, cancel)?;
    let mut survey = Survey::default();
    // As in an extraction, they are created if something in them is selected.
    let mut above: Vec<PathBuf> = Vec::new();
    while let Some(member) = members.next().map_err(|damage| broken(damage, cancel))? {
        if cancel.is_cancelled() {
            return Err(UntarError::Cancelled);
        }
        let Ok(path) = relative(&member.name) else {
            refuse(&mut survey.report, &member, "its name leads out of the archive")?;
            continue;
        };
        let absolute = Path::new("/").join(&path);
        above.retain(|above| absolute.starts_with(above));
        if path.as_os_str().is_empty() {
            continue;
        }
        if !selection.includes(&absolute) {
            if member.kind == MemberKind::Directory && selection.may_hold(&absolute) {
                above.push(absolute);
            }
            continue;
        }
        survey.report.directories += above.len() as u64;
        above.clear();
        let under_last = survey.roots.last().is_some_and(|root| absolute.starts_with(root));
        if !under_last && survey.roots.len() < ROOTS_LIMIT {
            survey.roots.push(absolute);
        }
        match member.kind {
            MemberKind::File => {
                survey.report.files += 1;
                survey.report.size_bytes =
                    survey.report.size_bytes.saturating_add(member.size_bytes);
                survey.stored_bytes = survey.stored_bytes.saturating_add(member.stored_bytes());
                survey.newest_seconds = survey.newest_seconds.max(Some(member.mtime.0));
            }
            MemberKind::HardLink(_) => survey.report.links += 1,
            MemberKind::Directory => survey.report.directories += 1,
            MemberKind::Symlink(_)
            | MemberKind::Fifo
            | MemberKind::CharDevice(_)
            | MemberKind::BlockDevice(_) => {
                survey.report.others += 1;
            }
            MemberKind::Other(ref what) => {
                refuse(&mut survey.report, &member, &format!("it is {what}"))?;
            }
        }
    }
    Ok(survey)
}

/// Extracts an archive. Blocking.
///
/// # Errors
/// If the archive is damaged (files before the damage are kept), or the target cannot be used. Members that are rejected or fail
/// are in the report: the caller must check [`FilesReport::problems`].
pub fn extract(
    archive: &Path,
    options: &UntarOptions,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<FilesReport, UntarError> {
    let stage = progress.begin("extracting files", Unit::Bytes, None);
    let report = Extraction::begin(options, cancel)?.run(open(archive, cancel)?, &*stage)?;
    stage.finish();
    Ok(report)
}

fn open(archive: &Path, cancel: &CancellationToken) -> Result<Members<Cancellable>, UntarError> {
    let failed =
        |action| move |cause| UntarError::Path { path: archive.to_path_buf(), action, cause };
    let file = File::open(archive).map_err(failed("open"))?;
    let plain = decompressed(file).map_err(failed("read"))?;
    Ok(Members::new(Cancellable { plain, cancel: cancel.clone() }))
}

/// A stream that ends with an error when the operator cancels: one member can be as long as a disk.
struct Cancellable {
    plain: Box<dyn io::Read + Send>,
    cancel: CancellationToken,
}

impl io::Read for Cancellable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            Err(io::Error::other("cancelled"))
        } else {
            self.plain.read(buffer)
        }
    }
}

/// The reason for a broken stream: a cancelled one is not damaged.
fn broken(damage: Damage, cancel: &CancellationToken) -> UntarError {
    if cancel.is_cancelled() { UntarError::Cancelled } else { damage.into() }
}

fn selection(include: &[String]) -> Result<Selection, UntarError> {
    Selection::of(include, &[], true).map_err(|error| UntarError::Refused(error.to_string()))
}

fn refuse(report: &mut FilesReport, member: &Member, why: &str) -> Result<(), UntarError> {
    let path = member.name.to_string_lossy().into_owned();
    if report.problems.len() >= PROBLEMS_LIMIT {
        return Err(UntarError::Damaged(format!(
            "more than {PROBLEMS_LIMIT} of its members cannot be extracted, up to {path}: {why}"
        )));
    }
    report.problems.push(FileProblem { path, why: why.to_owned() });
    Ok(())
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) -> Result<(), Damage> {
    let (mut members, mut buffer) = (Members::new(bytes), [0; 4096]);
    while members.next()?.is_some() {
        while members.read_content(&mut buffer)? > 0 {}
    }
    Ok(())
}
