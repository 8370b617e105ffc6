//! From what the agent asks for to what the holder starts: an absolute program and a whole environment.
//!
//! A name without a slash is looked up in the instance's own PATH, one with a slash in its release, and never
//! in whatever directory Handover was started in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent::world::SpawnRequest;
use model::manifest::StopSignal;
use wire::exec::SpawnSpec;

/// Names that every instance gets from the environment of `up`, where they are set there.
const BASE_NAMES: [&str; 7] = ["PATH", "LANG", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME"];
/// And every name that begins so.
const BASE_PREFIX: &str = "LC_";
/// Search path of an instance where `up` had none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In a command or a value: the binary that Handover's own processes run from.
const HANDOVER_VARIABLE: &str = "${HANDOVER}";

/// What every instance of this Handover has in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    /// Base names and values.
    pub(crate) environment: Vec<(String, String)>,
    /// Value of `${HANDOVER}`.
    pub(crate) handover: String,
}

/// The base variables: as recorded when `up` was started, else as they are here.
pub(crate) fn base_environment(
    recorded: &[(String, String)],
    own: impl Iterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let is_base = |name: &str| BASE_NAMES.contains(&name) || name.starts_with(BASE_PREFIX);
    let mut base: BTreeMap<String, String> = own.filter(|(name, _)| is_base(name)).collect();
    base.extend(recorded.iter().filter(|(name, _)| is_base(name)).cloned());
    base.entry("PATH".to_owned()).or_insert_with(|| PATH_DEFAULT.to_owned());
    base.into_iter().collect()
}

/// What the holder is asked to start.
pub(crate) fn build(request: &SpawnRequest, ground: &Ground) -> Result<SpawnSpec, String> {
    let expand = |text: &String| text.replace(HANDOVER_VARIABLE, &ground.handover);
    let mut environment: BTreeMap<String, String> = ground.environment.iter().cloned().collect();
    environment.extend(request.environment.iter().map(|(name, value)| (name.clone(), expand(value))));
    let mut words = request.command.iter().map(expand);
    let name = words.next().filter(|name| !name.is_empty()).ok_or("the command is empty")?;
    let path = environment.get("PATH").map_or("", String::as_str);
    let program = resolve(&name, &request.release_directory, path)?;
    Ok(SpawnSpec {
        instance: request.instance.to_string(),
        file_name: request.instance.file_name(),
        program: text(&program)?,
        arguments: words.collect(),
        environment: environment.into_iter().collect(),
        working_directory: text(&request.release_directory)?,
        notify: request.notify,
        stop_signal: signal_number(request.stop.signal),
        grace_ms: wire::manifest::millis(request.stop.grace_period),
        user: request.account.as_ref().map(|account| account.user.clone()),
        group: request.account.as_ref().and_then(|account| account.group.clone()),
        umask: request.umask,
        open_files: request.limits.open_files,
        memory_max: request.limits.memory,
    })
}

fn text(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn resolve(name: &str, release: &Path, search: &str) -> Result<PathBuf, String> {
    if !name.contains('/') {
        let found = std::env::split_paths(search)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| host::folder::is_executable(path));
        return found.ok_or_else(|| {
            format!(
                "the program `{name}` is in no directory of the instance's PATH ({search}); \
                 write `./{name}` for one inside the release, or an absolute path"
            )
        });
    }
    let program: PathBuf = release.join(name).components().collect(); // without the `.`
    match std::fs::metadata(&program) {
        Err(error) => Err(format!("the program {} cannot be run: {error}", program.display())),
        Ok(found) if !found.is_file() => Err(format!("the program {} is not a file", program.display())),
        Ok(_) if !host::folder::is_executable(&program) => {
            Err(format!("the program {0} is not executable; `chmod +x {0}` makes it so", program.display()))
        }
        Ok(_) => Ok(program),
    }
}

/// The number of a stop signal.
pub(crate) fn signal_number(signal: StopSignal) -> i32 {
    use host::process;
    match signal {
        StopSignal::Graceful => process::TERM,
        StopSignal::Interrupt => process::INT,
        StopSignal::Quit => process::QUIT,
        StopSignal::HangUp => process::HUP,
        StopSignal::User1 => process::USR1,
        StopSignal::User2 => process::USR2,
        StopSignal::Abort => process::ABRT,
        StopSignal::Kill => process::KILL,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::manifest::Stop;

    use super::*;

    fn request(command: &[&str], release: &Path) -> SpawnRequest {
        SpawnRequest {
            instance: "shop@1.4.1/0".parse().unwrap(),
            release_directory: release.to_owned(),
            command: command.iter().map(ToString::to_string).collect(),
            environment: vec![("PORT".into(), "20000".into()), ("SELF".into(), "${HANDOVER}!".into())],
            port: Some(20_000),
            port_is_fixed: false,
            watchdog: None,
            ready_log: None,
            environment_file: None,
            working_directory: None,
            account: None,
            umask: None,
            limits: model::manifest::Limits::default(),
            output: model::manifest::Output::default(),
            notify: false,
            stop: Stop {
                signal: StopSignal::Interrupt,
                drain_timeout: Duration::ZERO,
                grace_period: Duration::from_secs(3),
            },
        }
    }

    fn ground(path: &str) -> Ground {
        Ground { environment: vec![("PATH".into(), path.into())], handover: "/state/bin/x/handover".into() }
    }

    #[test]
    fn programs_become_absolute_and_never_come_from_the_working_directory() {
        let release = tempfile::tempdir().unwrap();
        std::fs::write(release.path().join("notes"), "").unwrap();
        let program = |command: &str| build(&request(&[command], release.path()), &ground("relative:/bin"));
        assert_eq!(program("sh").unwrap().program, "/bin/sh");
        assert_eq!(program("/bin/sh").unwrap().program, "/bin/sh");
        assert!(program("no-such-program").unwrap_err().contains("write `./no-such-program`"));
        assert!(program("./missing").unwrap_err().contains("missing cannot be run"));
        assert!(program("./notes").unwrap_err().contains("chmod +x"));
        assert!(program("").is_err());
    }

    #[test]
    fn our_own_binary_can_be_named_in_commands_and_values() {
        let release = tempfile::tempdir().unwrap();
        let ground = Ground { handover: "/bin/sh".into(), ..ground("/bin") };
        let spec = build(&request(&["${HANDOVER}", "sample"], release.path()), &ground).unwrap();
        assert_eq!((spec.program.as_str(), spec.arguments[0].as_str()), ("/bin/sh", "sample"));
        assert!(spec.environment.contains(&("SELF".into(), "/bin/sh!".into())));
        assert_eq!((spec.stop_signal, spec.grace_ms), (host::process::INT, 3_000));
    }

    #[test]
    fn what_a_request_prints_in_a_log_has_no_arguments_and_no_values() {
        let mut request = request(&["./shop", "--key", "s3cret"], Path::new("/r"));
        request.environment.push(("TOKEN".into(), "s3cret".into()));
        let shown = format!("{request:?}");
        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn instances_get_the_base_variables_and_nothing_else_of_ours() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let own = [
            pair("HOME", "/root"),
            pair("NOTIFY_SOCKET", "/x"),
            pair("LC_ALL", "C"),
            pair("LISTEN_FDS", "1"),
        ];
        let recorded = [pair("HOME", "/home/ada"), pair("SECRET", "1")];
        let base = base_environment(&recorded, own.into_iter());
        assert_eq!(base, [pair("HOME", "/home/ada"), pair("LC_ALL", "C"), pair("PATH", PATH_DEFAULT)]);
    }
}
