//! `cargo xtask fuzz`: libFuzzer on the targets of package `fuzz`, with the stable compiler's own coverage.
//!
//! What it finds new goes to a working corpus under `target`; `--keep` copies the best of that into the
//! committed one. A finding is left beside it, and its path is said. `xtask test` needs nothing of this: there the
//! committed corpus is an ordinary test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// Seconds for each target when none are asked for.
const SECONDS_DEFAULT: u64 = 600;
/// Longest input.
const INPUT_BYTES_MAX: usize = 2_048;
/// What is committed of a target's corpus, at most.
const KEPT_FILES_MAX: usize = 200;
const KEPT_BYTES_MAX: usize = 100 << 10;
/// Coverage in every crate: all of these are stable flags of the compiler.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=yes -Coverflow-checks=yes";
const HOST: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (mut wanted, mut seconds, mut keeps) = (Vec::new(), SECONDS_DEFAULT, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let value = words.next().and_then(|text| text.parse().ok());
                seconds = value.ok_or("--seconds wants a number")?;
            }
            "--keep" => keeps = true,
            other => wanted.push(other),
        }
    }
    let corpora = shell::root().join("fuzz/corpus");
    let targets = folders(&corpora)?;
    if let Some(unknown) = wanted.iter().find(|name| targets.iter().all(|target| target != *name)) {
        return Err(format!("there is no target `{unknown}`; the targets are: {}", targets.join(", ")));
    }
    let work = shell::target_directory().join("fuzz");
    let mut build = shell::cargo(&["build", "--package", "fuzz", "--features", "libfuzzer", "--bins"]);
    build.args(["--profile", "ci", "--target", HOST, "--target-dir"]).arg(work.join("build"));
    shell::run(build.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS))?;
    for target in targets.iter().filter(|target| wanted.is_empty() || wanted.contains(&target.as_str())) {
        let found = work.join("corpus").join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let mut fuzzer = Command::new(work.join("build").join(HOST).join("ci").join(target));
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
        fuzzer.arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/{target}-", work.display()));
        shell::run(fuzzer.arg(&found).arg(corpora.join(target)))?;
        if keeps {
            keep(&found, &corpora.join(target))?;
        }
    }
    Ok(())
}

fn folders(path: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Copies the smallest of what was found into the committed corpus, as far as there is room.
fn keep(found: &Path, corpus: &Path) -> Result<(), String> {
    let sized = |folder: &Path| -> Result<Vec<(usize, PathBuf)>, String> {
        let mut files = Vec::new();
        for name in folders(folder)? {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((bytes.len(), path));
        }
        files.sort();
        Ok(files)
    };
    let old = sized(corpus)?;
    let (mut files, mut bytes) = (old.len(), old.iter().map(|(size, _)| size).sum::<usize>());
    for (size, path) in sized(found)? {
        let name = path.file_name().expect("invariant: a file has a name");
        if files >= KEPT_FILES_MAX || bytes + size > KEPT_BYTES_MAX {
            break;
        }
        if !corpus.join(name).exists() {
            std::fs::copy(&path, corpus.join(name))
                .map_err(|error| format!("{}: {error}", path.display()))?;
            files += 1;
            bytes += size;
        }
    }
    println!("{}: {files} files, {bytes} bytes", corpus.display());
    Ok(())
}
