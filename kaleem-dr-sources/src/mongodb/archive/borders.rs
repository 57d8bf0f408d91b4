//! Finds document boundaries in a stream that arrives in pieces of any length, without copying or
//! buffering.

use super::format::{LARGEST_DOCUMENT, SMALLEST_DOCUMENT};

/// The state of a document stream.
#[derive(Debug, Default)]
pub(super) struct Borders {
    /// Number of complete documents so far.
    documents: u64,
    /// Number of bytes so far.
    at: u64,
    /// The length field of the current document, as far as it has arrived.
    prefix: [u8; 4],
    /// Number of bytes of the current document so far.
    seen: usize,
}

impl Borders {
    /// Processes the next piece.
    ///
    /// # Errors
    /// The reason, if an archive cannot contain the stream.
    pub(super) fn follow(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            let begin = self.at - self.seen as u64;
            let taken = if self.seen < 4 {
                let taken = piece.len().min(4 - self.seen);
                self.prefix[self.seen..self.seen + taken].copy_from_slice(&piece[..taken]);
                taken
            } else {
                let length = self.length();
                let taken = piece.len().min(length - self.seen);
                if self.seen + taken == length && piece[taken - 1] != 0 {
                    return Err(format!(
                        "the document at byte {begin} does not end at its declared length"
                    ));
                }
                taken
            };
            piece = &piece[taken..];
            self.at += taken as u64;
            self.seen += taken;
            if self.seen < 4 {
                continue;
            }
            let length = self.length();
            if self.seen == 4 && !(SMALLEST_DOCUMENT..=LARGEST_DOCUMENT).contains(&length) {
                return Err(format!(
                    "the document at byte {begin} has a length of {length} bytes, but mongorestore accepts at most {LARGEST_DOCUMENT}"
                ));
            }
            if self.seen == length {
                self.documents += 1;
                self.seen = 0;
            }
        }
        Ok(())
    }

    /// Ends the stream and returns its number of documents.
    ///
    /// # Errors
    /// The reason, if the stream ends inside a document.
    pub(super) fn finish(self) -> Result<u64, String> {
        match self.seen {
            0 => Ok(self.documents),
            seen => Err(format!("it ends inside the document at byte {}", self.at - seen as u64)),
        }
    }

    fn length(&self) -> usize {
        u32::from_le_bytes(self.prefix) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let document = |n: usize| {
            bson::serialize_to_vec(&bson::doc! { "_id": 1, "t": "x".repeat(n) }).unwrap()
        };
        [document(0), document(300), vec![5, 0, 0, 0, 0], document(7)].concat()
    }

    #[test]
    fn documents_are_counted_however_the_stream_is_cut() {
        let stream = stream();
        for length in 1..=stream.len() {
            let mut borders = Borders::default();
            for piece in stream.chunks(length) {
                borders.follow(piece).unwrap();
            }
            assert_eq!(borders.finish(), Ok(4), "{length}");
        }
    }

    #[test]
    fn a_truncated_or_inconsistent_stream_is_an_error() {
        let stream = stream();
        for (length, piece) in [(stream.len() - 1, 3), (stream.len() - 30, 1000), (2, 1)] {
            let mut borders = Borders::default();
            for piece in stream[..length].chunks(piece) {
                borders.follow(piece).unwrap();
            }
            assert!(borders.finish().unwrap_err().contains("ends inside"));
        }
        for (lie, why) in [
            ([4, 0, 0, 0, 0, 0], "a length of 4 bytes"),
            ([1, 0, 0, 1, 0, 0], "16777217 bytes"),
            ([6, 0, 0, 0, 0, 9], "does not end"),
        ] {
            let mut borders = Borders::default();
            let error = lie.chunks(1).find_map(|byte| borders.follow(byte).err()).unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
