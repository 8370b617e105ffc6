//! Clients of the end-to-end tests that are no Debian packages, installed below `target/clients`.

use std::process::Command;

use crate::shell;

/// From PyPI, into an environment of their own. kosoku has the cases of Autobahn.
const PYTHON: [&str; 3] = ["requests", "websockets", "kosoku==0.1.0"];
/// From npm.
const NODE: [&str; 1] = ["ws"];

/// Installs what is missing.
pub(crate) fn ensure() -> Result<(), String> {
    let folder = shell::root().join("target/clients");
    let marker = folder.join("installed");
    let wanted = format!("{PYTHON:?} {NODE:?}");
    if std::fs::read_to_string(&marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let python = folder.join("python");
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
    shell::run(Command::new(python.join("bin/pip")).args(["install", "--quiet"]).args(PYTHON))?;
    let mut npm = Command::new("npm");
    shell::run(
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder.join("node"))
            .args(NODE),
    )?;
    std::fs::write(&marker, wanted).map_err(|error| format!("{}: {error}", marker.display()))
}
