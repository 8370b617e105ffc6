//! Handover as a subject: one thread, everything else as it comes, and the origin as the service it supervises.

use std::net::SocketAddr;
use std::path::Path;

use super::certificate::Certificate;
use super::load::{self, Load};
use super::origin::{Files, SMALL};
use super::seats::Seats;
use super::streams;
use super::subject::{Keeps, Subject};
use crate::crowd::ROLES;
use crate::manifest::Setup;
use crate::peers::program_path;
use crate::sandbox::Sandbox;

/// One of them with the origin behind it.
pub(super) struct Fronted {
    pub(super) subject: Subject,
    /// Where the origin listens.
    pub(super) origin: SocketAddr,
    /// The origin's first process.
    pub(super) origin_pid: u32,
}

/// What differs between those that one bench starts.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) binary: &'a Path,
    pub(super) threads: u32,
    pub(super) certificate: &'a Certificate,
}

/// Starts one with the origin that serves these files.
pub(super) fn start(wanted: &Wanted<'_>, files: &Files) -> Result<Fronted, String> {
    let script = format!(
        "sed s/@PORT@/$PORT/ origin.template > origin.conf && exec {} -p . -c $PWD/origin.conf",
        program_path("nginx").display()
    );
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let template = |folder: &Path| files.configuration(folder, "@PORT@");
    start_with(wanted, command, |sandbox| {
        let file = sandbox.folder().join("source/1/origin.template");
        std::fs::write(file, template(sandbox.folder())).map_err(|error| error.to_string())
    })
}

/// Starts one with the origin for streams: this program, started in another way.
pub(super) fn start_with_streams(wanted: &Wanted<'_>) -> Result<Fronted, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let command = vec![own.display().to_string(), streams::WORD.to_owned()];
    start_with(wanted, command, |_sandbox| Ok(()))
}

fn start_with(
    wanted: &Wanted<'_>,
    command: Vec<String>,
    prepare: impl Fn(&Sandbox) -> Result<(), String>,
) -> Result<Fronted, String> {
    let setup = Setup {
        command,
        binary: Some(wanted.binary.to_owned()),
        proxy: format!("threads = {}\n", wanted.threads),
        readiness: "http = \"/\"\n".to_owned(),
        extra: tls_listener(wanted.certificate),
        ..Setup::default()
    };
    let mut sandbox = Sandbox::new(setup);
    // A binary from before TLS takes part without it.
    if sandbox.run(&["check"]).code != Some(0) {
        sandbox.edit(|setup| setup.extra.clear());
    }
    prepare(&sandbox)?;
    sandbox.up();
    let status = sandbox.wait_ready();
    let plain = status.listener("web").ok_or("the listener is not bound")?;
    let instance = status.instances("shop").into_iter().next().ok_or("there is no instance")?;
    let process = |role: &str| status.pid(role).map(|pid| (role.to_owned(), pid));
    let subject = Subject {
        name: wanted.name.to_owned(),
        plain,
        tls: status.listener("secure").filter(|address| speaks_tls(*address)),
        processes: ROLES.iter().filter_map(|role| process(role)).collect(),
        origin: 0,
        _keeps: Keeps::Handover(Box::new(sandbox)),
    };
    let origin = instance.address.ok_or("the origin has no address")?;
    Ok(Fronted { subject, origin, origin_pid: instance.pid.ok_or("the origin does not run")? })
}

fn speaks_tls(address: SocketAddr) -> bool {
    let one = Load { path: SMALL, connections: 1, requests: 1 };
    load::h2load(&Seats::default(), one, address, true).is_ok()
}

fn tls_listener(certificate: &Certificate) -> String {
    format!(
        "[listener.secure]\nbind = \"127.0.0.1:0\"\ntls = {{ certificate = '{}', key = '{}' }}\n\
         [[route]]\nlistener = \"secure\"\nservice = \"shop\"\n",
        certificate.chain.display(),
        certificate.key.display()
    )
}
