//! The archiver's input stream: files, and artifacts with their followers.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustic_core::{
    ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult,
    repofile::{Metadata, Node, NodeType},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    backpressure::Backpressure,
    tree_entry::{follower_path, go_mode},
};
use crate::{
    engine::artifact::{CaptureState, Entry, EntryKind, EntryMeta},
    ground::{failpoint, failpoint::Step},
};

/// The entries of a capture as rustic_core reads them.
pub(super) struct Feed {
    pub(super) entries: Mutex<Option<mpsc::Receiver<Vec<Entry>>>>,
    pub(super) state: Arc<CaptureState>,
    pub(super) backpressure: Backpressure,
}

impl ReadSource for Feed {
    type Open = Opener;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        let queued = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Entries {
            queued,
            batch: Vec::new().into_iter(),
            state: self.state.clone(),
            backpressure: self.backpressure.clone(),
            follower: None,
        }
    }
}

pub(super) struct Entries {
    queued: Option<mpsc::Receiver<Vec<Entry>>>,
    batch: std::vec::IntoIter<Entry>,
    state: Arc<CaptureState>,
    backpressure: Backpressure,
    /// The follower of the stream returned last.
    follower: Option<ReadSourceEntry<Opener>>,
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Opener>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(follower) = self.follower.take() {
            return Some(Ok(follower));
        }
        let Entry { path, kind, meta } = loop {
            match self.batch.next() {
                Some(entry) => break entry,
                None => self.batch = self.queued.as_mut()?.blocking_recv()?.into_iter(),
            }
        };
        if self.state.is_given_up() {
            return None;
        }
        failpoint::pass(Step::Capture);
        if matches!(kind, EntryKind::Stream(_)) {
            self.follower = Some(follower(&path));
        }
        let declared = meta.size_bytes;
        let node = node(&path, &kind, meta);
        let open = matches!(kind, EntryKind::File(_) | EntryKind::Stream(_)).then(|| Opener {
            kind,
            path: path.clone(),
            declared,
            state: self.state.clone(),
            backpressure: self.backpressure.clone(),
        });
        Some(Ok(ReadSourceEntry { path, node, open }))
    }
}

/// rustic_core reads an entry only once it has the next one. A source may open its next artifact only after the current one has
/// been read, and both would wait forever. So each stream is followed by an empty entry, which the commit removes.
fn follower(path: &Path) -> ReadSourceEntry<Opener> {
    let path = follower_path(path);
    let node = node(&path, &EntryKind::Fifo, EntryMeta::default());
    ReadSourceEntry { path, node, open: None }
}

pub(super) struct Opener {
    kind: EntryKind,
    path: PathBuf,
    declared: u64,
    state: Arc<CaptureState>,
    backpressure: Backpressure,
}

impl ReadSourceOpen for Opener {
    type Reader = Box<dyn Read + Send>;

    fn open(self) -> RusticResult<Self::Reader> {
        let Self { kind, path, declared, state, backpressure } = self;
        Entry::open(kind, path, declared, state)
            .map(|reader| backpressure.throttle(reader))
            .map_err(|error| {
                RusticError::with_source(ErrorKind::InputOutput, "cannot open an entry", error)
            })
    }
}

pub(super) fn node(path: &Path, kind: &EntryKind, meta: EntryMeta) -> Node {
    let (node_type, type_bits) = match kind {
        EntryKind::File(_) | EntryKind::Stream(_) => (NodeType::File, 0),
        EntryKind::Directory => (NodeType::Dir, go_mode::DIRECTORY),
        EntryKind::Symlink(target) => (NodeType::from_link(target), go_mode::SYMLINK),
        EntryKind::Fifo => (NodeType::Fifo, go_mode::FIFO),
        EntryKind::Socket => (NodeType::Socket, go_mode::SOCKET),
        EntryKind::CharDevice(device) => {
            (NodeType::Chardev { device: *device }, go_mode::DEVICE | go_mode::CHAR_DEVICE)
        }
        EntryKind::BlockDevice(device) => (NodeType::Dev { device: *device }, go_mode::DEVICE),
    };
    let metadata = Metadata {
        mode: Some(go_mode::from_unix(meta.mode) | type_bits),
        mtime: meta.mtime,
        // Omitted, as in restic by default: reading a tree for its backup would change every directory in it.
        atime: None,
        ctime: meta.ctime,
        uid: meta.uid,
        gid: meta.gid,
        user: meta.user,
        group: meta.group,
        inode: meta.inode,
        device_id: meta.device_id,
        size: meta.size_bytes,
        links: meta.links,
        // rustic_core does not export the type, so it is created from its stored form.
        extended_attributes: serde_json::from_value(
            meta.xattrs
                .into_iter()
                .map(
                    |(name, value)| json!({ "name": name, "value": BASE64_STANDARD.encode(value) }),
                )
                .collect(),
        )
        .unwrap_or_default(),
    };
    Node::new_node(path.file_name().unwrap_or_default(), node_type, metadata)
}

#[cfg(test)]
mod tests {
    use super::go_mode;

    #[test]
    fn modes_survive_gos_numbers() {
        for mode in 0..=0o7777 {
            assert_eq!(go_mode::to_unix(go_mode::from_unix(mode)), mode, "{mode:o}");
        }
        assert_eq!(go_mode::from_unix(0o4755), 0o755 | 1 << 23);
    }
}
