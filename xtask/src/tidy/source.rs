//! Rules over one Rust file: its head, its size, and the words that belong in one crate only.
//!
//! It deliberately knows no grammar: comments and texts are blanked out, and words are looked up in the rest.

use super::{File, Finding};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 800;
/// Longest `main.rs`: it starts things and decides nothing.
const MAIN_LINES_MAX: usize = 150;
/// The holder's lines of code without tests: what is almost never replaced must stay readable in one sitting.
const HOLDER_LINES_MAX: usize = 1_500;
/// Folders that may look at the operating system: the seam, and what drives real processes for tests.
const SYSTEM_FOLDERS: [&str; 3] = ["crates/host/", "tests/e2e/", "xtask/"];
/// What only those may say.
const SYSTEM_WORDS: [&str; 7] =
    ["unsafe ", "cfg(unix", "cfg(windows", "cfg(not(unix", "cfg(not(windows", "target_os", "std::os::"];
/// What nobody may leave behind. Joined here, so that this file does not break its own rule.
const BANNED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let path = &file.path;
    let mut findings = Vec::new();
    // Tests in a file of their own are part of the module above them, which says what it is.
    let is_tests = path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
    if !is_tests && !file.text.trim_start().starts_with("//!") {
        findings.push(format!("{path}: begin with `//!` and one sentence on what it is"));
    }
    let lines = file.text.lines().count();
    let is_main = path.ends_with("/main.rs");
    let lines_max = if is_main { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    if lines > lines_max {
        findings.push(format!("{path}: {lines} lines, at most {lines_max}: split it"));
    }
    if path.ends_with("/mod.rs") {
        findings.push(format!("{path}: name the file as its module, with a folder beside it"));
    }
    for word in BANNED {
        if file.text.contains(word) {
            findings.push(format!("{path}: `{word}` is not left behind"));
        }
    }
    if !SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        findings.extend(system_words(file));
    }
    findings
}

fn system_words(file: &File) -> Vec<Finding> {
    let code = code_of(&file.text);
    let mut findings = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in SYSTEM_WORDS {
            if line.contains(word) {
                let shown = word.trim_end();
                findings.push(format!(
                    "{}:{}: `{shown}` belongs in crate `host` only",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    findings
}

/// Rules over several files together.
pub(super) fn check_totals(files: &[File]) -> Vec<Finding> {
    let holder = files.iter().filter(|file| file.path.starts_with("crates/holder/src/"));
    let lines: usize = holder.map(|file| lines_of_code(&file.text)).sum();
    let over = lines > HOLDER_LINES_MAX;
    over.then(|| format!("crates/holder: {lines} lines of code without tests, at most {HOLDER_LINES_MAX}"))
        .into_iter()
        .collect()
}

/// Lines that are neither blank nor comment, up to the tests.
fn lines_of_code(text: &str) -> usize {
    let ours = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).map(str::trim);
    ours.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The text with comments and the insides of literals blanked out; lines stay where they are.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(bytes, at);
        if end > at {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(if bytes[at].is_ascii() { char::from(bytes[at]) } else { ' ' });
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return find(bytes, at + 2, b"*/");
    }
    if rest.starts_with(b"r\"") || rest.starts_with(b"r#") {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let mut closing = vec![b'"'];
            closing.extend(std::iter::repeat_n(b'#', hashes));
            return find(bytes, at + 2 + hashes, &closing);
        }
    }
    if rest[0] == b'"' {
        return quoted_end(bytes, at, b'"');
    }
    // A character literal, not a lifetime.
    if rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || rest.get(2) == Some(&b'\'')) {
        return quoted_end(bytes, at, b'\'');
    }
    at
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let rest = &bytes[from.min(bytes.len())..];
    rest.windows(what.len())
        .position(|window| window == what)
        .map_or(bytes.len(), |at| from + at + what.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn words_in_comments_and_texts_do_not_count() {
        let text =
            "//! unsafe {\nlet a = \"unsafe {\"; /* cfg(unix) */ let b = r#\"std::os::\"#; let c = '\"';\n";
        assert_eq!(check(&file("crates/model/src/a.rs", text)).len(), 0);
    }

    #[test]
    fn system_words_are_allowed_at_the_seam_only() {
        let text = "//! A.\n#[cfg(unix)]\nuse std::os::fd::OwnedFd;\n";
        assert_eq!(check(&file("crates/host/src/a.rs", text)).len(), 0);
        assert_eq!(check(&file("crates/proxy/src/a.rs", text)).len(), 2);
    }

    #[test]
    fn a_module_without_a_sentence_is_named() {
        assert_eq!(check(&file("crates/model/src/a.rs", "fn a() {}\n")).len(), 1);
    }

    #[test]
    fn a_main_that_grows_is_named_earlier_than_another_file() {
        let text = format!("//! A.\n{}", "\n".repeat(200));
        assert_eq!(check(&file("crates/handover/src/main.rs", &text)).len(), 1);
        assert_eq!(check(&file("crates/handover/src/cli.rs", &text)).len(), 0);
    }

    #[test]
    fn a_lifetime_is_no_text() {
        let text = "//! A.\nfn a<'a>(b: &'a str) {} #[cfg(unix)] fn c<'a>() {}\n";
        assert_eq!(check(&file("crates/model/src/a.rs", text)).len(), 1);
    }
}
