//! Users and groups of this machine, by name or number.

use std::io;
use std::path::PathBuf;

#[cfg(unix)]
#[path = "account/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "account/windows.rs"]
mod system;

/// Somebody a process can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name; the number where it has none.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Group number: its own, or the one that was asked for.
    pub gid: u32,
    /// Every group it is in, `gid` among them.
    pub groups: Vec<u32>,
    /// Its home directory; `/` where it has none.
    pub home: PathBuf,
}

/// The account of a user, with another group than its own where one is named. Both are names or numbers. It may ask
/// a server of the network, and wait for it.
///
/// # Errors
/// When there is no such user or group; the text says which, and what to do.
pub fn lookup(user: &str, group: Option<&str>) -> io::Result<Account> {
    system::lookup(user, group)
}

/// Whether this process may become every user.
pub fn is_root() -> bool {
    system::is_root()
}

/// The number of the user that this process acts as.
pub fn own_user() -> u32 {
    system::own_user()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = lookup("root", None).unwrap();
        assert_eq!((root.uid, root.gid, root.home.clone()), (0, 0, PathBuf::from("/root")));
        assert!(root.groups.contains(&0));
        assert_eq!(lookup("0", None).unwrap(), root);
        assert_eq!(is_root(), own_user() == 0);
    }

    #[test]
    fn another_group_takes_the_place_of_the_users_own() {
        let account = lookup("nobody", Some("1")).unwrap();
        assert_eq!(account.gid, 1);
        assert!(account.groups.contains(&1));
    }

    #[test]
    fn who_does_not_exist_is_named_with_what_to_do() {
        let text = |user, group| lookup(user, group).unwrap_err().to_string();
        assert!(text("no-such-user", None).contains("no user `no-such-user`"));
        assert!(text("no-such-user", None).contains("useradd"));
        assert!(text("root", Some("no-such-group")).contains("no group `no-such-group`"));
        assert!(text("4000123", None).contains("4000123") && text("4000123", None).contains("`group`"));
        assert!(text("", None).contains("empty"));
        let unnamed = lookup("4000123", Some("4000124")).unwrap();
        assert_eq!((unnamed.uid, unnamed.gid, unnamed.groups), (4_000_123, 4_000_124, vec![4_000_124]));
    }
}
