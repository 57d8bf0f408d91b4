//! Where documents begin and end in bytes that come in pieces of any length; nothing is copied or held.

use super::format::{LARGEST_DOCUMENT, SMALLEST_DOCUMENT};

/// Follows a stream of documents.
#[derive(Debug, Default)]
pub(super) struct Borders {
    /// Whole documents so far.
    documents: u64,
    /// Bytes so far.
    at: u64,
    /// The length of the document at hand, as far as it is known.
    prefix: [u8; 4],
    /// How many bytes of the document at hand were seen.
    seen: usize,
}

impl Borders {
    /// Looks at the next piece.
    ///
    /// # Errors
    /// A sentence, when the stream cannot stand in an archive.
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
                    return Err(format!("the document at byte {begin} does not end where it says"));
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
                    "the document at byte {begin} says that it is {length} bytes long, and mongorestore takes {LARGEST_DOCUMENT} at most"
                ));
            }
            if self.seen == length {
                self.documents += 1;
                self.seen = 0;
            }
        }
        Ok(())
    }

    /// Ends the stream; gives how many documents it had.
    ///
    /// # Errors
    /// A sentence, when it ends inside a document.
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
    fn a_stream_that_breaks_off_or_lies_is_an_error() {
        let stream = stream();
        for (length, piece) in [(stream.len() - 1, 3), (stream.len() - 30, 1000), (2, 1)] {
            let mut borders = Borders::default();
            for piece in stream[..length].chunks(piece) {
                borders.follow(piece).unwrap();
            }
            assert!(borders.finish().unwrap_err().contains("ends inside"));
        }
        for (lie, why) in [
            ([4, 0, 0, 0, 0, 0], "4 bytes long"),
            ([1, 0, 0, 1, 0, 0], "16777217 bytes"),
            ([6, 0, 0, 0, 0, 9], "does not end"),
        ] {
            let mut borders = Borders::default();
            let error = lie.chunks(1).find_map(|byte| borders.follow(byte).err()).unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
