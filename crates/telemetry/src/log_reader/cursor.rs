//! Where an answer ended, as a short text that clients pass back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// After which line of which file reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Names the file whatever it is called by now.
    pub(super) file: u64,
    /// Bytes of it that were seen.
    pub(super) offset: u64,
}

/// A place in the logs: `SERVICE.FILE.OFFSET`, numbers in hex, for each service with a log, joined by `~`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub(super) BTreeMap<String, Place>);

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in the logs; use the cursor of an earlier answer, or none")]
pub struct NoCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (service, Place { file, offset })) in self.0.iter().enumerate() {
            let joint = if at > 0 { "~" } else { "" };
            write!(f, "{joint}{service}.{file:x}.{offset:x}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let place = |part: &str| {
            let mut words = part.split('.');
            let service = words.next()?.to_owned();
            let file = u64::from_str_radix(words.next()?, 16).ok()?;
            let offset = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().is_none().then_some((service, Place { file, offset }))
        };
        let parts = text.split('~').filter(|part| !part.is_empty());
        Ok(Self(parts.map(|part| place(part).ok_or(NoCursor)).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_needs_no_escapes_in_an_address() {
        let place = |file, offset| Place { file, offset };
        let cursor = Cursor(BTreeMap::from([
            ("shop".to_owned(), place(u64::MAX, 4711)),
            ("a-b".to_owned(), place(1, 0)),
        ]));
        let text = cursor.to_string();
        assert_eq!(text, "a-b.1.0~shop.ffffffffffffffff.1267");
        assert_eq!(text.parse(), Ok(cursor));
        assert_eq!("".parse(), Ok(Cursor::default()));
        for text in ["x", "shop.1", "shop.1.2.3", "shop.g.1"] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor));
        }
    }
}
