//! A mutation loop without coverage, for where no libFuzzer is: seeded, so that a run can be repeated.

use std::path::{Path, PathBuf};

/// Largest input it makes.
const INPUT_BYTES_MAX: usize = 4_096;
/// Most changes at once.
const CHANGES_MAX: usize = 6;

/// Pieces of the languages that the targets read.
const WORDS: [&[u8]; 44] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b";",
    b",",
    b"0",
    b"00",
    b"\x0b",
    b"\x0c",
    b"\x85",
    b"\xa0",
    b"\xff",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:",
    b"chunked",
    b"identity",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:",
    b"Connection: close\r\n",
    b"Connection:",
    b"keep-alive",
    b"Host: a\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET / HTTP/1.1\r\n",
    b"HEAD",
    b"http://b",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff",
    b"\r\n 1",
    b"null",
    b"{",
    b"}",
    b"[]",
    b"\"",
    b"-1",
];

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.draw() % end).unwrap_or(0)
    }
}

/// The corpus of a target: every file of its folder, in the order of names.
///
/// # Errors
/// When it cannot be read.
pub fn corpus(target: &str) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        files.push((path, bytes));
    }
    files.sort();
    Ok(files)
}

/// An input made of those of the corpus.
pub fn mutated(corpus: &[(PathBuf, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let pick =
        |numbers: &mut Numbers| corpus.get(numbers.below(corpus.len())).map_or(&[][..], |(_, b)| &b[..]);
    let mut bytes = pick(numbers).to_vec();
    for _ in 0..=numbers.below(CHANGES_MAX) {
        let at = numbers.below(bytes.len() + 1);
        let end = (at + numbers.below(24)).min(bytes.len());
        match numbers.below(8) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, [u8::try_from(numbers.below(256)).unwrap_or(0)])),
            2 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            3 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            4 => {
                let other = pick(numbers);
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
            _ => drop(
                bytes.splice(at..end.min(at + numbers.below(3)), WORDS[numbers.below(WORDS.len())].to_vec()),
            ),
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}
