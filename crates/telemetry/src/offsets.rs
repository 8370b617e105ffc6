//! Where reading stood: a small file that a restarted collector goes on from.
//!
//! One line each: `OFFSET NAME`. It is written at most once a second, so it may lag; what was taken after it
//! was freed behind the reader and reads as zeros, which the reader skips. A line that is not understood is
//! ignored: at worst a few lines of output appear twice in a log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// By file name.
pub type Offsets = BTreeMap<String, u64>;

/// The file's text.
pub fn encode(offsets: &Offsets) -> String {
    let mut text = String::new();
    for (name, offset) in offsets {
        let _ = writeln!(text, "{offset} {name}");
    }
    text
}

/// What a file's text says.
pub fn decode(text: &str) -> Offsets {
    text.lines()
        .filter_map(|line| {
            let (offset, name) = line.split_once(' ')?;
            Some((name.to_owned(), offset.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_back_and_damage_costs_only_its_line() {
        let offsets = Offsets::from([("a@1.0.out".to_owned(), 17), ("a@1.0.err".to_owned(), 0)]);
        assert_eq!(decode(&encode(&offsets)), offsets);
        assert_eq!(decode("x y\n\n5\n17 a@1.0.out"), Offsets::from([("a@1.0.out".to_owned(), 17)]));
    }
}
