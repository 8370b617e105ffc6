//! Foreign bytes inside quotes: what could end the quotes, the line, or the text's encoding is written otherwise.
//!
//! Nearly everything is clean and copied in one piece; the rest goes byte by byte.

/// How a byte that cannot stay is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `%1B`: in a URL it could only stand so.
    Percent,
    /// `\x1B`, as Apache and nginx do.
    Backslash,
}

/// Appends `bytes`, at most `bytes_max` of them.
#[inline]
pub(super) fn escape(bytes: &[u8], bytes_max: usize, style: Style, out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    // Without an early end the compiler looks at many at once.
    let dirty = bytes.iter().fold(false, |dirty, byte| dirty | !is_clean(*byte));
    if dirty { escape_each(bytes, style, out) } else { out.extend_from_slice(bytes) }
}

#[inline]
const fn is_clean(byte: u8) -> bool {
    byte.wrapping_sub(b' ') < 0x5f && byte != b'"' && byte != b'\\'
}

#[cold]
fn escape_each(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            byte if is_clean(*byte) => out.push(*byte),
            byte => {
                out.extend_from_slice(match style {
                    Style::Percent => b"%",
                    Style::Backslash => b"\\x",
                });
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
}

/// `"name":"value"`, to be put into lines as it is. Names are ours.
pub(crate) fn field(name: &str, value: &str) -> String {
    let mut out = format!("\"{name}\":\"").into_bytes();
    escape(value.as_bytes(), usize::MAX, Style::Percent, &mut out);
    out.push(b'"');
    String::from_utf8(out).expect("invariant: only printable ASCII is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_could_do_harm_is_written_otherwise() {
        for byte in 0..=255_u8 {
            for style in [Style::Percent, Style::Backslash] {
                let mut out = Vec::new();
                escape(&[b'a', byte, b'b'], 9, style, &mut out);
                assert!(out.iter().all(|byte| (b' '..0x7f).contains(byte)), "{byte}");
                let inner = &out[1..out.len() - 1];
                let is_quoted = inner.len() == 2 && inner[0] == b'\\' && inner[1] == byte;
                assert!(is_quoted || !inner.contains(&b'"'), "{byte}");
            }
        }
        let mut out = Vec::new();
        escape(b"\"\\\n\xff", 3, Style::Backslash, &mut out);
        assert_eq!(out, br#"\"\\\x0A"#);
        assert_eq!(field("instance", "a\"\u{e9}"), r#""instance":"a\"%C3%A9""#);
    }
}
