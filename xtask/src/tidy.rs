//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! Every rule is a function from the repository to findings; all of them run, so that one pass shows
//! everything. It deliberately repairs nothing.

mod imports;
mod promises;
mod source;
mod text;

use std::path::{Path, PathBuf};

use crate::shell;

/// Folders that hold nothing of ours.
const FOREIGN_FOLDERS: [&str; 4] = [".git", "target", "node_modules", ".handover-state"];
/// File endings that are text of ours.
const TEXT_ENDINGS: [&str; 9] = ["rs", "md", "toml", "json", "txt", "out", "sh", "py", "yml"];

/// One broken rule, as people read it: where, and what to do.
type Finding = String;

/// A file of ours.
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("tidy takes no arguments, not `{argument}`"));
    }
    let root = shell::root();
    let files = read_all(&root)?;
    let mut findings = imports::check(&root)?;
    for file in &files {
        findings.extend(text::check(file));
        if file.path.ends_with(".rs") {
            findings.extend(source::check(file));
        }
    }
    findings.extend(source::check_totals(&files));
    findings.extend(text::check_documents(&files));
    findings.extend(promises::check(&files));
    findings.extend(text::check_links(&files, |path| root.join(path).exists()));
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!("{} findings", findings.len()))
}

fn read_all(root: &Path) -> Result<Vec<File>, String> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(root).expect("invariant: found under the root");
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(File { path: relative.to_string_lossy().replace('\\', "/"), text })
    };
    paths.iter().map(read).collect()
}

fn walk(directory: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("{}: {error}", directory.display());
    for entry in std::fs::read_dir(directory).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !FOREIGN_FOLDERS.contains(&name.as_str()) {
                walk(&path, into)?;
            }
        } else if path.extension().is_some_and(|ending| TEXT_ENDINGS.iter().any(|ours| ending == *ours)) {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        run(&[]).expect("the findings are above");
    }
}
