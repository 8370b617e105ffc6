//! The word someone probably meant.

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
