//! The manifest that tests write: one listener, one service called `shop`, and what a test wants otherwise.

use std::path::{Path, PathBuf};

/// What differs from test to test. Every text is lines of TOML for its table.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Another binary than the one under test.
    pub binary: Option<PathBuf>,
    /// Arguments for the victim in every release.
    pub flags: Vec<String>,
    /// The command; `./victim` is in every release.
    pub command: Vec<String>,
    /// How many.
    pub instances: u32,
    /// Address of the listener.
    pub bind: String,
    /// `[listener.web]`.
    pub listener: String,
    /// `[service.shop]`.
    pub service: String,
    /// `[service.shop.readiness]`.
    pub readiness: String,
    /// `[service.shop.stop]`.
    pub stop: String,
    /// `[service.shop.restart]`.
    pub restart: String,
    /// `[service.shop.rollout]`.
    pub rollout: String,
    /// `[proxy]`.
    pub proxy: String,
    /// Version of the service's release.
    pub version: String,
    /// Further tables, at the end.
    pub extra: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            binary: None,
            flags: Vec::new(),
            command: vec!["./victim".to_owned()],
            instances: 1,
            bind: "127.0.0.1:0".to_owned(),
            listener: String::new(),
            service: String::new(),
            readiness: "http = \"/healthz\"\nstartup_timeout = \"10s\"\n".to_owned(),
            stop: "drain_timeout = \"10s\"\ngrace_period = \"5s\"\n".to_owned(),
            restart: String::new(),
            rollout: String::new(),
            proxy: String::new(),
            version: "1".to_owned(),
            extra: String::new(),
        }
    }
}

impl Setup {
    /// The usual one with these arguments for the victim.
    pub fn with_flags(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..Self::default() }
    }

    /// The manifest's text.
    pub fn text(&self, state_dir: &Path, release: &Path, version: &str) -> String {
        let command: Vec<String> = self.command.iter().map(|word| format!("'{word}'")).collect();
        let mut text = format!("state_dir = '{}'\n", state_dir.display());
        text.push_str("[admin]\nbind = \"127.0.0.1:0\"\n");
        text.push_str(&table("proxy", &self.proxy));
        text.push_str(&format!("[listener.web]\nbind = \"{}\"\n{}", self.bind, self.listener));
        text.push_str("[[route]]\nlistener = \"web\"\nservice = \"shop\"\n");
        text.push_str(&format!(
            "[service.shop]\nrelease = '{}'\nversion = \"{version}\"\ncommand = [{}]\ninstances = {}\n{}",
            release.display(),
            command.join(", "),
            self.instances,
            self.service
        ));
        text.push_str(&table("service.shop.readiness", &self.readiness));
        text.push_str(&table("service.shop.stop", &self.stop));
        text.push_str(&table("service.shop.restart", &self.restart));
        text.push_str(&table("service.shop.rollout", &self.rollout));
        text.push_str(&self.extra);
        text
    }
}

fn table(name: &str, lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!("[{name}]\n{lines}") }
}
