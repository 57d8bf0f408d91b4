//! Compares two streams of items by key, with bounded memory whatever their order.
//!
//! Items of one side wait for the item with the same key of the other side. Two captures of a source are in nearly the same order, so
//! few items wait. If too many do, they are written to a temporary file as a sorted run, and the runs are merged at the end.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::content::ItemCounts;
use crate::recovery::look::ChangeKind;

/// Limit for the items that wait in memory: about 30 MB with their keys.
const WAITING: usize = 100_000;
/// Limit for a key that is kept, in bytes. Of a longer one, only the beginning can be named.
const KEY_BYTES: usize = 200;
/// Buffer for each run while runs are merged, in bytes.
const BUFFER_BYTES: usize = 16 << 10;

type Hash = [u8; 16];

/// The points that items come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The older point.
    Old,
    /// The newer point.
    New,
}

/// An item that waits. The order is that of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    key: Hash,
    side: Side,
    content: Hash,
    name: Box<str>,
}

/// A comparison of two streams of items.
#[derive(Debug)]
pub struct ItemComparison {
    waiting: HashMap<Hash, Waiting>,
    /// Further items of the same side with the same key.
    doubles: Vec<Waiting>,
    limit: usize,
    scratch: PathBuf,
    spilled: Option<(Arc<File>, Vec<Range<u64>>)>,
    counts: ItemCounts,
}

impl ItemComparison {
    /// A comparison whose temporary file, if it needs one, is in this directory.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self::with_limit(scratch.into(), WAITING)
    }

    fn with_limit(scratch: PathBuf, limit: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            doubles: Vec::new(),
            limit,
            scratch,
            spilled: None,
            counts: ItemCounts::default(),
        }
    }

    /// Adds an item by its key and its content. Calls `each` once the item is known to have changed. Blocks if it writes a run.
    ///
    /// # Errors
    /// If the temporary file cannot be written.
    pub fn add(
        &mut self,
        side: Side,
        key: &str,
        content: &[u8],
        each: &mut dyn FnMut(ChangeKind, &str),
    ) -> io::Result<()> {
        let name = &key[..key.floor_char_boundary(KEY_BYTES)];
        let item =
            Waiting { key: hash(key.as_bytes()), side, content: hash(content), name: name.into() };
        match self.waiting.get(&item.key) {
            Some(other) if other.side != side => {
                let is_equal = other.content == item.content;
                self.waiting.remove(&item.key);
                if !is_equal {
                    self.changed(ChangeKind::Content, &item.name, each);
                }
            }
            Some(_) => self.doubles.push(item),
            None => {
                self.waiting.insert(item.key, item);
            }
        }
        if self.waiting.len() + self.doubles.len() >= self.limit {
            self.spill()?;
        }
        Ok(())
    }

    /// Ends the comparison: what still waits was added, removed or changed.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn finish(mut self, each: &mut dyn FnMut(ChangeKind, &str)) -> io::Result<ItemCounts> {
        let rest = self.sorted();
        let mut runs: Vec<Run> = vec![Run::Memory(rest.into_iter())];
        if let Some((file, ranges)) = self.spilled.take() {
            runs.extend(ranges.into_iter().map(|range| Run::of(&file, range)));
        }
        let mut heap = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            if let Some(item) = run.next()? {
                heap.push(Reverse((item, number)));
            }
        }
        let mut group: Vec<Waiting> = Vec::new();
        while let Some(Reverse((item, number))) = heap.pop() {
            if let Some(next) = runs[number].next()? {
                heap.push(Reverse((next, number)));
            }
            if group.first().is_some_and(|first| first.key != item.key) {
                self.resolve(std::mem::take(&mut group), each);
            }
            group.push(item);
        }
        self.resolve(group, each);
        Ok(self.counts)
    }

    /// Compares the items of one key.
    fn resolve(&mut self, group: Vec<Waiting>, each: &mut dyn FnMut(ChangeKind, &str)) {
        let (mut old, mut new): (Vec<Waiting>, Vec<Waiting>) =
            group.into_iter().partition(|item| item.side == Side::Old);
        old.retain(|item| {
            let same = new.iter().position(|other| other.content == item.content);
            same.map(|at| new.remove(at)).is_none()
        });
        let changed = old.len().min(new.len());
        for (number, item) in new.iter().enumerate() {
            let kind = if number < changed { ChangeKind::Content } else { ChangeKind::Added };
            self.changed(kind, &item.name, each);
        }
        for item in &old[changed..] {
            self.changed(ChangeKind::Removed, &item.name, each);
        }
    }

    fn changed(&mut self, kind: ChangeKind, name: &str, each: &mut dyn FnMut(ChangeKind, &str)) {
        self.counts.add(kind);
        each(kind, name);
    }

    fn sorted(&mut self) -> Vec<Waiting> {
        let mut items: Vec<Waiting> = self.waiting.drain().map(|(_, item)| item).collect();
        items.append(&mut self.doubles);
        items.sort_unstable();
        items
    }

    fn spill(&mut self) -> io::Result<()> {
        let items = self.sorted();
        let (file, ranges) = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert((Arc::new(temporary(&self.scratch)?), Vec::new())),
        };
        let start = ranges.last().map_or(0, |range| range.end);
        let mut out = BufWriter::new(&**file);
        out.seek(SeekFrom::Start(start))?;
        for item in &items {
            item.write(&mut out)?;
        }
        let end = out.stream_position()?;
        out.flush()?;
        ranges.push(start..end);
        Ok(())
    }
}

fn temporary(scratch: &Path) -> io::Result<File> {
    std::fs::create_dir_all(scratch)?;
    tempfile::tempfile_in(scratch)
}

fn hash(bytes: &[u8]) -> Hash {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

impl Waiting {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // A name has at most 200 bytes.
        let length = u8::try_from(self.name.len()).unwrap_or(u8::MAX);
        out.write_all(&[u8::from(self.side == Side::New), length])?;
        out.write_all(&self.key)?;
        out.write_all(&self.content)?;
        out.write_all(self.name.as_bytes())
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut begin = [0; 2];
        let (mut key, mut content) = (Hash::default(), Hash::default());
        from.read_exact(&mut begin)?;
        from.read_exact(&mut key)?;
        from.read_exact(&mut content)?;
        let mut name = vec![0; begin[1].into()];
        from.read_exact(&mut name)?;
        let side = if begin[0] == 0 { Side::Old } else { Side::New };
        let name = String::from_utf8(name).map_err(io::Error::other)?;
        Ok(Self { key, side, content, name: name.into() })
    }
}

/// Sorted items.
enum Run {
    Memory(std::vec::IntoIter<Waiting>),
    File(BufReader<Part>),
}

impl Run {
    fn of(file: &Arc<File>, range: Range<u64>) -> Self {
        Self::File(BufReader::with_capacity(BUFFER_BYTES, Part { file: file.clone(), range }))
    }

    fn next(&mut self) -> io::Result<Option<Waiting>> {
        match self {
            Self::Memory(items) => Ok(items.next()),
            Self::File(part) if part.buffer().is_empty() && part.get_ref().range.is_empty() => {
                Ok(None)
            }
            Self::File(part) => Waiting::read(part).map(Some),
        }
    }
}

/// A range of a file.
struct Part {
    file: Arc<File>,
    range: Range<u64>,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Compares items, fed in turn, with room for `limit` of them.
    fn compared(
        limit: usize,
        old: &[(String, u32)],
        new: &[(String, u32)],
    ) -> (ItemCounts, BTreeSet<(char, String)>) {
        let scratch = tempfile::tempdir().unwrap();
        let mut comparison = ItemComparison::with_limit(scratch.path().to_owned(), limit);
        let mut found = BTreeSet::new();
        let mut each = |kind: ChangeKind, name: &str| {
            assert!(found.insert((kind.letter(), name.to_owned())), "{name} twice");
        };
        for at in 0..old.len().max(new.len()) {
            for (side, items) in [(Side::Old, old), (Side::New, new)] {
                if let Some((key, value)) = items.get(at) {
                    comparison.add(side, key, &value.to_be_bytes(), &mut each).unwrap();
                }
            }
        }
        let counts = comparison.finish(&mut each).unwrap();
        (counts, found)
    }

    #[test]
    fn items_are_compared_by_key_in_any_order_and_with_little_memory() {
        let old: Vec<(String, u32)> = (0..1000).map(|n| (format!("key {n}"), n)).collect();
        let mut new: Vec<(String, u32)> = old
            .iter()
            .filter(|(_, n)| n % 10 != 3)
            .map(|(key, n)| (key.clone(), if n % 10 == 7 { n + 1 } else { *n }))
            .collect();
        new.extend((1000..1050).map(|n| (format!("key {n}"), n)));
        let mut expected: BTreeSet<(char, String)> = BTreeSet::new();
        expected.extend((0..1000).filter(|n| n % 10 == 3).map(|n| ('-', format!("key {n}"))));
        expected.extend((0..1000).filter(|n| n % 10 == 7).map(|n| ('M', format!("key {n}"))));
        expected.extend((1000..1050).map(|n| ('+', format!("key {n}"))));
        let counts = ItemCounts { added: 50, removed: 100, changed: 100 };
        let mut reversed = new.clone();
        reversed.reverse();
        for limit in [7, 100_000] {
            assert_eq!(compared(limit, &old, &new), (counts, expected.clone()), "{limit}");
            assert_eq!(compared(limit, &old, &reversed), (counts, expected.clone()), "{limit}");
        }
        assert!(compared(7, &old, &old).0.is_empty());
        let long = vec![("ü".repeat(400), 1)];
        assert_eq!(compared(9, &long, &[]).0.removed, 1);
    }
}
