//! Edits the headers of a tar while it is streamed, without expanding it.
//!
//! Files of Qdrant's snapshots are GNU sparse entries: a tar library would expand them to several
//! times their size. So entries are copied as they are in the file, and only names and times in
//! their headers change.

use std::io;

use bytes::Bytes;
use tar::{EntryType, Header};

const BLOCK_BYTES: usize = 512;
/// Offset of the flag "another extension follows" in a header with a sparse map, and in its
/// extensions.
const MORE_IN_HEADER: usize = 482;
const MORE_IN_EXTENSION: usize = 504;
/// A tar ends with two blocks of zeros.
static END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// A change of a tar's entries.
pub(super) trait Edit: Send {
    /// Reports something that is not a tar as an error. Otherwise it is passed on unchanged.
    const IS_STRICT: bool;

    /// Decides about an entry, and may change its header; the checksum is set afterwards.
    fn entry(&mut self, header: &mut Header) -> io::Result<Verdict>;
}

/// The decision about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    /// It is a tar too: its headers are edited by [`Times`].
    Descend,
}

/// Sets the times in all headers of a snapshot, and in those of its segments, to zero. Qdrant makes
/// these files anew for each snapshot, and does not use their times; with different ones, hardly
/// any blob of an unchanged collection would equal the previous night's.
#[derive(Debug)]
pub(super) struct Times {
    is_inner: bool,
}

impl Times {
    pub(super) fn of_snapshot() -> TarEditor<Self> {
        TarEditor::new(Self { is_inner: false })
    }
}

impl Edit for Times {
    const IS_STRICT: bool = false;

    fn entry(&mut self, header: &mut Header) -> io::Result<Verdict> {
        header.set_mtime(0);
        let is_segment = !self.is_inner
            && header.entry_type() == EntryType::Regular
            && is_segment(&header.path_bytes());
        Ok(if is_segment { Verdict::Descend } else { Verdict::Keep })
    }
}

/// `segments/ID.tar`, in the directory of a shard or at the root of a shard's snapshot.
fn is_segment(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let Some((directory, file)) = name.rsplit_once('/') else { return false };
    file.strip_suffix(".tar").is_some()
        && (directory == "segments" || directory.ends_with("/segments"))
}

/// Keeps the files of one shard of a collection's snapshot, as the snapshot of that shard: without
/// the directory `N/`.
#[derive(Debug)]
pub(super) struct OnlyShard {
    prefix: String,
}

impl OnlyShard {
    pub(super) fn of(shard: u32) -> TarEditor<Self> {
        TarEditor::new(Self { prefix: format!("{shard}/") })
    }
}

impl Edit for OnlyShard {
    const IS_STRICT: bool = true;

    fn entry(&mut self, header: &mut Header) -> io::Result<Verdict> {
        let name = plain_name(header)?;
        match name.strip_prefix(&self.prefix) {
            None | Some("") => Ok(Verdict::Drop),
            Some(rest) => set_name(header, rest).map(|()| Verdict::Keep),
        }
    }
}

/// Puts the files of a shard's snapshot into a directory, as in the snapshot of a collection.
#[derive(Debug)]
pub(super) struct InDirectory {
    prefix: String,
}

impl InDirectory {
    pub(super) fn of(shard: u32) -> TarEditor<Self> {
        TarEditor::new(Self { prefix: format!("{shard}/") })
    }
}

impl Edit for InDirectory {
    const IS_STRICT: bool = true;

    fn entry(&mut self, header: &mut Header) -> io::Result<Verdict> {
        let name = plain_name(header)?;
        set_name(header, &format!("{}{name}", self.prefix))?;
        Ok(Verdict::Keep)
    }
}

/// The name in a header, without `./`. Qdrant's names outside of segments need no extension.
fn plain_name(header: &Header) -> io::Result<String> {
    let kind = header.entry_type();
    if !matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::GNUSparse) {
        return Err(io::Error::other(format!("it has an entry of the type {kind:?}")));
    }
    let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    Ok(name.strip_prefix("./").unwrap_or(&name).to_owned())
}

fn set_name(header: &mut Header, name: &str) -> io::Result<()> {
    // A header of the other kind has a second field for names.
    let Some(gnu) = header.as_gnu_mut() else {
        return Err(io::Error::other("it is not in GNU's format"));
    };
    let Some(field) = gnu.name.get_mut(..name.len()) else {
        return Err(io::Error::other(format!("its name {name} is too long")));
    };
    field.copy_from_slice(name.as_bytes());
    gnu.name[name.len()..].fill(0);
    Ok(())
}

/// A tar on its way through an [`Edit`]. Memory: one block.
#[derive(Debug)]
pub(super) struct TarEditor<E> {
    edit: E,
    /// The beginning of a block.
    held: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    /// Extensions of a sparse map, before a content of this length.
    Extension {
        content: u64,
        keep: bool,
    },
    /// Content and padding, of this length.
    Content {
        rest: u64,
        keep: bool,
    },
    /// The content of a segment, of this length, and the padding after it.
    Segment {
        rest: u64,
        padding: u64,
        inner: Box<TarEditor<Times>>,
    },
    /// After the last entry.
    End,
    /// Not a tar.
    Foreign,
}

impl<E: Edit> TarEditor<E> {
    fn new(edit: E) -> Self {
        Self { edit, held: Vec::with_capacity(BLOCK_BYTES), state: State::Header }
    }

    /// Takes the next piece, and adds what is ready to `out`.
    ///
    /// # Errors
    /// If the edit is strict, and this is not a tar.
    pub(super) fn push(&mut self, mut piece: Bytes, out: &mut Vec<Bytes>) -> io::Result<()> {
        while !piece.is_empty() {
            match &mut self.state {
                State::Header | State::Extension { .. } => {
                    let missing = (BLOCK_BYTES - self.held.len()).min(piece.len());
                    self.held.extend_from_slice(&piece.split_to(missing));
                    if self.held.len() == BLOCK_BYTES {
                        self.block(out)?;
                    }
                }
                State::Content { rest, keep } => {
                    let part = split(&mut piece, rest);
                    if *keep {
                        out.push(part);
                    }
                    if *rest == 0 {
                        self.state = State::Header;
                    }
                }
                State::Segment { rest, padding, inner } => {
                    let part = split(&mut piece, rest);
                    inner.push(part, out)?;
                    if *rest == 0 {
                        inner.end(out);
                        self.state = content(*padding, true);
                    }
                }
                State::End | State::Foreign => {
                    let part = std::mem::take(&mut piece);
                    if !E::IS_STRICT {
                        out.push(part);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// If the edit is strict, and the tar ended within an entry.
    pub(super) fn finish(mut self, out: &mut Vec<Bytes>) -> io::Result<()> {
        let is_whole = matches!(self.state, State::End | State::Header) && self.held.is_empty();
        if E::IS_STRICT && !is_whole {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within an entry"));
        }
        self.end(out);
        if E::IS_STRICT {
            out.push(Bytes::from_static(&END));
        }
        Ok(())
    }

    /// Passes on the beginning of a block that does not come.
    fn end(&mut self, out: &mut Vec<Bytes>) {
        if let State::Segment { inner, .. } = &mut self.state {
            inner.end(out);
        }
        if !self.held.is_empty() {
            out.push(std::mem::take(&mut self.held).into());
        }
    }

    fn block(&mut self, out: &mut Vec<Bytes>) -> io::Result<()> {
        let mut block = std::mem::replace(&mut self.held, Vec::with_capacity(BLOCK_BYTES));
        if let State::Extension { content: length, keep } = self.state {
            if block[MORE_IN_EXTENSION] == 0 {
                self.state = content(length, keep);
            }
            if keep {
                out.push(block.into());
            }
            return Ok(());
        }
        if block.iter().all(|&byte| byte == 0) {
            self.state = State::End;
            if !E::IS_STRICT {
                out.push(block.into());
            }
            return Ok(());
        }
        let mut header = Header::from_byte_slice(&block).clone();
        let Some(size) = size_of(&header) else {
            if E::IS_STRICT {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a tar"));
            }
            self.state = State::Foreign;
            out.push(block.into());
            return Ok(());
        };
        let verdict = self.edit.entry(&mut header)?;
        let keep = verdict != Verdict::Drop;
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        let is_extended = header.entry_type() == EntryType::GNUSparse && block[MORE_IN_HEADER] != 0;
        if keep {
            out.push(block.into());
        }
        self.state = if is_extended {
            State::Extension { content: size + padding, keep }
        } else if verdict == Verdict::Descend && size > 0 {
            let inner = Box::new(TarEditor::new(Times { is_inner: true }));
            State::Segment { rest: size, padding, inner }
        } else {
            content(size + padding, keep)
        };
        Ok(())
    }
}

/// The size in a header; `None` if this is not the header of an entry that we understand.
fn size_of(header: &Header) -> Option<u64> {
    let mut expected = header.clone();
    expected.set_cksum();
    let is_header = header.cksum().ok()? == expected.cksum().ok()?;
    let size = header.entry_size().ok()?;
    (is_header && size < u64::MAX / 2).then_some(size)
}

fn content(rest: u64, keep: bool) -> State {
    if rest == 0 { State::Header } else { State::Content { rest, keep } }
}

fn split(piece: &mut Bytes, rest: &mut u64) -> Bytes {
    let length = usize::try_from(*rest).unwrap_or(usize::MAX).min(piece.len());
    *rest -= length as u64;
    piece.split_to(length)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tar::Archive;

    use super::*;

    const DOCS: &[u8] = include_bytes!("../../../tests/fixtures/qdrant/docs.snapshot");

    fn edited<E: Edit>(
        mut editor: TarEditor<E>,
        bytes: &[u8],
        piece: usize,
    ) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            editor.push(Bytes::copy_from_slice(piece), &mut out)?;
        }
        editor.finish(&mut out)?;
        Ok(out.concat())
    }

    /// Name, kind, time and expanded content of each entry.
    fn entries(bytes: &[u8]) -> Vec<(String, EntryType, u64, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            let (kind, time) = (header.entry_type(), header.mtime().unwrap());
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((name, kind, time, content));
        }
        found
    }

    #[test]
    fn only_times_change_and_in_segments_too_whatever_the_pieces() {
        let whole = edited(Times::of_snapshot(), DOCS, DOCS.len()).unwrap();
        assert_eq!(whole.len(), DOCS.len());
        for piece in [1, 511, 512, 4096, 70_000] {
            assert!(edited(Times::of_snapshot(), DOCS, piece).unwrap() == whole, "{piece}");
        }
        let (before, after) = (entries(DOCS), entries(&whole));
        assert_eq!(before.len(), after.len());
        assert!(before.iter().any(|entry| entry.2 != 0));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((&before.0, before.1, 0), (&after.0, after.1, after.2));
            if is_segment(before.0.as_bytes()) {
                let (before, after) = (entries(&before.3), entries(&after.3));
                assert!(before.len() > 5 && before.iter().any(|entry| entry.2 != 0));
                for (before, after) in before.iter().zip(&after) {
                    assert_eq!((&before.0, before.1, 0), (&after.0, after.1, after.2));
                    assert!(before.3 == after.3, "{}", before.0);
                }
            } else {
                assert!(before.3 == after.3, "{}", before.0);
            }
        }
        assert!(edited(Times::of_snapshot(), &whole, 999).unwrap() == whole);
    }

    #[test]
    fn what_is_not_a_tar_or_breaks_off_is_passed_on_unchanged() {
        let text = b"no tar at all".repeat(100);
        assert!(edited(Times::of_snapshot(), &text, 100).unwrap() == text);
        for length in (0..DOCS.len()).step_by(7777) {
            assert_eq!(edited(Times::of_snapshot(), &DOCS[..length], 1000).unwrap().len(), length);
        }
        for at in (0..DOCS.len()).step_by(311) {
            let mut damaged = DOCS.to_vec();
            damaged[at] ^= 0xff;
            assert_eq!(edited(Times::of_snapshot(), &damaged, 5000).unwrap().len(), DOCS.len());
        }
    }

    #[test]
    fn a_shard_is_cut_out_of_a_collection_and_put_back_with_its_holes() {
        let shard = edited(OnlyShard::of(0), DOCS, 3000).unwrap();
        let kept = entries(&shard);
        let names: Vec<_> = kept.iter().map(|entry| entry.0.as_str()).collect();
        assert!(
            names.contains(&"wal/open-1") && names.contains(&"replica_state.json"),
            "{names:?}"
        );
        assert!(!names.contains(&"config.json") && !names.contains(&"version.info"), "{names:?}");
        assert!(shard.len() < DOCS.len(), "holes are not filled");
        let back = edited(InDirectory::of(0), &shard, 3000).unwrap();
        let of_shard: Vec<_> =
            entries(DOCS).into_iter().filter(|entry| entry.0.starts_with("0/")).collect();
        assert!(entries(&back) == of_shard);
        assert_eq!(edited(OnlyShard::of(7), DOCS, 3000).unwrap(), END);
        edited(OnlyShard::of(0), &DOCS[..5000], 512).unwrap_err();
        edited(OnlyShard::of(0), &b"no tar at all".repeat(100), 512).unwrap_err();
    }
}
