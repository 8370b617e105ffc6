//! What a document says is tested, is: every test that it names exists.
//!
//! A name of a test is a sentence: small letters with at least three `_`, in backquotes. Whether the test shows
//! what the document says is for people to judge.

use std::collections::BTreeSet;

use super::{File, Finding};

/// Documents that name tests.
const DOCUMENTS: [&str; 1] = ["docs/supervision.md"];
/// A name with fewer `_` is that of a key or an option.
const UNDERSCORES_MIN: usize = 3;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs"));
    let functions: BTreeSet<&str> = sources.flat_map(|file| functions_of(&file.text)).collect();
    let mut findings = Vec::new();
    for path in DOCUMENTS {
        let Some(document) = files.iter().find(|file| file.path == path) else {
            findings.push(format!("{path} is missing"));
            continue;
        };
        for (number, line) in document.text.lines().enumerate() {
            let unknown = tests_in(line).filter(|name| !functions.contains(name));
            findings.extend(unknown.map(|name| format!("{path}:{}: there is no test `{name}`", number + 1)));
        }
    }
    findings
}

fn is_part_of_a_name(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

fn functions_of(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| rest.split(|letter| !is_part_of_a_name(letter)).next())
}

fn tests_in(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.matches('_').count() >= UNDERSCORES_MIN && word.chars().all(is_part_of_a_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_a_document_names_must_exist() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let document =
            "| `max_unavailable` | `NOTIFY_SOCKET_OF_IT_ALL` |\n| `it_is_as_said` `it_is_not_so` |\n";
        let files = [
            file("docs/supervision.md", document),
            file("docs/other.md", "`it_is_never_looked_at`\n"),
            file("tests/a.rs", "#[test]\nfn it_is_as_said() {}\nfn it_is_not_so_at_all() {}\n"),
        ];
        assert_eq!(check(&files), ["docs/supervision.md:2: there is no test `it_is_not_so`"]);
        assert_eq!(check(&files[2..]), ["docs/supervision.md is missing"]);
    }
}
