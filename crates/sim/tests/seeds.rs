//! Random histories; `HANDOVER_SIM_SEEDS` says how many. A seed that breaks a rule is printed and replays with
//! `cargo run -p sim -- --first SEED --seeds 1 --all`.

/// Parts that the seeds are dealt out to, so that they use more than one core.
const PARTS: usize = 4;

fn seeds() -> u64 {
    let text = std::env::var("HANDOVER_SIM_SEEDS").unwrap_or_default();
    text.parse().unwrap_or(if cfg!(debug_assertions) { 60 } else { 500 })
}

fn play_part(part: u64) {
    for seed in (part..seeds()).step_by(PARTS) {
        let outcome = sim::campaign::play(seed);
        if !outcome.violations.is_empty() {
            let end = outcome
                .log
                .iter()
                .position(|line| line.contains("VIOLATION"))
                .unwrap_or(outcome.log.len() - 1);
            let story = outcome.log[end.saturating_sub(80)..=end].join("\n");
            panic!("{story}\nseed {seed} broke a rule: {:#?}", outcome.violations);
        }
    }
}

#[test]
fn no_seed_of_the_first_quarter_breaks_a_rule() {
    play_part(0);
}

#[test]
fn no_seed_of_the_second_quarter_breaks_a_rule() {
    play_part(1);
}

#[test]
fn no_seed_of_the_third_quarter_breaks_a_rule() {
    play_part(2);
}

#[test]
fn no_seed_of_the_fourth_quarter_breaks_a_rule() {
    play_part(3);
}
