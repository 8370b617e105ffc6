//! `cargo xtask sim`: the simulated world over many seeds, or one seed again.

use crate::shell;

/// Seeds when none are asked for: the full count.
const SEEDS_DEFAULT: &str = "5000";
/// How the simulation's tests learn how many seeds to run.
const SEEDS_VARIABLE: &str = "HANDOVER_SIM_SEEDS";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let seeds = match arguments {
        [] => SEEDS_DEFAULT,
        [flag, count] if flag == "--seeds" => count,
        // Whatever else: the binary knows its options, and shows histories.
        _ => {
            let mut cargo = shell::cargo(&["run", "--quiet", "--package", "sim", "--profile", "ci", "--"]);
            return shell::run(cargo.args(arguments));
        }
    };
    if seeds.parse::<u64>().is_ok_and(|count| count > 0) {
        // The tests deal the seeds out to all cores.
        let mut cargo = shell::cargo(&["test", "--package", "sim", "--profile", "ci"]);
        shell::run(cargo.env(SEEDS_VARIABLE, seeds))
    } else {
        Err(format!("`{seeds}` is no count of seeds"))
    }
}
