//! The text that selects a snapshot: `latest`, `latest~1`, `latest@TIME`, or the beginning of an id.

use std::fmt;

use jiff::Timestamp;

use super::RepositoryError;

/// The keyword for the newest snapshot.
const LATEST: &str = "latest";

/// A parsed selection of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PointSelector {
    /// One of the newest snapshots.
    Newest(Newest),
    /// The beginning of the id of a snapshot or a run.
    Id(String),
}

/// The newest snapshot, or one of those before it: `latest`, `latest~N`, `latest@TIME`, `latest@TIME~N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newest {
    /// Number of newer snapshots to pass over.
    pub back: usize,
    /// The latest permitted time of the snapshot; `None` for any time.
    pub until: Option<Timestamp>,
}

impl PointSelector {
    /// Parses a selection. A time is in RFC 3339, with its zone.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidPoint`] if a number or a time is invalid, or follows an id.
    pub fn parse(text: &str) -> Result<Self, RepositoryError> {
        let invalid = |why: &str| RepositoryError::InvalidPoint {
            wanted: text.to_owned(),
            why: why.to_owned(),
        };
        let Some(rest) = text.strip_prefix(LATEST) else {
            return if text.contains(['~', '@']) {
                Err(invalid("`~N` and `@TIME` follow `latest` or the name of a source, not an id"))
            } else {
                Ok(Self::Id(text.to_owned()))
            };
        };
        let (time, back) = match rest.split_once('~') {
            Some((time, back)) => (time, Some(back)),
            None => (rest, None),
        };
        let back = match back {
            Some(back) => back.parse().map_err(|_| invalid("a number follows `~`: `latest~1`"))?,
            None => 0,
        };
        let until = match time.strip_prefix('@') {
            Some(time) => Some(time.parse().map_err(|_| {
                invalid("a time with its zone follows `@`: `latest@2026-11-27T12:00:00Z`")
            })?),
            None if time.is_empty() => None,
            None => return Err(invalid("only `~N` and `@TIME` can follow `latest`")),
        };
        Ok(Self::Newest(Newest { back, until }))
    }
}

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LATEST)?;
        if let Some(until) = self.until {
            write!(f, "@{until}")?;
        }
        if self.back > 0 {
            write!(f, "~{}", self.back)?;
        }
        Ok(())
    }
}

impl Newest {
    /// Reports whether it restricts neither time nor position.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_goes_back_by_number_and_by_time() {
        let newest = |text: &str| match PointSelector::parse(text).unwrap() {
            PointSelector::Newest(newest) => newest,
            PointSelector::Id(id) => panic!("{id}"),
        };
        assert!(newest("latest").is_plain());
        assert_eq!(newest("latest~2").back, 2);
        let both = newest("latest@2026-11-27T12:00:00Z~1");
        assert_eq!((both.back, both.until), (1, "2026-11-27T12:00:00Z".parse().ok()));
        assert_eq!(both.to_string(), "latest@2026-11-27T12:00:00Z~1");
        assert_eq!(PointSelector::parse("4f3a").unwrap(), PointSelector::Id("4f3a".into()));
        for wrong in ["latest~", "latest~x", "latest@", "latest@12:00", "latest1", "4f3a~1"] {
            assert!(PointSelector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
