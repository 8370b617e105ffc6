//! Every committed input, and some made of them, breaks no promise.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz::mutate::{Numbers, corpus, mutated};
use fuzz::{TARGETS, Target};

/// Inputs made for each target; the environment may ask for more.
const MUTATIONS: usize = 20_000;
/// Of the numbers they are made with.
const SEED: u64 = 20_261_127;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[track_caller]
fn run(name: &str, target: Target, input: &[u8]) {
    let shown = || input.escape_ascii();
    assert!(catch_unwind(AssertUnwindSafe(|| target(input))).is_ok(), "{name}: {}", shown());
}

#[test]
fn what_is_in_a_corpus_breaks_no_promise() {
    for (name, target) in TARGETS {
        let files = corpus(name).unwrap();
        assert!(!files.is_empty(), "{name} has a corpus");
        files.iter().for_each(|(_, bytes)| run(name, target, bytes));
    }
}

#[test]
fn what_is_made_of_a_corpus_breaks_no_promise() {
    let count = number("HANDOVER_FUZZ_MUTATIONS").and_then(|count| usize::try_from(count).ok());
    let seed = number("HANDOVER_FUZZ_SEED").unwrap_or(SEED);
    println!("seed {seed}");
    for (name, target) in TARGETS {
        let files = corpus(name).unwrap();
        let mut numbers = Numbers::new(seed);
        for _ in 0..count.unwrap_or(MUTATIONS) {
            run(name, target, &mutated(&files, &mut numbers));
        }
    }
}
