//! getpwnam and its family.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::Account;

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn not_found(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn user_of(text: &str) -> io::Result<(Option<User>, u32)> {
    let failed = |error: nix::Error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("user `{text}` cannot be looked up: {error}"))
    };
    if let Ok(number) = text.parse() {
        return Ok((User::from_uid(Uid::from_raw(number)).map_err(failed)?, number));
    }
    let user = User::from_name(text).map_err(failed)?.ok_or_else(|| {
        not_found(format!(
            "there is no user `{text}` on this machine; make it (`useradd --system {text}`), or name another"
        ))
    })?;
    let number = user.uid.as_raw();
    Ok((Some(user), number))
}

fn group_of(text: &str) -> io::Result<u32> {
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of the group is empty"));
    }
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let found = Group::from_name(text).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("group `{text}` cannot be looked up: {error}"))
    })?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| {
        not_found(format!(
            "there is no group `{text}` on this machine; make it (`groupadd --system {text}`), or name another"
        ))
    })
}

pub(super) fn lookup(user: &str, group: Option<&str>) -> io::Result<Account> {
    if user.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of the user is empty"));
    }
    let (found, uid) = user_of(user)?;
    let group = group.map(group_of).transpose()?;
    let gid = group.or(found.as_ref().map(|user| user.gid.as_raw())).ok_or_else(|| {
        not_found(format!(
            "user number {uid} has no name here, so its group is not known; name one as `group`"
        ))
    })?;
    let mut groups = match &found {
        Some(user) => {
            let name = CString::new(user.name.as_str()).map_err(|_nul| io::ErrorKind::InvalidInput)?;
            let groups = getgrouplist(&name, Gid::from_raw(gid))?;
            groups.into_iter().map(Gid::as_raw).collect()
        }
        None => vec![gid],
    };
    groups.sort_unstable();
    groups.dedup();
    let name = found.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone());
    let home = found.map(|user| user.dir).filter(|home| home.is_absolute());
    Ok(Account { name, uid, gid, groups, home: home.unwrap_or_else(|| PathBuf::from("/")) })
}
