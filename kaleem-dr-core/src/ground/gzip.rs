//! gzip on every core, and back.
//!
//! [`GzipWriter`] cuts its input into blocks, compresses them at once, each as a member of its own, and writes the members in
//! order. A file of several members is an ordinary `.gz` (RFC 1952, 2.2): `gzip -d` and mongorestore read it.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor};

/// Input size of one member, in bytes. Larger ones hardly improve compression: deflate looks back 32 KiB.
const BLOCK_BYTES: usize = 1 << 20;
/// Limit for the blocks that wait for one core, so that it has work while the file is written or the machine is busy.
const BLOCKS_WAITING: usize = 2;
/// A third of the work of `gzip -6`, for files one per cent larger (measured by `benches/gzip.rs`).
const LEVEL: i32 = 5;
/// The first bytes of a gzip file.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Compresses the data written to it, on as many threads as there are cores.
///
/// The file is complete only after [`GzipWriter::finish`]; a dropped writer omits its last block.
#[derive(Debug)]
pub struct GzipWriter<W> {
    out: W,
    block: Vec<u8>,
    /// The workers receive blocks in turn, and their members are collected in the same order.
    workers: Vec<Worker>,
    /// Number of blocks passed to workers, and of members written.
    handed: usize,
    taken: usize,
}

/// A thread that compresses.
#[derive(Debug)]
struct Worker {
    blocks: SyncSender<Vec<u8>>,
    members: Receiver<io::Result<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl<W: Write> GzipWriter<W> {
    /// A writer that compresses into `out`.
    pub fn new(out: W) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..threads)
            .map(|_| {
                let (blocks, queue) = sync_channel(BLOCKS_WAITING);
                let (done, members) = sync_channel(BLOCKS_WAITING);
                Worker { blocks, members, thread: thread::spawn(move || work(&queue, &done)) }
            })
            .collect();
        Self { out, block: Vec::new(), workers, handed: 0, taken: 0 }
    }

    /// Compresses the remaining data and returns the inner writer.
    ///
    /// # Errors
    /// As the inner writer.
    pub fn finish(mut self) -> io::Result<W> {
        // For empty input, writes an empty member, so that the file is valid.
        if !self.block.is_empty() || self.handed == 0 {
            self.hand_over()?;
        }
        while self.taken < self.handed {
            self.take_member()?;
        }
        for Worker { blocks, thread, .. } in self.workers {
            // It ends when no more blocks can come.
            drop(blocks);
            thread.join().map_err(|_| lost())?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        // One more than the limit is being compressed.
        if self.handed - self.taken > BLOCKS_WAITING * self.workers.len() {
            self.take_member()?;
        }
        let worker = &self.workers[self.handed % self.workers.len()];
        worker.blocks.send(std::mem::take(&mut self.block)).map_err(|_| lost())?;
        self.handed += 1;
        Ok(())
    }

    fn take_member(&mut self) -> io::Result<()> {
        let worker = &self.workers[self.taken % self.workers.len()];
        let member = worker.members.recv().map_err(|_| lost())??;
        self.taken += 1;
        self.out.write_all(&member)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK_BYTES);
        }
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    /// Does nothing: a member for each flush would cost more than it is worth.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("a compression thread ended before its time")
}

fn work(blocks: &Receiver<Vec<u8>>, members: &SyncSender<io::Result<Vec<u8>>>) {
    // The level is within the library's range.
    let Ok(level) = CompressionLvl::new(LEVEL) else { return };
    let mut compressor = Compressor::new(level);
    let mut packed = vec![0; compressor.gzip_compress_bound(BLOCK_BYTES)];
    while let Ok(block) = blocks.recv() {
        let member =
            compressor.gzip_compress(&block, &mut packed).map(|length| packed[..length].to_vec());
        // The writer has ended, so the rest is not needed.
        if members.send(member.map_err(io::Error::other)).is_err() {
            return;
        }
    }
}

/// Reads a file that may be compressed: all members of a gzip file, or any other file unchanged. Bytes after the last member that
/// do not begin another one are an error.
///
/// # Errors
/// If its beginning cannot be read.
pub fn decompressed(file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(256 << 10, file);
    let compressed = file.fill_buf()?.starts_with(&MAGIC);
    Ok(if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(plain: &[u8]) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new());
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn read(packed: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decompressed(io::Cursor::new(packed))?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_goes_in_comes_out_at_every_length_around_a_block() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 9 * BLOCK_BYTES + 7] {
            let plain: Vec<u8> = (0..length).map(|n| (n * n).to_le_bytes()[1]).collect();
            assert_eq!(read(round_trip(&plain)).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_file_is_an_error() {
        let packed = round_trip(&vec![7; 3 * BLOCK_BYTES]);
        for cut in [packed.len() - 1, packed.len() - 9, packed.len() / 2] {
            assert!(read(packed[..cut].to_vec()).is_err(), "{cut}");
        }
        assert!(read([packed, vec![0; 3]].concat()).is_err());
    }
}
