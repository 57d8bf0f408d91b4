//! Checks that a bucket stored what it was sent.
//!
//! A service that supports `Content-MD5` rejects content that changed on the way. Not every service does, so the response is
//! checked too: the ETag of a plain PUT is the MD5 of the content, that of a multipart upload the MD5 of the parts' MD5s with
//! their number. If the ETag is something else (encrypted buckets), the object is read back and compared by SHA-256.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha2::Sha256;

tokio::task_local! {
    /// The MD5 of the object being written in one request, if already known: hashing is half the work of a write.
    pub(super) static WHOLE_MD5: [u8; 16];
}

/// Digests of an object being sent, in parts of equal size.
pub(super) struct PartDigests {
    part_bytes: usize,
    finished: Vec<[u8; 16]>,
    part: Md5,
    in_part: usize,
    /// For an object that is no longer in memory once it was sent.
    whole: Option<Sha256>,
    size: u64,
}

/// The digests of the content that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    parts: Vec<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    pub(super) size: u64,
}

impl PartDigests {
    /// For an object that is sent piece by piece.
    pub(super) fn of_stream(part_bytes: usize) -> Self {
        Self { whole: Some(Sha256::new()), ..Self::empty(part_bytes) }
    }

    fn empty(part_bytes: usize) -> Self {
        Self {
            part_bytes,
            finished: Vec::new(),
            part: Md5::new(),
            in_part: 0,
            whole: None,
            size: 0,
        }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.in_part == self.part_bytes {
                self.end_part();
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.part_bytes - self.in_part));
            self.part.update(now);
            self.in_part += now.len();
            bytes = rest;
        }
    }

    fn end_part(&mut self) {
        self.finished.push(std::mem::take(&mut self.part).finalize().into());
        self.in_part = 0;
    }

    pub(super) fn finish(mut self) -> Sent {
        // An empty object also has one part, an empty one.
        self.end_part();
        Sent {
            parts: self.finished,
            sha256: self.whole.map(|whole| whole.finalize().into()),
            size: self.size,
        }
    }

    pub(super) fn of(content: &[Bytes], part_bytes: usize) -> Sent {
        let mut digests = Self::empty(part_bytes);
        content.iter().for_each(|bytes| digests.update(bytes));
        digests.finish()
    }
}

impl Sent {
    /// The MD5 of an object in one part.
    pub(super) fn whole_md5(&self) -> Option<[u8; 16]> {
        match self.parts.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The SHA-256 of the whole object; `content` is what was sent, if it is still in memory.
    pub(super) fn sha256(&self, content: &[Bytes]) -> [u8; 32] {
        self.sha256.unwrap_or_else(|| {
            let mut digest = Sha256::new();
            content.iter().for_each(|bytes| digest.update(bytes));
            digest.finalize().into()
        })
    }

    /// Reports whether an ETag proves that this content arrived. `false` proves nothing.
    pub(super) fn is_proven_by(&self, etag: &str) -> bool {
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        self.whole_md5().is_some_and(|only| etag == hex::encode(only))
            || etag
                == format!("{}-{}", hex::encode(Md5::digest(self.parts.concat())), self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_proves_what_it_is_the_digest_of() {
        // The ETags of S3 for "hello", in one piece and in parts of three bytes.
        let hello = [Bytes::from_static(b"he"), Bytes::from_static(b"llo")];
        assert!(PartDigests::of(&hello, 8).is_proven_by("\"5d41402abc4b2a76b9719d911017c592\""));
        assert!(PartDigests::of(&hello, 5).is_proven_by("5D41402ABC4B2A76B9719D911017C592"));
        let parts = [Md5::digest(b"hel"), Md5::digest(b"lo")].concat();
        let etag = format!("\"{}-2\"", hex::encode(Md5::digest(parts)));
        assert!(PartDigests::of(&hello, 3).is_proven_by(&etag));
        assert!(!PartDigests::of(&[Bytes::from_static(b"hallo")], 3).is_proven_by(&etag));
        assert!(!PartDigests::of(&hello, 8).is_proven_by(""));
        assert!(PartDigests::of(&[], 8).is_proven_by("d41d8cd98f00b204e9800998ecf8427e"));
        let mut streamed = PartDigests::of_stream(3);
        streamed.update(b"hello");
        assert_eq!(streamed.finish().sha256(&[]), PartDigests::of(&hello, 8).sha256(&hello));
    }
}
