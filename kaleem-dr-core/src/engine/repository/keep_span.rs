//! Spans of time in retention rules, as restic writes them: `2y5m7d3h`.

use std::{fmt, str::FromStr};

use jiff::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span such as `14d` or `1y6m`: years, months, weeks, days and hours, each at most once and in this order.
///
/// `m` is a month, as in restic; there are no minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KeepSpan {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

impl KeepSpan {
    pub(crate) fn span(self) -> Span {
        Span::new()
            .years(self.years)
            .months(self.months)
            .weeks(self.weeks)
            .days(self.days)
            .hours(self.hours)
    }
}

impl FromStr for KeepSpan {
    type Err = InvalidKeepSpan;

    fn from_str(text: &str) -> Result<Self, InvalidKeepSpan> {
        let invalid = || InvalidKeepSpan(text.to_owned());
        let mut counts = [0u16; 5];
        let mut next_unit = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            // At most four digits: jiff's spans are limited to 19,998 years, and no sum here reaches that.
            let number: u16 =
                rest[..digits].parse().ok().filter(|number| *number <= 9999).ok_or_else(invalid)?;
            let unit = rest[digits..].chars().next().ok_or_else(invalid)?;
            let at = "ymwdh".find(unit).filter(|at| *at >= next_unit).ok_or_else(invalid)?;
            counts[at] = number;
            next_unit = at + 1;
            rest = &rest[digits + 1..];
        }
        let [years, months, weeks, days, hours] = counts;
        if counts == [0; 5] {
            Err(invalid())
        } else {
            Ok(Self { years, months, weeks, days, hours })
        }
    }
}

impl fmt::Display for KeepSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

impl TryFrom<String> for KeepSpan {
    type Error = InvalidKeepSpan;

    fn try_from(text: String) -> Result<Self, InvalidKeepSpan> {
        text.parse()
    }
}

impl From<KeepSpan> for String {
    fn from(span: KeepSpan) -> Self {
        span.to_string()
    }
}

/// A text that is not a span of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a span of time; write years, months, weeks, days and hours as in `2y5m`, `14d` or `36h`"
)]
pub struct InvalidKeepSpan(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_restic_reads_them() {
        let span: KeepSpan = "2y5m7d3h".parse().unwrap();
        assert_eq!((span.years, span.months, span.weeks, span.days, span.hours), (2, 5, 0, 7, 3));
        assert_eq!(span.to_string(), "2y5m7d3h");
        for bad in ["", "5", "d", "0d", "3h7d", "1d1d", "1mo", "-1d", "99999d", "1 d", "1D", "7é"]
        {
            assert!(bad.parse::<KeepSpan>().is_err(), "{bad}");
        }
    }
}
