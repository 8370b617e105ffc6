//! libFuzzer's way into the target `client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::client(input));
