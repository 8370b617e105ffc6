//! Looks at a folder: its files, its programs, and the texts of its sources. Decides nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// Most sources that are read.
const SOURCES_MAX: usize = 200;
/// Larger files are not written by people.
const SOURCE_BYTES_MAX: u64 = 256 << 10;
/// Folders below the folder that are looked into.
const DEPTH_MAX: usize = 3;
/// Most entries of one folder.
const ENTRIES_MAX: usize = 2000;
/// Folders of other people's sources, of tests, and of what was built.
const NOT_OURS: [&str; 14] = [
    "node_modules",
    "target",
    "vendor",
    "venv",
    "env",
    "dist",
    "build",
    "__pycache__",
    "tests",
    "test",
    "testdata",
    "examples",
    "benches",
    "site-packages",
];
/// Ends of sources.
const SOURCES: [&str; 8] = ["go", "rs", "py", "js", "mjs", "cjs", "ts", "rb"];
/// Files that say what a folder is.
const NAMED: [&str; 6] =
    ["Cargo.toml", "go.mod", "package.json", "requirements.txt", "pyproject.toml", "Procfile"];
/// Where programs lie.
const PROGRAM_FOLDERS: [&str; 7] = ["", "bin", "target/release", "target/debug", "dist", "build", "out"];
/// Ports that people expect a first listener on.
const LISTENER_PORTS: std::ops::Range<u16> = 8080..8100;

/// What is in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Absolute.
    pub(super) folder: PathBuf,
    /// The one program that was named, relative to the folder.
    pub(super) program: Option<String>,
    /// Files that say what it is, and sources, with their texts; by path relative to the folder, with `/`.
    pub(super) texts: BTreeMap<String, String>,
    /// Programs, relative to the folder, with `/`.
    pub(super) programs: Vec<String>,
    /// The interpreter of a virtual environment of Python, relative to the folder.
    pub(super) python: Option<String>,
    /// That interpreter lies outside: a link leads to it.
    pub(super) python_is_outside: bool,
    /// A port for the listener that is free now.
    pub(super) listener_port: u16,
    /// The port that the person named.
    pub(super) port: Option<u16>,
    /// Where state goes.
    pub(super) state_dir: Option<PathBuf>,
}

/// Looks at `folder`, which is absolute. The listener gets none of the ports in `taken`.
pub(super) fn look(folder: &Path, taken: Option<u16>) -> Facts {
    let mut texts = BTreeMap::new();
    for name in NAMED {
        if let Some(text) = text_of(&folder.join(name)) {
            texts.insert(name.to_owned(), text);
        }
    }
    read_sources(folder, "", 0, &mut texts);
    let mut programs = Vec::new();
    for place in PROGRAM_FOLDERS {
        let names = entries(&folder.join(place)).into_iter().filter(|(_, path)| is_program(path));
        programs.extend(names.map(|(name, _)| join(place, &name)));
    }
    let python =
        [".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe", "venv/Scripts/python.exe"]
            .into_iter()
            .find(|path| folder.join(path).is_file());
    let leads_out = |path: &str| {
        std::fs::canonicalize(folder.join(path))
            .is_ok_and(|end| std::fs::canonicalize(folder).is_ok_and(|folder| !end.starts_with(folder)))
    };
    Facts {
        folder: folder.to_owned(),
        program: None,
        texts,
        programs,
        python: python.map(str::to_owned),
        python_is_outside: python.is_some_and(leads_out),
        listener_port: free_port(taken),
        port: taken,
        state_dir: host::places::default_state_dir(),
    }
}

/// A program of its own right: not a script that a package's tools are made of.
fn is_program(path: &Path) -> bool {
    let is_script =
        path.extension().is_some_and(|end| ["sh", "bash", "bat", "ps1", "d"].iter().any(|e| end == *e));
    host::folder::is_executable(path) && !is_script && !is_source(path) && looks_built(path)
}

/// Begins as something the system runs; where rights are not kept by file, everything may be run.
fn looks_built(path: &Path) -> bool {
    use std::io::Read;
    let mut beginning = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut beginning)).unwrap_or(0);
    let beginning = &beginning[..read];
    beginning.starts_with(b"\x7fELF") || beginning.starts_with(b"MZ") || beginning.starts_with(b"#!")
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|end| SOURCES.iter().any(|source| end == *source))
}

fn read_sources(folder: &Path, below: &str, depth: usize, texts: &mut BTreeMap<String, String>) {
    for (name, path) in entries(folder) {
        if texts.len() >= SOURCES_MAX {
            return;
        }
        if path.is_dir() {
            let is_ours = !name.starts_with('.') && !NOT_OURS.contains(&name.as_str());
            if is_ours && depth < DEPTH_MAX {
                read_sources(&path, &join(below, &name), depth + 1, texts);
            }
        } else if is_source(&path) && !name.contains("_test.") && !name.contains(".test.") {
            texts.extend(text_of(&path).map(|text| (join(below, &name), text)));
        }
    }
}

/// Names and paths in a folder, by name.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut found: Vec<_> =
        found.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    found.sort();
    found
}

fn text_of(path: &Path) -> Option<String> {
    let facts = std::fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > SOURCE_BYTES_MAX {
        return None;
    }
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

fn join(below: &str, name: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }
}

/// A port nobody listens on, neither on all addresses nor on loopback.
fn free_port(taken: Option<u16>) -> u16 {
    let is_free = |port: u16| {
        let bound = |address: Ipv4Addr| TcpListener::bind((address, port)).is_ok();
        Some(port) != taken && bound(Ipv4Addr::UNSPECIFIED) && bound(Ipv4Addr::LOCALHOST)
    };
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr());
    LISTENER_PORTS
        .clone()
        .find(|port| is_free(*port))
        .unwrap_or_else(|| any().map_or(LISTENER_PORTS.start, |address| address.port()))
}
