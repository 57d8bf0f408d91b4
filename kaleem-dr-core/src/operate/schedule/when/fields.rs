//! cron's five fields (crontab(5)), for times that the shorter forms do not have: `cron 15 3 * * mon-fri`.

use std::{fmt, ops::RangeInclusive};

use super::DAYS;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Days in four years, after which the calendar's gaps repeat often enough for our purposes.
const FOUR_YEARS: i64 = 1461;

/// The times that five fields select. Each set has one bit for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronFields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
}

impl CronFields {
    /// Parses five fields. cron runs a job on the days of the month *and* on the weekdays if both are restricted, which systemd cannot
    /// express: such fields are refused.
    pub(super) fn new(fields: &[&str]) -> Result<Self, String> {
        let [minutes, hours, days, months, weekdays] = *fields else {
            return Err("cron has five fields: minute, hour, day, month, weekday".into());
        };
        let weekdays = set(weekdays, 0..=7, &DAYS, 0)?;
        let parsed = Self {
            minutes: set(minutes, 0..=59, &[], 0)?,
            hours: set(hours, 0..=23, &[], 0)?,
            days: set(days, 1..=31, &[], 0)?,
            months: set(months, 1..=12, &MONTHS, 1)?,
            // 0 and 7 are Sunday.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
        };
        if parsed.restricts_days() && parsed.restricts_weekdays() {
            return Err("the days of the month and the weekdays cannot both be restricted".into());
        }
        if parsed.longest_gap_minutes().is_none() {
            return Err("no month has such a day".into());
        }
        Ok(parsed)
    }

    fn restricts_days(&self) -> bool {
        self.days != all(1..=31)
    }

    fn restricts_weekdays(&self) -> bool {
        self.weekdays != all(0..=6)
    }

    /// Reports whether a job runs on a day.
    pub(super) fn has_day(&self, day: jiff::civil::Date) -> bool {
        let weekday = day.weekday().to_sunday_zero_offset();
        [(self.days, day.day()), (self.months, day.month()), (self.weekdays, weekday)]
            .into_iter()
            .all(|(set, value)| set >> value & 1 == 1)
    }

    /// The times of a day, in order.
    pub(super) fn times(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        let minutes = move || values(self.minutes);
        values(self.hours).flat_map(move |hour| minutes().map(move |minute| (hour, minute)))
    }

    /// Longest and shortest time between two runs, in minutes.
    fn gaps(&self) -> Option<(i64, i64)> {
        let first_day = jiff::civil::date(2023, 1, 1);
        let times: Vec<i64> =
            self.times().map(|(hour, minute)| i64::from(hour) * 60 + i64::from(minute)).collect();
        let (first, last) = (*times.first()?, *times.last()?);
        let within = times.windows(2).map(|pair| pair[1] - pair[0]);
        let (mut longest, mut shortest) =
            (within.clone().max().unwrap_or(0), within.min().unwrap_or(i64::MAX));
        let mut before: Option<i64> = None;
        let mut has_run = false;
        // Twice, so that the gap around the end is among them.
        for number in 0..FOUR_YEARS * 2 {
            let day = first_day.checked_add(jiff::Span::new().days(number)).ok()?;
            if !self.has_day(day) {
                continue;
            }
            if let Some(before) = before {
                let gap = (number - before) * 24 * 60 + first - last;
                longest = longest.max(gap);
                shortest = shortest.min(gap);
                has_run = true;
            }
            before = Some(number);
        }
        has_run.then_some((longest, shortest))
    }

    pub(super) fn longest_gap_minutes(&self) -> Option<i64> {
        Some(self.gaps()?.0)
    }

    pub(super) fn shortest_gap_minutes(&self) -> Option<i64> {
        Some(self.gaps()?.1)
    }

    /// The same for systemd (systemd.time(7)), without the zone.
    pub(super) fn calendar(&self) -> String {
        let list = |set: u64, range: RangeInclusive<u8>| {
            if set == all(range) {
                return "*".to_owned();
            }
            values(set).map(|value| format!("{value:02}")).collect::<Vec<_>>().join(",")
        };
        let weekdays = if self.restricts_weekdays() {
            let names = values(self.weekdays).map(|day| {
                let name = DAYS[usize::from(day)];
                format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..])
            });
            names.collect::<Vec<_>>().join(",") + " "
        } else {
            String::new()
        };
        format!(
            "{weekdays}*-{}-{} {}:{}:00",
            list(self.months, 1..=12),
            list(self.days, 1..=31),
            list(self.hours, 0..=23),
            list(self.minutes, 0..=59)
        )
    }
}

/// The fields with numbers only, which every cron reads.
impl fmt::Display for CronFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: u64, range: RangeInclusive<u8>| {
            if set == all(range) {
                return "*".to_owned();
            }
            values(set).map(|value| value.to_string()).collect::<Vec<_>>().join(",")
        };
        write!(
            f,
            "{} {} {} {} {}",
            list(self.minutes, 0..=59),
            list(self.hours, 0..=23),
            list(self.days, 1..=31),
            list(self.months, 1..=12),
            list(self.weekdays, 0..=6)
        )
    }
}

fn all(range: RangeInclusive<u8>) -> u64 {
    range.fold(0, |set, value| set | 1 << value)
}

fn values(set: u64) -> impl Iterator<Item = u8> + Clone {
    (0..64).filter(move |value| set >> value & 1 == 1)
}

/// One field: a list of `*`, values, ranges, and any of them with a step. Names begin at the number `first`.
fn set(text: &str, range: RangeInclusive<u8>, names: &[&str], first: u8) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not one of cron's fields");
    let value = |text: &str| {
        let at = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let named = at.and_then(|at| u8::try_from(at).ok()).map(|at| at + first);
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = || is_number.then(|| text.parse::<u8>().ok()).flatten();
        named.or_else(number).filter(|value| range.contains(value)).ok_or_else(wrong)
    };
    let mut found = 0;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => {
                (span, step.parse::<usize>().ok().filter(|step| *step > 0).ok_or_else(wrong)?)
            }
            None => (part, 1),
        };
        let (from, to) = match span.split_once('-') {
            _ if span == "*" => (*range.start(), *range.end()),
            Some((from, to)) => (value(from)?, value(to)?),
            // `5/15` runs from there to the end, as in Vixie's cron.
            None if step > 1 => (value(span)?, *range.end()),
            None => (value(span)?, value(span)?),
        };
        if from > to {
            return Err(wrong());
        }
        found |= (from..=to).step_by(step).fold(0, |set, value| set | 1 << value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> CronFields {
        CronFields::new(&text.split(' ').collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn fields_are_written_for_cron_and_systemd() {
        for (text, plain, calendar) in [
            ("15 3 * * mon-fri", "15 3 * * 1,2,3,4,5", "Mon,Tue,Wed,Thu,Fri *-*-* 03:15:00"),
            ("*/20 8-10 * * *", "0,20,40 8,9,10 * * *", "*-*-* 08,09,10:00,20,40:00"),
            ("0 3 1,15 JAN,jul *", "0 3 1,15 1,7 *", "*-01,07-01,15 03:00:00"),
            ("5/25 0 * * 7", "5,30,55 0 * * 0", "Sun *-*-* 00:05,30,55:00"),
        ] {
            let parsed = fields(text);
            assert_eq!(parsed.to_string(), plain, "{text}");
            assert_eq!(parsed.calendar(), calendar, "{text}");
            assert_eq!(fields(plain), parsed, "{text}");
        }
    }

    #[test]
    fn fields_that_mean_nothing_or_too_much_are_refused() {
        for bad in [
            "0 3 * *",
            "60 3 * * *",
            "0 24 * * *",
            "0 3 0 * *",
            "0 3 * 13 *",
            "0 3 * * 8",
            "5-1 3 * * *",
            "*/0 3 * * *",
            "a 3 * * *",
            "+1 3 * * *",
            "0 3 1 * 1",
            "0 3 30 2 *",
            ", 3 * * *",
        ] {
            assert!(CronFields::new(&bad.split(' ').collect::<Vec<_>>()).is_err(), "{bad}");
        }
    }

    #[test]
    fn gaps_are_those_of_the_calendar() {
        for (text, longest, shortest) in [
            ("0 3 * * mon-fri", 3 * 1440, 1440),
            ("0 3,15 * * *", 720, 720),
            ("0 3 31 * *", 61 * 1440, 31 * 1440),
            ("*/7 * * * *", 7, 4),
            ("0 0 29 2 *", 1461 * 1440, 1461 * 1440),
        ] {
            let parsed = fields(text);
            assert_eq!(parsed.longest_gap_minutes(), Some(longest), "{text}");
            assert_eq!(parsed.shortest_gap_minutes(), Some(shortest), "{text}");
        }
    }
}
