//! Nobody is killed for memory there: allocations fail.

use std::path::Path;

#[derive(Debug)]
pub(super) struct Killings;

impl Killings {
    pub(super) fn watch() -> Self {
        Self
    }

    pub(super) fn include(&mut self, _: Option<&Path>, _: u32) -> bool {
        false
    }
}
