//! Extracting a tar, compressed or not, that nobody vouches for.
//!
//! Nothing is ever written outside the target, whatever the archive holds: see [`ground`]. What is refused is named, and the
//! rest is still extracted. Every file is read back and compared with what came out of the archive.

mod ground;
mod members;
mod number;

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use nix::sys::stat::SFlag;

pub(crate) use self::members::{BLOCK_BYTES, padding};
use self::{
    ground::{Ground, Unfinished, relative},
    members::{Damage, Member, MemberKind, Members, Stretch},
};
use crate::{
    CancellationToken,
    digest::ByteDigest,
    gzip::decompressed,
    progress::{ProgressSink, StageProgress, Unit},
    restore::{FileProblem, FilesReport, Selection, write_sparsely},
};

/// Content is read and written in pieces of this length.
const PIECE_BYTES: usize = 256 << 10;
/// An archive with more members that are refused is none that a backup made.
const PROBLEMS_LIMIT: usize = 10_000;
/// Most places that a survey tells.
const ROOTS_LIMIT: usize = 64;

/// What to extract, and how.
#[derive(Clone, Debug)]
pub struct UntarOptions {
    /// Directory under which the archive's names are made. It is made if it is not there.
    pub target: PathBuf,
    /// Only what lies under these absolute paths (`/etc/nginx` for the member `etc/nginx`), or matches these globs; empty for all.
    pub include: Vec<String>,
    /// Write over what is there, and follow links to directories that were there before. Otherwise a target that is not empty is
    /// refused.
    pub in_place: bool,
    /// Make named pipes and devices too.
    pub special_files: bool,
    /// Most bytes that all files together may have, holes counted. Each file must fit into its file system besides.
    pub limit_bytes: Option<u64>,
}

/// Why an archive could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UntarError {
    /// It is damaged, or no tar.
    #[error("{0}")]
    Damaged(String),
    /// This is not done unless asked for; the sentence says how.
    #[error("{0}")]
    Refused(String),
    /// A local path could not be used.
    #[error("{}: cannot {action}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The operator cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<Damage> for UntarError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

/// What is in an archive.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Counts of what is meant; nothing was written or verified.
    pub report: FilesReport,
    /// The topmost paths, as far as they are few; absolute.
    pub roots: Vec<PathBuf>,
    /// Newest time of a file, in seconds since 1970.
    pub newest_seconds: Option<i64>,
}

/// Reads an archive through to its end and counts. Blocking.
///
/// # Errors
/// [`UntarError::Damaged`] says where it breaks, and which member is the last whole one.
pub fn survey(archive: &Path, include: &[String], cancel: &CancellationToken) -> Result<Survey, UntarError> {
    let selection = selection(include)?;
    let mut members = open(archive)?;
    let mut survey = Survey::default();
    // As in an extraction: they are made when something in them is wanted.
    let mut above: Vec<PathBuf> = Vec::new();
    while let Some(member) = members.next()? {
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
                survey.report.size_bytes = survey.report.size_bytes.saturating_add(member.size_bytes);
                survey.newest_seconds = survey.newest_seconds.max(Some(member.mtime.0));
            }
            MemberKind::HardLink(_) => survey.report.links += 1,
            MemberKind::Directory => survey.report.directories += 1,
            MemberKind::Symlink(_) | MemberKind::Fifo | MemberKind::CharDevice(_) | MemberKind::BlockDevice(_) => {
                survey.report.others += 1;
            }
            MemberKind::Other(ref what) => refuse(&mut survey.report, &member, &format!("it is {what}"))?,
        }
    }
    Ok(survey)
}

/// Extracts an archive. Blocking.
///
/// # Errors
/// When the archive is damaged (what came before stays), or the target cannot be used. Members that are refused or fail are in
/// the report: whoever asked must look at [`FilesReport::problems`].
pub fn extract(
    archive: &Path,
    options: &UntarOptions,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<FilesReport, UntarError> {
    let stage = progress.begin("extracting files", Unit::Bytes, None);
    let report = Extraction::begin(options)?.run(open(archive)?, &*stage, cancel)?;
    stage.finish();
    Ok(report)
}

fn open(archive: &Path) -> Result<Members<Box<dyn io::Read + Send>>, UntarError> {
    let failed = |action| move |cause| UntarError::Path { path: archive.to_path_buf(), action, cause };
    let file = File::open(archive).map_err(failed("open"))?;
    Ok(Members::new(decompressed(file).map_err(failed("read"))?))
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

/// One extraction.
struct Extraction<'a> {
    options: &'a UntarOptions,
    selection: Selection,
    ground: Ground,
    /// Bytes that may still come.
    left_bytes: u64,
    report: FilesReport,
    /// Directories whose attributes are still to be set, in the archive's order.
    directories: Vec<(PathBuf, Member)>,
    /// Directories above the current member that are not wanted themselves: they are made when something in them is.
    above: Vec<(PathBuf, Member)>,
    buffer: Vec<u8>,
}

impl<'a> Extraction<'a> {
    fn begin(options: &'a UntarOptions) -> Result<Self, UntarError> {
        let selection = selection(&options.include)?;
        let failed = |action| move |cause| UntarError::Path { path: options.target.clone(), action, cause };
        fs::create_dir_all(&options.target).map_err(failed("create the directory"))?;
        if !options.in_place && fs::read_dir(&options.target).map_err(failed("look into"))?.next().is_some() {
            return Err(UntarError::Refused(format!(
                "{} is not empty; name a new directory, or say --in-place to write over it",
                options.target.display()
            )));
        }
        let ground = Ground::new(&options.target, options.in_place).map_err(failed("open the directory"))?;
        Ok(Self {
            options,
            selection,
            ground,
            left_bytes: options.limit_bytes.unwrap_or(u64::MAX),
            report: FilesReport::default(),
            directories: Vec::new(),
            above: Vec::new(),
            buffer: vec![0; PIECE_BYTES],
        })
    }

    fn run<R: io::Read>(
        mut self,
        mut members: Members<R>,
        stage: &dyn StageProgress,
        cancel: &CancellationToken,
    ) -> Result<FilesReport, UntarError> {
        while let Some(member) = members.next()? {
            if cancel.is_cancelled() {
                return Err(UntarError::Cancelled);
            }
            match self.member(&mut members, &member, cancel) {
                Ok(bytes) => stage.advance(bytes),
                Err(Failure::Member(why)) => refuse(&mut self.report, &member, &why.to_string())?,
                Err(Failure::Archive(error)) => return Err(error),
            }
        }
        // Last and deepest first: every write in a directory changes its times, and a read-only one takes no more entries.
        for (path, member) in self.directories.iter().rev() {
            let set = self.ground.open_directory(path).and_then(|directory| ground::set_attributes(&directory, member));
            if let Err(error) = set {
                refuse(&mut self.report, member, &error.to_string())?;
            }
        }
        Ok(self.report)
    }

    /// Extracts one member, if it is wanted; the bytes written.
    fn member<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        member: &Member,
        cancel: &CancellationToken,
    ) -> Result<u64, Failure> {
        let path = relative(&member.name).map_err(io::Error::other)?;
        let absolute = Path::new("/").join(&path);
        // The target itself is whoever asked's.
        if path.as_os_str().is_empty() {
            return Ok(0);
        }
        self.above.retain(|(above, _)| path.starts_with(above));
        if !self.selection.includes(&absolute) {
            if member.kind == MemberKind::Directory && self.selection.may_hold(&absolute) {
                self.above.push((path, member.clone()));
            }
            return Ok(0);
        }
        for (path, member) in std::mem::take(&mut self.above) {
            self.directory(&path, &member)?;
        }
        match &member.kind {
            MemberKind::Directory => self.directory(&path, member)?,
            MemberKind::File => return self.file(members, &path, member, cancel),
            MemberKind::HardLink(to) => {
                let to = relative(to).map_err(|why| io::Error::other(format!("it is a hard link to {}: {why}", to.display())))?;
                let place = self.ground.place(&path)?;
                self.ground.hard_link(&place, &to)?;
                self.report.links += 1;
            }
            MemberKind::Symlink(to) => {
                if to.is_empty() || to.as_bytes().contains(&0) {
                    return Err(io::Error::other("it is a link to nothing").into());
                }
                let place = self.ground.place(&path)?;
                self.ground.symlink(&place, to)?;
                place.set_attributes(member, true)?;
                self.report.others += 1;
            }
            MemberKind::Fifo => self.special(&path, member, SFlag::S_IFIFO, 0, "a named pipe")?,
            MemberKind::CharDevice(device) => self.special(&path, member, SFlag::S_IFCHR, *device, "a device")?,
            MemberKind::BlockDevice(device) => self.special(&path, member, SFlag::S_IFBLK, *device, "a device")?,
            MemberKind::Other(what) => return Err(io::Error::other(format!("it is {what}")).into()),
        }
        Ok(0)
    }

    fn directory(&mut self, path: &Path, member: &Member) -> io::Result<()> {
        // What a link of the host's leads to keeps its own attributes.
        if self.ground.make_directory(path)? {
            self.directories.push((path.to_path_buf(), member.clone()));
        }
        self.report.directories += 1;
        Ok(())
    }

    fn special(&mut self, path: &Path, member: &Member, kind: SFlag, device: u64, what: &str) -> io::Result<()> {
        if !self.options.special_files {
            return Err(io::Error::other(format!("it is {what}, which is made only when asked for")));
        }
        let place = self.ground.place(path)?;
        self.ground.special(&place, kind, device)?;
        place.set_attributes(member, false)?;
        self.report.others += 1;
        Ok(())
    }

    fn file<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        path: &Path,
        member: &Member,
        cancel: &CancellationToken,
    ) -> Result<u64, Failure> {
        let place = self.ground.place(path)?;
        // Holes count: a few bytes can say to be as long as all disks together.
        let fits = self.left_bytes.min(place.free_bytes()?);
        if member.size_bytes > fits {
            let why = format!("it says to be {} bytes long, and only {fits} more may be extracted", member.size_bytes);
            return Err(io::Error::other(why).into());
        }
        let unfinished = self.ground.create(place)?;
        let written = self.content(members, &unfinished, member, cancel);
        if let Err(failure) = written {
            return Err(match (unfinished.discard(), failure) {
                (Err(error), Failure::Member(why)) => {
                    io::Error::other(format!("{why}; and half of it could not be removed again: {error}")).into()
                }
                (_, failure) => failure,
            });
        }
        self.left_bytes -= member.size_bytes;
        self.report.files += 1;
        self.report.verified += 1;
        self.report.size_bytes += member.size_bytes;
        Ok(member.size_bytes)
    }

    /// Writes a file's content, reads it back, and puts it in its place.
    fn content<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        unfinished: &Unfinished,
        member: &Member,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let file = &unfinished.file;
        file.set_len(member.size_bytes)?;
        let dense = [Stretch { offset: 0, size_bytes: member.size_bytes }];
        let stretches = member.stretches.as_deref().unwrap_or(&dense);
        let mut arrived = ByteDigest::default();
        for stretch in stretches {
            let (mut offset, end) = (stretch.offset, stretch.offset + stretch.size_bytes);
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
                let read = members.read_content(&mut self.buffer[..wanted])?;
                if read == 0 {
                    return Err(Failure::Archive(members.damage("a member is shorter than its map says").into()));
                }
                if cancel.is_cancelled() {
                    return Err(Failure::Archive(UntarError::Cancelled));
                }
                arrived.update(&self.buffer[..read]);
                write_sparsely(file, &self.buffer[..read], offset)?;
                offset += read as u64;
            }
        }
        if self.digest_on_disk(file, stretches)? != arrived.finish() || file.metadata()?.len() != member.size_bytes {
            return Err(io::Error::other("it reads back otherwise than it was written").into());
        }
        ground::set_attributes(file, member)?;
        Ok(self.ground.finish(unfinished)?)
    }

    fn digest_on_disk(&mut self, file: &File, stretches: &[Stretch]) -> io::Result<String> {
        let mut digest = ByteDigest::default();
        for stretch in stretches {
            let (mut offset, end) = (stretch.offset, stretch.offset + stretch.size_bytes);
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
                file.read_exact_at(&mut self.buffer[..wanted], offset)?;
                digest.update(&self.buffer[..wanted]);
                offset += wanted as u64;
            }
        }
        Ok(digest.finish())
    }
}

/// Why one member was not extracted.
enum Failure {
    /// The next ones may still be.
    Member(io::Error),
    /// Nothing more can be.
    Archive(UntarError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Member(error)
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Archive(damage.into())
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) -> Result<(), Damage> {
    let (mut members, mut buffer) = (Members::new(bytes), [0; 4096]);
    while members.next()?.is_some() {
        while members.read_content(&mut buffer)? > 0 {}
    }
    Ok(())
}
