//! Not there yet.

use std::io;
use std::time::Duration;

use super::{Interest, Ready};

pub(super) fn wait(_: &[Interest], _: Duration) -> io::Result<Vec<Ready>> {
    crate::unsupported()
}
