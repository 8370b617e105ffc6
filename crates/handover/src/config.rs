//! The manifest: where it is, what it says, what holds, and what is wrong with it.
//!
//! ```text
//! text ─ toml ─► tree with places ─ read ─► raw (typed, places) ─ checked ─► model::manifest (defaults filled in)
//!                      └──────────────┴───────────────┴─► problems, each with its place and what to do
//! ```
//! Only the command line reads the file; what checks out goes on as `wire::manifest`.

pub(crate) mod effective;
pub(crate) mod error;
pub(crate) mod nearest;
pub(crate) mod schema;
pub(crate) mod units;

mod checked;
mod defaults;
mod raw;
mod read;
mod values;

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use self::checked::{Machine, Surroundings};
use self::error::{ConfigError, Problem, Report, Severity};
use self::read::{Given, Problems, Read, Table};

/// Largest manifest that is read; larger is some other file.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What every service starts with from the environment of `handover up`, beside what its manifest names; and `LC_*`.
const INHERITED: [&str; 7] = ["PATH", "LANG", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME"];

/// Every service may see that variable of the environment of `handover up`.
pub(crate) fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with("LC_")
}

/// A manifest that holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What holds.
    pub(crate) manifest: model::manifest::Manifest,
    /// The text it came from.
    pub(crate) source: String,
    /// Its file, absolute.
    pub(crate) path: PathBuf,
    /// What is doubtful in it.
    pub(crate) warnings: Vec<Problem>,
    /// What was written, to tell it from defaults.
    raw: raw::Manifest,
}

impl Loaded {
    /// The warnings, to print.
    pub(crate) fn warnings(&self) -> Report {
        Report::new(&self.path, &self.source, self.warnings.clone())
    }

    /// Every value that holds, with where it comes from.
    pub(crate) fn effective(&self) -> Vec<effective::Section> {
        effective::sections(&self.manifest, &self.raw)
    }
}

/// The manifest's file: the named one, or `handover.toml` here, or the system's own.
///
/// # Errors
/// When none is named and none is there.
pub(crate) fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let places: Vec<PathBuf> =
        std::iter::once(PathBuf::from("handover.toml")).chain(host::places::system_manifest()).collect();
    places.iter().find(|place| place.is_file()).cloned().ok_or(ConfigError::NotFound(places))
}

/// Reads and checks the manifest at `path`.
///
/// # Errors
/// When it cannot be read, or says something wrong.
pub(crate) fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let (absolute, source) = read_file(path)?;
    parse(&absolute, source, host::places::default_state_dir(), Machine::here())
}

/// Checks a text that is to be the manifest at `path`, which is absolute and need not be there.
///
/// # Errors
/// When it says something wrong.
pub(crate) fn check_text(path: &Path, text: String) -> Result<Loaded, ConfigError> {
    parse(path, text, host::places::default_state_dir(), Machine::here())
}

/// The file's absolute path and text.
fn read_file(path: &Path) -> Result<(PathBuf, String), ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
    let absolute = std::path::absolute(path).map_err(|error| unreadable(error.to_string()))?;
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MANIFEST_BYTES_MAX {
        return Err(unreadable(format!("it has {size} bytes; a manifest has at most {MANIFEST_BYTES_MAX}")));
    }
    let source = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Ok((absolute, source))
}

/// Only where the state of the manifest at `path` lives: what is wrong elsewhere in it must not keep people from
/// asking what runs.
///
/// # Errors
/// When the file cannot be read, or its `state_dir` says something wrong.
pub(crate) fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let (absolute, source) = read_file(path)?;
    let (tree, _) = DeTable::parse_recoverable(&source);
    let mut problems = Problems::new(&source);
    let given = match tree.get_ref().get("state_dir") {
        Some(value) => Read::read_given(value, "state_dir", &mut problems),
        None => Given::Absent,
    };
    let mut problems = problems.into_found();
    let folder = absolute.parent().unwrap_or(&absolute);
    let surroundings =
        Surroundings { folder, state_dir: host::places::default_state_dir(), machine: Machine::here() };
    checked::state_dir(&given, &surroundings, &mut problems)
        .ok_or_else(|| ConfigError::Wrong(Report::new(&absolute, &source, problems)))
}

/// Checks a manifest's text as if it were in the file `path`, which is absolute.
fn parse(
    path: &Path,
    source: String,
    state_dir: Option<PathBuf>,
    machine: Machine,
) -> Result<Loaded, ConfigError> {
    let (raw, mut problems) = read_text(&source);
    let folder = path.parent().unwrap_or(path);
    let manifest = raw.as_ref().and_then(|raw| {
        let surroundings = Surroundings { folder, state_dir, machine };
        checked::check(raw, &surroundings, &mut problems)
    });
    let (Some(manifest), Some(raw)) = (manifest, raw) else {
        problems.retain(|problem| problem.severity == Severity::Error);
        return Err(ConfigError::Wrong(Report::new(path, &source, problems)));
    };
    Ok(Loaded { manifest, source, path: path.to_owned(), warnings: problems, raw })
}

/// The typed tables, unless the text is not even TOML: then only that is said.
fn read_text(source: &str) -> (Option<raw::Manifest>, Vec<Problem>) {
    let (tree, errors) = DeTable::parse_recoverable(source);
    if !errors.is_empty() {
        return (None, errors.iter().map(|error| syntax(source, error)).collect());
    }
    let mut problems = Problems::new(source);
    let raw = raw::Manifest::read_table(tree.get_ref(), "", &mut problems);
    (Some(raw), problems.into_found())
}

/// An error of TOML itself, with the mistakes that are made most.
fn syntax(source: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let line_start = source[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let line_end = source[span.start..].find('\n').map_or(source.len(), |end| span.start + end);
    let line = &source[line_start..line_end];
    let is_escape = error.message().contains("escape") || error.message().contains("unicode");
    if is_escape && line.contains('\\') {
        let message = "a backslash in double quotes begins an escape, and this is none";
        return Problem::error("", span, message).label("here").help(values::WINDOWS_PATH_HELP);
    }
    let problem = Problem::error("", span.clone(), format!("this is not TOML: {}", error.message()));
    if error.message().contains("must be quoted") {
        let bare = source.get(span).unwrap_or_default().trim();
        if !bare.is_empty() {
            return problem.help(format!("write \"{bare}\""));
        }
        return problem.help("write a value after the `=`");
    }
    if error.message().contains("leading zero") {
        let digits: String = source[span.start..].chars().take_while(char::is_ascii_digit).collect();
        return problem.help(format!("write it as text: \"{digits}\""));
    }
    if error.message().contains("duplicate key") {
        return problem.label("a second time").help("each key and each table once; routes are [[route]]");
    }
    problem
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_services;
#[cfg(test)]
mod tests_traffic;
