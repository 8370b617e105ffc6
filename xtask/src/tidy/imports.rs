//! Which crate may import which: the table of ARCHITECTURE.md as data, checked over `cargo metadata`.
//!
//! The compiler refuses an import that a crate's manifest does not name, so the manifests are all there is
//! to check. Development dependencies obey the same table, but for tools of tests.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Finding;
use crate::shell;

/// What a crate may name in its manifest beside the packages below that anyone may.
struct Rule {
    name: &'static str,
    siblings: &'static [&'static str],
    /// `None`: any package that `OWNERS` does not keep for others.
    packages: Option<&'static [&'static str]>,
}

const RULES: [Rule; 14] = [
    Rule { name: "model", siblings: &[], packages: Some(&["thiserror"]) },
    Rule {
        name: "wire",
        siblings: &["model"],
        packages: Some(&["crc32fast", "serde", "serde_json", "thiserror"]),
    },
    Rule { name: "host", siblings: &[], packages: None },
    Rule { name: "holder", siblings: &["model", "wire", "host"], packages: None },
    Rule { name: "proxy", siblings: &["model", "wire", "host"], packages: None },
    Rule { name: "telemetry", siblings: &["model", "host"], packages: None },
    Rule {
        name: "agent",
        siblings: &["model", "wire"],
        packages: Some(&["serde_json", "strsim", "thiserror", "tokio"]),
    },
    Rule { name: "drivers", siblings: &["agent", "model", "wire", "host", "telemetry"], packages: None },
    Rule { name: "admin", siblings: &["model"], packages: None },
    Rule {
        name: "handover",
        siblings: &["model", "wire", "host", "holder", "proxy", "telemetry", "agent", "drivers", "admin"],
        packages: None,
    },
    Rule { name: "sim", siblings: &["model", "wire", "agent"], packages: None },
    Rule { name: "e2e", siblings: &[], packages: Some(&["nix", "rcgen", "serde_json", "tempfile"]) },
    Rule {
        name: "fuzz",
        siblings: &["proxy", "wire"],
        packages: Some(&["crc32fast", "libfuzzer-sys", "serde"]),
    },
    Rule { name: "xtask", siblings: &[], packages: Some(&["serde_json"]) },
];

/// Packages that only these crates may name.
const OWNERS: [(&str, &[&str]); 20] = [
    ("axum", &["admin"]),
    ("clap", &["handover"]),
    ("hickory-resolver", &["drivers"]),
    ("httparse", &["proxy"]),
    ("hyper", &["admin", "handover"]),
    ("hyper-util", &["admin", "handover"]),
    ("libc", &["host"]),
    ("libfuzzer-sys", &["fuzz"]),
    ("miette", &["handover"]),
    ("nix", &["host", "e2e"]),
    ("redb", &["drivers"]),
    ("rustix", &["host"]),
    ("rcgen", &["proxy", "e2e"]),
    ("rustls", &["proxy"]),
    ("schemars", &["handover"]),
    ("strsim", &["agent", "handover"]),
    ("toml", &["handover"]),
    ("windows-sys", &["host"]),
    ("x509-parser", &["proxy"]),
    ("zeroize", &["proxy"]),
];

/// Tools of tests: any crate may have them as development dependencies.
const TEST_TOOLS: [&str; 4] = ["proptest", "rcgen", "serde_json", "tempfile"];

/// A crate's manifest as far as the rules look at it.
struct Manifest {
    name: String,
    /// Name and whether it is a development dependency.
    dependencies: Vec<(String, bool)>,
}

pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let metadata = shell::output_of(&mut shell::cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| format!("cargo metadata answered no JSON: {error}"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let manifests: Vec<Manifest> = packages.iter().map(manifest_of).collect();
    let mut findings = judge(&manifests);
    for package in &packages {
        findings.extend(check_manifest_file(root, Path::new(text(&package["manifest_path"])))?);
    }
    let root_manifest =
        std::fs::read_to_string(root.join("Cargo.toml")).map_err(|e| format!("Cargo.toml: {e}"))?;
    findings.extend(unjustified_dependencies(&root_manifest));
    Ok(findings)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn manifest_of(package: &Value) -> Manifest {
    let dependencies = package["dependencies"].as_array().cloned().unwrap_or_default();
    Manifest {
        name: text(&package["name"]).to_owned(),
        dependencies: dependencies
            .iter()
            .map(|d| (text(&d["name"]).to_owned(), d["kind"] == "dev"))
            .collect(),
    }
}

fn judge(manifests: &[Manifest]) -> Vec<Finding> {
    let rules: BTreeMap<&str, &Rule> = RULES.iter().map(|rule| (rule.name, rule)).collect();
    let mut findings = Vec::new();
    for manifest in manifests {
        let name = manifest.name.as_str();
        let Some(rule) = rules.get(name) else {
            findings
                .push(format!("crate `{name}` has no import rule: give it one in xtask/src/tidy/imports.rs"));
            continue;
        };
        for (dependency, is_dev) in &manifest.dependencies {
            let is_sibling = manifests.iter().any(|m| m.name == *dependency);
            if let Some(why) = objection(rule, dependency, *is_dev, is_sibling) {
                findings.push(format!("crate `{name}` must not import `{dependency}`: {why}"));
            }
        }
    }
    findings
}

fn objection(rule: &Rule, dependency: &str, is_dev: bool, is_sibling: bool) -> Option<String> {
    if is_sibling {
        let allowed = rule.siblings.contains(&dependency);
        return (!allowed).then(|| format!("of ours it may import [{}] only", rule.siblings.join(", ")));
    }
    if is_dev && TEST_TOOLS.contains(&dependency) {
        return None;
    }
    if let Some((_, owners)) = OWNERS.iter().find(|(package, _)| *package == dependency)
        && !owners.contains(&rule.name)
    {
        return Some(format!("that package is for [{}] only", owners.join(", ")));
    }
    let packages = rule.packages?;
    let allowed = packages.contains(&dependency);
    (!allowed).then(|| format!("of others' packages it may import [{}] only", packages.join(", ")))
}

fn check_manifest_file(root: &Path, path: &Path) -> Result<Vec<Finding>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let inherits = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    let missing = (!inherits).then(|| format!("{shown}: add `[lints]` with `workspace = true`"));
    Ok(missing.into_iter().collect())
}

/// Every dependency of the workspace says why it is there, in the comment at the head of its block.
fn unjustified_dependencies(manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    let mut justified = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            justified = false;
        } else if line.is_empty() {
            justified = false;
        } else if line.starts_with('#') {
            justified = true;
        } else if inside && !justified {
            let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
            findings.push(format!("Cargo.toml: say in a comment above `{name}` what it is for"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, dependencies: &[(&str, bool)]) -> Vec<Finding> {
        let known =
            RULES.iter().map(|rule| Manifest { name: rule.name.to_owned(), dependencies: Vec::new() });
        let mut manifests: Vec<Manifest> = known.filter(|manifest| manifest.name != name).collect();
        let dependencies = dependencies.iter().map(|(name, dev)| ((*name).to_owned(), *dev)).collect();
        manifests.push(Manifest { name: name.to_owned(), dependencies });
        judge(&manifests)
    }

    #[test]
    fn the_data_plane_may_not_import_the_control_plane() {
        assert_eq!(findings("proxy", &[("agent", false)]).len(), 1);
        assert_eq!(findings("proxy", &[("wire", false), ("tokio", false)]).len(), 0);
    }

    #[test]
    fn the_pure_core_takes_test_tools_only_for_tests() {
        assert_eq!(findings("model", &[("proptest", true)]).len(), 0);
        assert_eq!(findings("model", &[("tokio", false), ("serde", false)]).len(), 2);
        assert_eq!(findings("model", &[("serde_json", false)]).len(), 1);
    }

    #[test]
    fn a_package_with_owners_is_refused_elsewhere() {
        assert_eq!(findings("drivers", &[("rustix", false)]).len(), 1);
        assert_eq!(findings("drivers", &[("redb", false)]).len(), 0);
    }

    #[test]
    fn a_crate_without_a_rule_is_named() {
        assert_eq!(findings("util", &[]).len(), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_is_named() {
        let good = "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n";
        assert_eq!(unjustified_dependencies(good).len(), 0);
        let bad = "[workspace.dependencies]\n# Why.\na = \"1\"\n\nb = \"1\"\n[profile.dev]\nc = 1\n";
        assert_eq!(unjustified_dependencies(bad).len(), 1);
    }
}
