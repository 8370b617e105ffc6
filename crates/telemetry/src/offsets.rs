//! What a restarted collector goes on from: a small file beside the output files.
//!
//! ```text
//!  OFFSET NAME                  where reading of that file stood
//!  ? SOURCE EXPRESSION          no line has matched yet, ! one has
//!  = SERVICE BYTES AGE FILES    how its log is kept; AGE in milliseconds, or -
//! ```
//! Offsets are written at most once a second, so they may lag; what was taken after it was freed behind the reader
//! and reads as zeros, which the reader skips. A line that is not understood is ignored: at worst a few lines of
//! output appear twice in a log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::rotate::Limits;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// By file name.
    pub offsets: BTreeMap<String, u64>,
    /// By the source's file name.
    pub expressions: BTreeMap<String, Expression>,
    /// By service.
    pub limits: BTreeMap<String, Limits>,
}

/// A line that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The regular expression.
    pub text: String,
    /// A line has matched.
    pub matched: bool,
}

impl Kept {
    /// The file's text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for (name, offset) in &self.offsets {
            let _ = writeln!(text, "{offset} {name}");
        }
        for (source, expression) in &self.expressions {
            let mark = if expression.matched { '!' } else { '?' };
            let one_line = expression.text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            let _ = writeln!(text, "{mark} {source} {one_line}");
        }
        for (service, limits) in &self.limits {
            let age = limits.file_age.map_or_else(|| "-".to_owned(), |age| age.as_millis().to_string());
            let _ = writeln!(text, "= {service} {} {age} {}", limits.file_bytes, limits.files);
        }
        text
    }

    /// What a file's text says.
    pub fn decode(text: &str) -> Self {
        let mut kept = Self::default();
        for line in text.lines() {
            let _ = kept.decode_line(line);
        }
        kept
    }

    fn decode_line(&mut self, line: &str) -> Option<()> {
        let (mark, rest) = line.split_once(' ')?;
        match mark {
            "?" | "!" => {
                let (source, text) = rest.split_once(' ')?;
                let expression = Expression { text: unescape(text), matched: mark == "!" };
                self.expressions.insert(source.to_owned(), expression);
            }
            "=" => {
                let mut words = rest.split(' ');
                let service = words.next()?.to_owned();
                let file_bytes = words.next()?.parse().ok()?;
                let file_age = match words.next()? {
                    "-" => None,
                    ms => Some(Duration::from_millis(ms.parse().ok()?)),
                };
                let files = words.next()?.parse().ok()?;
                self.limits.insert(service, Limits { file_bytes, file_age, files });
            }
            offset => {
                self.offsets.insert(rest.to_owned(), offset.parse().ok()?);
            }
        }
        Some(())
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_and_damage_costs_only_its_line() {
        let expression = |text: &str, matched| Expression { text: text.to_owned(), matched };
        let kept = Kept {
            offsets: BTreeMap::from([("a@1.0.out".to_owned(), 17), ("a@1.0.err".to_owned(), 0)]),
            expressions: BTreeMap::from([
                ("a@1.0".to_owned(), expression(r"^ready \d+$", false)),
                ("a@1.1".to_owned(), expression("a\nb\\n", true)),
            ]),
            limits: BTreeMap::from([
                ("a".to_owned(), Limits::default()),
                ("b".to_owned(), Limits { file_age: Some(Duration::from_secs(1)), ..Limits::default() }),
            ]),
        };
        assert_eq!(Kept::decode(&kept.encode()), kept);
        let offsets = BTreeMap::from([("a@1.0.out".to_owned(), 17)]);
        let damaged = "x y\n\n5\n? x\n= a 1 x 2\n17 a@1.0.out";
        assert_eq!(Kept::decode(damaged), Kept { offsets, ..Kept::default() });
    }
}
