//! A million damaged archives: none causes a panic, and none that is accepted has missing or
//! changed documents.

use std::{
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use kaleem_dr_core::ground::gzip::{GzipWriter, decompressed};

use super::{
    reader::{ReadError, read},
    sample::{Kept, everything},
};

const PLAIN: u64 = 900_000;
const REAL: u64 = 20_000;
const COMPRESSED: u64 = 80_000;

/// A small seeded generator, so that a failure can be reproduced.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let (a, b) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
        a.min(b)..a.max(b)
    }
}

/// The offsets of an archive's frames: damage at these boundaries is the hardest to detect.
fn borders(archive: &[u8]) -> Vec<usize> {
    let mut borders = vec![0, 4];
    let mut at = 4;
    while let Some(length) = archive.get(at..at + 4) {
        let length = i32::from_le_bytes(length.try_into().unwrap());
        at += if length == -1 { 4 } else { usize::try_from(length).unwrap() };
        borders.push(at);
    }
    borders
}

fn mutate(original: &[u8], borders: &[usize], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(2) {
        if bytes.is_empty() {
            break;
        }
        match random.below(10) {
            0 | 1 => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            2 => {
                let at = random.below(bytes.len());
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            3 => bytes.truncate(random.below(bytes.len())),
            4 => bytes.truncate(borders[random.below(borders.len())]),
            5 => drop(bytes.drain(random.range(&bytes.clone()))),
            // Whole frames are lost, duplicated or swapped.
            6 | 7 => {
                let (a, b) =
                    (borders[random.below(borders.len())], borders[random.below(borders.len())]);
                let range = a.min(b).min(bytes.len())..a.max(b).min(bytes.len());
                let frames: Vec<u8> = bytes[range.clone()].to_vec();
                if random.below(2) == 0 {
                    bytes.drain(range);
                }
                if random.below(2) == 0 {
                    let to = borders[random.below(borders.len())].min(bytes.len());
                    bytes.splice(to..to, frames);
                }
            }
            8 => {
                let at = random.below(bytes.len());
                let some: Vec<u8> = (0..=random.below(8))
                    .map(|_| u8::try_from(random.below(256)).unwrap())
                    .collect();
                bytes.splice(at..at, some);
            }
            // A field of a header: its value, or a length.
            _ => {
                let at =
                    (borders[random.below(borders.len())] + random.below(60)).min(bytes.len() - 1);
                bytes[at] = bytes[at].wrapping_add(if random.below(2) == 0 { 1 } else { 0xff });
            }
        }
    }
    bytes
}

/// The content of an archive, by names instead of positions, because a mutation may reorder the
/// prelude.
fn content(archive: impl io::Read) -> Option<Vec<(String, Vec<u8>)>> {
    let mut kept = Kept::default();
    match read(archive, &mut kept) {
        Ok(prelude) => {
            kept.0.resize(prelude.namespaces.len(), Vec::new());
            let mut content: Vec<_> = prelude
                .namespaces
                .iter()
                .map(super::prelude::Namespace::name)
                .zip(kept.0)
                .collect();
            content.sort();
            Some(content)
        }
        Err(ReadError::Damaged(damage)) => {
            assert!(!damage.to_string().is_empty());
            None
        }
        Err(ReadError::Contents(error)) => panic!("{error}"),
    }
}

/// Runs mutations on two threads; returns how many were accepted.
fn survive(rounds: u64, attempt: impl Fn(&mut Random) -> bool + Sync) -> u64 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let attempt = &attempt;
                scope.spawn(move || {
                    let mut taken = 0;
                    for round in 0..rounds / 2 {
                        let seed = round * 2 + thread;
                        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(&mut Random(seed))));
                        taken +=
                            u64::from(outcome.unwrap_or_else(|_| {
                                panic!("the archive of seed {seed} is a panic")
                            }));
                    }
                    taken
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn no_damage_goes_unseen(archive: &[u8], rounds: u64) {
    let original = content(archive).unwrap();
    let borders = borders(archive);
    let taken = survive(rounds, |random| {
        let mutated = mutate(archive, &borders, random);
        content(&mutated[..]).is_some_and(|content| {
            assert_eq!(content, original, "documents were lost or changed");
            true
        })
    });
    // Accepted mutations are those of a version or a metadata text, which no checksum protects.
    assert!(taken > 0 && taken < rounds / 3, "{taken} of {rounds} were taken");
}

#[test]
fn no_damage_to_a_plain_archive_goes_unseen() {
    no_damage_goes_unseen(&everything().0, PLAIN);
}

#[test]
fn no_damage_to_a_real_archive_goes_unseen() {
    no_damage_goes_unseen(include_bytes!("../../../../tests/fixtures/mongo/small.archive"), REAL);
}

#[test]
fn no_damage_to_a_compressed_archive_goes_unseen() {
    let archive = everything().0;
    let original = content(&archive[..]).unwrap();
    // Two members, as a parallel compressor writes them.
    let (head, tail) = archive.split_at(archive.len() / 2);
    let packed: Vec<u8> = [head, tail]
        .into_iter()
        .flat_map(|part| {
            let mut writer = GzipWriter::new(Vec::new());
            writer.write_all(part).unwrap();
            writer.finish().unwrap()
        })
        .collect();
    let middle = packed.windows(3).skip(1).position(|bytes| bytes == [0x1f, 0x8b, 8]).unwrap() + 1;
    let borders = [0, 10, middle, middle + 10, packed.len() - 8, packed.len()];
    survive(COMPRESSED, |random| {
        let mutated = mutate(&packed, &borders, random);
        let content = decompressed(io::Cursor::new(mutated)).ok().and_then(content);
        content.is_some_and(|content| {
            assert_eq!(content, original, "documents were lost or changed");
            true
        })
    });
}
