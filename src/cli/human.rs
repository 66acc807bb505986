//! Sizes, ages and times for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `0 B`, `999 B`, `31.4 MB`: three digits at most, powers of ten as in the sizes that registries show.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut unit = 1000u128;
    let mut at = 0;
    // 999.95 and more would round up to 1000.0.
    while at + 1 < UNITS.len() && u128::from(count) * 20 >= unit * 19_999 {
        unit *= 1000;
        at += 1;
    }
    let tenths = (u128::from(count) * 10 + unit / 2) / unit;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[at])
}

/// `12 seconds`, `3 minutes`, `2 days`: the largest whole unit.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..2_678_400 => (seconds / 86_400, "day"),
        2_678_400..31_536_000 => (seconds / 2_629_746, "month"),
        _ => (seconds / 31_556_952, "year"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `3 minutes ago`; `just now` for the last second and the future of a clock that was set back.
pub(crate) fn ago(time: SystemTime) -> String {
    match SystemTime::now().duration_since(time) {
        Ok(age) if age.as_secs() > 0 => format!("{} ago", duration(age)),
        _ => "just now".to_owned(),
    }
}

/// RFC 3339 in UTC, `2026-11-22T10:00:00Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The date of a day number since 1970-01-01: counts years from March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (31_449_999, "31.4 MB"),
            (999_949_999, "999.9 MB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_use_the_largest_unit() {
        for (seconds, text) in
            [(1, "1 second"), (59, "59 seconds"), (3599, "59 minutes"), (86_400, "1 day"), (40_000_000, "1 year")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(99)), "just now");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_341_600, "2026-11-22T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
