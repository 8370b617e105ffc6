//! `cargo xtask sim`: the simulated world over many seeds.

use crate::shell;

/// Seeds when none are asked for: the full count.
const SEEDS_DEFAULT: &str = "20000";
/// How the simulation's tests learn how many seeds to run.
const SEEDS_VARIABLE: &str = "HANDOVER_SIM_SEEDS";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let seeds = match arguments {
        [] => SEEDS_DEFAULT,
        [flag, count] if flag == "--seeds" && count.parse::<u32>().is_ok_and(|n| n > 0) => count,
        _ => return Err("usage: cargo xtask sim [--seeds N]".to_owned()),
    };
    let mut cargo = shell::cargo(&["test", "--package", "sim", "--profile", "ci"]);
    shell::run(cargo.env(SEEDS_VARIABLE, seeds))
}
