//! The word someone probably meant.

/// What other tools call a key, and what it is called here.
const CALLED_ELSEWHERE: [(&str, &str); 34] = [
    ("after", "depends_on"),
    ("args", "command"),
    ("cmd", "command"),
    ("cwd", "working_directory"),
    ("directory", "working_directory"),
    ("entrypoint", "command"),
    ("env_file", "environment_file"),
    ("env_vars", "environment"),
    ("exec", "command"),
    ("exec_start", "command"),
    ("exec_start_pre", "before_start"),
    ("exit_codes", "success_codes"),
    ("gid", "group"),
    ("health_check", "readiness"),
    ("healthcheck", "readiness"),
    ("listen", "bind"),
    ("logs", "output"),
    ("memory_max", "memory"),
    ("needs", "depends_on"),
    ("nofile", "open_files"),
    ("numprocs", "instances"),
    ("path_prefix", "path"),
    ("post_start", "after_ready"),
    ("post_stop", "after_exit"),
    ("pre_start", "before_start"),
    ("pre_stop", "before_stop"),
    ("program", "command"),
    ("replicas", "instances"),
    ("requires", "depends_on"),
    ("run_as", "user"),
    ("scale", "instances"),
    ("uid", "user"),
    ("workdir", "working_directory"),
    ("working_dir", "working_directory"),
];

/// The key of these that another tool calls `word`, if there is one.
pub(crate) fn called_elsewhere(word: &str, keys: &[&'static str]) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let (_, here) = CALLED_ELSEWHERE.iter().find(|(name, here)| *name == word && keys.contains(here))?;
    Some(here)
}

/// The candidate nearest to `word`, if one is near enough to be offered.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let plain = candidate.to_ascii_lowercase().replace('-', "_");
            let distance = strsim::damerau_levenshtein(&word, &plain);
            // A beginning of three letters is an abbreviation: `env`, `comm`.
            let is_abbreviation = word.len() >= 3 && (plain.starts_with(&word) || word.starts_with(&plain));
            let is_near = distance <= (word.chars().count() / 3).max(1);
            (is_near || is_abbreviation).then_some((if is_near { distance } else { usize::MAX }, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_a_stranger_none() {
        let keys = ["command", "environment", "environment_inherit", "instances", "release"];
        assert_eq!(nearest("comand", keys), Some("command"));
        assert_eq!(nearest("Command", keys), Some("command"));
        assert_eq!(nearest("env", keys), Some("environment"));
        assert_eq!(nearest("environment-inherit", keys), Some("environment_inherit"));
        assert_eq!(nearest("replicas", keys), None);
        assert_eq!(nearest("http", ["stop", "mode"]), None);
        assert_eq!(nearest("wbe", ["web"]), Some("web"));
    }
}
