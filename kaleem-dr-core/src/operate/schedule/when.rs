//! Times of jobs as an operator writes them (`daily 03:00`), as systemd's `OnCalendar=` and as
//! cron's five fields.

mod fields;

use std::{fmt, str::FromStr};

use jiff::{
    SignedDuration, Timestamp, ToSpan as _, Zoned,
    civil::{Date, Weekday, time},
};
use serde::{Deserialize, Serialize};

use self::fields::CronFields;
use super::Zone;

const FORMS: &str = "write `daily 03:00`, `weekly sun 04:00`, `monthly 1 03:20`, `quarterly 1 03:20`, `hourly`, `every 6h`, `every 15m`, `cron 15 3 * * mon-fri` or `off`";
/// The months of quarterly jobs, as cron and systemd write them.
const QUARTERS: &str = "1,4,7,10";
const QUARTERS_PADDED: &str = "01,04,07,10";
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Times of a job, in the time zone of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum When {
    /// Never: the job is not installed.
    Off,
    /// Every few minutes, counted from the hour; a divisor of 60.
    Minutes {
        /// Minutes between two runs.
        every: u8,
    },
    /// Every few hours, counted from midnight; a divisor of 24.
    Hours {
        /// Hours between two runs.
        every: u8,
        /// Minute of the hour.
        minute: u8,
    },
    /// Once a day, at this time.
    Daily(HourMinute),
    /// Once a week, on one day at one time.
    Weekly {
        /// 0 is Sunday, as in cron.
        day: u8,
        /// Time of day.
        at: HourMinute,
    },
    /// Once a month, on one day at one time.
    Monthly {
        /// 1 to 28, so that every month has it.
        day: u8,
        /// Time of day.
        at: HourMinute,
    },
    /// In January, April, July and October, on one day at one time.
    Quarterly {
        /// 1 to 28.
        day: u8,
        /// Time of day.
        at: HourMinute,
    },
    /// The times that cron's five fields select.
    Cron(CronFields),
}

/// A time of day, in hours and minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourMinute {
    pub(super) hour: u8,
    pub(super) minute: u8,
}

impl HourMinute {
    /// A time of day; for constants and checked numbers only.
    pub(super) const fn new(hour: u8, minute: u8) -> Self {
        Self { hour, minute }
    }
}

/// An invalid time of a job.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a valid time{}; {FORMS}", .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct InvalidWhen {
    text: String,
    why: Option<String>,
}

impl fmt::Display for HourMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl FromStr for HourMinute {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (hour, minute) = text.split_once(':').ok_or(())?;
        Ok(Self {
            hour: number(hour, 0, 23).ok_or(())?,
            minute: (minute.len() == 2).then(|| number(minute, 0, 59)).flatten().ok_or(())?,
        })
    }
}

fn number(text: &str, least: u8, most: u8) -> Option<u8> {
    let plain =
        !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().filter(|number| (least..=most).contains(number))
}

fn day_of_week(text: &str) -> Option<u8> {
    let text = text.to_ascii_lowercase();
    let (short, rest) = text.split_at_checked(3)?;
    let at = DAYS.iter().position(|day| *day == short)?;
    let whole = ["day", "day", "sday", "nesday", "rsday", "day", "urday"][at];
    (rest.is_empty() || rest == whole).then(|| u8::try_from(at).ok()).flatten()
}

impl FromStr for When {
    type Err = InvalidWhen;

    fn from_str(text: &str) -> Result<Self, InvalidWhen> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = |text: &str| text.parse::<HourMinute>().ok();
        if let ["cron", fields @ ..] = &words[..] {
            let parsed =
                Self::from_cron(fields).map_or_else(|| CronFields::new(fields).map(Self::Cron), Ok);
            return parsed.map_err(|why| InvalidWhen { text: text.to_owned(), why: Some(why) });
        }
        let parsed = match words[..] {
            ["off"] => Some(Self::Off),
            ["hourly"] => Some(Self::Hours { every: 1, minute: 0 }),
            ["hourly", minute] => hours("1h", minute),
            ["every", every] => minutes(every).or_else(|| hours(every, ":00")),
            ["every", every, minute] => hours(every, minute),
            ["daily", time] => at(time).map(Self::Daily),
            ["weekly", day, time] => {
                day_of_week(day).zip(at(time)).map(|(day, at)| Self::Weekly { day, at })
            }
            ["monthly", day, time] => {
                number(day, 1, 28).zip(at(time)).map(|(day, at)| Self::Monthly { day, at })
            }
            ["quarterly", day, time] => {
                number(day, 1, 28).zip(at(time)).map(|(day, at)| Self::Quarterly { day, at })
            }
            _ => None,
        };
        parsed.ok_or_else(|| InvalidWhen { text: text.to_owned(), why: None })
    }
}

fn minutes(every: &str) -> Option<When> {
    let every = number(every.strip_suffix('m')?, 1, 30).filter(|every| 60 % every == 0)?;
    Some(When::Minutes { every })
}

fn hours(every: &str, minute: &str) -> Option<When> {
    let every = number(every.strip_suffix('h')?, 1, 12).filter(|every| 24 % every == 0)?;
    Some(When::Hours { every, minute: number(minute.strip_prefix(':')?, 0, 59)? })
}

impl TryFrom<String> for When {
    type Error = InvalidWhen;

    fn try_from(text: String) -> Result<Self, InvalidWhen> {
        text.parse()
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        when.to_string()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Minutes { every } => write!(f, "every {every}m"),
            Self::Hours { every: 1, minute: 0 } => f.write_str("hourly"),
            Self::Hours { every: 1, minute } => write!(f, "hourly :{minute:02}"),
            Self::Hours { every, minute: 0 } => write!(f, "every {every}h"),
            Self::Hours { every, minute } => write!(f, "every {every}h :{minute:02}"),
            Self::Daily(at) => write!(f, "daily {at}"),
            Self::Weekly { day, at } => write!(f, "weekly {} {at}", DAYS[usize::from(*day) % 7]),
            Self::Monthly { day, at } => write!(f, "monthly {day} {at}"),
            Self::Quarterly { day, at } => write!(f, "quarterly {day} {at}"),
            Self::Cron(fields) => write!(f, "cron {fields}"),
        }
    }
}

impl When {
    pub(super) const fn daily(hour: u8, minute: u8) -> Self {
        Self::Daily(HourMinute::new(hour, minute))
    }

    /// Once a week; 0 is Sunday.
    pub(super) const fn weekly(day: u8, hour: u8, minute: u8) -> Self {
        Self::Weekly { day, at: HourMinute::new(hour, minute) }
    }

    pub(super) const fn monthly(day: u8, hour: u8, minute: u8) -> Self {
        Self::Monthly { day, at: HourMinute::new(hour, minute) }
    }

    pub(super) const fn quarterly(day: u8, hour: u8, minute: u8) -> Self {
        Self::Quarterly { day, at: HourMinute::new(hour, minute) }
    }

    /// Longest time between two runs; `None` for never.
    #[must_use]
    pub fn longest_gap(self) -> Option<SignedDuration> {
        match self {
            Self::Off => None,
            Self::Minutes { every } => Some(SignedDuration::from_mins(every.into())),
            Self::Hours { every, .. } => Some(SignedDuration::from_hours(every.into())),
            Self::Daily(_) => Some(SignedDuration::from_hours(24)),
            Self::Weekly { .. } => Some(SignedDuration::from_hours(7 * 24)),
            Self::Monthly { .. } => Some(SignedDuration::from_hours(31 * 24)),
            Self::Quarterly { .. } => Some(SignedDuration::from_hours(92 * 24)),
            Self::Cron(fields) => fields.longest_gap_minutes().map(SignedDuration::from_mins),
        }
    }

    /// Minimum number of whole hours between two runs; `None` for never.
    #[must_use]
    pub fn hours_apart(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::Minutes { .. } => Some(0),
            Self::Hours { every, .. } => Some(every.into()),
            Self::Daily(_) => Some(24),
            Self::Weekly { .. } => Some(7 * 24),
            Self::Monthly { .. } => Some(28 * 24),
            Self::Quarterly { .. } => Some(90 * 24),
            Self::Cron(fields) => u32::try_from(fields.shortest_gap_minutes()? / 60).ok(),
        }
    }

    /// The value of systemd's `OnCalendar=` (systemd.time(7)) in a time zone; `None` for never.
    #[must_use]
    pub fn on_calendar(self, zone: &Zone) -> Option<String> {
        let calendar = match self {
            Self::Off => return None,
            Self::Minutes { every } => format!("*-*-* *:00/{every}:00"),
            Self::Hours { every: 1, minute } => format!("*-*-* *:{minute:02}:00"),
            Self::Hours { every, minute } => format!("*-*-* 00/{every}:{minute:02}:00"),
            Self::Daily(at) => format!("*-*-* {at}:00"),
            Self::Weekly { day, at } => {
                let name = DAYS[usize::from(day) % 7];
                format!("{}{} *-*-* {at}:00", name[..1].to_ascii_uppercase(), &name[1..])
            }
            Self::Monthly { day, at } => format!("*-*-{day:02} {at}:00"),
            Self::Quarterly { day, at } => format!("*-{QUARTERS_PADDED}-{day:02} {at}:00"),
            Self::Cron(fields) => fields.calendar(),
        };
        Some(format!("{calendar} {zone}"))
    }

    /// cron's five fields (crontab(5)); `None` for never.
    #[must_use]
    pub fn cron_fields(self) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Minutes { every } => Some(format!("*/{every} * * * *")),
            Self::Hours { every: 1, minute } => Some(format!("{minute} * * * *")),
            Self::Hours { every, minute } => Some(format!("{minute} */{every} * * *")),
            Self::Daily(at) => Some(format!("{} {} * * *", at.minute, at.hour)),
            Self::Weekly { day, at } => Some(format!("{} {} * * {day}", at.minute, at.hour)),
            Self::Monthly { day, at } => Some(format!("{} {} {day} * *", at.minute, at.hour)),
            Self::Quarterly { day, at } => {
                Some(format!("{} {} {day} {QUARTERS} *", at.minute, at.hour))
            }
            Self::Cron(fields) => Some(fields.to_string()),
        }
    }

    /// Parses cron's five fields, if a shorter form has the time.
    #[must_use]
    pub fn from_cron(fields: &[&str]) -> Option<Self> {
        if let [minute, hour, day, QUARTERS, "*"] = *fields {
            let at = HourMinute { hour: number(hour, 0, 23)?, minute: number(minute, 0, 59)? };
            return Some(Self::Quarterly { day: number(day, 1, 28)?, at });
        }
        let [minute, hour, day, "*", weekday] = *fields else { return None };
        if let (Some(every), "*", "*", "*") = (minute.strip_prefix("*/"), hour, day, weekday) {
            return minutes(&format!("{every}m"));
        }
        let minute = number(minute, 0, 59)?;
        let every = match hour {
            "*" => Some(1),
            hour => hour.strip_prefix("*/").and_then(|every| number(every, 1, 12)),
        };
        match (every, day, weekday) {
            (Some(every), "*", "*") if 24 % every == 0 => Some(Self::Hours { every, minute }),
            (Some(_), ..) => None,
            (None, day, weekday) => {
                let at = HourMinute { hour: number(hour, 0, 23)?, minute };
                match (day, weekday) {
                    ("*", "*") => Some(Self::Daily(at)),
                    ("*", weekday) => {
                        let day = number(weekday, 0, 7)
                            .map(|day| day % 7)
                            .or_else(|| day_of_week(weekday))?;
                        Some(Self::Weekly { day, at })
                    }
                    (day, "*") => Some(Self::Monthly { day: number(day, 1, 28)?, at }),
                    _ => None,
                }
            }
        }
    }

    /// Parses the value of `OnCalendar=`, if we support the time and it is in UTC or without a
    /// zone.
    #[must_use]
    pub fn from_calendar(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches("UTC").trim_end();
        match text {
            "hourly" => return Some(Self::Hours { every: 1, minute: 0 }),
            "daily" => return Some(Self::daily(0, 0)),
            "weekly" => return Some(Self::Weekly { day: 1, at: HourMinute::new(0, 0) }),
            "monthly" => return Some(Self::Monthly { day: 1, at: HourMinute::new(0, 0) }),
            _ => {}
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let (weekday, date, clock) = match words[..] {
            [clock] => (None, "*-*-*", clock),
            [weekday, clock] if day_of_week(weekday).is_some() => (Some(weekday), "*-*-*", clock),
            [date, clock] => (None, date, clock),
            [weekday, date, clock] => (Some(weekday), date, clock),
            _ => return None,
        };
        let clock = clock.strip_suffix(":00").filter(|short| short.contains(':')).unwrap_or(clock);
        let weekday = weekday.map(|weekday| day_of_week(weekday).ok_or(())).transpose().ok()?;
        let (hour, minute) = clock.split_once(':')?;
        match (weekday, date) {
            (None, "*-*-*") if hour == "*" && minute.contains('/') => {
                let every = minute.strip_prefix("00/").or_else(|| minute.strip_prefix("0/"))?;
                minutes(&format!("{every}m"))
            }
            (None, "*-*-*") if hour == "*" => {
                Some(Self::Hours { every: 1, minute: number(minute, 0, 59)? })
            }
            (None, "*-*-*") if hour.contains('/') => {
                let every =
                    number(hour.strip_prefix("00/").or_else(|| hour.strip_prefix("0/"))?, 1, 12)?;
                (24 % every == 0).then_some(Self::Hours { every, minute: number(minute, 0, 59)? })
            }
            (None, "*-*-*") => clock.parse().ok().map(Self::Daily),
            (Some(day), "*-*-*") => clock.parse().ok().map(|at| Self::Weekly { day, at }),
            (None, date) if date.starts_with(&format!("*-{QUARTERS_PADDED}-")) => {
                let day = number(date.rsplit('-').next()?, 1, 28)?;
                Some(Self::Quarterly { day, at: clock.parse().ok()? })
            }
            (None, date) => Some(Self::Monthly {
                day: number(date.strip_prefix("*-*-")?, 1, 28)?,
                at: clock.parse().ok()?,
            }),
            (Some(_), _) => None,
        }
    }

    /// The first run after a moment, in a time zone; `None` for never.
    #[must_use]
    pub fn next_after(self, moment: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let today = moment.to_zoned(zone.rules().clone()).date();
        // A quarter and a day contain a run of every kind, except of what cron can select.
        let longest = if matches!(self, Self::Cron(_)) { 8 * 366 } else { 93 };
        let days = (0..=longest).filter_map(|days| today.checked_add(days.days()).ok());
        days.flat_map(|day| self.runs_of(day, zone)).find(|run| *run > moment)
    }

    /// The runs of a day, in order.
    fn runs_of(self, day: Date, zone: &Zone) -> Vec<Timestamp> {
        let at = |hour: u8, minute: u8| {
            let clock = time(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
            day.to_datetime(clock)
                .to_zoned(zone.rules().clone())
                .ok()
                .map(|zoned: Zoned| zoned.timestamp())
        };
        match self {
            Self::Minutes { every } => (0..24)
                .flat_map(|hour| (0..60).step_by(usize::from(every.max(1))).map(move |m| (hour, m)))
                .filter_map(|(hour, minute)| at(hour, minute))
                .collect(),
            Self::Hours { every, minute } => (0..24)
                .step_by(usize::from(every.max(1)))
                .filter_map(|hour| at(hour, minute))
                .collect(),
            Self::Daily(daily) => at(daily.hour, daily.minute).into_iter().collect(),
            Self::Weekly { day: wanted, at: weekly } if sunday_based(day.weekday()) == wanted => {
                at(weekly.hour, weekly.minute).into_iter().collect()
            }
            Self::Monthly { day: wanted, at: monthly }
                if day.day() == i8::try_from(wanted).unwrap_or_default() =>
            {
                at(monthly.hour, monthly.minute).into_iter().collect()
            }
            Self::Quarterly { day: wanted, at: quarterly }
                if day.day() == i8::try_from(wanted).unwrap_or_default()
                    && (day.month() - 1) % 3 == 0 =>
            {
                at(quarterly.hour, quarterly.minute).into_iter().collect()
            }
            Self::Cron(fields) if fields.has_day(day) => {
                fields.times().filter_map(|(hour, minute)| at(hour, minute)).collect()
            }
            Self::Off
            | Self::Weekly { .. }
            | Self::Monthly { .. }
            | Self::Quarterly { .. }
            | Self::Cron(_) => Vec::new(),
        }
    }

    /// Minutes between two times of day, if both have one, regardless of the day.
    #[must_use]
    pub fn minutes_apart(self, other: Self) -> Option<u16> {
        let minutes = |when: Self| match when {
            Self::Daily(at)
            | Self::Weekly { at, .. }
            | Self::Monthly { at, .. }
            | Self::Quarterly { at, .. } => Some(u16::from(at.hour) * 60 + u16::from(at.minute)),
            Self::Off | Self::Minutes { .. } | Self::Hours { .. } | Self::Cron(_) => None,
        };
        let apart = minutes(self)?.abs_diff(minutes(other)?);
        Some(apart.min(24 * 60 - apart))
    }
}

fn sunday_based(day: Weekday) -> u8 {
    u8::try_from(day.to_sunday_zero_offset()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
