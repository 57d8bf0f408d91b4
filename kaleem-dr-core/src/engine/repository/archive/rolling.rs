//! The rolling hash by which restic cuts files: a Rabin fingerprint of the last 64 bytes (restic's `chunker`; M. Rabin,
//! *Fingerprinting by Random Polynomials*, 1981).
//!
//! One step depends on the one before it, so a processor spends most of its time waiting. The hash at a position depends on
//! nothing but the window before it, though: here four parts of the content are hashed in turns, and the steps of one fill the
//! waits of the others.

use rustic_cdc::{Polynom as _, Polynom64, Rabin64};

/// Length of the window.
pub(super) const WINDOW: usize = 64;
/// Parts that are hashed in turns.
const LANES: usize = 4;
/// A part must be much longer than a window, which is hashed once more for each part.
const SHORTEST_LANE: usize = 16 * WINDOW;

/// The tables of one polynomial.
#[derive(Clone)]
pub(super) struct RollingHash {
    /// The contribution of a byte that leaves the window.
    leaving: Box<[u64; 256]>,
    /// The reduction of the bits that leave the hash.
    reduced: Box<[u64; 256]>,
    shift: u32,
}

impl RollingHash {
    pub(super) fn new(polynomial: Polynom64) -> Self {
        let shift = u32::try_from(polynomial.degree() - 8).unwrap_or_default();
        Self {
            leaving: Box::new(Rabin64::calculate_out_table(WINDOW, &polynomial)),
            reduced: Box::new(Rabin64::calculate_mod_table(&polynomial)),
            shift,
        }
    }

    fn append(&self, hash: u64, byte: u8) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "the low byte is meant")]
        let index = (hash >> self.shift) as u8;
        (hash << 8 | u64::from(byte)) ^ self.reduced[usize::from(index)]
    }

    fn slide(&self, hash: u64, leaving: u8, entering: u8) -> u64 {
        self.append(hash ^ self.leaving[usize::from(leaving)], entering)
    }

    /// The hash of the window before a position.
    fn before(&self, content: &[u8], position: usize) -> u64 {
        let window = &content[position - WINDOW..position];
        window.iter().fold(0, |hash, byte| self.append(hash, *byte))
    }

    /// Returns the first position from `from` to `until`, both included, before which the bits of `mask` of the hash are 0.
    /// `from` is at least [`WINDOW`].
    pub(super) fn find(
        &self,
        content: &[u8],
        from: usize,
        until: usize,
        mask: u64,
    ) -> Option<usize> {
        if self.before(content, from) & mask == 0 {
            return Some(from);
        }
        let lane = (until - from) / LANES;
        if lane < SHORTEST_LANE {
            return self.find_in_one(content, from, until, mask);
        }
        let found = self.find_in_lanes(content, from, lane, mask);
        found.or_else(|| self.find_in_one(content, from + LANES * lane, until, mask))
    }

    /// Looks at the positions after `from`, one by one.
    fn find_in_one(&self, content: &[u8], from: usize, until: usize, mask: u64) -> Option<usize> {
        let mut hash = self.before(content, from);
        let pairs = content[from - WINDOW..until].iter().zip(&content[from..until]);
        for (passed, (leaving, entering)) in pairs.enumerate() {
            hash = self.slide(hash, *leaving, *entering);
            if hash & mask == 0 {
                return Some(from + passed + 1);
            }
        }
        None
    }

    /// Looks at the positions after `from`, in as many parts of this length as there are lanes.
    fn find_in_lanes(&self, content: &[u8], from: usize, lane: usize, mask: u64) -> Option<usize> {
        let starts: [usize; LANES] = std::array::from_fn(|number| from + number * lane);
        let leaving = starts.map(|start| &content[start - WINDOW..][..lane]);
        let entering = starts.map(|start| &content[start..][..lane]);
        let mut hashes = starts.map(|start| self.before(content, start));
        let mut found = [None; LANES];
        for passed in 0..lane {
            let mut is_found = false;
            for number in 0..LANES {
                let (out, next) = (leaving[number][passed], entering[number][passed]);
                hashes[number] = self.slide(hashes[number], out, next);
                is_found |= hashes[number] & mask == 0;
            }
            if is_found {
                for number in 0..LANES {
                    if hashes[number] & mask == 0 {
                        found[number].get_or_insert(starts[number] + passed + 1);
                    }
                }
                // Nothing that follows can be before this one.
                if found[0].is_some() {
                    break;
                }
            }
        }
        found.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn the_first_position_is_found_wherever_it_is() {
        let mut random = StdRng::seed_from_u64(7);
        let hash = RollingHash::new(0x003D_A335_8B4D_C173);
        let mut content = vec![0; 200_000];
        random.fill(&mut content[..]);
        // Masks of few bits have hits everywhere, also right at the borders of the parts.
        for bits in [3, 6, 9, 12, 14, 16, 18] {
            let mask = (1_u64 << bits) - 1;
            for _ in 0..60 {
                let from = random.random_range(WINDOW..content.len());
                let until = random.random_range(from..=content.len());
                let expected = (from..=until).find(|at| hash.before(&content, *at) & mask == 0);
                assert_eq!(
                    hash.find(&content, from, until, mask),
                    expected,
                    "{bits} bits, {from} to {until}"
                );
            }
        }
    }

    #[test]
    fn it_is_the_fingerprint_that_others_compute_byte_by_byte() {
        use rustic_cdc::RollingHash64 as _;
        let polynomial = 0x003D_A335_8B4D_C173;
        let hash = RollingHash::new(polynomial);
        let content: Vec<u8> = (0..1000_u32).map(|n| (((n * n) >> 3) & 255) as u8).collect();
        let mut other = Rabin64::new_with_polynom(6, &polynomial);
        other.reset();
        for (at, byte) in content.iter().enumerate() {
            other.slide(*byte);
            if at + 1 >= WINDOW {
                assert_eq!(hash.before(&content, at + 1), other.hash, "{at}");
            }
        }
    }
}
