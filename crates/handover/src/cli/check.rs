//! `handover check`: is the manifest right, and what holds?
//!
//! Starts nothing, writes nothing, and asks no agent.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{Failure, Global, render};
use crate::config::error::ConfigError;
use crate::config::{self, Loaded};
use crate::exit_code::Code;

/// Column at which `# default` stands.
const NOTE_COLUMN: usize = 44;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover check                          ./handover.toml, with every value that holds
  handover check -c shop.toml --json      the same for programs
  handover check --schema > schema.json   the schema that editors complete by")]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the JSON schema of manifests, and check nothing
    #[arg(long, conflicts_with = "json")]
    pub(crate) schema: bool,
}

/// Runs `handover check`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("check")?;
    if args.schema {
        render::print(&config::schema::text());
        return Ok(Code::Done.into());
    }
    if args.json {
        return Ok(run_json(global));
    }
    let loaded = super::load_manifest(global)?;
    render::print(&text(&loaded, global.colour_out()));
    super::say_warnings(&loaded, global);
    Ok(Code::Done.into())
}

/// The values that hold, as a manifest that says them all.
fn text(loaded: &Loaded, colour: bool) -> String {
    let (dim, bold, off) = if colour { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{dim}# {} is right. What holds:{off}\n", loaded.path.display());
    for section in loaded.effective() {
        if !section.header.is_empty() {
            text.push_str(&format!("\n{bold}{}{off}\n", section.header));
        }
        for line in &section.lines {
            let said = format!("{} = {}", line.key, line.value);
            if line.is_default {
                text.push_str(&format!("{dim}{said:NOTE_COLUMN$} # default{off}\n"));
            } else {
                text.push_str(&format!("{said}\n"));
            }
        }
    }
    text.push('\n');
    text
}

fn run_json(global: &Global) -> ExitCode {
    let loaded = config::find(global.config.as_deref()).and_then(|path| config::load(&path));
    let (value, code) = match loaded {
        Ok(loaded) => (valid(&loaded), Code::Done),
        Err(error) => (invalid(&error), Code::Usage),
    };
    let mut text = serde_json::to_string_pretty(&value).expect("invariant: a JSON value is JSON");
    text.push('\n');
    render::print(&text);
    code.into()
}

fn valid(loaded: &Loaded) -> Value {
    let sections: Vec<Value> = loaded
        .effective()
        .into_iter()
        .map(|section| {
            let values: Map<String, Value> = section
                .lines
                .into_iter()
                .map(|line| (line.key.to_owned(), json!({ "toml": line.value, "default": line.is_default })))
                .collect();
            json!({ "table": section.header, "values": values })
        })
        .collect();
    json!({
        "manifest": loaded.path,
        "valid": true,
        "errors": [],
        "warnings": loaded.warnings().json(),
        "effective": sections,
    })
}

fn invalid(error: &ConfigError) -> Value {
    let (manifest, errors): (Option<&Path>, _) = match error {
        ConfigError::Wrong(report) => (Some(&report.path), report.json()),
        ConfigError::Unreadable { path, .. } => (Some(path), vec![json!({ "message": error.to_string() })]),
        ConfigError::NotFound(_) => (None, vec![json!({ "message": error.to_string() })]),
    };
    json!({ "manifest": manifest, "valid": false, "errors": errors, "warnings": [] })
}
