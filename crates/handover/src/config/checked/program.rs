//! Commands and variables: is the program there, and will everything in `${…}` be filled in?

use std::path::{Path, PathBuf};

use super::super::error::Problem;
use super::super::is_inherited;
use super::super::nearest::nearest;
use super::super::raw;
use super::super::read::{Given, Named, Spot, last};
use super::Checks;

/// Variables that are filled in for every service.
const FILLED_IN: [&str; 6] = ["PORT", "VERSION", "SERVICE", "INSTANCE", "RELEASE_DIR", "HANDOVER"];
/// Variables that an instance is given by Handover, and no manifest may set.
const OURS: [&str; 5] = ["PORT", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "MAINPID"];
/// Beginnings of such variables.
const OUR_PREFIXES: [&str; 2] = ["HANDOVER_", "LISTEN_"];
/// Larger is no file of variables.
const ENVIRONMENT_FILE_BYTES_MAX: u64 = 1 << 20;

/// What a release is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A directory.
    Directory(PathBuf),
    /// A packed one: what is in it is seen when it is unpacked.
    Archive(PathBuf),
    /// A single program.
    Program(PathBuf),
}

impl Source {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive(path) | Self::Program(path) => path,
        }
    }
}

/// What a command is checked against.
#[derive(Debug)]
pub(super) struct Scene {
    /// Its release, unless that is wrong.
    pub(super) release: Option<Source>,
    /// Inherited and declared variables, and those of the environment file.
    pub(super) declared: Vec<String>,
    /// The environment file cannot be read here: it may hold any variable.
    pub(super) may_be_more: bool,
    /// No port: a worker.
    pub(super) is_worker: bool,
}

impl Checks<'_> {
    /// Program and arguments.
    pub(super) fn command(
        &mut self,
        key: &str,
        given: &Given<Vec<Spot<String>>>,
        scene: &Scene,
    ) -> Option<Vec<String>> {
        let spot = given.spot()?;
        let words = &spot.value;
        let Some(program) = words.first().filter(|word| !word.value.trim().is_empty()) else {
            let message = format!("`{}` names no program", last(key));
            let help = if scene.is_worker {
                "write the program first, such as [\"./program\", \"--verbose\"]"
            } else {
                "write the program first, such as [\"./program\", \"--listen\", \"127.0.0.1:${PORT}\"]"
            };
            self.push(Problem::error(key, spot.span.clone(), message).help(help));
            return None;
        };
        self.program(key, program, scene);
        for word in words {
            if word.value.contains('\0') {
                let message = "an argument cannot hold a zero character";
                self.push(Problem::error(key, word.span.clone(), message));
            }
            self.variables(key, word, scene);
        }
        Some(words.iter().map(|word| word.value.clone()).collect())
    }

    /// A program named with a slash is in the release, or at an absolute path; others are found by PATH.
    fn program(&mut self, key: &str, program: &Spot<String>, scene: &Scene) {
        let text = &program.value;
        if text.contains("${") {
            return;
        }
        let Some(release) = &scene.release else { return };
        if !text.contains('/') {
            return self.program_of_path(key, program, scene);
        }
        let folder = match release {
            Source::Directory(folder) => folder,
            Source::Archive(path) | Source::Program(path) if Path::new(text).is_absolute() => path,
            Source::Archive(_) => return,
            Source::Program(file) => return self.single_program(key, program, file),
        };
        let path = super::normal(&folder.join(text));
        // Windows adds .exe by itself.
        if path.with_extension("exe").is_file() || host::folder::is_executable(&path) {
            return;
        }
        let problem = if path.is_file() {
            let message = format!("{} may not be run", path.display());
            Problem::error(key, program.span.clone(), message)
                .label("not executable")
                .help(format!("chmod +x {}", path.display()))
        } else {
            let problem =
                Problem::error(key, program.span.clone(), format!("there is no program {}", path.display()));
            problem.label("not found").help(not_found_help(text, folder))
        };
        self.push(problem);
    }

    fn single_program(&mut self, key: &str, program: &Spot<String>, file: &Path) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if super::normal(Path::new(&program.value)) == Path::new(name.as_ref()) {
            return;
        }
        let message = format!("there is no program {} in the release", program.value);
        let problem = Problem::error(key, program.span.clone(), message).label("not found");
        self.push(problem.help(format!("the release is that one file: write \"./{name}\"")));
    }

    /// A warning only: the PATH of whoever checks need not be that of whoever runs it.
    fn program_of_path(&mut self, key: &str, program: &Spot<String>, scene: &Scene) {
        let has_own_path = scene.may_be_more || scene.declared.iter().any(|name| name == "PATH");
        let Some(search) = std::env::var_os("PATH").filter(|_| !has_own_path) else {
            return;
        };
        let text = &program.value;
        let is_there =
            |path: &Path| host::folder::is_executable(path) || path.with_extension("exe").is_file();
        if std::env::split_paths(&search).any(|folder| is_there(&folder.join(text))) {
            return;
        }
        let message = format!("there is no program `{text}` in PATH");
        let problem = Problem::warning(key, program.span.clone(), message).label("not found here");
        let is_in_release = match &scene.release {
            Some(Source::Directory(folder)) => folder.join(text).is_file(),
            Some(Source::Program(file)) => file.file_name().is_some_and(|name| *name == **text),
            _ => false,
        };
        self.push(problem.help(if is_in_release {
            format!(
                "write \"./{text}\" for the one in the release: it is not looked up there by its bare name"
            )
        } else if text.contains(char::is_whitespace) {
            SPLIT_HELP.to_owned()
        } else {
            "install it, or write \"./NAME\" for a program in the release".to_owned()
        }));
    }

    /// Every `${NAME}` in the text must be a variable that will be filled in. What is no name, as a shell's
    /// `${NAME:-default}`, is passed on as it is.
    fn variables(&mut self, key: &str, spot: &Spot<String>, scene: &Scene) {
        let known = || {
            let filled_in = FILLED_IN.into_iter().filter(|name| !scene.is_worker || *name != "PORT");
            filled_in.chain(scene.declared.iter().map(String::as_str))
        };
        for name in variables(&spot.value) {
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name == "PORT" && scene.is_worker {
                let message = "a worker has no port: there is no ${PORT}";
                let problem = Problem::error(key, spot.span.clone(), message);
                self.push(problem.help("take it out, or `mode = \"worker\"`"));
                continue;
            }
            if !is_name || scene.may_be_more || known().any(|known| known == name) || is_inherited(name) {
                continue;
            }
            let problem = Problem::error(key, spot.span.clone(), format!("there is no variable ${{{name}}}"));
            if name.starts_with(OUR_PREFIXES[0]) {
                let help = format!(
                    "it is in the environment of what runs, for a shell: [\"sh\", \"-c\", \"echo ${name}\"], without braces"
                );
                self.push(problem.label("not filled in").help(help));
                continue;
            }
            let label = nearest(name, known())
                .map_or_else(|| "no such variable".to_owned(), |near| format!("did you mean ${{{near}}}?"));
            self.push(problem.label(label).help(format!(
                "filled in are {}, inherited variables, and those of `environment` declared before; a shell's own is \
                 written without braces, $NAME",
                FILLED_IN.join(", ")
            )));
        }
    }

    /// Declared variables in order; each may use those before it.
    pub(super) fn environment(
        &mut self,
        key: &str,
        given: &Given<Named<String>>,
        scene: &mut Scene,
    ) -> Vec<(String, String)> {
        let key = format!("{key}.environment");
        let mut environment: Vec<(String, String)> = Vec::new();
        let Some(spot) = given.spot() else { return environment };
        for (name, value) in &spot.value.0 {
            let full = format!("{key}.{}", name.value);
            self.variable_name(&full, name);
            if OURS.contains(&name.value.as_str()) || OUR_PREFIXES.iter().any(|p| name.value.starts_with(p)) {
                let message = format!("`{}` is set by Handover", name.value);
                self.push(
                    Problem::error(&full, name.span.clone(), message).help("give the variable another name"),
                );
            }
            if value.value.contains('\0') {
                let message = "a variable cannot hold a zero character";
                self.push(Problem::error(&full, name.span.clone(), message));
            }
            self.variables(&full, value, scene);
            scene.declared.push(name.value.clone());
            environment.push((name.value.clone(), value.value.clone()));
        }
        environment
    }

    /// Names of variables to take over.
    pub(super) fn inherited(&mut self, key: &str, given: &Given<Vec<Spot<String>>>) -> Vec<String> {
        let full = format!("{key}.environment_inherit");
        let names = given.get().map(Vec::as_slice).unwrap_or_default();
        for name in names {
            self.variable_name(&full, name);
        }
        names.iter().map(|name| name.value.clone()).collect()
    }

    fn variable_name(&mut self, key: &str, name: &Spot<String>) {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            let message = format!("`{}` cannot be the name of a variable", name.value.escape_default());
            self.push(Problem::error(key, name.span.clone(), message));
        }
    }

    /// The environment file, absolute; the names in it become known, its values are not looked at.
    pub(super) fn environment_file(
        &mut self,
        key: &str,
        raw: &raw::Service,
        scene: &mut Scene,
    ) -> Option<PathBuf> {
        let spot = raw.environment_file.spot()?;
        let full = format!("{key}.environment_file");
        let path = super::normal(&self.folder.join(&spot.value.0));
        if path.is_dir() {
            let message = format!("{} is a directory", path.display());
            let problem = Problem::error(&full, spot.span.clone(), message);
            self.push(problem.help("name a file of NAME=value lines"));
            return None;
        }
        let is_small = std::fs::metadata(&path).is_ok_and(|facts| facts.len() <= ENVIRONMENT_FILE_BYTES_MAX);
        match std::fs::read(&path).ok().filter(|_| is_small) {
            Some(text) => scene.declared.extend(names_in(&String::from_utf8_lossy(&text))),
            None => {
                scene.may_be_more = true;
                let message = format!("{} cannot be read here", path.display());
                let problem =
                    Problem::warning(&full, spot.span.clone(), message).label("no such file, or no right");
                self.push(problem.help("without it no instance starts: write its NAME=value lines first"));
            }
        }
        if host::places::others_may_read(&path).unwrap_or(false) {
            let message = format!("every user of this machine may read {}", path.display());
            let problem = Problem::warning(&full, spot.span.clone(), message);
            self.push(problem.help(format!("chmod 600 {}", path.display())));
        }
        Some(path)
    }
}

const SPLIT_HELP: &str =
    "write each argument as a text of its own: [\"program\", \"--flag\", \"value\"]; there is no shell";

fn not_found_help(text: &str, folder: &Path) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.len() < text.len() && folder.join(first).is_file() {
        return SPLIT_HELP.to_owned();
    }
    let name = Path::new(text).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| host::folder::is_executable(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match nearest(&name, beside.iter().map(String::as_str)) {
        Some(near) => {
            format!("there is ./{near}; a program with a slash in its name is looked up in the release")
        }
        None => "a program with a slash in its name is looked up in the release".to_owned(),
    }
}

/// What stands in `${…}`, in order.
fn variables(text: &str) -> Vec<&str> {
    text.split("${").skip(1).filter_map(|after| after.split_once('}').map(|(name, _)| name)).collect()
}

/// The names in a file of `NAME=value` lines.
fn names_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let named = lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='));
    named.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_an_environment_file_are_found_and_its_values_are_not_kept() {
        let text = "# secrets\nTOKEN=abc=def\nexport  KEY = 'x'\n\nnothing\n#OLD=1\n";
        assert_eq!(names_in(text), ["TOKEN", "KEY"]);
    }
}
