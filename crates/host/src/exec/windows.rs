//! Not there yet.

use super::Setup;

pub(super) fn become_program(setup: &Setup) -> String {
    format!("cannot start {}: not supported on Windows yet", setup.program)
}
