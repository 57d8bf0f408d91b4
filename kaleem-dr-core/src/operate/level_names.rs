//! The names of the proof levels on pages and in reports.

use crate::ground::ProofLevel;

/// A name for each level, from the lowest.
pub(super) struct LevelNames([&'static str; 4]);

pub(super) const ENGLISH: LevelNames =
    LevelNames(["stored", "readable", "parsed", "restored and equal"]);
pub(super) const ARABIC: LevelNames =
    LevelNames(["محفوظ", "مقروء", "سليم البنية", "مستعاد ومطابق"]);

impl LevelNames {
    pub(super) fn of(&self, level: ProofLevel) -> &'static str {
        match level {
            ProofLevel::Stored => self.0[0],
            ProofLevel::Readable => self.0[1],
            ProofLevel::Parsed => self.0[2],
            ProofLevel::Restored => self.0[3],
        }
    }
}
