//! The snapshot of one shard in the form of a collection's, with one shard in it.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use bytes::{Buf as _, Bytes};
use tar::Header;

use super::tar_edit::{InDirectory, TarEditor};

/// Name of the member with a collection's shard keys.
const KEYS: &[u8] = b"shard_key_mapping.json";
const BLOCK_BYTES: usize = 512;
const PIECE_BYTES: usize = 64 << 10;

/// Reads it, with the shard keys in front.
pub(super) struct ShardAsCollection<'a> {
    file: &'a mut dyn Read,
    editor: Option<TarEditor<InDirectory>>,
    ready: VecDeque<Bytes>,
}

impl<'a> ShardAsCollection<'a> {
    pub(super) fn new(shard: u32, keys: &[u8], file: &'a mut dyn Read) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..KEYS.len()].copy_from_slice(KEYS);
        header.set_size(keys.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        let mut first = [header.as_bytes(), keys].concat();
        first.resize(first.len().next_multiple_of(BLOCK_BYTES), 0);
        Self { file, editor: Some(InDirectory::of(shard)), ready: [first.into()].into() }
    }
}

impl Read for ShardAsCollection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            let Some(editor) = &mut self.editor else { return Ok(0) };
            let mut piece = vec![0; PIECE_BYTES];
            let length = self.file.read(&mut piece)?;
            piece.truncate(length);
            let mut out = Vec::new();
            editor.push(piece.into(), &mut out)?;
            if length == 0
                && let Some(editor) = self.editor.take()
            {
                editor.finish(&mut out)?;
            }
            self.ready.extend(out.into_iter().filter(|bytes| !bytes.is_empty()));
        }
        let Some(first) = self.ready.front_mut() else { return Ok(0) };
        let taken = first.len().min(buffer.len());
        first.copy_to_slice(&mut buffer[..taken]);
        if first.is_empty() {
            self.ready.pop_front();
        }
        Ok(taken)
    }
}
