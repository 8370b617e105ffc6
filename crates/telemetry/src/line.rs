//! Cutting bytes into lines.
//!
//! Pure: given what a file holds from the beginning of a line on, it says which lines are whole and how many
//! bytes they take. What is left is simply read again later, so nobody keeps half a line in memory.

use std::borrow::Cow;

use memchr::memchr;

/// Longest line; a longer one is cut here and goes on in the next.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The first line in `bytes`, without its end, and how many bytes it takes with it; `None` while it may go on.
///
/// With `last` no more bytes will come: what has no line end yet is a line too.
pub fn next(bytes: &[u8], last: bool) -> Option<(&[u8], usize)> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let (text, used) = match memchr(b'\n', window) {
        Some(end) => (&window[..end], end + 1),
        None if bytes.len() >= LINE_BYTES_MAX => {
            let cut = character_boundary(window);
            (&window[..cut], cut)
        }
        None if last && !window.is_empty() => (window, window.len()),
        None => return None,
    };
    Some((text.strip_suffix(b"\r").unwrap_or(text), used))
}

/// Calls `line` for each line in `bytes`, without its end, and says how many bytes they took.
pub fn take(bytes: &[u8], last: bool, mut line: impl FnMut(&[u8])) -> usize {
    let mut taken = 0;
    while let Some((text, used)) = next(&bytes[taken..], last) {
        line(text);
        taken += used;
    }
    taken
}

/// Where to cut `window` so that a UTF-8 character is not halved; at most three bytes before its end.
fn character_boundary(window: &[u8]) -> usize {
    let end = window.len();
    for back in 1..=3.min(end) {
        let byte = window[end - back];
        let width = match byte {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => return end,
        };
        return if width > back && back < end { end - back } else { end };
    }
    end
}

/// The text of a line: what is not UTF-8 is replaced by U+FFFD, and a NUL, which no log viewer shows, by U+2400.
pub fn text(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if memchr(0, text.as_bytes()).is_none() { text } else { Cow::Owned(text.replace('\0', "\u{2400}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], last: bool) -> (usize, Vec<String>) {
        let mut all = Vec::new();
        let taken = take(bytes, last, |line| all.push(text(line).into_owned()));
        (taken, all)
    }

    #[test]
    fn whole_lines_are_taken_and_the_rest_is_left() {
        assert_eq!(lines(b"one\r\ntwo\n\nthr", false), (10, vec!["one".into(), "two".into(), String::new()]));
        assert_eq!(lines(b"thr", false), (0, vec![]));
        assert_eq!(lines(b"thr", true), (3, vec!["thr".into()]));
        assert_eq!(lines(b"", true), (0, vec![]));
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_limit_and_loses_nothing() {
        let mut long = vec![b'x'; LINE_BYTES_MAX - 1];
        long.extend_from_slice("äöü".as_bytes());
        long.extend(vec![b'y'; LINE_BYTES_MAX]);
        long.push(b'\n');
        let (taken, all) = lines(&long, false);
        assert_eq!(taken, long.len());
        assert!(all.iter().all(|line| line.len() <= LINE_BYTES_MAX && !line.contains('\u{FFFD}')));
        assert_eq!(all.concat().len(), long.len() - 1);
    }

    #[test]
    fn what_is_not_text_is_kept_lossily() {
        assert_eq!(lines(b"a\xFFb\0c\n", false).1, ["a\u{FFFD}b\u{2400}c"]);
        let (taken, all) = lines(&vec![0x80; LINE_BYTES_MAX + 5], true);
        assert_eq!((taken, all.len()), (LINE_BYTES_MAX + 5, 2));
    }
}
