//! libFuzzer's way into the target `instance`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::instance(input));
