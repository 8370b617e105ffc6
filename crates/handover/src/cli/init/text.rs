//! The manifest's text for what was found, with comments for whoever reads a manifest for the first time. Pure.

use std::fmt::Write as _;

use super::guess::Guess;
use super::look::Facts;
use super::ports::Port;

/// The whole text.
pub(super) fn text(facts: &Facts, guesses: &[Guess]) -> String {
    let mut out = String::from(
        "# What this machine serves, and how. `handover check` says whether it is right and prints every value that holds;\n\
         # docs/manifest.md of Handover explains every key. Paths begin at this file's folder.\n\n",
    );
    if let (Some(base), Some(first)) = (&facts.state_dir, guesses.first()) {
        let folder = base.join(&first.name);
        let _ = write!(
            out,
            "# What must survive a restart: releases, logs, what was deployed. Each manifest has one of its own.\n\
             state_dir = {}\n\n",
            quoted(&folder.display().to_string())
        );
    }
    if let Some(served) = guesses.iter().find(|guess| is_served(guess)) {
        listener(&mut out, facts, served);
    }
    for guess in guesses {
        service(&mut out, guess);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Requests go to it.
pub(super) fn is_served(guess: &Guess) -> bool {
    guess.port != Port::None
}

fn listener(out: &mut String, facts: &Facts, served: &Guess) {
    let port = facts.listener_port;
    let _ = write!(
        out,
        "# Where clients connect. \"0.0.0.0:{port}\" is for every network of this machine, this one for itself only.\n\
         [listener.web]\n\
         bind = \"127.0.0.1:{port}\"\n\n\
         [[route]]\n\
         listener = \"web\"\n\
         service = {}\n\n",
        quoted(&served.name)
    );
}

fn service(out: &mut String, guess: &Guess) {
    let _ = writeln!(out, "# From {}.", guess.found);
    let _ = writeln!(out, "[service.{}]", guess.name);
    if guess.release == "." {
        out.push_str(
            "# The whole folder is copied for each release, so that it can change while this one runs. Better, as soon as there\n\
             # is a build: a folder of its own with only what runs, such as \"dist\".\n",
        );
    }
    let _ = writeln!(out, "release = {}", quoted(&guess.release));
    let words: Vec<String> = guess.command.iter().map(|word| quoted(word)).collect();
    let _ = writeln!(out, "command = [{}]", words.join(", "));
    match &guess.port {
        Port::None => out.push_str(
            "# It takes no requests. Two releases work side by side for a moment when one replaces the other;\n\
             # rollout.exclusive = true forbids that.\n\
             mode = \"worker\"\n",
        ),
        Port::Fixed(port) => {
            let _ = write!(
                out,
                "# It listens on this port and nowhere else: one instance, and each deploy stops it before the next one starts,\n\
                 # with requests held meanwhile. If it took its port from the variable PORT, or from ${{PORT}} in its command, there\n\
                 # could be several, and deploys without a pause.\n\
                 port = {port}\n"
            );
        }
        Port::Variable | Port::Arguments(_) => {
            out.push_str("# Each gets a port of its own, in ${PORT} and in the variable PORT.\ninstances = 2\n");
        }
        Port::Unseen => out.push_str(
            "# Each gets a port of its own in the variable PORT, and has to listen there. Where its port is an option, write\n\
             # it into the command: \"--port\", \"${PORT}\". If it listens on one port only: port = 8000 instead of instances.\n\
             instances = 2\n",
        ),
    }
    if guess.release != "." {
        out.push_str("# Its own folder while it runs; without it, a copy of the release.\n# working_directory = \"/srv/data\"\n");
    }
    out.push('\n');
    if is_served(guess) {
        readiness(out, guess);
    }
}

fn readiness(out: &mut String, guess: &Guess) {
    let _ = writeln!(out, "# It gets requests once this is so.");
    let _ = writeln!(out, "[service.{}.readiness]", guess.name);
    match guess.health {
        Some(path) => {
            let _ = writeln!(out, "http = {}\n", quoted(path));
        }
        None => {
            out.push_str("tcp = true      # its port accepts connections; better: http = \"/healthz\"\n\n")
        }
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
