//! Backpressure on a capture: its reads wait while a pack is being written.
//!
//! With a slow disk or bucket, rustic_core queues up to six packs, and the slowest moment determines how much memory a capture
//! needs. Here, while a pack is being written, only a part of the next one may be read, and then the readers wait. For a disk,
//! which accepts a pack at once unless it falls behind, that is a quarter; for a bucket it is the whole next pack, so that there
//! is always one to send.

use std::{
    io::{self, Read},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Limit for the reads counted per pack, in packs: data that compress well fill a pack slowly, and known data do not fill it at
/// all.
const MOST_PACKS: u64 = 4;

/// Bytes that may always be read: packs may be small.
const LEAST_BYTES: u64 = 4 << 20;

/// Shared by the readers of a capture and the writers of its packs. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Backpressure(Arc<(Mutex<Flow>, Condvar)>);

#[derive(Debug, Default)]
struct Flow {
    writes: usize,
    /// Bytes read since the last write began.
    read: u64,
    /// The limit for them while `writes` are in progress.
    allowed: u64,
    /// The allowed part of a pack is one in this number.
    part: u64,
}

impl Backpressure {
    /// For writes to a disk, or across a network.
    pub(crate) fn new(is_remote: bool) -> Self {
        let part = if is_remote { 1 } else { 4 };
        Self(Arc::new((Mutex::new(Flow { part, ..Flow::default() }), Condvar::new())))
    }

    /// Begins the write of a pack, which ends when the returned value is dropped.
    pub(crate) fn writing(&self, size_bytes: u64) -> Writing {
        let mut flow = self.flow();
        flow.writes += 1;
        let fills_one = mem::take(&mut flow.read).clamp(size_bytes, size_bytes * MOST_PACKS);
        flow.allowed = (fills_one / flow.part).max(LEAST_BYTES);
        Writing(self.clone())
    }

    /// Limits a reader to the speed of the writes.
    pub(crate) fn throttle(&self, reader: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(ThrottledReader { reader, backpressure: self.clone() })
    }

    fn pass(&self, bytes: u64) {
        let mut flow = self.flow();
        while flow.writes > 0 && flow.read >= flow.allowed {
            flow = self.0.1.wait(flow).unwrap_or_else(PoisonError::into_inner);
        }
        flow.read += bytes;
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[must_use]
pub(crate) struct Writing(Backpressure);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.flow().writes -= 1;
        self.0.0.1.notify_all();
    }
}

struct ThrottledReader {
    reader: Box<dyn Read + Send>,
    backpressure: Backpressure,
}

impl Read for ThrottledReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if read > 0 {
            self.backpressure.pass(read as u64);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    const PACK: u64 = 16 << 20;

    /// Reads this many bytes; the receiver is notified when done.
    fn read(backpressure: &Backpressure, bytes: u64) -> mpsc::Receiver<()> {
        let (mut reader, (told, tells)) =
            (backpressure.throttle(Box::new(io::repeat(7).take(bytes))), mpsc::channel());
        thread::spawn(move || {
            io::copy(&mut reader, &mut io::sink()).unwrap();
            told.send(())
        });
        tells
    }

    fn goes_on(reading: &mpsc::Receiver<()>) {
        reading.recv_timeout(Duration::from_mins(1)).unwrap();
    }

    fn waits(reading: &mpsc::Receiver<()>) {
        reading.recv_timeout(Duration::from_millis(100)).unwrap_err();
    }

    #[test]
    fn while_a_pack_is_written_a_part_of_the_next_is_read() {
        for (is_remote, part) in [(false, PACK / 4), (true, PACK)] {
            let backpressure = Backpressure::new(is_remote);
            goes_on(&read(&backpressure, PACK));
            let write = backpressure.writing(PACK);
            goes_on(&read(&backpressure, part));
            let waiting = read(&backpressure, 1);
            waits(&waiting);
            drop(write);
            goes_on(&waiting);
            goes_on(&read(&backpressure, 10 * PACK));
        }
    }

    #[test]
    fn what_compresses_may_be_read_in_proportion_up_to_a_limit() {
        let backpressure = Backpressure::new(true);
        goes_on(&read(&backpressure, 100 * PACK));
        let write = backpressure.writing(PACK);
        goes_on(&read(&backpressure, 4 * PACK));
        let waiting = read(&backpressure, 1);
        waits(&waiting);
        drop(write);
        goes_on(&waiting);
    }
}
