//! Finds the end of a head in bytes that arrive in pieces, and refuses line ends that are not CRLF.
//!
//! It looks at each byte once, however small the pieces. What is in the lines is not its business.

use memchr::memchr2;

/// A line end that is not CRLF: two readers could see different lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BareLineEnd;

/// Where the search for the end of a head stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeadScan {
    at: usize,
    line_start: usize,
    first_line: Option<usize>,
}

impl HeadScan {
    /// The length of the head at the start of `bytes`, its empty line included, once it is whole. `bytes`
    /// begins where it began at the last call, and only grew.
    pub(crate) fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLineEnd> {
        while let Some(found) = memchr2(b'\r', b'\n', &bytes[self.at..]) {
            self.at += found;
            if bytes[self.at] == b'\n' {
                return Err(BareLineEnd);
            }
            match bytes.get(self.at + 1) {
                None => return Ok(None),
                Some(b'\n') => {}
                Some(_) => return Err(BareLineEnd),
            }
            let is_empty = self.at == self.line_start;
            self.at += 2;
            self.line_start = self.at;
            if is_empty {
                return Ok(Some(self.at));
            }
            self.first_line.get_or_insert(self.at);
        }
        self.at = bytes.len();
        Ok(None)
    }

    /// The length of the first line, its end included, once that was found.
    pub(crate) fn first_line(&self) -> Option<usize> {
        self.first_line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_bytes(bytes: &[u8]) -> Result<Option<usize>, BareLineEnd> {
        let mut scan = HeadScan::default();
        for end in 1..=bytes.len() {
            match scan.find_end(&bytes[..end]) {
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
        assert_eq!(HeadScan::default().find_end(bytes), Ok(Some(24)));
        assert_eq!(by_bytes(bytes), Ok(Some(24)));
    }

    #[test]
    fn bare_line_ends_are_refused_at_once() {
        for bad in [&b"GET / HTTP/1.1\n"[..], b"A\r\nB\nC", b"A\rB", b"A: \r\r\n", b"A\r\n\n"] {
            assert_eq!(HeadScan::default().find_end(bad), Err(BareLineEnd), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..20),
        ) {
            let whole = HeadScan::default().find_end(&bytes);
            let pieces = by_bytes(&bytes);
            // The pieces may show the end before the damage behind it; both never disagree on an end.
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn an_end_means_only_crlf_lines_before_it(bytes in "(a|\r\n|\r|\n){0,20}") {
            if let Ok(Some(end)) = HeadScan::default().find_end(bytes.as_bytes()) {
                let head = &bytes[..end];
                prop_assert!(head.ends_with("\r\n\r\n") || head == "\r\n");
                prop_assert!(!head.replace("\r\n", "").contains(['\r', '\n']));
            }
        }
    }
}
