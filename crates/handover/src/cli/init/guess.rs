//! What to run, from what is in a folder. Pure: facts in, services out, each with how it was found.

use super::look::Facts;
use super::ports::{self, Port};

/// Longest name of a service.
const NAME_MAX: usize = 40;

/// A service to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guess {
    /// Its name.
    pub(super) name: String,
    /// How it was found: one sentence.
    pub(super) found: String,
    /// Its release, relative to the folder.
    pub(super) release: String,
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Where its port comes from.
    pub(super) port: Port,
    /// A path that tells whether it is well.
    pub(super) health: Option<&'static str>,
}

/// Why nothing can be written, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nothing {
    pub(super) why: String,
    pub(super) hint: String,
}

fn nothing(why: impl Into<String>, hint: impl Into<String>) -> Nothing {
    Nothing { why: why.into(), hint: hint.into() }
}

/// The services of a folder: a Procfile's, else the one that its package or its only program makes.
pub(super) fn guess(facts: &Facts) -> Result<Vec<Guess>, Nothing> {
    let mut guesses = match &facts.program {
        Some(program) => vec![program_guess(facts, program, format!("the program {program}"))],
        None => by_files(facts)?,
    };
    let is_whole_folder = guesses.iter().any(|guess| guess.release == ".");
    if is_whole_folder && facts.python.is_some() && facts.python_is_outside {
        let python = facts.python.as_deref().unwrap_or_default();
        let venv = python.split('/').next().unwrap_or_default();
        return Err(nothing(
            format!("{python} is a link out of the folder, and a release has to be whole"),
            format!(
                "make it anew with its interpreter: python3 -m venv --clear --copies {venv} && {venv}/bin/pip install -r \
                 requirements.txt"
            ),
        ));
    }
    if let (Some(port), Some(first)) = (facts.port, guesses.first_mut()) {
        first.port = Port::Fixed(port);
    }
    Ok(guesses)
}

fn by_files(facts: &Facts) -> Result<Vec<Guess>, Nothing> {
    if let Some(text) = facts.texts.get("Procfile") {
        let guesses = procfile(facts, text);
        if !guesses.is_empty() {
            return Ok(guesses);
        }
    }
    let one = if let Some(text) = facts.texts.get("Cargo.toml") {
        cargo(facts, text)?
    } else if let Some(text) = facts.texts.get("go.mod") {
        go(facts, text)?
    } else if let Some(text) = facts.texts.get("package.json") {
        node(facts, text)?
    } else if let Some(python) = python(facts) {
        python
    } else {
        return program(facts).map(|guess| vec![guess]);
    };
    Ok(vec![one])
}

/// What may be the name of a service.
pub(super) fn name_of(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(allowed).collect();
    let name = name.trim_matches('-');
    let name: String = name.chars().take(NAME_MAX).collect();
    if name.is_empty() { "app".to_owned() } else { name }
}

fn folder_name(facts: &Facts) -> String {
    name_of(&facts.folder.file_name().unwrap_or_default().to_string_lossy())
}

fn sources<'f>(facts: &'f Facts, ends: &'f [&str]) -> impl Iterator<Item = &'f str> + Clone {
    let is_one = |name: &str| ends.iter().any(|end| name.ends_with(end));
    facts.texts.iter().filter(move |(name, _)| is_one(name)).map(|(_, text)| text.as_str())
}

/// A program and what its sources, if there are any, say of its port.
fn program_guess(facts: &Facts, program: &str, found: String) -> Guess {
    let file = program.rsplit('/').next().unwrap_or(program);
    let ends = [".rs", ".go"];
    let port = match ports::of_sources(sources(facts, &ends)) {
        Port::None if sources(facts, &ends).next().is_none() => Port::Unseen,
        port => port,
    };
    let mut command = vec![format!("./{file}")];
    if let Port::Arguments(arguments) = &port {
        command.extend(arguments.iter().cloned());
    }
    let stem = file.strip_suffix(".exe").unwrap_or(file);
    let health = ports::health_path(sources(facts, &ends));
    Guess { name: name_of(stem), found, release: program.to_owned(), command, port, health }
}

fn cargo(facts: &Facts, text: &str) -> Result<Guess, Nothing> {
    let tree: toml::Table = text.parse().unwrap_or_default();
    let package = tree.get("package").and_then(|package| package.as_table());
    let of = |key: &str| package.and_then(|package| package.get(key)).and_then(|name| name.as_str());
    let first_binary =
        tree.get("bin").and_then(|bins| bins.as_array()?.first()?.get("name")?.as_str().map(str::to_owned));
    let names: Vec<String> =
        [of("default-run").map(str::to_owned), first_binary, of("name").map(str::to_owned)]
            .into_iter()
            .flatten()
            .collect();
    for kind in ["release", "debug"] {
        let folder = format!("target/{kind}/");
        let built = |program: &&String| {
            program.strip_prefix(&folder).is_some_and(|file| {
                names.is_empty() || names.iter().any(|name| file.strip_suffix(".exe").unwrap_or(file) == name)
            })
        };
        if let Some(program) = facts.programs.iter().find(built) {
            return Ok(program_guess(facts, program, format!("Cargo.toml, and its program {program}")));
        }
    }
    let name = names.first().cloned().unwrap_or_else(|| "its program".to_owned());
    Err(nothing(
        format!("there is a Cargo.toml, but {name} is not built"),
        "cargo build --release, then handover init again",
    ))
}

fn go(facts: &Facts, text: &str) -> Result<Guess, Nothing> {
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module ")).unwrap_or_default().trim();
    let name = module.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("app");
    let file = |program: &str| program.rsplit('/').next().unwrap_or_default().to_owned();
    let named = facts
        .programs
        .iter()
        .find(|program| file(program).strip_suffix(".exe").unwrap_or(&file(program)) == name);
    let only = match facts.programs.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    match named.or(only) {
        Some(program) => Ok(program_guess(facts, program, format!("go.mod, and its program {program}"))),
        None => Err(nothing(
            format!("there is a go.mod, but {name} is not built"),
            format!("go build -o bin/{name} . and then handover init again"),
        )),
    }
}

const NODE_FILES: [&str; 6] = ["server.js", "index.js", "app.js", "server.mjs", "index.mjs", "main.js"];
const NODE_ENDS: [&str; 4] = [".js", ".mjs", ".cjs", ".ts"];

fn node(facts: &Facts, text: &str) -> Result<Guess, Nothing> {
    let package: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let start = package["scripts"]["start"].as_str().map(str::to_owned);
    let main = package["main"].as_str().map(str::to_owned);
    let file = main
        .filter(|main| facts.texts.contains_key(main.trim_start_matches("./")))
        .or_else(|| NODE_FILES.iter().find(|file| facts.texts.contains_key(**file)).map(ToString::to_string));
    let (line, found) = match (start, file) {
        (Some(start), _) => (start, "package.json, and its script `start`".to_owned()),
        (None, Some(file)) => (format!("node {file}"), format!("package.json, and {file}")),
        (None, None) => {
            return Err(nothing(
                "package.json has no script `start`, and there is no server.js, index.js or app.js",
                "add a script `start`, then handover init again",
            ));
        }
    };
    let name = package["name"].as_str().map_or_else(|| folder_name(facts), name_of);
    Ok(line_guess(facts, name, &line, found, &NODE_ENDS))
}

/// A service by its command line, with what the sources say of the port where the line does not.
fn line_guess(facts: &Facts, name: String, line: &str, found: String, ends: &[&str]) -> Guess {
    let mut command = words(line, facts);
    let port = match ports::of_command(line) {
        Port::Unseen => match ports::of_sources(sources(facts, ends)) {
            Port::Arguments(arguments) if command.first().is_some_and(|program| program != "sh") => {
                command.extend(arguments.iter().cloned());
                Port::Arguments(arguments)
            }
            Port::Arguments(_) => Port::Unseen,
            Port::None if sources(facts, ends).next().is_none() => Port::Unseen,
            port => port,
        },
        port => port,
    };
    let health = ports::health_path(sources(facts, ends));
    Guess { name, found, release: ".".to_owned(), command, port, health }
}

/// Modules of Python that are started by name, and lie in a virtual environment.
const MODULES: [&str; 6] = ["gunicorn", "uvicorn", "hypercorn", "daphne", "flask", "celery"];

/// A command line as words, by a shell only where it needs one.
fn words(line: &str, facts: &Facts) -> Vec<String> {
    let plain = line.replace("${PORT}", "$PORT");
    let needs_shell =
        plain.replace("$PORT", "").contains(['|', '&', ';', '<', '>', '(', '`', '$', '\\', '*', '"', '\''])
            || plain.split_whitespace().next().is_some_and(|first| first.contains('='));
    if needs_shell {
        // What stands in braces would be filled in by Handover, which knows fewer variables than a shell.
        let braces = regex_lite::Regex::new(r"\$\{(\w+)\}").expect("invariant: an expression");
        return vec!["sh".to_owned(), "-c".to_owned(), braces.replace_all(line, "$$$1").into_owned()];
    }
    let mut words: Vec<String> =
        plain.split_whitespace().map(|word| word.replace("$PORT", "${PORT}")).collect();
    let first = words.first().cloned().unwrap_or_default();
    if let Some(python) = &facts.python {
        if ["python", "python3"].contains(&first.as_str()) {
            words[0] = format!("./{python}");
        } else if MODULES.contains(&first.as_str()) {
            words.splice(0..1, [format!("./{python}"), "-m".to_owned(), first.clone()]);
        }
    }
    if facts.programs.contains(&first) {
        words[0] = format!("./{first}");
    }
    words
}

fn procfile(facts: &Facts, text: &str) -> Vec<Guess> {
    let ends = [".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".go", ".rs"];
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let entries: Vec<(&str, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, line)| (name.trim(), line.trim()))
        .collect();
    let (web, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(name, _)| *name == "web");
    let served = web.into_iter().map(|(name, line)| {
        line_guess(facts, name_of(name), line, format!("Procfile, its line `{name}`"), &ends)
    });
    let workers = others.into_iter().filter(|(name, line)| *name != "release" && !line.is_empty());
    let workers = workers.map(|(name, line)| Guess {
        name: name_of(name),
        found: format!("Procfile, its line `{name}`"),
        release: ".".to_owned(),
        command: words(line, facts),
        port: Port::None,
        health: None,
    });
    served.chain(workers).collect()
}

const PYTHON_FILES: [&str; 6] = ["app.py", "main.py", "server.py", "wsgi.py", "asgi.py", "__main__.py"];

fn python(facts: &Facts) -> Option<Guess> {
    let needs: String = ["requirements.txt", "pyproject.toml"]
        .iter()
        .filter_map(|file| facts.texts.get(*file))
        .map(|text| text.to_ascii_lowercase())
        .collect();
    let file = PYTHON_FILES
        .iter()
        .find(|file| facts.texts.contains_key(**file))
        .map(ToString::to_string)
        .or_else(|| only_python(facts))?;
    let text = facts.texts.get(&file)?;
    let application =
        regex_lite::Regex::new(r"(?m)^(\w+)(?:\s*:\s*\w+)?\s*=\s*(?:\w+\.)?(Flask|FastAPI|Starlette|Quart|get_wsgi_application|get_asgi_application)\(")
            .expect("invariant: an expression")
            .captures(text);
    let made = application.as_ref().map(|made| (made[1].to_owned(), made[2].to_owned()));
    let module = file.trim_end_matches(".py").replace('/', ".");
    let line = match made {
        Some((variable, kind)) => {
            let is_async = ["FastAPI", "Starlette", "Quart", "get_asgi_application"].contains(&kind.as_str());
            if is_async || (needs.contains("uvicorn") && !needs.contains("gunicorn")) {
                format!("python3 -m uvicorn {module}:{variable} --host 127.0.0.1 --port $PORT")
            } else if needs.contains("gunicorn") {
                format!("python3 -m gunicorn --bind 127.0.0.1:$PORT {module}:{variable}")
            } else {
                format!("python3 -m flask --app {module}:{variable} run --port $PORT")
            }
        }
        None => format!("python3 {file}"),
    };
    Some(line_guess(facts, folder_name(facts), &line, file, &[".py"]))
}

fn only_python(facts: &Facts) -> Option<String> {
    let mut found = facts.texts.keys().filter(|name| name.ends_with(".py") && !name.contains('/'));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

fn program(facts: &Facts) -> Result<Guess, Nothing> {
    let named = facts
        .programs
        .iter()
        .find(|program| name_of(program.rsplit('/').next().unwrap_or_default()) == folder_name(facts));
    match (named, facts.programs.as_slice()) {
        (Some(program), _) | (None, [program]) => {
            Ok(program_guess(facts, program, format!("the program {program}")))
        }
        (None, []) => Err(nothing(
            format!("there is nothing in {} that could be run", facts.folder.display()),
            "name a program: handover init path/to/program. Looked for: Procfile, Cargo.toml, go.mod, package.json, app.py, an \
             executable",
        )),
        (None, [first, ..]) => Err(nothing(
            format!("there are several programs: {}", facts.programs.join(", ")),
            format!("name one: handover init {first}"),
        )),
    }
}
