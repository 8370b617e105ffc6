//! Services: the release, its version, and everything else put together.

use std::path::{Path, PathBuf};

use model::id::Version;
use model::manifest::{Mode, Service};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::{Given, Spot};
use super::Checks;
use super::life::stop;
use super::program::{Scene, Source};

/// Most instances of one service.
const INSTANCES_MAX: u32 = 1000;
/// Ends of file names that are archives which are read.
const ARCHIVES: [&str; 4] = [".tar.gz", ".tgz", ".tar.zst", ".zip"];
/// Ends of file names that are other archives.
const OTHER_ARCHIVES: [&str; 8] = [".tar", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tzst", ".7z", ".rar"];

const NOT_IGNORED: &str = "refused, so that nothing is silently ignored";

impl Checks<'_> {
    pub(super) fn service(&mut self, key: &str, spot: &Spot<raw::Service>) -> Option<Service> {
        let raw = &spot.value;
        self.required(key, spot);
        let release = self.release(key, raw);
        let (version, version_is_derived) = self.version(key, raw, release.as_ref()).unzip();
        let environment_inherit = self.inherited(key, &raw.environment_inherit);
        let is_worker = raw.mode.get() == Some(&raw::Mode::Worker);
        let declared = environment_inherit.clone();
        let mut scene = Scene { release, declared, may_be_more: false, is_worker };
        let environment_file = self.environment_file(key, raw, &mut scene);
        let environment = self.environment(key, &raw.environment, &mut scene);
        let command = self.command(&format!("{key}.command"), &raw.command, &scene);
        let instances =
            self.number(&format!("{key}.instances"), &raw.instances, default::INSTANCES, 1..=INSTANCES_MAX);
        let rollout = self.rollout(key, raw);
        if is_worker {
            self.worker_without(key, raw);
        } else if rollout.strategy != model::manifest::Strategy::Recreate {
            self.warn_of_one_instance(key, spot, instances);
        }
        let working_directory = self.working_directory(key, raw, scene.release.as_ref());
        Some(Service {
            instances,
            mode: if is_worker { Mode::Worker } else { Mode::Proxied },
            port: self.port(key, raw),
            environment,
            environment_inherit,
            environment_file,
            working_directory,
            account: self.account(key, raw),
            umask: raw.umask.get().map(|umask| umask.0),
            limits: self.limits(&format!("{key}.limits"), raw.limits.get()),
            readiness: self.readiness(&format!("{key}.readiness"), raw.readiness.get(), &scene),
            liveness: self.liveness(&format!("{key}.liveness"), &raw.liveness, &scene),
            stop: stop(raw.stop.get()),
            restart: self.restart(&format!("{key}.restart"), raw.restart.get(), is_worker),
            reload: self.reload(&format!("{key}.reload"), &raw.reload, &scene),
            hooks: self.hooks(&format!("{key}.hooks"), raw.hooks.get(), &scene),
            depends_on: self.depends_on(key, raw),
            output: self.output(&format!("{key}.output"), raw.output.get()),
            traffic: self.traffic(key, raw),
            rollout,
            version_is_derived: version_is_derived?,
            release: scene.release?.path().to_owned(),
            version: version?,
            command: command?,
        })
    }

    /// What has no default.
    fn required(&mut self, key: &str, service: &Spot<raw::Service>) {
        if service.value.release.is_absent() {
            let example = "release = \"dist/NAME-1.0.0\", its first release: a directory, an archive or a program; or \
                 endpoints = [\"10.0.0.5:9000\"] for what is not started here";
            self.missing(key, "release", &service.span, example);
        }
        if service.value.command.is_absent() {
            let example = "command = [\"./program\", \"--listen\", \"127.0.0.1:${PORT}\"]";
            self.missing(key, "command", &service.span, example);
        }
    }

    fn warn_of_one_instance(&mut self, key: &str, service: &Spot<raw::Service>, instances: u32) {
        if instances == 1 {
            let written = service.value.instances.spot().map(|spot| spot.span.clone());
            let span = written.unwrap_or_else(|| service.span.clone());
            let message = "instances = 1: a crash is then an outage until the restart";
            let problem = Problem::warning(&format!("{key}.instances"), span, message);
            self.push(problem.help("write instances = 2 or more; deploys lose nothing either way"));
        }
    }

    fn release(&mut self, key: &str, raw: &raw::Service) -> Option<Source> {
        let full = format!("{key}.release");
        let spot = raw.release.spot()?;
        let text = &spot.value.0;
        let mut refuse = |message: String, label: &str, help: &str| {
            let problem = Problem::error(&full, spot.span.clone(), message).label(label);
            self.problems.push(problem.help(help));
        };
        if text.contains("://") {
            let help = "fetch it, and name what was fetched";
            refuse("a URL as `release` is not served yet".to_owned(), NOT_IGNORED, help);
            return None;
        }
        let path = super::normal(&self.folder.join(text));
        let ends_with = |ends: &[&str]| ends.iter().any(|end| text.to_ascii_lowercase().ends_with(end));
        if path.is_dir() {
            return Some(Source::Directory(path));
        }
        if !path.exists() {
            let help = "build it first, or correct the path; relative paths begin at the manifest's folder";
            refuse(format!("there is nothing at {}", path.display()), "not found", help);
            None
        } else if !path.is_file() {
            let help = "name a directory, an archive or a program";
            refuse(format!("{} is no file and no directory", path.display()), "no release", help);
            None
        } else if ends_with(&ARCHIVES) {
            Some(Source::Archive(path))
        } else if ends_with(&OTHER_ARCHIVES) {
            let help = "pack it as .tar.gz, .tar.zst or .zip, or name a directory";
            refuse("such an archive is not read".to_owned(), "this kind", help);
            None
        } else {
            Some(Source::Program(path))
        }
    }

    /// The version, and whether nobody wrote it.
    fn version(
        &mut self,
        key: &str,
        raw: &raw::Service,
        release: Option<&Source>,
    ) -> Option<(Version, bool)> {
        let full = format!("{key}.version");
        match &raw.version {
            Given::Wrong => None,
            Given::Is(spot) => match spot.value.parse() {
                Ok(version) => Some((version, false)),
                Err(why) => {
                    self.push(Problem::error(&full, spot.span.clone(), why.to_string()));
                    None
                }
            },
            Given::Absent => match drivers::store::release::derived_version(release?.path()) {
                Ok(version) => Some((version, true)),
                Err(why) => {
                    let span = raw.release.spot().map_or(0..0, |spot| spot.span.clone());
                    self.push(Problem::error(&format!("{key}.release"), span, why.to_string()));
                    None
                }
            },
        }
    }

    fn working_directory(
        &mut self,
        key: &str,
        raw: &raw::Service,
        release: Option<&Source>,
    ) -> Option<PathBuf> {
        let spot = raw.working_directory.spot()?;
        let full = format!("{key}.working_directory");
        let path = Path::new(&spot.value.0);
        let mut refuse = |message: &str, help: &str| {
            self.problems.push(Problem::error(&full, spot.span.clone(), message).help(help));
        };
        if spot.value.0.contains("${") {
            let help = "write a path; a relative one begins at the release";
            refuse("variables are not filled in here", help);
            return None;
        }
        if path.is_relative() && path.components().any(|part| part == std::path::Component::ParentDir) {
            let help = "write an absolute path for a folder that is not in the release";
            refuse("a relative `working_directory` stays inside the release", help);
            return None;
        }
        let there = match release {
            _ if path.is_absolute() => path.is_dir(),
            Some(Source::Directory(folder)) => folder.join(path).is_dir(),
            _ => true,
        };
        if !there {
            let message = format!("there is no directory {} now", path.display());
            let problem = Problem::warning(&full, spot.span.clone(), message).label("not found");
            self.push(
                problem.help("without it no instance starts: make it, or let hooks.before_start make it"),
            );
        }
        Some(path.to_owned())
    }
}
