//! Wall-clock time as people and log searches read it: `2026-11-22T17:00:00.123Z`.
//!
//! It deliberately knows no time zones: logs of several machines are read together.

const MS_PER_DAY: u64 = 86_400_000;

/// `ms` since 1970 in UTC, to the millisecond.
pub fn utc(ms: u64) -> String {
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let rest = ms % MS_PER_DAY;
    let (hour, minute, second, milli) =
        (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Bytes of what `utc` gives.
pub const UTC_BYTES: usize = 24;

/// What `utc` was made from, in the text that begins with it.
pub fn parse_utc(text: &str) -> Option<u64> {
    let text = text.as_bytes().get(..UTC_BYTES)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_u64, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let rest =
        number(11, 13)? * 3_600_000 + number(14, 16)? * 60_000 + number(17, 19)? * 1_000 + number(20, 23)?;
    Some(days(year, month, day)? * MS_PER_DAY + rest)
}

/// The inverse of `civil`.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// As `utc`, in the characters a file name may have everywhere: `20261122T170000Z`.
pub fn file_name(ms: u64) -> String {
    utc(ms).chars().filter(|c| !matches!(c, '-' | ':')).take(15).chain(['Z']).collect()
}

/// Year, month and day of a day number since 1970-01-01. A year is taken to begin in March, so that the leap
/// day is its last; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_the_calendar_says() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_366_800_123, "2026-11-22T17:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
            assert_eq!(parse_utc(&format!("{text} and more")), Some(ms));
        }
        assert_eq!(file_name(1_795_366_800_123), "20261122T170000Z");
    }

    #[test]
    fn what_is_no_stamp_has_no_time() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22 17:00:00.123Z",
            "2026-13-22T17:00:00.123Z",
            "x026-11-22T17:00:00.123Z",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_hundred_years_follows_the_one_before() {
        let mut before = civil(0);
        for day in 1..146_097 {
            let (year, month, date) = civil(day);
            let follows = (year, month, date) == (before.0, before.1, before.2 + 1)
                || (date == 1 && (year, month) == (before.0, before.1 + 1))
                || ((month, date) == (1, 1) && year == before.0 + 1);
            assert!(follows, "{before:?} then {:?}", (year, month, date));
            before = (year, month, date);
        }
    }
}
