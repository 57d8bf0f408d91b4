//! Cuts the content of a file into blobs, with restic's polynomial and limits, so that both programs cut equal content equally
//! (restic, `doc/design.rst`, "Backups and Deduplication").
//!
//! rustic_core computes the tables of the rolling hash anew for each file, which takes longer than everything else about a small
//! one. Here each thread computes them once, and content below the smallest blob needs no hash at all.

use std::io::{self, Read};

use rustic_core::repofile::{Chunker as Kind, ConfigFile};

use super::rolling::{RollingHash, WINDOW};

/// Bytes read at once beyond the smallest blob.
const READ_BYTES: u64 = 256 << 10;

/// Cuts streams, one after the other.
#[derive(Clone)]
pub(super) struct Chunker {
    hash: RollingHash,
    /// A blob ends where these bits of the hash are 0.
    mask: u64,
    smallest: usize,
    largest: usize,
    buffer: Vec<u8>,
}

impl Chunker {
    /// The repository's chunker; `None` if it cuts at fixed sizes, which only rustic does.
    pub(super) fn of(config: &ConfigFile) -> Option<Self> {
        if config.chunker() != Kind::Rabin {
            return None;
        }
        let (smallest, largest) = (config.chunk_min_size(), config.chunk_max_size());
        let average = u64::try_from(config.chunk_size()).ok()?;
        if smallest < WINDOW || largest < smallest || !average.is_power_of_two() {
            return None;
        }
        Some(Self {
            hash: RollingHash::new(config.poly().ok()?),
            mask: average - 1,
            smallest,
            largest,
            buffer: Vec::new(),
        })
    }

    /// Reads a stream to its end and gives each blob to `take`. Returns the length of the stream in bytes. `expected_bytes` is a
    /// hint.
    ///
    /// # Errors
    /// The stream's error, or that of `take`.
    pub(super) fn cut<E: From<io::Error>>(
        &mut self,
        mut stream: Box<dyn Read + Send>,
        expected_bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut total = 0;
        let hint = usize::try_from(expected_bytes).unwrap_or(usize::MAX).min(self.smallest);
        self.buffer.clear();
        self.buffer.reserve(hint + 1);
        loop {
            // The buffer has less than a smallest blob after the first read of each round, or the stream has ended.
            let wanted = self.smallest.saturating_sub(self.buffer.len());
            stream.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
            if self.buffer.len() < self.smallest {
                if !self.buffer.is_empty() {
                    take(&self.buffer)?;
                    total += self.buffer.len() as u64;
                }
                return Ok(total);
            }
            let (end, is_last) = self.blob_end(&mut stream)?;
            take(&self.buffer[..end])?;
            total += end as u64;
            self.buffer.drain(..end);
            if is_last {
                return Ok(total);
            }
        }
    }

    /// The end of the first blob of the buffer, which has at least a smallest one. Reads more if needed. Also returns true if the
    /// stream ends with this blob.
    fn blob_end(&mut self, stream: &mut impl Read) -> io::Result<(usize, bool)> {
        let mut end = self.smallest;
        loop {
            let until = self.buffer.len().min(self.largest);
            if let Some(found) = self.hash.find(&self.buffer, end, until, self.mask) {
                return Ok((found, false));
            }
            end = until;
            if end >= self.largest {
                return Ok((end, false));
            }
            if stream.by_ref().take(READ_BYTES).read_to_end(&mut self.buffer)? == 0 {
                return Ok((end, true));
            }
        }
    }
}
