//! Randomness from the operating system: seeds for generators, and tokens nobody guesses.

#[cfg(unix)]
#[path = "random/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "random/windows.rs"]
mod system;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// 64 random bits.
///
/// # Panics
/// When the system gives no randomness; there is no safe way to go on.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    system::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// A secret of 32 random bytes, as 64 hex digits.
///
/// # Panics
/// When the system gives no randomness; there is no safe way to go on.
pub fn token() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    system::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_tokens_differ_and_are_64_hex_digits() {
        let (a, b) = (super::token(), super::token());
        assert_ne!(a, b);
        assert!(a.len() == 64 && a.bytes().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(super::seed(), super::seed());
    }
}
