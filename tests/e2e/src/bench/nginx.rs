//! nginx as a subject: one worker, connections to the origin kept, no log, answers never on disk.

use std::net::SocketAddr;
use std::path::Path;

use super::certificate::{Certificate, SUITE};
use super::running::Running;
use super::subject::Subject;
use crate::peers::{free_port, nginx_user};

/// Connections of one worker: ten thousand clients, and as many to the origin as they need at once.
const CONNECTIONS: u32 = 16_384;
/// Idle connections to the origin that are kept: more than clients of any row are busy at once.
const KEPT: u32 = 512;
/// Larger buffers than nginx has by itself: they halve what its answers of 64 KiB and more cost.
const BUFFERS: &str = "proxy_buffers 8 64k; proxy_busy_buffers_size 128k;";

/// A whole configuration around these lines of `http`.
pub(super) fn text(folder: &Path, name: &str, server: &str) -> String {
    let (folder, user) = (folder.display(), nginx_user());
    format!(
        "{user} daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;\n\
         events {{ worker_connections {CONNECTIONS}; }}\n\
         http {{ access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600s;\n  \
         client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p; \
         fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;\n  \
         {server}\n}}\n"
    )
}

pub(super) fn start(folder: &Path, origin: SocketAddr, certificate: &Certificate) -> Result<Subject, String> {
    let ((keeper, port), (tls_keeper, tls_port)) = (free_port(), free_port());
    drop((keeper, tls_keeper));
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let location =
        "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
    let tunnel = "location /tunnel { proxy_pass http://app; proxy_http_version 1.1; \
                  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }";
    let server = format!(
        "upstream app {{ server {origin}; keepalive {KEPT}; keepalive_requests 1000000000; }}\n  \
         client_max_body_size 0; proxy_max_temp_file_size 0; proxy_request_buffering off; {BUFFERS}\n  \
         server {{ listen 127.0.0.1:{port} backlog=4096; {location} {tunnel} }}\n  \
         server {{ listen 127.0.0.1:{tls_port} ssl backlog=4096; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE}; \
         ssl_certificate {chain}; ssl_certificate_key {key}; {location} }}"
    );
    let running = Running::peer(folder, "nginx", "nginx", &text(folder, "nginx", &server))?;
    Subject::of_peer("nginx", running, port, tls_port)
}
