//! `handover completions`: what a shell needs to complete commands and options.
//!
//! It prints and installs nothing: where the text goes is the shell's affair.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure, Global, render};
use crate::exit_code::Code;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover completions bash > /etc/bash_completion.d/handover
  handover completions zsh > ~/.zfunc/_handover          with ~/.zfunc in fpath
  handover completions fish > ~/.config/fish/completions/handover.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Runs `handover completions`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("completions")?;
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "handover", &mut text);
    render::print(&String::from_utf8_lossy(&text));
    Ok(Code::Done.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "handover", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
