//! Another user needs a logon there, which is not there yet.

use std::io;

use super::Account;

pub(super) fn lookup(_: &str, _: Option<&str>) -> io::Result<Account> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "running as another user is not supported on Windows yet"))
}

pub(super) fn is_root() -> bool {
    false
}

pub(super) fn own_user() -> u32 {
    0
}
