//! Dates of log lines; the part down to the second is made once per second.

use model::time::WallTime;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The dates of one second, as text.
#[derive(Debug)]
pub(super) struct Dates {
    second: u64,
    rfc3339: String,
    common: String,
}

impl Default for Dates {
    fn default() -> Self {
        Self { second: u64::MAX, rfc3339: String::new(), common: String::new() }
    }
}

impl Dates {
    fn follow(&mut self, second: u64) {
        if self.second != second {
            self.second = second;
            (self.rfc3339, self.common) = to_the_second(second);
        }
    }

    /// `2026-01-31T12:00:00.042Z`
    pub(super) fn write_rfc3339(&mut self, time: WallTime, out: &mut Vec<u8>) {
        let millis = time.0 % 1_000;
        self.follow(time.0 / 1_000);
        out.extend_from_slice(self.rfc3339.as_bytes());
        let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }

    /// `31/Jan/2026:12:00:00 +0000`
    pub(super) fn write_common(&mut self, time: WallTime, out: &mut Vec<u8>) {
        self.follow(time.0 / 1_000);
        out.extend_from_slice(self.common.as_bytes());
    }
}

/// Both forms for seconds since 1970 (days to civil date as in Hinnant's chrono algorithms).
fn to_the_second(second: u64) -> (String, String) {
    let (days, rest) = (second / 86_400 + 719_468, second % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let name = usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or("???");
    (
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"),
        format!("{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_edges() {
        let rfc3339 = |second| to_the_second(second).0;
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(rfc3339(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00");
        assert_eq!(to_the_second(1_769_860_800).1, "31/Jan/2026:12:00:00 +0000");
    }
}
