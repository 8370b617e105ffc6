//! What the tests need from the system: Debian packages and the compiler's target for Windows.
//!
//! Only programs are wanted, never services: while packages are installed, the system is told not to start
//! what they bring.

use std::path::Path;
use std::process::Command;

use crate::shell;

/// Program that must be there, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 15] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("h2load", "nghttp2-client"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("go", "golang-go"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("apache2", "apache2"),
    ("chromium", "chromium"),
    ("slowhttptest", "slowhttptest"),
    ("prlimit", "util-linux"),
    ("promtool", "prometheus"),
    ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
];
/// Whom Debian's package scripts ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The target that must at least compile.
pub(crate) const WINDOWS_TARGET: &str = "x86_64-pc-windows-gnu";

/// Installs the packages whose programs are missing.
pub(crate) fn ensure_packages() -> Result<(), String> {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| shell::find_program(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if shell::find_program("apt-get").is_none() {
        return Err(format!("these packages are missing, and there is no apt-get: {}", packages.join(" ")));
    }
    if !is_root() {
        return Err(format!("these packages are missing, and only root may install them: {by_hand}"));
    }
    println!("missing: {}", packages.join(" "));
    {
        let _no_services = NoServices::begin();
        shell::run(apt_get().arg("update"))?;
        shell::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&packages))?;
    }
    let still: Vec<_> =
        PROGRAMS.iter().map(|(program, _)| *program).filter(|p| shell::find_program(p).is_none()).collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!("after `{by_hand}` still missing: {}", still.join(" ")))
    }
}

/// Adds the Windows target where the compiler has none.
pub(crate) fn ensure_windows_target() -> Result<(), String> {
    if has_windows_target() {
        return Ok(());
    }
    let line = format!("rustup target add {WINDOWS_TARGET}");
    if shell::find_program("rustup").is_none() {
        return Err(format!(
            "the compiler has no target {WINDOWS_TARGET}, and there is no rustup for `{line}`"
        ));
    }
    shell::run(Command::new("rustup").args(["target", "add", WINDOWS_TARGET]).current_dir(shell::root()))?;
    if has_windows_target() {
        Ok(())
    } else {
        Err(format!("`{line}` did not bring the target {WINDOWS_TARGET}"))
    }
}

fn has_windows_target() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", WINDOWS_TARGET]).current_dir(shell::root());
    shell::output_of(&mut rustc).is_ok_and(|directory| Path::new(directory.trim()).is_dir())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid_line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid_line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// While it lives, packages that bring a service do not start it.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Self {
        // A machine that has a policy of its own keeps it.
        if Path::new(POLICY).exists() || std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_err() {
            return Self { ours: false };
        }
        let made = Command::new("chmod").args(["755", POLICY]).status();
        if made.is_err() {
            eprintln!("{POLICY} could not be made executable: services may be started");
        }
        Self { ours: true }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && std::fs::remove_file(POLICY).is_err() {
            eprintln!("{POLICY} could not be removed again: remove it by hand");
        }
    }
}
