//! libFuzzer's way into the target `files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::files(input));
