//! `handover internal …`: what our own processes are started as.
//!
//! Parsed by hand and not by the command line's parser: these arguments are written by us only, appear in no
//! help, and a role that restarts must be up before a parser has built its tables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::exit_code::Code;
use crate::wiring;

/// Arguments of `internal holder`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HolderArgs {
    /// `state_dir`.
    pub(crate) state_dir: PathBuf,
    /// `run`.
    pub(crate) run_dir: PathBuf,
    /// Descriptor of the sealed boot form, for the first agent.
    pub(crate) boot_fd: Option<i32>,
    /// It replaces a holder that died.
    pub(crate) rescue: bool,
    /// Descriptor of `holder.lock`, already locked.
    pub(crate) lock_fd: Option<i32>,
}

/// Arguments of `internal agent`, `internal proxy` and `internal apply`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoleArgs {
    /// `state_dir`.
    pub(crate) state_dir: PathBuf,
    /// `run`.
    pub(crate) run_dir: PathBuf,
    /// Which of its kind.
    pub(crate) generation: u64,
}

/// What a process of ours is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Internal {
    Holder(HolderArgs),
    Agent(RoleArgs),
    Proxy(RoleArgs),
    /// Becomes a service; its specification is in that descriptor.
    Exec(i32),
    /// Makes the manifest true that was read last: on SIGHUP.
    Apply(RoleArgs),
    /// Starting is all that is asked: this binary runs on this machine.
    SelfCheck,
}

/// Runs the role that the arguments after `internal` name.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match parse(arguments) {
        Ok(Internal::Holder(args)) => wiring::run_holder(&args),
        Ok(Internal::Agent(args)) => wiring::run_agent(&args),
        Ok(Internal::Proxy(args)) => wiring::run_proxy(&args),
        Ok(Internal::Exec(specification)) => wiring::run_exec(specification),
        Ok(Internal::Apply(args)) => wiring::run_apply(&args),
        Ok(Internal::SelfCheck) => Code::Done.into(),
        Err(why) => {
            complain(&why);
            Code::Usage.into()
        }
    }
}

#[expect(clippy::print_stderr, reason = "a role that was started wrongly has no log yet")]
fn complain(why: &str) {
    eprintln!("handover internal: {why}; these commands are for Handover itself");
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Internal, String> {
    let role = arguments.next().ok_or("no role is named")?;
    let mut options = Options::default();
    if role == "exec" {
        let number = arguments.next().ok_or("exec needs a descriptor")?;
        return Ok(Internal::Exec(parse_number("exec", &number)?));
    }
    while let Some(option) = arguments.next() {
        options.take(&option, &mut arguments)?;
    }
    match role.to_str() {
        Some("holder") => Ok(Internal::Holder(HolderArgs {
            state_dir: options.state_dir.ok_or("--state-dir is missing")?,
            run_dir: options.run_dir.ok_or("--run-dir is missing")?,
            boot_fd: options.boot_fd,
            rescue: options.rescue,
            lock_fd: options.lock_fd,
        })),
        Some("agent") => options.role().map(Internal::Agent),
        Some("proxy") => options.role().map(Internal::Proxy),
        Some("apply") => Options { generation: Some(0), ..options }.role().map(Internal::Apply),
        Some("self-check") => Ok(Internal::SelfCheck),
        _ => Err(format!("no such role: {}", role.display())),
    }
}

#[derive(Default)]
struct Options {
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    generation: Option<u64>,
    boot_fd: Option<i32>,
    lock_fd: Option<i32>,
    rescue: bool,
}

impl Options {
    fn take(&mut self, option: &OsString, rest: &mut impl Iterator<Item = OsString>) -> Result<(), String> {
        let name = option.to_str().unwrap_or_default();
        if name == "--rescue" {
            self.rescue = true;
            return Ok(());
        }
        let mut value = || rest.next().ok_or_else(|| format!("{name} needs a value"));
        match name {
            "--state-dir" => self.state_dir = Some(value()?.into()),
            "--run-dir" => self.run_dir = Some(value()?.into()),
            "--generation" => self.generation = Some(parse_number(name, &value()?)?),
            "--boot-fd" => self.boot_fd = Some(parse_number(name, &value()?)?),
            "--lock-fd" => self.lock_fd = Some(parse_number(name, &value()?)?),
            _ => return Err(format!("no such option: {}", option.display())),
        }
        Ok(())
    }

    fn role(self) -> Result<RoleArgs, String> {
        Ok(RoleArgs {
            state_dir: self.state_dir.ok_or("--state-dir is missing")?,
            run_dir: self.run_dir.ok_or("--run-dir is missing")?,
            generation: self.generation.ok_or("--generation is missing")?,
        })
    }
}

fn parse_number<N: std::str::FromStr>(name: &str, text: &OsString) -> Result<N, String> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{name} {} is not a number", text.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(text: &str) -> Result<Internal, String> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_holder_may_start_from_a_boot_form_or_as_a_rescuer() {
        assert_eq!(
            parse_words("holder --state-dir /s --run-dir /r --boot-fd 7"),
            Ok(Internal::Holder(HolderArgs {
                state_dir: "/s".into(),
                run_dir: "/r".into(),
                boot_fd: Some(7),
                ..HolderArgs::default()
            }))
        );
        assert_eq!(
            parse_words("holder --state-dir /s --run-dir /r --rescue --lock-fd 5"),
            Ok(Internal::Holder(HolderArgs {
                state_dir: "/s".into(),
                run_dir: "/r".into(),
                rescue: true,
                lock_fd: Some(5),
                ..HolderArgs::default()
            }))
        );
    }

    #[test]
    fn agent_and_proxy_know_their_generation() {
        let role = RoleArgs { state_dir: "/s".into(), run_dir: "/r".into(), generation: 3 };
        assert_eq!(
            parse_words("agent --state-dir /s --run-dir /r --generation 3"),
            Ok(Internal::Agent(role.clone()))
        );
        assert_eq!(
            parse_words("proxy --generation 3 --run-dir /r --state-dir /s"),
            Ok(Internal::Proxy(role))
        );
        assert_eq!(
            parse_words("apply --run-dir /r --state-dir /s"),
            Ok(Internal::Apply(RoleArgs { state_dir: "/s".into(), run_dir: "/r".into(), generation: 0 }))
        );
        assert_eq!(parse_words("exec 4"), Ok(Internal::Exec(4)));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (words, why) in [
            ("", "no role is named"),
            ("judge", "no such role: judge"),
            ("agent --state-dir /s", "--run-dir is missing"),
            ("agent --state-dir", "--state-dir needs a value"),
            ("exec x", "exec x is not a number"),
            ("proxy --what 1", "no such option: --what"),
        ] {
            assert_eq!(parse_words(words), Err(why.to_owned()), "{words}");
        }
    }
}
