//! The lowest layer of an archive: documents and terminators, one after another.
//!
//! Memory is a single buffer that grows to the size of the largest document as its bytes arrive, so
//! a wrong length costs nothing.

use std::io::{self, Read};

use super::format::{LARGEST_DOCUMENT, SMALLEST_DOCUMENT, TERMINATOR};

/// Minimum and maximum growth of the buffer, in bytes.
const STEP_BYTES: (usize, usize) = (16 << 10, 1 << 20);

/// An item of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The bytes of a document: its length is plausible, and it ends with its NUL.
    Document(&'a [u8]),
    /// The end of a block.
    Terminator,
    /// The end of the stream.
    End,
}

/// Splits a stream into frames.
#[derive(Debug)]
pub(super) struct Frames<R> {
    input: R,
    buffer: Vec<u8>,
    /// The bytes not returned yet are `buffer[begin..end]`.
    begin: usize,
    end: usize,
    /// Offset of the latest frame in the stream.
    at: u64,
    /// Length of the latest frame.
    length: usize,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), begin: 0, end: 0, at: 0, length: 0 }
    }

    /// Offset in the stream of the frame that was returned last, or that failed.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads the next four bytes, without interpreting them. `None` at the end.
    pub(super) fn magic(&mut self) -> Result<Option<[u8; 4]>, String> {
        let there = self.fill(4)?;
        Ok(if there < 4 { None } else { self.give(4).first_chunk().copied() })
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// The reason, if what follows is not a frame.
    pub(super) fn next(&mut self) -> Result<Frame<'_>, String> {
        match self.fill(4)? {
            0 => return Ok(Frame::End),
            1..4 => return Err("it ends inside the length of a document".to_owned()),
            _ => {}
        }
        let mut length = [0; 4];
        length.copy_from_slice(&self.buffer[self.begin..self.begin + 4]);
        if length == TERMINATOR {
            self.give(4);
            return Ok(Frame::Terminator);
        }
        let claimed = i32::from_le_bytes(length);
        let length = match usize::try_from(claimed) {
            Ok(length) if (SMALLEST_DOCUMENT..=LARGEST_DOCUMENT).contains(&length) => length,
            _ => {
                return Err(format!(
                    "{claimed} is neither the length of a document nor a terminator"
                ));
            }
        };
        let there = self.fill(length)?;
        if there < length {
            return Err(format!("it ends inside a document, after {there} of {length} bytes"));
        }
        if self.buffer[self.begin + length - 1] != 0 {
            return Err("a document does not end at its declared length".to_owned());
        }
        Ok(Frame::Document(self.give(length)))
    }

    fn give(&mut self, length: usize) -> &[u8] {
        let given = &self.buffer[self.begin..self.begin + length];
        self.begin += length;
        self.length = length;
        given
    }

    /// Reads until `wanted` bytes are buffered, or the stream ends; returns how many of them are
    /// buffered.
    fn fill(&mut self, wanted: usize) -> Result<usize, String> {
        self.at += self.length as u64;
        self.length = 0;
        if self.begin + wanted > self.buffer.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        while self.end - self.begin < wanted {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.end + self.end.clamp(STEP_BYTES.0, STEP_BYTES.1), 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("reading it failed: {error}")),
            }
        }
        Ok(wanted.min(self.end - self.begin))
    }
}
