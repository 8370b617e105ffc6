//! The demo: what a newcomer runs first has to hold on any machine.

use std::process::{Command, Stdio};

use e2e::sandbox;

#[test]
fn the_demo_loses_no_request_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // Each of its steps has a limit of its own.
    let ran = Command::new(sandbox::handover())
        .args(["demo", "--json"])
        .env("TMPDIR", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    let receipt: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(receipt["lost"], 0, "{receipt}");
    assert!(receipt["requests"].as_u64().unwrap() > 100, "{receipt}");
    let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
    let left: Vec<_> = left.filter(|path| !path.ends_with("handover")).collect();
    assert!(left.is_empty(), "{left:?}");
}
