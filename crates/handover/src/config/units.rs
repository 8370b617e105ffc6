//! Durations, sizes and port ranges as people write them: text with a unit, and back.
//!
//! A number without its unit is never guessed at.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// No duration in a manifest may be longer: sums of them must not overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(365 * DAY);

/// Why a text is not a duration, a size or a range of ports: one sentence that says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnitError(String);

fn wrong(text: impl Into<String>) -> UnitError {
    UnitError(text.into())
}

/// Reads `500ms`, `30s`, `1.5h`, `1m30s`.
///
/// # Errors
/// Says what to write instead.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("write a number with its unit, such as \"30s\""));
    }
    let mut total_ms: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total_ms = total_ms.saturating_add(duration_piece(number, unit)?);
        rest = after;
    }
    match u64::try_from(total_ms).map(Duration::from_millis) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(wrong(format!("the longest duration is \"{}\"", show_duration(DURATION_MAX)))),
    }
}

fn duration_piece(number: &str, unit: &str) -> Result<u128, UnitError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let shape = || wrong("write a number with its unit, such as \"30s\" or \"1m30s\"");
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(shape());
    }
    let ms_per_unit: u128 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => u128::from(MINUTE) * 1000,
        "h" => u128::from(HOUR) * 1000,
        "d" => u128::from(DAY) * 1000,
        "" => {
            return Err(wrong(format!("a unit is missing: write \"{number}s\" for seconds, or ms, m, h, d")));
        }
        "us" | "µs" | "ns" => return Err(too_fine()),
        _ => return Err(wrong(format!("`{unit}` is not a unit of time: use ms, s, m, h or d"))),
    };
    // More digits than these are either too many to count or too fine to keep.
    let (Ok(whole), Ok(places)) = (whole.parse::<u64>(), u32::try_from(fraction.len())) else {
        return Ok(u128::MAX);
    };
    let (Ok(fraction), Some(scale)) = (fraction.parse::<u64>(), 10_u128.checked_pow(places)) else {
        return Err(too_fine());
    };
    let fraction_scaled = u128::from(fraction) * ms_per_unit;
    if !fraction_scaled.is_multiple_of(scale) {
        return Err(too_fine());
    }
    Ok(u128::from(whole) * ms_per_unit + fraction_scaled / scale)
}

fn too_fine() -> UnitError {
    wrong("the smallest unit is the millisecond, \"1ms\"")
}

/// The shortest exact text for a duration in whole milliseconds: `10m`, `1m30s`, `500ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, length) in [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)] {
        if seconds >= length {
            text.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    if duration.subsec_millis() > 0 {
        text.push_str(&format!("{}ms", duration.subsec_millis()));
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const SIZE_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `4096` (bytes), `64KiB`, `1GiB`.
///
/// # Errors
/// Says what to write instead.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let value: u64 = number.parse().map_err(|_not_a_number| {
        wrong("write a whole number of bytes or one with its unit, such as \"64KiB\"")
    })?;
    let unit = unit.trim();
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() || unit == "B" => 1,
        None => return Err(wrong(unknown_size_unit(number, unit))),
    };
    value.checked_mul(factor).ok_or_else(|| wrong("that is more than 16 EiB"))
}

fn unknown_size_unit(number: &str, unit: &str) -> String {
    let binary = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return format!("`{unit}` is not a unit of size: use B, KiB, MiB, GiB or TiB"),
    };
    format!("`{unit}` is not a unit of size here: write \"{number}{binary}\"")
}

/// The shortest exact text for a size.
pub(crate) fn show_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Reads `20000-29999`.
///
/// # Errors
/// Says what to write instead.
pub(crate) fn parse_ports(text: &str) -> Result<(u16, u16), UnitError> {
    let shape = || wrong("write the first and the last port, such as \"20000-29999\"");
    let (first, last) = text.split_once('-').ok_or_else(shape)?;
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(shape);
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong(format!("the first port is above the last: write \"{last}-{first}\"")));
    }
    Ok((first, last))
}

/// The text of a range of ports.
pub(crate) fn show_ports((first, last): (u16, u16)) -> String {
    format!("{first}-{last}")
}

/// Reads `20%`, `12.5%`, `0.01%` as basis points.
///
/// # Errors
/// Says what to write instead.
pub(crate) fn parse_percent(text: &str) -> Result<u32, UnitError> {
    let shape = || wrong("write a share of a hundred with its sign, such as \"20%\"");
    let number = text.trim().strip_suffix('%').ok_or_else(shape)?.trim_end();
    let basis_points = parse_decimal(number, 2).ok_or_else(shape)?;
    if basis_points > 10_000 { Err(wrong("the most is \"100%\"")) } else { Ok(basis_points) }
}

/// The shortest exact text for a share in basis points.
pub(crate) fn show_percent(basis_points: u32) -> String {
    format!("{}%", show_decimal(basis_points, 2))
}

/// A number with at most that many digits after its point, times the power of ten that makes it whole.
pub(crate) fn parse_decimal(text: &str, places: u32) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let digits = u32::try_from(fraction.len()).ok()?;
    if !is_number(whole) || !is_number(fraction) || digits > places.max(1) {
        return None;
    }
    let scale = 10_u32.checked_pow(places)?;
    let fraction =
        fraction.parse::<u32>().ok()?.checked_mul(10_u32.checked_pow(places.checked_sub(digits)?)?)?;
    whole.parse::<u32>().ok()?.checked_mul(scale)?.checked_add(fraction)
}

/// The shortest text for such a number.
pub(crate) fn show_decimal(value: u32, places: u32) -> String {
    let scale = 10_u32.pow(places);
    let width = usize::try_from(places).unwrap_or(0);
    let text = format!("{}.{:0width$}", value / scale, value % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_with_every_unit_and_combined() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("0.1s", 100),
            ("1.1s", 1_100),
            (" 2s ", 2_000),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_wrong_duration_says_what_to_write() {
        for (text, why) in [
            ("", "write a number with its unit, such as \"30s\""),
            ("30", "a unit is missing: write \"30s\" for seconds, or ms, m, h, d"),
            ("s", "write a number with its unit, such as \"30s\" or \"1m30s\""),
            ("-1s", "write a number with its unit, such as \"30s\" or \"1m30s\""),
            ("30 s", "a unit is missing: write \"30s\" for seconds, or ms, m, h, d"),
            ("3sec", "`sec` is not a unit of time: use ms, s, m, h or d"),
            ("1M", "`M` is not a unit of time: use ms, s, m, h or d"),
            ("10us", "the smallest unit is the millisecond, \"1ms\""),
            ("0.5ms", "the smallest unit is the millisecond, \"1ms\""),
            ("400d", "the longest duration is \"365d\""),
            ("1e9d", "`e` is not a unit of time: use ms, s, m, h or d"),
            ("99999999999999999999999999d", "the longest duration is \"365d\""),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn a_duration_reads_back_what_it_shows() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000, 90_061_001] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration), "{}", show_duration(duration));
        }
        assert_eq!(show_duration(Duration::from_secs(600)), "10m");
        assert_eq!(show_duration(Duration::from_millis(90_500)), "1m30s500ms");
    }

    #[test]
    fn sizes_read_with_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bytes in [0, 1, 1000, 1024, 65_536, 1 << 30, (1 << 30) + 1] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn a_wrong_size_says_what_to_write() {
        for (text, why) in [
            ("", "write a whole number of bytes or one with its unit, such as \"64KiB\""),
            ("1.5GiB", "`.5GiB` is not a unit of size: use B, KiB, MiB, GiB or TiB"),
            ("64KB", "`KB` is not a unit of size here: write \"64KiB\""),
            ("1g", "`g` is not a unit of size here: write \"1GiB\""),
            ("99999999TiB", "that is more than 16 EiB"),
        ] {
            assert_eq!(parse_size(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn shares_and_decimals_read_back_what_they_show() {
        for (text, basis_points) in
            [("0%", 0), ("100%", 10_000), ("20%", 2_000), ("12.5%", 1_250), ("0.01%", 1)]
        {
            assert_eq!(parse_percent(text), Ok(basis_points));
            assert_eq!(show_percent(basis_points), text);
        }
        for text in ["", "20", "%", "-1%", "1.%", ".5%", "0.001%", "1e1%", "99999999999%"] {
            let why = parse_percent(text).unwrap_err().to_string();
            assert_eq!(why, "write a share of a hundred with its sign, such as \"20%\"", "{text}");
        }
        assert_eq!(parse_percent("100.01%").unwrap_err().to_string(), "the most is \"100%\"");
        assert_eq!((parse_decimal("1.9", 3), parse_decimal("2", 3)), (Some(1_900), Some(2_000)));
        assert_eq!((show_decimal(1_900, 3), show_decimal(0, 3)), ("1.9".to_owned(), "0".to_owned()));
    }

    #[test]
    fn a_range_of_ports_needs_two_ports_in_order() {
        assert_eq!(parse_ports("20000-29999"), Ok((20_000, 29_999)));
        assert_eq!(parse_ports("80 - 80"), Ok((80, 80)));
        for (text, why) in [
            ("20000", "write the first and the last port, such as \"20000-29999\""),
            ("0-10", "write the first and the last port, such as \"20000-29999\""),
            ("1-65536", "write the first and the last port, such as \"20000-29999\""),
            ("30-20", "the first port is above the last: write \"20-30\""),
        ] {
            assert_eq!(parse_ports(text).unwrap_err().to_string(), why, "{text}");
        }
    }
}
