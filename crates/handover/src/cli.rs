//! The command line: its arguments, which command they name, and how a failure is said.
//!
//! What a command does is in `cli/<command>.rs`. Nothing here decides anything about services.

mod apply;
mod changes;
mod check;
mod client;
mod completions;
mod demo;
mod deploy;
mod down;
mod events;
mod history;
mod init;
mod logs;
mod operate;
mod plan;
mod reload;
mod render;
mod restart;
mod rollback;
mod sample;
mod scale;
mod start;
mod status;
mod stop;
mod top;
mod up;
mod when;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::error::{ConfigError, Report, ReportStyle, count};
use crate::config::{self, Loaded};
use crate::exit_code::Code;

/// Options that every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Global {
    /// The manifest; without it ./handover.toml, then the system's own place
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Reach the agent over TCP instead of its socket, such as http://127.0.0.1:7979
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// Colour in what is printed
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Colour,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    /// Standard output is a terminal: progress may be redrawn.
    pub(crate) fn out_is_terminal() -> bool {
        std::io::stdout().is_terminal()
    }

    /// Colour on standard output.
    pub(crate) fn colour_out(&self) -> bool {
        self.colour(std::io::stdout().is_terminal())
    }

    /// Colour on standard error.
    pub(crate) fn colour_err(&self) -> bool {
        self.colour(std::io::stderr().is_terminal())
    }

    /// For commands that ask no agent: an option that does nothing would be believed to do something.
    fn refuse_admin(&self, command: &str) -> Result<(), Failure> {
        match &self.admin {
            None => Ok(()),
            Some(_) => Err(Failure::new(Code::Usage, format_args!("`handover {command}` asks no agent"))
                .with_hint("leave `--admin` out")),
        }
    }

    fn colour(&self, is_terminal: bool) -> bool {
        match self.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// Why a command did not do what was asked: what failed and why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: Code,
    /// What failed and why.
    pub(crate) message: String,
    /// What to do, where there is something to say.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// The same with what to do.
    pub(crate) fn with_hint(self, hint: impl fmt::Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }
}

/// Keeps services answering while anything under them is replaced.
#[derive(Debug, Parser)]
#[command(name = "handover", version, after_help = AFTER_HELP, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  handover demo                                    see what it does, on this machine, in 20 seconds
  handover init                                    write a first handover.toml for what is here
  handover check                                   is ./handover.toml right, and what holds?
  handover up                                      run it here; Ctrl-C drains and stops all
  handover deploy web --release dist/web-1.5.0     replace a release, losing no request
  handover rollback web                            and back
  handover apply                                   make an edited handover.toml true
  handover status                                  what runs
  handover logs web -f                             what it prints

Exit codes:
  0 done · 1 failed or refused · 2 usage or manifest error · 3 rolled back · 4 cannot reach the agent
  5 timed out waiting · 6 not permitted · 7 no such service or release · 130 left a rollout running";

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first manifest for what is in a folder
    Init(init::Args),
    /// Check the manifest, and print every value that holds
    Check(check::Args),
    /// Run everything: in the foreground until Ctrl-C, or in the background with --detach
    Up(up::Args),
    /// Drain and stop everything
    Down(down::Args),
    /// Show what `apply` or a deploy would do, and do nothing
    Plan(plan::Args),
    /// Make a changed manifest true
    Apply(apply::Args),
    /// Replace a service's release, losing no request, and follow it
    Deploy(deploy::Args),
    /// Take a service back to its last good release, at once
    Rollback(rollback::Args),
    /// Replace every instance by a fresh one of the same release
    Restart(restart::Args),
    /// Have every instance read its configuration again
    Reload(reload::Args),
    /// Drain and stop a service until it is started again
    Stop(stop::Args),
    /// Start a service that was stopped
    Start(start::Args),
    /// Change how many instances a service has
    Scale(scale::Args),
    /// Show what runs
    Status(status::Args),
    /// Show what every service does and uses, live
    Top(top::Args),
    /// Show what services printed
    Logs(logs::Args),
    /// Show every change, with its cause and who asked
    Events(events::Args),
    /// Show what was done, how it ended and what it cost
    History(history::Args),
    /// See it work: load, deploys, a rollback and kills on this machine, and what was lost
    Demo(demo::Args),
    /// Run the sample service that the examples use
    Sample(sample::Args),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Args),
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let ended = match command {
        Command::Init(args) => init::run(&args, &global),
        Command::Check(args) => check::run(args, &global),
        Command::Up(args) => up::run(args, &global),
        Command::Down(args) => down::run(args, &global),
        Command::Plan(args) => plan::run(args, &global),
        Command::Apply(args) => apply::run(&args, &global),
        Command::Deploy(args) => deploy::run(args, &global),
        Command::Rollback(args) => rollback::run(args, &global),
        Command::Restart(args) => restart::run(&args, &global),
        Command::Reload(args) => reload::run(&args, &global),
        Command::Stop(args) => stop::run(&args, &global),
        Command::Start(args) => start::run(&args, &global),
        Command::Scale(args) => scale::run(&args, &global),
        Command::Status(args) => status::run(args, &global),
        Command::Top(args) => top::run(&args, &global),
        Command::Logs(args) => logs::run(&args, &global),
        Command::Events(args) => events::run(&args, &global),
        Command::History(args) => history::run(args, &global),
        Command::Demo(args) => demo::run(args, &global),
        Command::Sample(args) => sample::run(args, &global),
        Command::Completions(args) => completions::run(&args, &global),
    };
    ended.unwrap_or_else(|failure: Failure| {
        failure.say(&global);
        failure.code.into()
    })
}

pub(crate) use apply::recorded as apply_recorded;

/// The manifest that the options name, checked; what is wrong with it has been printed otherwise.
fn load_manifest(global: &Global) -> Result<Loaded, Failure> {
    let loaded = config::find(global.config.as_deref()).and_then(|path| config::load(&path));
    loaded.map_err(|error| match &error {
        ConfigError::Wrong(report) => {
            say_report(report, global);
            Failure::new(Code::Usage, error)
        }
        ConfigError::NotFound(_) => Failure::new(Code::Usage, error)
            .with_hint("name one with -c FILE, or write a first one: handover init"),
        ConfigError::Unreadable { .. } => Failure::new(Code::Usage, error),
    })
}

/// Prints what is doubtful in a manifest.
fn say_warnings(loaded: &Loaded, global: &Global) {
    if !loaded.warnings.is_empty() {
        say_report(&loaded.warnings(), global);
        say(&format!("{}; it holds all the same\n", count(loaded.warnings.len(), "warning")));
    }
}

/// Says only that there are some: for commands that are about something else.
fn count_warnings(loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        let option = match loaded.path.file_name() {
            Some(name) if name == "handover.toml" => String::new(),
            _ => format!(" -c {}", loaded.path.display()),
        };
        say(&format!("{}: see `handover check{option}`\n", count(loaded.warnings.len(), "warning")));
    }
}

fn say_report(report: &Report, global: &Global) {
    let style = if global.colour_err() { ReportStyle::Colour } else { ReportStyle::Plain };
    say(&report.render(style));
}

/// Writes to standard error. Nobody is left to tell when it is gone.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl Failure {
    /// Prints it for people on standard error.
    fn say(&self, global: &Global) {
        say(&self.text(global.colour_err()));
    }

    /// Prints it among the lines of what goes on all the same.
    fn say_on(&self, screen: &mut client::Screen) {
        let text = self.text(screen.colour);
        screen.line(text.trim_end());
    }

    fn text(&self, colour: bool) -> String {
        let (red, cyan, off) = if colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error:{off} {}\n", self.message);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{cyan}hint:{off} {hint}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_that_every_command_takes_may_follow_it() {
        let cli = Cli::parse_from(["handover", "up", "-d", "-c", "shop.toml", "--color", "never"]);
        assert_eq!(cli.global.config, Some("shop.toml".into()));
        assert!(!cli.global.colour_out());
        assert!(matches!(cli.command, Command::Up(up::Args { detach: true, quiet: false })));
    }

    #[test]
    fn an_option_that_would_do_nothing_is_refused() {
        let cli = Cli::parse_from(["handover", "check", "--admin", "http://127.0.0.1:7979"]);
        let failure = cli.global.refuse_admin("check").unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (Code::Usage, "`handover check` asks no agent"));
    }
}
