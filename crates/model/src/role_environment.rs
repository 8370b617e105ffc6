//! What agent and proxies get of the holder's environment: what programs need, and nothing that belongs to it alone.
//!
//! It says what passes; services get theirs from the manifest.

use std::ffi::OsString;

/// Names of variables that pass; names that end with `*` are prefixes.
const PASSES: &str =
    "PATH HOME USER LOGNAME LANG LC_* TZ TMPDIR XDG_RUNTIME_DIR RUST_BACKTRACE RUST_LOG HANDOVER_LOG";

/// Passes the original limit of open descriptors through roles to the holder that one of them may start.
pub const OPEN_FILES_VARIABLE: &str = "HANDOVER_OPEN_FILES";

/// The environment of a role, with the limit of open descriptors that services get: soft and hard.
pub fn role_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    (soft, hard): (u64, u64),
) -> Vec<(String, String)> {
    let passes = |name: &str| {
        PASSES.split(' ').any(|known| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == known,
        })
    };
    let limit = (OPEN_FILES_VARIABLE.to_owned(), format!("{soft}:{hard}"));
    let text =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, _)| passes(name)).chain([limit]).collect()
}

/// The limit that `OPEN_FILES_VARIABLE` says.
pub fn open_files_in(text: &str) -> Option<(u64, u64)> {
    let (soft, hard) = text.split_once(':')?;
    Some((soft.parse().ok()?, hard.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_get_the_few_variables_they_need_and_the_original_limit() {
        let all = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("NOTIFY_SOCKET", "/x"),
            ("LISTEN_FDS", "1"),
            ("SECRET", "s"),
        ];
        let all = all.into_iter().map(|(name, value)| (name.into(), value.into()));
        let names: Vec<String> =
            role_environment(all, (1024, 4096)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "LC_ALL", OPEN_FILES_VARIABLE]);
        assert_eq!(open_files_in("1024:4096"), Some((1024, 4096)));
        assert_eq!(open_files_in("1024"), None);
    }
}
