//! Digests that show whether two bodies of data are equal: by bytes, and by content in any order.

use sha2::{Digest as _, Sha256};

/// Hashes bytes as they pass; the result is lower-case hex, as `sha256sum` prints it.
#[derive(Clone, Debug, Default)]
pub struct ByteDigest(Sha256);

impl ByteDigest {
    /// Adds the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Ends the hash: 64 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }

    /// The hex SHA-256 of one buffer.
    #[must_use]
    pub fn of(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }
}

/// A digest of a multiset: the same items in any order, added in any grouping, give the same value.
///
/// Each item's SHA-256 is read as four little-endian 64-bit lanes, which are summed modulo 2^64 each. It detects accidents (a
/// lost, duplicated or changed document), but does not protect against an attacker who can choose the items.
/// [`MultisetDigest::merge`] joins parts that were digested in parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultisetDigest {
    lanes: [u64; 4],
    items: u64,
}

impl MultisetDigest {
    /// Adds one item by its bytes.
    pub fn add(&mut self, item: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(words(item)) {
            *lane = lane.wrapping_add(word);
        }
        self.items += 1;
    }

    /// Removes one item that was added before.
    pub fn remove(&mut self, item: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(words(item)) {
            *lane = lane.wrapping_sub(word);
        }
        self.items = self.items.saturating_sub(1);
    }

    /// Adds all items of another digest.
    pub fn merge(&mut self, other: &Self) {
        for (lane, word) in self.lanes.iter_mut().zip(other.lanes) {
            *lane = lane.wrapping_add(word);
        }
        self.items += other.items;
    }

    /// Number of items added so far, duplicates included.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The digest as 64 hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.lanes.iter().map(|lane| hex::encode(lane.to_le_bytes())).collect()
    }
}

/// An item's SHA-256 as four words.
fn words(item: &[u8]) -> impl Iterator<Item = u64> {
    let hash: [u8; 32] = Sha256::digest(item).into();
    (0..4).map(move |at| {
        let mut word = [0; 8];
        word.copy_from_slice(&hash[at * 8..at * 8 + 8]);
        u64::from_le_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_grouping_do_not_matter_but_content_and_multiplicity_do() {
        let digest = |items: &[&str]| {
            let mut digest = MultisetDigest::default();
            for item in items {
                digest.add(item.as_bytes());
            }
            digest
        };
        let mut merged = digest(&["c"]);
        merged.merge(&digest(&["a", "b"]));
        assert_eq!(merged, digest(&["a", "b", "c"]));
        assert_ne!(digest(&["a", "b"]).to_hex(), digest(&["a", "b", "b"]).to_hex());
        assert_ne!(digest(&["a", "b"]).to_hex(), digest(&["a", "B"]).to_hex());
        let mut less = digest(&["a", "b", "b"]);
        less.remove(b"b");
        assert_eq!(less, digest(&["b", "a"]));
    }
}
