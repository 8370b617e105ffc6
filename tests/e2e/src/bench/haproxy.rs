//! HAProxy as a subject: one thread, connections to the origin shared and kept, no log, large answers spliced.

use std::net::SocketAddr;
use std::path::Path;

use super::certificate::{Certificate, SUITE};
use super::running::Running;
use super::subject::Subject;
use crate::peers::free_port;

/// Clients at once. It wants twice as many descriptors, and is told to go on with those it gets.
const CLIENTS: u32 = 12_000;

pub(super) fn start(folder: &Path, origin: SocketAddr, certificate: &Certificate) -> Result<Subject, String> {
    let ((keeper, port), (tls_keeper, tls_port)) = (free_port(), free_port());
    drop((keeper, tls_keeper));
    let both = certificate.both.display();
    let text = format!(
        "global\n  nbthread 1\n  maxconn {CLIENTS}\n  no strict-limits\n\
         defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 600s\n  \
         timeout server 600s\n  timeout http-keep-alive 600s\n  option splice-response\n\
         frontend web\n  bind 127.0.0.1:{port} backlog 4096\n  \
         bind 127.0.0.1:{tls_port} backlog 4096 ssl crt {both} ssl-min-ver TLSv1.3 ciphersuites {SUITE}\n  default_backend app\n\
         backend app\n  server one {origin}\n"
    );
    let running = Running::peer(folder, "haproxy", "haproxy", &text)?;
    Subject::of_peer("HAProxy", running, port, tls_port)
}
