//! The forms of times.

use super::*;

fn when(text: &str) -> When {
    text.parse().unwrap()
}

#[test]
fn the_operators_words_are_systemds_and_crons() {
    for (text, calendar, cron) in [
        ("daily 03:00", "*-*-* 03:00:00 UTC", "0 3 * * *"),
        ("daily 3:05", "*-*-* 03:05:00 UTC", "5 3 * * *"),
        ("weekly sun 04:00", "Sun *-*-* 04:00:00 UTC", "0 4 * * 0"),
        ("weekly Wednesday 04:00", "Wed *-*-* 04:00:00 UTC", "0 4 * * 3"),
        ("monthly 1 03:20", "*-*-01 03:20:00 UTC", "20 3 1 * *"),
        ("every 5m", "*-*-* *:00/5:00 UTC", "*/5 * * * *"),
        ("hourly", "*-*-* *:00:00 UTC", "0 * * * *"),
        ("hourly :20", "*-*-* *:20:00 UTC", "20 * * * *"),
        ("every 6h", "*-*-* 00/6:00:00 UTC", "0 */6 * * *"),
        ("every 6h :15", "*-*-* 00/6:15:00 UTC", "15 */6 * * *"),
    ] {
        let parsed = when(text);
        assert_eq!(parsed.on_calendar(&Zone::default()).as_deref(), Some(calendar), "{text}");
        assert_eq!(parsed.cron_fields().as_deref(), Some(cron), "{text}");
        assert_eq!(When::from_calendar(calendar), Some(parsed), "{text}");
        assert_eq!(When::from_cron(&cron.split(' ').collect::<Vec<_>>()), Some(parsed), "{text}");
        assert_eq!(when(&parsed.to_string()), parsed, "{text}");
    }
    assert_eq!(
        (when("off").on_calendar(&Zone::default()), when("off").cron_fields()),
        (None, None)
    );
}

#[test]
fn what_is_no_time_is_refused_with_what_would_be_one() {
    for bad in [
        "",
        "daily",
        "daily 24:00",
        "daily 3",
        "daily 03:0",
        "daily +3:00",
        "weekly 03:00",
        "weekly sunny 03:00",
        "monthly 29 03:00",
        "monthly 0 03:00",
        "every 5h",
        "every 7m",
        "every 0h",
        "every 6",
        "every 24h",
        "never",
        "daily 03:00 04:00",
        "0 3 * * *",
    ] {
        let error = bad.parse::<When>().unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("daily 03:00"), "{bad}: {error}");
    }
}

#[test]
fn times_of_others_that_are_none_of_ours_are_not_guessed() {
    for fields in [
        "*/7 * * * *",
        "*/5 3 * * *",
        "0 3 1 1 *",
        "0 3 1 * 1",
        "0 3,15 * * *",
        "0 3 31 * *",
        "0 */5 * * *",
        "0 3 * *",
    ] {
        assert_eq!(When::from_cron(&fields.split(' ').collect::<Vec<_>>()), None, "{fields}");
    }
    for calendar in [
        "*-*-* 03:30:00 Europe/Berlin",
        "Mon..Fri 03:00",
        "*-1-1 03:00",
        "*:0/7",
        "03:00:30",
        "*-*-31 03:00",
    ] {
        assert_eq!(When::from_calendar(calendar), None, "{calendar}");
    }
    assert_eq!(When::from_calendar("*-*-* 03:30:00"), Some(when("daily 03:30")));
    assert_eq!(When::from_calendar("03:30"), Some(when("daily 03:30")));
    assert_eq!(When::from_calendar("Sun 03:30"), Some(when("weekly sun 03:30")));
    assert_eq!(When::from_calendar("daily"), Some(when("daily 00:00")));
}

#[test]
fn the_next_run_is_the_first_that_is_yet_to_come() {
    let now: Timestamp = "2026-01-31T03:00:00Z".parse().unwrap();
    for (text, next) in [
        ("daily 03:00", "2026-02-01T03:00:00Z"),
        ("daily 03:01", "2026-01-31T03:01:00Z"),
        ("weekly sun 04:00", "2026-02-01T04:00:00Z"),
        ("weekly sat 02:00", "2026-02-07T02:00:00Z"),
        ("monthly 28 03:20", "2026-02-28T03:20:00Z"),
        ("monthly 1 03:20", "2026-02-01T03:20:00Z"),
        ("every 15m", "2026-01-31T03:15:00Z"),
        ("hourly :30", "2026-01-31T03:30:00Z"),
        ("every 12h", "2026-01-31T12:00:00Z"),
    ] {
        assert_eq!(
            when(text).next_after(now, &Zone::default()),
            Some(next.parse().unwrap()),
            "{text}"
        );
    }
    assert_eq!(When::Off.next_after(now, &Zone::default()), None);
}

#[test]
fn times_of_day_meet_across_midnight_and_whatever_the_day() {
    assert_eq!(when("daily 03:00").minutes_apart(when("monthly 1 03:20")), Some(20));
    assert_eq!(when("daily 23:50").minutes_apart(when("daily 00:10")), Some(20));
    assert_eq!(when("hourly").minutes_apart(when("daily 00:10")), None);
}

#[test]
fn a_quarterly_time_is_written_and_read_in_every_form() {
    let quarterly = when("quarterly 2 04:20");
    assert_eq!(quarterly.to_string(), "quarterly 2 04:20");
    assert_eq!(quarterly.on_calendar(&Zone::default()).unwrap(), "*-01,04,07,10-02 04:20:00 UTC");
    assert_eq!(When::from_calendar("*-01,04,07,10-02 04:20:00 UTC"), Some(quarterly));
    assert_eq!(quarterly.cron_fields().unwrap(), "20 4 2 1,4,7,10 *");
    assert_eq!(When::from_cron(&["20", "4", "2", "1,4,7,10", "*"]), Some(quarterly));
    let next = |moment: &str| {
        quarterly.next_after(moment.parse().unwrap(), &Zone::default()).unwrap().to_string()
    };
    assert_eq!(next("2026-11-30T00:00:00Z"), "2027-01-02T04:20:00Z");
    assert_eq!(next("2027-01-02T04:20:00Z"), "2027-04-02T04:20:00Z");
}

#[test]
fn crons_own_syntax_is_read_and_becomes_a_shorter_form_where_there_is_one() {
    assert_eq!(when("cron 0 3 * * *"), when("daily 03:00"));
    let weekdays = when("cron 15 3 * * mon-fri");
    assert_eq!(weekdays.to_string(), "cron 15 3 * * 1,2,3,4,5");
    assert_eq!(when(&weekdays.to_string()), weekdays);
    assert_eq!(weekdays.hours_apart(), Some(24));
    assert_eq!(weekdays.longest_gap(), Some(SignedDuration::from_hours(72)));
    let friday: Timestamp = "2026-11-27T03:15:00Z".parse().unwrap();
    let monday: Timestamp = "2026-11-30T03:15:00Z".parse().unwrap();
    assert_eq!(weekdays.next_after(friday, &Zone::default()), Some(monday));
    let error = "cron 0 3 1 * 1".parse::<When>().unwrap_err().to_string();
    assert!(error.contains("cannot both"), "{error}");
}

#[test]
fn a_schedule_follows_its_time_zone_through_the_change_of_clocks() {
    let berlin: Zone = "Europe/Berlin".parse().unwrap();
    let nightly = when("daily 03:00");
    assert_eq!(nightly.on_calendar(&berlin).unwrap(), "*-*-* 03:00:00 Europe/Berlin");
    for (now, next) in [
        ("2026-10-24T01:00:00Z", "2026-10-25T02:00:00Z"),
        ("2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"),
        // 03:00 exists on the day that has no 02:30.
        ("2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"),
    ] {
        let now: Timestamp = now.parse().unwrap();
        assert_eq!(nightly.next_after(now, &berlin), Some(next.parse().unwrap()));
    }
    assert!("Berlin".parse::<Zone>().is_err() && "../etc/passwd".parse::<Zone>().is_err());
}
