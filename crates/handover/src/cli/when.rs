//! Times as people read them in lists: UTC, like the logs.

/// `2026-11-22 17:00:00`.
pub(super) fn second(at_ms: u64) -> String {
    let stamp = telemetry::stamp::utc(at_ms);
    stamp.get(..19).unwrap_or(&stamp).replacen('T', " ", 1)
}

/// `17:00:00.123`.
pub(super) fn time(at_ms: u64) -> String {
    let stamp = telemetry::stamp::utc(at_ms);
    stamp.get(11..23).unwrap_or(&stamp).to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_cut_from_one_stamp() {
        assert_eq!(super::second(1_764_000_000_123), "2025-11-24 16:00:00");
        assert_eq!(super::time(1_764_000_000_123), "16:00:00.123");
    }
}
