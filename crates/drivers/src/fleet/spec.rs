//! From what the agent asks for to what the holder starts: an absolute program and a whole environment.
//!
//! Variables come from, each over the ones before: the base, the account, `environment_file`, what the agent says.
//! A name without a slash is looked up in the instance's own PATH, one with a slash in its release, and never
//! in whatever directory Handover was started in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent::world::SpawnRequest;
use model::manifest::StopSignal;
use telemetry::source::Source;
use wire::exec::SpawnSpec;

use super::environment_file;

/// Names that every instance gets from the environment of `up`, where they are set there.
const BASE_NAMES: [&str; 7] = ["PATH", "LANG", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME"];
/// And every name that begins so.
const BASE_PREFIX: &str = "LC_";
/// Search path of an instance where `up` had none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In a command or a value: the binary that Handover's own processes run from.
const HANDOVER_VARIABLE: &str = "HANDOVER";
/// Names that only we set: a file that was once made for another supervisor may have them.
const OUR_NAMES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// From the signal to the kill of a task, when the holder has to end everything alone.
const TASK_GRACE_MS: u64 = 1_000;

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

/// What the holder is asked to start for an instance. Reads files and the list of users: not for the agent's thread.
pub(crate) fn build(request: &SpawnRequest, ground: &Ground) -> Result<SpawnSpec, String> {
    let source = Source::from(request.instance.clone());
    let mut spec = build_for(&source, request, ground)?;
    spec.notify = request.notify;
    spec.open_files = request.limits.open_files;
    spec.memory_max = request.limits.memory;
    Ok(spec)
}

/// The same for a task beside an instance: it tells nobody of itself, has no limits of its own, and no time to end.
pub(crate) fn build_task(
    source: &Source,
    request: &SpawnRequest,
    ground: &Ground,
) -> Result<SpawnSpec, String> {
    let mut spec = build_for(source, request, ground)?;
    spec.stop_signal = host::process::TERM;
    spec.grace_ms = TASK_GRACE_MS;
    Ok(spec)
}

fn build_for(source: &Source, request: &SpawnRequest, ground: &Ground) -> Result<SpawnSpec, String> {
    let mut known = match &request.environment_file {
        Some(path) => environment_file::read(path)?,
        None => BTreeMap::new(),
    };
    known.retain(|name, _| !OUR_NAMES.contains(&name.as_str()));
    let mut environment: BTreeMap<String, String> = ground.environment.iter().cloned().collect();
    if let Some(account) = &request.account {
        let found = host::account::lookup(&account.user, account.group.as_deref())
            .map_err(|error| error.to_string())?;
        let home = text(&found.home)?;
        let own = [("HOME", home), ("USER", found.name.clone()), ("LOGNAME", found.name)];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    environment.extend(known.clone());
    known.insert(HANDOVER_VARIABLE.to_owned(), ground.handover.clone());
    environment.extend(request.environment.iter().map(|(name, value)| (name.clone(), expand(value, &known))));
    if let Some(longest) = request.watchdog {
        environment.insert("WATCHDOG_USEC".to_owned(), longest.as_micros().to_string());
    }
    let mut words = request.command.iter().map(|word| expand(word, &known));
    let name = words.next().filter(|name| !name.is_empty()).ok_or("the command is empty")?;
    let path = environment.get("PATH").map_or("", String::as_str);
    let program = resolve(&name, &request.release_directory, path)?;
    Ok(SpawnSpec {
        instance: source.to_string(),
        file_name: source.file_name(),
        program: text(&program)?,
        arguments: words.collect(),
        environment: environment.into_iter().collect(),
        working_directory: text(&working_directory(request)?)?,
        stop_signal: signal_number(request.stop.signal),
        grace_ms: wire::manifest::millis(request.stop.grace_period),
        user: request.account.as_ref().map(|account| account.user.clone()),
        group: request.account.as_ref().and_then(|account| account.group.clone()),
        umask: request.umask,
        ..SpawnSpec::default()
    })
}

/// `${NAME}` where the name is known, once and from the left; what is not known stays as it is.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let value = from.find('}').and_then(|end| Some((known.get(&from[2..end])?, end + 1)));
        let used = match value {
            Some((value, end)) => {
                out.push_str(value);
                end
            }
            None => {
                out.push_str("${");
                2
            }
        };
        rest = &from[used..];
    }
    out.push_str(rest);
    out
}

/// An absolute one as it is; a relative one inside the release, wherever links lead.
fn working_directory(request: &SpawnRequest) -> Result<PathBuf, String> {
    let release = &request.release_directory;
    let Some(wanted) = &request.working_directory else { return Ok(release.clone()) };
    let directory: PathBuf = release.join(wanted).components().collect();
    let shown = directory.display();
    let refused =
        |why: &dyn std::fmt::Display| format!("the working directory {shown} cannot be used: {why}");
    let real = directory.canonicalize().map_err(|error| match error.kind() {
        // The service may see more than we do.
        std::io::ErrorKind::PermissionDenied if wanted.is_absolute() => String::new(),
        _ => refused(&error),
    });
    match real {
        Err(error) if error.is_empty() => Ok(directory),
        Err(error) => Err(error),
        Ok(real) if !real.is_dir() => Err(refused(&"it is not a directory")),
        Ok(_) if wanted.is_absolute() => Ok(directory),
        Ok(real) => {
            let release = release.canonicalize().map_err(|error| refused(&error))?;
            if real.starts_with(&release) {
                Ok(directory)
            } else {
                Err(refused(&"it leads out of the release; write an absolute path for one outside"))
            }
        }
    }
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
mod tests;
