//! Days of the calendar, for ends of life.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// A day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// The day (in UTC) of a UNIX time in seconds.
    #[must_use]
    pub fn of_unix(seconds: i64) -> Date {
        // Days are counted from 0000-03-01, so that the leap day is the last day of its year; 400 years have 146 097 days.
        let days = seconds.div_euclid(DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        // Both are in range by construction: 1..=12 and 1..=31.
        Date { year, month: u8::try_from(month).unwrap_or(1), day: u8::try_from(day).unwrap_or(1) }
    }

    /// The day of a system time, in UTC.
    #[must_use]
    pub fn of(time: SystemTime) -> Date {
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX / 2),
        };
        Date::of_unix(seconds)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = toml::value::Datetime::deserialize(deserializer)?;
        match (found.date, found.time) {
            (Some(date), None) => Ok(Date { year: i64::from(date.year), month: date.month, day: date.day }),
            _ => Err(serde::de::Error::custom("expected a date without a time, e.g. 2026-11-12")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_794_441_600, "2026-11-12"),
            (4_107_542_400, "2100-03-01"),
            (-2_203_891_200, "1900-03-01"),
        ] {
            assert_eq!(Date::of_unix(seconds).to_string(), text);
        }
        assert_eq!(Date::of(UNIX_EPOCH), Date::of_unix(0));
    }

    #[test]
    fn each_day_of_eight_centuries_follows_its_predecessor() {
        let mut last = Date::of_unix(-DAY * 150_000);
        for day in -149_999..150_000 {
            let next = Date::of_unix(day * DAY);
            let leap = next.year % 4 == 0 && (next.year % 100 != 0 || next.year % 400 == 0);
            let length = match last.month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = if last.day < length {
                Date { day: last.day + 1, ..last }
            } else if last.month < 12 {
                Date { month: last.month + 1, day: 1, ..last }
            } else {
                Date { year: last.year + 1, month: 1, day: 1 }
            };
            assert_eq!(next, expected);
            last = next;
        }
    }
}
