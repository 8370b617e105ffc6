//! The recipe people use today, as a subject of the suite: two instances behind nginx or HAProxy.
//!
//! A deploy starts the new instance, waits until it answers, rewrites the configuration, reloads, waits until
//! the new one is what a new connection gets and half a second more, then stops the old one with SIGTERM.
//! Debian's binaries run with a configuration of ours in a scratch folder; no installed service is touched.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http::{self, Request};
use crate::sandbox::victim;
use crate::system::{self, Signal};
use crate::torture::{Step, Subject};
use crate::wait::{self, PATIENCE};

/// After the reload has visibly worked, before the old instance is stopped: what a careful script sleeps.
const CARE: Duration = Duration::from_millis(500);
/// How long all of them keep an idle connection, as in Handover's own run.
pub const IDLE_TIMEOUT_S: u64 = 2;

/// A process that ends with this value.
#[derive(Debug)]
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        for child in system::children_of(self.0.id()) {
            system::send(child, Signal::Kill);
        }
        // Both fail only if it has ended already.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What both recipes share.
#[derive(Debug)]
struct Recipe {
    // Dropped in this order: the proxy first, the folder last.
    proxy: Owned,
    instance: Owned,
    folder: TempDir,
    address: SocketAddr,
    version: u32,
    configuration: PathBuf,
    reload: Signal,
    write: fn(&Path, u16, u16) -> String,
}

impl Recipe {
    fn start(program: &str, reload: Signal, write: fn(&Path, u16, u16) -> String) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("handover-peer-").tempdir().map_err(|e| e.to_string())?;
        let configuration = folder.path().join("proxy.conf");
        let (port, listening) = free_port();
        let (instance, instance_port) = start_instance(folder.path(), 1)?;
        let text = write(folder.path(), listening, instance_port);
        std::fs::write(&configuration, text).map_err(|error| error.to_string())?;
        drop(port);
        let mut command = Command::new(program_path(program));
        match program {
            "nginx" => command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration),
            _ => command.args(["-W", "-db", "-f"]).arg(&configuration),
        };
        let log =
            std::fs::File::create(folder.path().join("proxy.log")).map_err(|error| error.to_string())?;
        let copy = log.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(copy).spawn();
        let proxy = Owned(child.map_err(|error| format!("{program} could not be started: {error}"))?);
        let address = SocketAddr::from(([127, 0, 0, 1], listening));
        let recipe = Self { proxy, instance, folder, address, version: 1, configuration, reload, write };
        let log = recipe.folder.path().join("proxy.log");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        recipe.wait_for_version(1).map_err(|why| format!("{program}: {why}\n{}", said()))?;
        Ok(recipe)
    }

    fn wait_for_version(&self, version: u32) -> Result<(), String> {
        let wanted = version.to_string();
        let look = || {
            let answer = http::once(self.address, &Request { close: true, ..Request::get("/") }).ok()?;
            (answer.header("version") == Some(&wanted)).then_some(())
        };
        wait::try_until(PATIENCE, look).ok_or_else(|| format!("version {version} does not come to serve"))
    }

    fn deploy(&mut self) -> Result<(), String> {
        self.version += 1;
        let (instance, port) = start_instance(self.folder.path(), self.version)?;
        let text = (self.write)(self.folder.path(), self.address.port(), port);
        std::fs::write(&self.configuration, text).map_err(|error| error.to_string())?;
        system::send(self.proxy.0.id(), self.reload);
        self.wait_for_version(self.version)?;
        std::thread::sleep(CARE);
        let mut old = std::mem::replace(&mut self.instance, instance);
        system::send(old.0.id(), Signal::Term);
        let ended = || old.0.try_wait().ok().flatten();
        wait::try_until(PATIENCE, ended)
            .map(|_| ())
            .ok_or_else(|| "the old instance does not stop".to_owned())
    }
}

/// A port nobody has, and the socket that keeps it so until the caller drops it.
pub fn free_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    (listener, port)
}

fn start_instance(folder: &Path, version: u32) -> Result<(Owned, u16), String> {
    let (keeper, port) = free_port();
    drop(keeper);
    let mut command = system::plain_command(&victim());
    command.current_dir(folder).env("PORT", port.to_string()).env("HANDOVER_VERSION", version.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Owned(child.map_err(|error| format!("the victim could not be started: {error}"))?);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ready = || http::once(address, &Request::get("/healthz")).ok().filter(|answer| answer.status == 200);
    wait::try_until(PATIENCE, ready).ok_or("the new instance does not get ready")?;
    Ok((child, port))
}

/// Where Debian has it, also for users whose PATH has no system directories.
pub fn program_path(name: &str) -> PathBuf {
    let system = PathBuf::from("/usr/sbin").join(name);
    if system.is_file() { system } else { PathBuf::from(name) }
}

/// `user root;` for root: Debian's default user could not write into the scratch folder.
pub fn nginx_user() -> &'static str {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root =
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if is_root { "user root;" } else { "" }
}

fn nginx_text(folder: &Path, listen: u16, instance: u16) -> String {
    let folder = folder.display();
    let user = nginx_user();
    format!(
        "{user} daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off; keepalive_timeout {IDLE_TIMEOUT_S}s; keepalive_requests 1000000000;\n  \
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n  \
         upstream app {{ server 127.0.0.1:{instance}; keepalive 32; }}\n  \
         server {{ listen 127.0.0.1:{listen} backlog=4096;\n    location / {{ proxy_pass http://app; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n"
    )
}

fn haproxy_text(folder: &Path, listen: u16, instance: u16) -> String {
    haproxy_text_with("", folder, listen, instance)
}

fn tuned_haproxy_text(folder: &Path, listen: u16, instance: u16) -> String {
    haproxy_text_with("option idle-close-on-response", folder, listen, instance)
}

fn haproxy_text_with(option: &str, folder: &Path, listen: u16, instance: u16) -> String {
    let folder = folder.display();
    format!(
        "global\n  nbthread 2\n  maxconn 4000\n  stats socket {folder}/stats.sock mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         timeout http-keep-alive {IDLE_TIMEOUT_S}s\n\
         frontend web\n  {option}\n  bind 127.0.0.1:{listen} backlog 4096\n  default_backend app\n\
         backend app\n  server one 127.0.0.1:{instance}\n"
    )
}

/// nginx, reloaded by SIGHUP.
#[derive(Debug)]
pub struct Nginx(Recipe);

impl Nginx {
    /// Starts it with one instance behind it.
    ///
    /// # Errors
    /// When either does not come to serve.
    pub fn start() -> Result<Self, String> {
        Ok(Self(Recipe::start("nginx", Signal::HangUp, nginx_text)?))
    }
}

/// HAProxy in master-worker mode, reloaded by SIGUSR2, its listeners passed on.
#[derive(Debug)]
pub struct Haproxy {
    name: &'static str,
    recipe: Recipe,
}

impl Haproxy {
    /// Starts it with one instance behind it.
    ///
    /// # Errors
    /// When either does not come to serve.
    pub fn start() -> Result<Self, String> {
        Ok(Self { name: "HAProxy", recipe: Recipe::start("haproxy", Signal::User2, haproxy_text)? })
    }

    /// The same with the option that few know: idle connections are closed after their next answer.
    ///
    /// # Errors
    /// When either does not come to serve.
    pub fn start_tuned() -> Result<Self, String> {
        let recipe = Recipe::start("haproxy", Signal::User2, tuned_haproxy_text)?;
        Ok(Self { name: "HAProxy, idle-close-on-response", recipe })
    }
}

fn perform(recipe: &mut Recipe, step: Step) -> Result<(), String> {
    match step {
        Step::Deploy => recipe.deploy(),
        other => Err(format!("the recipe has no {}", other.name())),
    }
}

impl Subject for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn perform(&mut self, step: Step) -> Result<(), String> {
        perform(&mut self.0, step)
    }
}

impl Subject for Haproxy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn address(&self) -> SocketAddr {
        self.recipe.address
    }

    fn perform(&mut self, step: Step) -> Result<(), String> {
        perform(&mut self.recipe, step)
    }
}
