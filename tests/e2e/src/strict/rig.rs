//! One Handover with a listener and a service for each origin, and what each of them logged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::manifest::Setup;
use crate::peers::{nginx_user, program_path};
use crate::sandbox::{Sandbox, beside_this_binary};
use crate::wait;

/// What is run as each origin.
const ORIGINS: [(&str, &str); 5] = [
    ("raw", "exec @STRICT@ --origin @LOG@"),
    (
        "nginx",
        "sed \"s/@PORT@/$PORT/\" nginx.conf > @DIR@/nginx.conf && exec @NGINX@ -p @DIR@ -c @DIR@/nginx.conf",
    ),
    (
        "apache",
        "sed \"s/@PORT@/$PORT/\" apache.conf > @DIR@/apache.conf && exec @APACHE@ -DFOREGROUND -f @DIR@/apache.conf",
    ),
    ("node", "exec node node.js @LOG@"),
    ("python", "exec python3 python.py @LOG@"),
];

/// As lenient as nginx can be told to be.
const NGINX: &str = "@USER@ daemon off; worker_processes 1; pid @DIR@/nginx.pid; error_log @DIR@/nginx.err;\n\
events { worker_connections 1024; }\n\
http {\n  log_format seen 'SEEN $request'; access_log @LOG@ seen; keepalive_requests 1000000000;\n  \
client_body_temp_path @DIR@/b; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f; uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;\n  \
ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;\n  \
server { listen 127.0.0.1:@PORT@ backlog=4096; location / { add_header X-Seen $request_uri always; return 200 \"ok\\n\"; } }\n}\n";

/// As lenient as Apache httpd can be told to be.
const APACHE: &str = "ServerRoot @DIR@\nPidFile @DIR@/apache.pid\nErrorLog @DIR@/apache.err\nServerName localhost\nListen 127.0.0.1:@PORT@\n\
@APACHE_USER@LoadModule mpm_event_module @MODULES@/mod_mpm_event.so\nLoadModule authz_core_module @MODULES@/mod_authz_core.so\n\
LoadModule headers_module @MODULES@/mod_headers.so\nHttpProtocolOptions Unsafe LenientMethods Allow0.9\nKeepAlive On\nMaxKeepAliveRequests 0\n\
KeepAliveTimeout 60\nMergeSlashes Off\nAllowEncodedSlashes On\nDocumentRoot @DIR@\nLogFormat \"SEEN %r\" seen\nCustomLog @LOG@ seen\n\
Header always set X-Seen \"expr=%{REQUEST_URI}\"\n";

/// A running Handover with all origins ready.
pub(super) struct Rig {
    sandbox: Sandbox,
    origins: Vec<(String, SocketAddr)>,
    read: BTreeMap<PathBuf, u64>,
}

impl Rig {
    pub(super) fn start() -> Result<Self, String> {
        let mut sandbox = Sandbox::new(Setup::default());
        let mut text =
            format!("state_dir = '{}'\n[admin]\nbind = \"127.0.0.1:0\"\n", sandbox.state_dir().display());
        for (name, script) in ORIGINS {
            let release =
                origin_release(&sandbox, name, script).map_err(|error| format!("{name}: {error}"))?;
            text.push_str(&format!(
                "[listener.{name}]\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"{name}\"\nservice = \"{name}\"\n\
                 [service.{name}]\nrelease = '{}'\nversion = \"1\"\ncommand = ['/bin/sh', 'run.sh']\n",
                release.display()
            ));
        }
        sandbox.write_manifest(&text);
        sandbox.up();
        let mut origins = Vec::new();
        let ready = wait::try_until(wait::PATIENCE, || {
            let status = sandbox.try_status()?;
            origins = ORIGINS
                .iter()
                .filter(|(name, _)| status.in_state(name, "ready").len() == 1)
                .filter_map(|(name, _)| Some(((*name).to_owned(), status.listener(name)?)))
                .collect();
            (origins.len() == ORIGINS.len()).then_some(())
        });
        let mut rig = Self { sandbox, origins, read: BTreeMap::new() };
        if ready.is_none() {
            return Err(format!("not all origins are ready:\n{}", rig.sandbox.logs()));
        }
        // What was logged until now is of probes.
        for (name, _) in ORIGINS {
            rig.new_lines_of(name);
        }
        rig.new_access_lines();
        Ok(rig)
    }

    /// Each origin's name with the address of its listener.
    pub(super) fn origins(&self) -> &[(String, SocketAddr)] {
        &self.origins
    }

    /// What an origin logged since the last look.
    pub(super) fn new_lines_of(&mut self, origin: &str) -> Vec<String> {
        let path = log_path(self.sandbox.folder(), origin);
        self.new_lines(path)
    }

    /// What Handover logged since the last look.
    pub(super) fn new_access_lines(&mut self) -> Vec<String> {
        let path = self.sandbox.state_dir().join("logs/access.log");
        self.new_lines(path)
    }

    /// Whole lines that were appended to a file since the last look, also when it was put aside meanwhile.
    fn new_lines(&mut self, path: PathBuf) -> Vec<String> {
        let from = self.read.entry(path.clone()).or_default();
        let mut bytes = Vec::new();
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() < *from) {
            bytes = read_from(&PathBuf::from(format!("{}.1", path.display())), *from);
            *from = 0;
        }
        let mut newest = read_from(&path, *from);
        newest.truncate(newest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        *from += newest.len() as u64;
        bytes.append(&mut newest);
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// Lines of Handover's own that tell of a panic.
    pub(super) fn panics(&self) -> Vec<String> {
        let logs = self.sandbox.logs();
        logs.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect()
    }
}

fn read_from(path: &Path, from: u64) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)
    });
    // A file that is not there yet has no lines yet.
    if read.is_ok() { bytes } else { Vec::new() }
}

fn log_path(folder: &Path, origin: &str) -> PathBuf {
    folder.join("origins").join(origin).join("seen.log")
}

fn origin_release(sandbox: &Sandbox, name: &str, script: &str) -> std::io::Result<PathBuf> {
    let folder = sandbox.folder().join("origins").join(name);
    let release = sandbox.folder().join("source").join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(&release)?;
    let is_root = !nginx_user().is_empty();
    let fill = |text: &str| {
        text.replace("@APACHE_USER@", if is_root { "User www-data\nGroup www-data\n" } else { "" })
            .replace("@APACHE@", &program_path("apache2").to_string_lossy())
            .replace("@NGINX@", &program_path("nginx").to_string_lossy())
            .replace("@STRICT@", &beside_this_binary("strict").to_string_lossy())
            .replace("@MODULES@", "/usr/lib/apache2/modules")
            .replace("@USER@", nginx_user())
            .replace("@LOG@", &log_path(sandbox.folder(), name).to_string_lossy())
            .replace("@DIR@", &folder.to_string_lossy())
    };
    std::fs::write(release.join("run.sh"), fill(script))?;
    match name {
        "nginx" => std::fs::write(release.join("nginx.conf"), fill(NGINX)),
        "apache" => std::fs::write(release.join("apache.conf"), fill(APACHE)),
        "node" => std::fs::write(release.join("node.js"), include_str!("../../origins/node.js")),
        "python" => std::fs::write(release.join("python.py"), include_str!("../../origins/python.py")),
        _ => Ok(()),
    }?;
    Ok(release)
}
