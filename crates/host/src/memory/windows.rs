//! Not there yet.

use std::io;

use crate::{Descriptor, unsupported};

pub(super) fn sealed(_: &str, _: &[u8]) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn read_all(_: &Descriptor) -> io::Result<Vec<u8>> {
    unsupported()
}
