//! Manifests for tests, in folders of their own.

use std::path::Path;

use super::checked::Machine;
use super::error::{ConfigError, Report, ReportStyle};
use super::{Loaded, parse};

/// A manifest that needs nothing else.
pub(crate) const SMALL: &str = "\
[listener.web]
bind = \"0.0.0.0:8080\"

[[route]]
listener = \"web\"
service = \"hello\"

[service.hello]
release = \"releases/v1\"
command = [\"./hello\"]
instances = 2
";

/// A machine on which whoever runs Handover may do little.
pub(crate) const USERS: Machine = Machine {
    is_root: false,
    account: |_, _| Err("it is not asked".to_owned()),
    memory: || Err("no cgroup of its own".to_owned()),
    open_files: 4096,
};

/// A machine on which everything is granted; the only user is `www-data`, the only group `adm`.
pub(crate) const ROOTS: Machine = Machine {
    is_root: true,
    account: |user, group| match (user, group) {
        ("www-data", None | Some("adm")) => Ok(()),
        ("www-data", Some(group)) => Err(format!("there is no group `{group}`")),
        _ => Err(format!("there is no user `{user}`")),
    },
    memory: || Ok(()),
    open_files: u64::MAX,
};

/// Checks `text` as `handover.toml` in `folder`, with its releases there.
pub(crate) fn check(folder: &Path, text: &str) -> Result<Loaded, ConfigError> {
    check_on(USERS, folder, text)
}

/// The same on that machine.
pub(crate) fn check_on(machine: Machine, folder: &Path, text: &str) -> Result<Loaded, ConfigError> {
    for version in ["v1", "v2"] {
        let release = folder.join("releases").join(version);
        std::fs::create_dir_all(&release).unwrap();
        std::fs::write(release.join("hello"), "").unwrap();
        host::folder::set_rights(&release.join("hello"), true).unwrap();
    }
    parse(&folder.join("handover.toml"), text.to_owned(), Some(folder.join("state")), machine)
}

/// The small manifest, with more keys of its service.
pub(crate) fn hello(folder: &Path, more: &str) -> Loaded {
    check(folder, &format!("{SMALL}{more}\n")).unwrap()
}

/// What is wrong with `text`.
pub(crate) fn wrong(text: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    match check(folder.path(), text) {
        Err(ConfigError::Wrong(report)) => report,
        other => panic!("it should be wrong: {other:?}"),
    }
}

/// The messages, help and marked text of what is wrong with the small manifest and `more`.
pub(crate) fn wrong_with(more: &str) -> String {
    said(&wrong(&format!("{SMALL}{more}\n")))
}

/// Each problem on a line: `KEY "TEXT": MESSAGE [LABEL] -> HELP`.
pub(crate) fn said(report: &Report) -> String {
    let lines: Vec<String> = report
        .problems
        .iter()
        .map(|problem| {
            let (text, label) = match problem.labels.first() {
                Some((span, label)) => (&report.source[span.clone()], label.as_str()),
                None => ("", ""),
            };
            let help = problem.help.as_deref().unwrap_or("");
            format!("{} <{text}>: {} [{label}] -> {help}", problem.key, problem.message)
        })
        .collect();
    lines.join("\n")
}

/// How the report looks in a pipe, with the folder's name taken out.
pub(crate) fn plain(report: &Report) -> String {
    let folder = report.path.parent().unwrap().display().to_string();
    report.render(ReportStyle::Plain).replace(&format!("{folder}/"), "")
}
