//! Writes the members of an archive to disk, one after another.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use nix::sys::{stat::SFlag, time::TimeSpec};

use super::{
    UntarError, UntarOptions, broken,
    members::{Damage, Member, MemberKind, Members, Stretch},
    names::relative,
    refuse, selection,
};
use crate::{
    CancellationToken,
    ground::{digest::ByteDigest, error_chain, progress::StageProgress},
    recovery::{
        extract_root::{
            Attributes, DirectoryOrigin, ExtractRoot, Finish, Links, Place, Unfinished,
        },
        restore::{FilesReport, Selection, is_occupied, write_sparsely},
    },
};

/// Size of the pieces in which content is read and written, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Limit, in bytes, for the extended attributes kept until the end, when those of directories are set. A million directories with
/// ordinary access lists need less.
const KEPT_ATTRIBUTES_LIMIT_BYTES: usize = 128 << 20;

pub(super) struct Extraction<'a> {
    options: &'a UntarOptions,
    selection: Selection,
    root: ExtractRoot,
    /// Remaining bytes of the limit.
    left_bytes: u64,
    report: FilesReport,
    cancel: &'a CancellationToken,
    /// Directories whose attributes are still to be set; the last member of a name counts.
    directories: BTreeMap<PathBuf, Member>,
    /// Bytes of extended attributes in `directories`.
    kept_bytes: usize,
    /// Directories above the current member that are not selected themselves: they are created if something in them is.
    above: Vec<(PathBuf, Member)>,
    buffer: Vec<u8>,
}

impl<'a> Extraction<'a> {
    pub(super) fn begin(
        options: &'a UntarOptions,
        cancel: &'a CancellationToken,
    ) -> Result<Self, UntarError> {
        let selection = selection(&options.include)?;
        let occupied = || {
            is_occupied(&options.target).map_err(|error| UntarError::Refused(error_chain(&error)))
        };
        if !options.in_place && occupied()? {
            return Err(UntarError::Refused(format!(
                "{} is not empty; choose a new directory, or use --in-place to overwrite it",
                options.target.display()
            )));
        }
        let links = if options.in_place { Links::All } else { Links::None };
        let root = ExtractRoot::open(&options.target, links).map_err(|cause| UntarError::Path {
            path: options.target.clone(),
            action: "extract into",
            cause,
        })?;
        let root = root.remembering();
        Ok(Self {
            options,
            selection,
            root,
            left_bytes: options.limit_bytes.unwrap_or(u64::MAX),
            report: FilesReport::default(),
            cancel,
            directories: BTreeMap::new(),
            kept_bytes: 0,
            above: Vec::new(),
            buffer: vec![0; PIECE_BYTES],
        })
    }

    pub(super) fn run<R: io::Read>(
        mut self,
        mut members: Members<R>,
        stage: &dyn StageProgress,
    ) -> Result<FilesReport, UntarError> {
        while let Some(member) = members.next().map_err(|damage| broken(damage, self.cancel))? {
            if self.cancel.is_cancelled() {
                return Err(UntarError::Cancelled);
            }
            let extracted = self.member(&mut members, &member);
            self.note_moved();
            match extracted {
                Ok(bytes) => stage.advance(bytes),
                Err(Failure::Member(why)) => refuse(&mut self.report, &member, &why.to_string())?,
                Err(Failure::Archive(error)) => return Err(error),
            }
        }
        self.finish_directories()?;
        Ok(self.report)
    }

    /// Last, and deepest first: every write in a directory changes its times, and a read-only one accepts no more entries.
    fn finish_directories(&mut self) -> Result<(), UntarError> {
        for (path, member) in std::mem::take(&mut self.directories).iter().rev() {
            if self.cancel.is_cancelled() {
                return Err(UntarError::Cancelled);
            }
            match self.root.open_directory(path) {
                Ok(directory) => {
                    let lacks = attributes(member).set(&directory);
                    self.report.lacks(&self.options.target.join(path), lacks);
                }
                Err(error) => refuse(&mut self.report, member, &error.to_string())?,
            }
        }
        Ok(())
    }

    fn note_moved(&mut self) {
        for (below, kept) in self.root.moved() {
            let path = self.options.target.join(below);
            let why = format!(
                "it replaced a directory, which is kept as {}",
                path.with_file_name(kept).display()
            );
            self.report.note(&path, why);
        }
    }

    /// Something other than a directory is now at this path.
    fn forget_directory(&mut self, path: &Path) {
        self.directories.retain(|directory, _| !directory.starts_with(path));
    }

    /// Extracts one member, if it is selected; returns the number of bytes written.
    fn member<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        member: &Member,
    ) -> Result<u64, Failure> {
        let path = relative(&member.name).map_err(io::Error::other)?;
        let absolute = Path::new("/").join(&path);
        // The target itself belongs to the caller.
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
            MemberKind::File => return self.file(members, &path, member),
            MemberKind::HardLink(to) => {
                let to = relative(to).map_err(|why| {
                    io::Error::other(format!("it is a hard link to {}: {why}", to.display()))
                })?;
                let place = self.root.place(&path)?;
                self.root.hard_link(&path, &place, &to, None)?;
                self.forget_directory(&path);
                self.report.links += 1;
            }
            MemberKind::Symlink(to) => {
                if to.is_empty() || to.as_bytes().contains(&0) {
                    return Err(io::Error::other("it is a link to nothing").into());
                }
                let place = self.root.place(&path)?;
                self.root.symlink(&path, &place, to)?;
                self.finish_other(&path, &place, member, true);
            }
            MemberKind::Fifo => self.special(&path, member, SFlag::S_IFIFO, 0, "a named pipe")?,
            MemberKind::CharDevice(device) => {
                self.special(&path, member, SFlag::S_IFCHR, *device, "a device")?;
            }
            MemberKind::BlockDevice(device) => {
                self.special(&path, member, SFlag::S_IFBLK, *device, "a device")?;
            }
            MemberKind::Other(what) => return Err(io::Error::other(format!("it is {what}")).into()),
        }
        Ok(0)
    }

    fn directory(&mut self, path: &Path, member: &Member) -> io::Result<()> {
        // The target of the host's own link keeps its attributes.
        if self.root.make_directory(path)? != DirectoryOrigin::Linked {
            let mut member = member.clone();
            self.kept_bytes += member.xattr_bytes();
            if self.kept_bytes > KEPT_ATTRIBUTES_LIMIT_BYTES {
                self.kept_bytes -= member.xattr_bytes();
                member.xattrs.clear();
                let why = "its extended attributes were not set: the directories of the archive have more than can be kept";
                self.report.problem(&self.options.target.join(path), why.to_owned());
            }
            if let Some(before) = self.directories.insert(path.to_path_buf(), member) {
                self.kept_bytes -= before.xattr_bytes();
            }
        }
        self.report.directories += 1;
        Ok(())
    }

    fn special(
        &mut self,
        path: &Path,
        member: &Member,
        kind: SFlag,
        device: u64,
        what: &str,
    ) -> io::Result<()> {
        if !self.options.special_files {
            return Err(io::Error::other(format!(
                "it is {what}, which is only created on request"
            )));
        }
        let place = self.root.place(path)?;
        self.root.special(path, &place, kind, device)?;
        self.finish_other(path, &place, member, false);
        Ok(())
    }

    fn finish_other(&mut self, path: &Path, place: &Place, member: &Member, is_link: bool) {
        self.forget_directory(path);
        let lacks = attributes(member).set_at(place, is_link);
        self.report.lacks(&self.options.target.join(path), lacks);
        self.report.others += 1;
    }

    fn file<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        path: &Path,
        member: &Member,
    ) -> Result<u64, Failure> {
        let place = self.root.place(path)?;
        // Holes count: a few bytes can declare a length greater than all disks together.
        let fits = self.left_bytes.min(place.free_bytes()?.unwrap_or(u64::MAX));
        if member.size_bytes > fits {
            let why = format!(
                "it claims to be {} bytes long, but only {fits} more may be extracted",
                member.size_bytes
            );
            return Err(io::Error::other(why).into());
        }
        let (unfinished, file) = self.root.create(path, place)?;
        let written = self.content(members, &unfinished, &file, path, member);
        if let Err(failure) = written {
            return Err(match (unfinished.discard(), failure) {
                (Err(error), Failure::Member(why)) => io::Error::other(format!(
                    "{why}; and half of it could not be removed again: {error}"
                ))
                .into(),
                (_, failure) => failure,
            });
        }
        self.forget_directory(path);
        self.left_bytes -= member.size_bytes;
        self.report.files += 1;
        self.report.verified += 1;
        self.report.size_bytes += member.size_bytes;
        Ok(member.size_bytes)
    }

    /// Writes a file's content, reads it back, and moves the file to its place.
    fn content<R: io::Read>(
        &mut self,
        members: &mut Members<R>,
        unfinished: &Unfinished,
        file: &File,
        path: &Path,
        member: &Member,
    ) -> Result<(), Failure> {
        file.set_len(member.size_bytes)?;
        let dense = [Stretch { offset: 0, size_bytes: member.size_bytes }];
        let stretches = member.stretches.as_deref().unwrap_or(&dense);
        let mut arrived = ByteDigest::default();
        for stretch in stretches {
            let (mut offset, end) = (stretch.offset, stretch.offset + stretch.size_bytes);
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
                let read = members
                    .read_content(&mut self.buffer[..wanted])
                    .map_err(|damage| Failure::Archive(broken(damage, self.cancel)))?;
                if read == 0 {
                    return Err(Failure::Archive(
                        members.damage("a member is shorter than its map").into(),
                    ));
                }
                arrived.update(&self.buffer[..read]);
                write_sparsely(file, &self.buffer[..read], offset)?;
                offset += read as u64;
            }
        }
        let arrived = arrived.finish();
        self.compare(file, stretches, &arrived, member)?;
        let mut lacks = attributes(member).set(file);
        if let Finish::WrittenThrough(mounted) = self.root.finish(unfinished, file)? {
            self.compare(&mounted, stretches, &arrived, member)?;
            lacks = attributes(member).set(&mounted);
        }
        self.report.lacks(&self.options.target.join(path), lacks);
        Ok(())
    }

    fn compare(
        &mut self,
        file: &File,
        stretches: &[Stretch],
        arrived: &str,
        member: &Member,
    ) -> Result<(), Failure> {
        if self.digest_on_disk(file, stretches)? != arrived
            || file.metadata()?.len() != member.size_bytes
        {
            return Err(io::Error::other("it reads back otherwise than it was written").into());
        }
        Ok(())
    }

    fn digest_on_disk(&mut self, file: &File, stretches: &[Stretch]) -> Result<String, Failure> {
        let mut digest = ByteDigest::default();
        for stretch in stretches {
            let (mut offset, end) = (stretch.offset, stretch.offset + stretch.size_bytes);
            while offset < end {
                if self.cancel.is_cancelled() {
                    return Err(Failure::Archive(UntarError::Cancelled));
                }
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE_BYTES);
                file.read_exact_at(&mut self.buffer[..wanted], offset)?;
                digest.update(&self.buffer[..wanted]);
                offset += wanted as u64;
            }
        }
        Ok(digest.finish())
    }
}

/// The reason why one member was not extracted.
enum Failure {
    /// The next members can still be extracted.
    Member(io::Error),
    /// The archive cannot be read any further.
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

fn attributes(member: &Member) -> Attributes<'_> {
    Attributes {
        uid: Some(member.uid),
        gid: Some(member.gid),
        mode: Some(member.mode),
        mtime: Some(TimeSpec::new(member.mtime.0, member.mtime.1.into())),
        xattrs: member
            .xattrs
            .iter()
            .map(|(name, value)| (name.as_os_str().into(), value.as_slice()))
            .collect(),
    }
}
