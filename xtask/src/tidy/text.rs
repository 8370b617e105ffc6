//! Rules over every text file, and over the documents people read first.

use super::{File, Finding};

/// Documents and their longest length in lines: what is longer is not read.
const DOCUMENTS: [(&str, usize); 6] = [
    ("README.md", 150),
    ("ARCHITECTURE.md", 250),
    ("STYLE.md", 150),
    ("HACKING.md", 150),
    ("CHANGELOG.md", 2_000),
    ("docs/lexicon.md", 200),
];
/// The document that names every crate.
const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            findings.push(format!("{}:{}: white space at the end of the line", file.path, number + 1));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(format!("{}: end the last line", file.path));
    }
    findings
}

/// Sizes of the documents, and whether the map shows every crate.
pub(super) fn check_documents(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, lines_max) in DOCUMENTS {
        match files.iter().find(|file| file.path == path) {
            None => findings.push(format!("{path} is missing")),
            Some(file) if file.text.lines().count() > lines_max => {
                findings.push(format!("{path}: {} lines, at most {lines_max}", file.text.lines().count()));
            }
            Some(_) => {}
        }
    }
    let map = files.iter().find(|file| file.path == MAP).map_or("", |file| file.text.as_str());
    // Examples are programs of others: they use Handover and are no part of it.
    let ours = files.iter().map(|file| file.path.as_str()).filter(|path| !path.starts_with("examples/"));
    for path in ours {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else { continue };
        let name = folder.rsplit('/').next().unwrap_or(folder);
        if !map.contains(&format!("`{name}`")) && !map.contains(&format!("`{folder}`")) {
            findings.push(format!("{MAP}: crate `{name}` is not on the map"));
        }
    }
    findings
}

/// Links between documents, and documents that are named, must lead somewhere.
pub(super) fn check_links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let links = file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let local = links.filter(|link| !link.is_empty() && !link.contains(':'));
        let named = file.text.split('`').filter(|word| word.starts_with("docs/") && word.ends_with(".md"));
        let from_here =
            local.map(|link| if folder.is_empty() { link.to_owned() } else { format!("{folder}/{link}") });
        for target in from_here.chain(named.map(str::to_owned)) {
            if !exists(&target) {
                findings.push(format!("{}: there is no {target}", file.path));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn white_space_at_the_end_of_a_line_is_found() {
        assert_eq!(check(&file("a.md", "a \nb\n")), ["a.md:1: white space at the end of the line"]);
        assert_eq!(check(&file("a.md", "a\nb")), ["a.md: end the last line"]);
    }

    #[test]
    fn links_that_lead_nowhere_are_named() {
        let text = "[a](b.md) [c](https://d.example/e) [f](g.md#h) `docs/i.md` `docs/j.md`\n";
        let findings =
            check_links(&[file("docs/a.md", text)], |path| ["docs/b.md", "docs/i.md"].contains(&path));
        assert_eq!(findings, ["docs/a.md: there is no docs/g.md", "docs/a.md: there is no docs/j.md"]);
    }

    #[test]
    fn a_crate_that_the_map_does_not_show_is_named() {
        let mut files: Vec<File> = DOCUMENTS.iter().map(|(path, _)| file(path, "the `model`\n")).collect();
        files.push(file("crates/model/Cargo.toml", ""));
        files.push(file("crates/util/Cargo.toml", ""));
        assert_eq!(check_documents(&files), ["ARCHITECTURE.md: crate `util` is not on the map"]);
    }
}
