//! `handover up`: from a manifest to running services.
//!
//! ```text
//! check ─► nobody else runs it ─► directories ─► committed copy of the binary ─► boot form ─┬► becomes the holder
//!                                                                          (--detach)       └► starts it, waits
//! ```
//! After that everything is the holder's and the agent's. In the foreground this process is the holder from then
//! on, under the same process id; nothing of the command line stays behind.

mod commit;
mod detach;
mod header;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use host::file::Lock;
use host::paths::Layout;
use wire::sealed::Boot;

use super::{Failure, Global, render};
use crate::config::{Loaded, is_inherited};
use crate::exit_code::Code;

/// Version of the boot form.
const BOOT_VERSION: u16 = 1;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover up                      in the foreground; Ctrl-C drains and stops all
  handover up -d -c shop.toml      in the background; returns when all services are ready
  handover down -c shop.toml       ends it from elsewhere

What has run before goes on as it was, then what was edited in the file since is applied, as by `handover apply --yes`:
releases deployed since stay unless their keys were edited.")]
pub(crate) struct Args {
    /// Run in the background; return when all services are ready
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Print nothing but errors, and no lines of services
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Runs `handover up`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("up")?;
    let loaded = super::load_manifest(global)?;
    if !args.quiet {
        super::say_warnings(&loaded, global);
    }
    let layout = Layout::find(&loaded.manifest.state_dir);
    layout.create().map_err(|error| refused(&loaded, "the state directory cannot be made", &error))?;
    let before = before(&layout, &loaded);
    refuse_second(&layout, &loaded)?;
    let origin = commit::origin()?;
    // Every role says its first line already as it should be; the agent says the same again.
    let _ = telemetry::own_log::tell(&layout.run_dir, loaded.manifest.log);
    let binary = commit::commit(&layout)?;
    let boot = boot(&loaded, &args, global, &origin);
    let memory = serde_json::to_vec(&boot)
        .map_err(std::io::Error::from)
        .and_then(|bytes| host::memory::sealed("handover-boot", &bytes))
        .map_err(|error| refused(&loaded, "the boot form cannot be passed on", &error))?;
    let holder = |boot_number: i32| holder_arguments(&layout, boot_number);
    if args.detach {
        let pid = detach::start(&layout, &binary, &memory, holder)?;
        let status = detach::wait(pid, &layout, &loaded)?;
        if !args.quiet {
            render::print(&header::ready(&loaded, before, &status, global));
        }
        return Ok(Code::Done.into());
    }
    if !args.quiet {
        render::print(&header::starting(&loaded, before, global));
    }
    let arguments = holder(host::number(&memory))?;
    let error = host::process::replace_self(&binary, &arguments, &[memory]);
    Err(Failure::new(Code::Failed, format_args!("{} cannot be run: {error}", binary.display())))
}

/// An error of the system while it was being set up.
fn refused(loaded: &Loaded, what: &str, error: &std::io::Error) -> Failure {
    let code =
        if error.kind() == std::io::ErrorKind::PermissionDenied { Code::NotPermitted } else { Code::Failed };
    let failure = Failure::new(code, format_args!("{what}: {error}"));
    match code {
        Code::NotPermitted => failure.with_hint(format_args!(
            "run it as a user who may write to {}, or choose another `state_dir` in {}",
            loaded.manifest.state_dir.display(),
            loaded.path.display()
        )),
        _ => failure,
    }
}

/// What is here already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing ran here yet.
    Nothing,
    /// It ran with this manifest: it goes on from what was recorded.
    Same,
    /// It ran with another one: it goes on, and what was edited is applied.
    Edited,
}

fn before(layout: &Layout, loaded: &Loaded) -> Before {
    let read = |slot| wire::record::decode(&std::fs::read(layout.record(slot)).ok()?).ok();
    match [0, 1].into_iter().filter_map(read).max_by_key(|(sequence, _)| *sequence) {
        None => Before::Nothing,
        Some((_, record)) if record.manifest == (&loaded.manifest).into() => Before::Same,
        Some(_) => Before::Edited,
    }
}

/// One Handover per state directory: whoever has the lock is it.
fn refuse_second(layout: &Layout, loaded: &Loaded) -> Result<(), Failure> {
    let lock = Lock::try_exclusive(&layout.holder_lock())
        .map_err(|error| refused(loaded, "the lock of the run directory cannot be opened", &error))?;
    if lock.is_some() {
        // The holder takes it again in a moment; between the two it is nobody's.
        return Ok(());
    }
    let pid = std::fs::read_to_string(layout.pid_file()).unwrap_or_default();
    let pid = match pid.trim() {
        "" => String::new(),
        pid => format!(" with pid {pid}"),
    };
    let option = header::option(&loaded.path);
    let message = format!("{} is already running{pid}", loaded.path.display());
    Err(Failure::new(Code::Failed, message).with_hint(format_args!(
        "see it with `handover status{option}`, end it with `handover down{option}`"
    )))
}

fn boot(loaded: &Loaded, args: &Args, global: &Global, origin: &Path) -> Boot {
    Boot {
        v: BOOT_VERSION,
        manifest: (&loaded.manifest).into(),
        source: loaded.source.clone(),
        path: loaded.path.display().to_string(),
        binary_origin: origin.display().to_string(),
        environment: inherited(&loaded.manifest, std::env::vars_os()),
        print_output: !args.quiet && !args.detach,
        colour: global.colour_out() && !args.detach,
    }
}

/// Of our environment what services may see.
pub(super) fn inherited(
    manifest: &model::manifest::Manifest,
    environment: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<(String, String)> {
    let named: BTreeSet<&str> = manifest
        .services
        .values()
        .flat_map(|service| service.environment_inherit.iter().map(String::as_str))
        .collect();
    let mut inherited: Vec<(String, String)> = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| named.contains(name.as_str()) || is_inherited(name))
        .collect();
    inherited.sort();
    inherited
}

fn holder_arguments(layout: &Layout, boot_number: i32) -> Result<Vec<String>, Failure> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Failure::new(Code::Usage, format_args!("the path {} is not UTF-8", path.display()))
                .with_hint("choose a `state_dir` whose path is")
        })
    };
    let (state, run) = (text(&layout.state_dir)?, text(&layout.run_dir)?);
    let boot = boot_number.to_string();
    let words = ["internal", "holder", "--state-dir", &state, "--run-dir", &run, "--boot-fd", &boot];
    Ok(words.map(str::to_owned).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_see_of_our_environment_only_what_is_usual_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let manifest =
            crate::config::testing::hello(folder.path(), "environment_inherit = [\"TOKEN\"]").manifest;
        let ours = [
            ("TOKEN", "t"),
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("NOTIFY_SOCKET", "/n"),
            ("LISTEN_FDS", "1"),
            ("SECRET", "s"),
        ];
        let seen = inherited(&manifest, ours.iter().map(|(name, value)| (name.into(), value.into())));
        let seen: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(seen, ["LC_ALL", "PATH", "TOKEN"]);
    }

    #[test]
    fn a_second_up_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = crate::config::testing::hello(folder.path(), "");
        let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
        layout.create().unwrap();
        refuse_second(&layout, &loaded).unwrap();
        let _lock = Lock::try_exclusive(&layout.holder_lock()).unwrap().unwrap();
        std::fs::write(layout.pid_file(), "4711\n").unwrap();
        let failure = refuse_second(&layout, &loaded).unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert!(failure.message.ends_with("is already running with pid 4711"), "{failure:?}");
    }

    #[test]
    fn an_edited_manifest_is_told_from_the_one_that_ran_before() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = crate::config::testing::hello(folder.path(), "");
        let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
        layout.create().unwrap();
        assert_eq!(before(&layout, &loaded), Before::Nothing);
        let boot = boot(&loaded, &Args { detach: true, quiet: true }, &Global::default(), Path::new("/h"));
        let record = agent::Controller::first_record(&boot, model::time::WallTime(1));
        std::fs::write(layout.record(0), wire::record::encode(1, &record).unwrap()).unwrap();
        assert_eq!(before(&layout, &loaded), Before::Same);
        let edited = crate::config::testing::hello(folder.path(), "readiness = { http = \"/\" }");
        assert_eq!(before(&layout, &edited), Before::Edited);
    }

    #[test]
    fn the_holder_is_told_its_directories_and_where_the_boot_form_is() {
        let arguments = holder_arguments(&Layout::new("/s", "/r"), 7).unwrap();
        assert_eq!(arguments.join(" "), "internal holder --state-dir /s --run-dir /r --boot-fd 7");
    }
}
