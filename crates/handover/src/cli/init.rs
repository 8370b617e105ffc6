//! `handover init`: looks at a folder and writes a first manifest for what is in it.
//!
//! ```text
//! folder ─ look ─► facts ─ guess ─► services ─ text ─► manifest ─ the check of every manifest ─► handover.toml
//! ```
//! It starts nothing, and never writes over a manifest: with `--force` the old one is kept beside it.

mod guess;
mod look;
mod ports;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::guess::{Guess, Nothing};
use self::ports::Port;
use super::{Failure, Global, render, say};
use crate::config::error::ConfigError;
use crate::config::{self, Loaded};
use crate::exit_code::Code;

/// What is written.
const MANIFEST: &str = "handover.toml";
/// Where `--force` puts what was there.
const FORMER: &str = "handover.toml.old";

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It knows a Procfile, Cargo.toml, go.mod, package.json, Python's app.py and the like, and a program by itself.

Examples:
  handover init                     for what is in this folder
  handover init ./wiki --port 8080  for that program, which listens on 8080 and nowhere else
  handover init --pid 4711          the same, with the port that a running program listens on
  handover init --print             show it, and write nothing")]
pub(crate) struct Args {
    /// Folder to look at, or a program
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) path: PathBuf,
    /// The program listens on that port and nowhere else
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// The program runs now as this process: take the port that it listens on
    #[arg(long, value_name = "PID", conflicts_with = "port")]
    pub(crate) pid: Option<u32>,
    /// Replace a manifest that is there; the old one stays as handover.toml.old
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the manifest, and write nothing
    #[arg(long, conflicts_with = "force")]
    pub(crate) print: bool,
}

/// Runs `handover init`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("init")?;
    if global.config.is_some() {
        return Err(Failure::new(Code::Usage, "`handover init` writes handover.toml in a folder")
            .with_hint("leave `--config` out, and name the folder: handover init FOLDER"));
    }
    let (folder, program) = place(&args.path)?;
    let path = folder.join(MANIFEST);
    if path.exists() && !args.force && !args.print {
        return Err(Failure::new(Code::Failed, format_args!("{} is there already", path.display()))
            .with_hint(
                "handover check looks at it; --print shows what would be written, --force replaces it",
            ));
    }
    let port = match args.pid {
        Some(pid) => Some(port_of(pid)?),
        None => args.port,
    };
    let facts = look::Facts { program, ..look::look(&folder, port) };
    let guesses = guess::guess(&facts).map_err(|Nothing { why, hint }| {
        Failure::new(Code::Failed, format_args!("{why}; nothing was written")).with_hint(hint)
    })?;
    let text = text::text(&facts, &guesses);
    let loaded = check(&path, &text, global)?;
    if args.print {
        render::print(&text);
        say(&found(&guesses));
    } else {
        write(&path, &text, args.force)?;
        render::print(&story(&args.path, &guesses, &loaded));
    }
    Ok(Code::Done.into())
}

/// The folder, absolute, and the program in it if one was named.
fn place(path: &Path) -> Result<(PathBuf, Option<String>), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Code::Failed, format_args!("{} cannot be looked at: {error}", path.display()))
            .with_hint("name a folder that is there, or a program")
    };
    let absolute = std::fs::canonicalize(path).map_err(unreadable)?;
    if absolute.is_dir() {
        return Ok((absolute, None));
    }
    if !host::folder::is_executable(&absolute) {
        return Err(Failure::new(Code::Failed, format_args!("{} may not be run", path.display()))
            .with_hint(format_args!("chmod +x {}, or name its folder", path.display())));
    }
    let folder = absolute.parent().unwrap_or(&absolute).to_owned();
    let program = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((folder, Some(program)))
}

/// The one port that a running program listens on.
fn port_of(pid: u32) -> Result<u16, Failure> {
    let ports = host::sockets::ports_of(pid);
    match ports.as_slice() {
        [port] => Ok(*port),
        [] => {
            Err(Failure::new(Code::Failed, format_args!("process {pid} listens on no port that can be seen"))
                .with_hint("name a process that runs and is yours, or the port itself by --port"))
        }
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new(
                Code::Failed,
                format_args!("process {pid} listens on several ports: {}", several.join(", ")),
            )
            .with_hint("name the one that clients connect to by --port"))
        }
    }
}

/// As every manifest is checked: what is written must hold.
fn check(path: &Path, text: &str, global: &Global) -> Result<Loaded, Failure> {
    config::check_text(path, text.to_owned()).map_err(|error| {
        if let ConfigError::Wrong(report) = &error {
            super::say_report(report, global);
        }
        Failure::new(Code::Failed, "what is here cannot be served as it is; nothing was written")
            .with_hint("mend what is said above, then handover init again")
    })
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Failed, format_args!("{} cannot be written: {error}", path.display()))
    };
    if force && path.exists() {
        std::fs::rename(path, path.with_file_name(FORMER)).map_err(failed)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)
}

/// What was found, a line for each service.
fn found(guesses: &[Guess]) -> String {
    guesses.iter().map(|guess| format!("{}: from {}. {}\n", guess.name, guess.found, port(guess))).collect()
}

fn port(guess: &Guess) -> String {
    match &guess.port {
        Port::Variable => "It reads PORT: each instance gets a port of its own.".to_owned(),
        Port::Arguments(arguments) => format!("It is given {}.", arguments.join(" ")),
        Port::Fixed(port) => {
            let busy = host::sockets::who_listens_on(*port);
            let busy = busy.map(|who| format!(" {who} listens there now: stop that before `handover up`."));
            format!("It listens on port {port} and nowhere else.{}", busy.unwrap_or_default())
        }
        Port::Unseen => "Which port it listens on is not to be seen: it is given PORT. If it has one of its own: handover \
                         init --force --port N"
            .to_owned(),
        Port::None => "It takes no requests: a worker.".to_owned(),
    }
}

/// What was done, and what to type next.
fn story(given: &Path, guesses: &[Guess], loaded: &Loaded) -> String {
    let mut text = format!("{}Wrote {}.\n", found(guesses), loaded.path.display());
    // Who looks at a folder of his own knows as whom he is logged in.
    for warning in loaded.warnings.iter().filter(|warning| !warning.key.ends_with(".user")) {
        let help = warning.help.as_deref().map(|help| format!(": {help}")).unwrap_or_default();
        text.push_str(&format!("Note: {}{help}\n", warning.message));
    }
    let folder = if given.is_dir() { given } else { given.parent().unwrap_or(given) };
    let is_here = folder.as_os_str().is_empty() || folder == Path::new(".");
    let option = if is_here { String::new() } else { format!(" -c {}", folder.join(MANIFEST).display()) };
    text.push_str("\nNext:\n");
    let mut next = vec![(format!("handover up{option}"), "run it here; Ctrl-C drains and stops all")];
    if let Some(bind) = loaded.manifest.listeners.values().map(|listener| listener.bind).next() {
        next.push((format!("curl http://{bind}/"), "ask it"));
    }
    if let Some(first) = guesses.first() {
        let release = if is_here { PathBuf::from(&first.release) } else { folder.join(&first.release) };
        let deploy = format!("handover deploy {} --release {}{option}", first.name, release.display());
        next.push((deploy, "after the next build: replace it, losing no request"));
    }
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, does) in next {
        text.push_str(&format!("  {command:<width$}  {does}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
