//! The target's side of a restore: creates entries before their content is written, and sets attributes afterwards. Blocking.

use std::{collections::HashMap, ffi::OsStr, io, path::PathBuf};

use nix::sys::{stat::SFlag, time::TimeSpec};
use rustic_core::repofile::{Node, NodeType};

use super::{
    FilesReport, Item, RestoreOptions,
    content::{Failed, verify},
    walk::FirstName,
};
use crate::{
    CancellationToken,
    engine::repository::go_mode,
    recovery::extract_root::{
        Attributes, DirectoryOrigin, ExtractRoot, Finish, Lack, Links, is_above,
    },
};

/// The target of one restore.
pub(super) struct Disk {
    options: RestoreOptions,
    /// `None` where nothing is written.
    root: Option<ExtractRoot>,
    /// The snapshot's configured paths, below the target. In place, the directories above them keep their own attributes.
    roots: Vec<PathBuf>,
    cancel: CancellationToken,
    report: FilesReport,
    /// First name of each hard-linked inode.
    first_names: HashMap<(u64, u64), FirstName>,
    /// Directories that the walk has not left yet and whose attributes are still to be set: every write in a directory changes
    /// its time, and a read-only one accepts no more entries.
    open: Vec<(PathBuf, PathBuf, Node)>,
    /// Paths under which nothing may be written.
    blocked: Vec<PathBuf>,
    /// Directories that keep the attributes they have.
    keeping: Vec<PathBuf>,
}

impl Disk {
    pub(super) fn new(
        options: RestoreOptions,
        roots: Vec<PathBuf>,
        cancel: CancellationToken,
    ) -> io::Result<Self> {
        let links = if options.overwrite { Links::Above(roots.clone()) } else { Links::None };
        let root =
            if options.dry_run { None } else { Some(ExtractRoot::open(&options.target, links)?) };
        Ok(Self {
            options,
            root,
            roots,
            cancel,
            report: FilesReport::default(),
            first_names: HashMap::new(),
            open: Vec::new(),
            blocked: Vec::new(),
            keeping: Vec::new(),
        })
    }

    /// Creates directories and special files, and the files whose content follows.
    pub(super) fn prepare(&mut self, window: &mut [Item]) -> Failed {
        let mut failed = Failed::new();
        for (at, item) in window.iter_mut().enumerate() {
            if self.cancel.is_cancelled() {
                break;
            }
            self.resolve_link(item);
            if let Err(error) = self.prepare_one(item) {
                failed.insert(at, error.to_string());
                if item.node.is_dir() {
                    self.blocked.push(item.below.clone());
                }
            }
        }
        failed
    }

    fn prepare_one(&mut self, item: &mut Item) -> io::Result<()> {
        let Some(root) = &mut self.root else { return Ok(()) };
        if let Some(above) = self.blocked.iter().find(|blocked| item.below.starts_with(blocked)) {
            let above = self.options.target.join(above);
            return Err(io::Error::other(format!("{} could not be created", above.display())));
        }
        match &item.node.node_type {
            NodeType::Dir => {
                let origin = root.make_directory(&item.below)?;
                let is_theirs = origin == DirectoryOrigin::Existing
                    && self.options.overwrite
                    && is_above(&item.below, &self.roots);
                // The target of the host's own link, or a directory above the configured paths: these were not captured in order
                // to be changed.
                if origin == DirectoryOrigin::Linked || is_theirs {
                    self.keeping.push(item.below.clone());
                }
            }
            NodeType::File if item.link_to.is_some() => {}
            NodeType::File => {
                let place = root.place(&item.below)?;
                let (unfinished, file) = root.create(&item.below, place)?;
                if let Some(first) = item.inode().and_then(|inode| self.first_names.get_mut(&inode))
                {
                    first.identity = Some(unfinished.identity);
                }
                item.unfinished = Some(unfinished);
                file.set_len(item.size_bytes())?;
            }
            special => {
                let place = root.place(&item.below)?;
                let mut make = |kind, device| root.special(&item.below, &place, kind, device);
                match special {
                    NodeType::Fifo => make(SFlag::S_IFIFO, 0)?,
                    NodeType::Socket => make(SFlag::S_IFSOCK, 0)?,
                    NodeType::Chardev { device } => make(SFlag::S_IFCHR, *device)?,
                    NodeType::Dev { device } => make(SFlag::S_IFBLK, *device)?,
                    link => root.symlink(&item.below, &place, link.to_link().as_os_str())?,
                }
            }
        }
        self.note_moved();
        Ok(())
    }

    /// Remembers the first name of an inode; later ones become links to it.
    fn resolve_link(&mut self, item: &mut Item) {
        let Some(inode) = item.inode().filter(|_| item.node.is_file()) else { return };
        if let Some(first) = self.first_names.get(&inode) {
            item.link_to = Some(first.clone());
            item.blobs.clear();
        } else {
            self.first_names.insert(inode, FirstName { below: item.below.clone(), identity: None });
        }
    }

    /// Verifies, sets attributes, links; counts.
    pub(super) fn complete(&mut self, window: &[Item], mut failed: Failed) {
        for (at, item) in window.iter().enumerate() {
            if self.cancel.is_cancelled() {
                Self::discard(&window[at..]);
                return;
            }
            self.leave(Some(item));
            let result = match failed.remove(&at) {
                Some(why) => Err(io::Error::other(why)),
                None => self.complete_one(item),
            };
            if let Err(error) = result {
                // A partial file must not look like a restored one.
                Self::discard(std::slice::from_ref(item));
                if item.link_to.is_none()
                    && let Some(inode) = item.inode()
                {
                    self.first_names.remove(&inode);
                }
                self.report.problem(&item.target, error.to_string());
            }
        }
    }

    /// Removes the unfinished files of these items.
    pub(super) fn discard(window: &[Item]) {
        for unfinished in window.iter().filter_map(|item| item.unfinished.as_ref()) {
            // It may already be gone, and its name marks it as temporary.
            let _ = unfinished.discard();
        }
    }

    fn complete_one(&mut self, item: &Item) -> io::Result<()> {
        match &item.node.node_type {
            NodeType::Dir => {
                self.report.directories += 1;
                self.open.push((item.below.clone(), item.target.clone(), item.node.clone()));
                return Ok(());
            }
            NodeType::File => {}
            _ => {
                self.report.others += 1;
                if let Some(root) = &mut self.root {
                    let place = root.place(&item.below)?;
                    let lacks = attributes(&item.node).set_at(&place, item.node.is_symlink());
                    self.report.lacks(&item.target, lacks);
                }
                return Ok(());
            }
        }
        if let Some(root) = &mut self.root {
            if let Some(first) = &item.link_to {
                // Files of this window got their identity after the link to them was resolved.
                let made = item
                    .inode()
                    .and_then(|inode| self.first_names.get(&inode))
                    .and_then(|first| first.identity);
                let made = made.ok_or_else(|| {
                    io::Error::other(format!("{} was not restored", first.below.display()))
                })?;
                let place = root.place(&item.below)?;
                root.hard_link(&item.below, &place, &first.below, Some(made))?;
                self.report.links += 1;
                self.note_moved();
                return Ok(());
            }
            let unfinished =
                item.unfinished.as_ref().ok_or_else(|| io::Error::other("it was not created"))?;
            let file = unfinished.open()?;
            if self.options.verify {
                verify(&file, &item.blobs, &self.cancel)?;
                self.report.verified += 1;
            }
            let attributes = attributes(&item.node);
            let mut lacks = attributes.set(&file);
            if let Finish::WrittenThrough(mounted) = root.finish(unfinished, &file)? {
                if self.options.verify {
                    verify(&mounted, &item.blobs, &self.cancel)?;
                }
                lacks = attributes.set(&mounted);
            }
            self.report.lacks(&item.target, lacks);
        }
        self.report.files += 1;
        self.report.size_bytes += item.size_bytes();
        Ok(())
    }

    /// Sets the attributes of the directories that the walk has left.
    fn leave(&mut self, next: Option<&Item>) {
        while let Some((below, target, node)) =
            self.open.pop_if(|(below, ..)| next.is_none_or(|next| !next.below.starts_with(below)))
        {
            let Some(root) = &mut self.root else { continue };
            if self.keeping.contains(&below) {
                continue;
            }
            match root.open_directory(&below) {
                Ok(directory) => {
                    let lacks = attributes(&node).set(&directory);
                    self.report.lacks(&target, lacks);
                }
                Err(error) => self.report.problem(&target, error.to_string()),
            }
        }
    }

    fn note_moved(&mut self) {
        let Some(root) = &mut self.root else { return };
        for (below, kept) in root.moved() {
            let path = self.options.target.join(below);
            let why = format!(
                "it replaced a directory, which is kept as {}",
                path.with_file_name(kept).display()
            );
            self.report.note(&path, why);
        }
    }

    pub(super) fn finish(mut self) -> FilesReport {
        self.leave(None);
        self.report
    }
}

impl FilesReport {
    /// Reports attributes that a restored path lacks.
    pub(crate) fn lacks(&mut self, path: &std::path::Path, lacks: Vec<Lack>) {
        for lack in lacks {
            if lack.is_roots {
                // Without the numbers: otherwise there would be one for each owner.
                let what =
                    if lack.what.starts_with("owner") { "owner".to_owned() } else { lack.what };
                *self.roots_only.entry(what).or_default() += 1;
            } else {
                self.problem(path, lack.to_string());
            }
        }
    }
}

fn attributes(node: &Node) -> Attributes<'_> {
    let meta = &node.meta;
    let time = |nanoseconds: i128| {
        let second = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
        let rest = i64::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
        Some(TimeSpec::new(second, rest))
    };
    Attributes {
        uid: meta.uid.map(u64::from),
        gid: meta.gid.map(u64::from),
        mode: meta.mode.map(|mode| go_mode::to_unix(mode) & 0o7777),
        mtime: meta.mtime.as_ref().and_then(|mtime| time(mtime.as_nanosecond())),
        xattrs: meta
            .extended_attributes
            .iter()
            .map(|attribute| {
                (OsStr::new(&attribute.name).into(), attribute.value.as_deref().unwrap_or_default())
            })
            .collect(),
    }
}
