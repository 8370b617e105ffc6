//! The role `proxy`: an engine, steered by the holder's listeners and the agent's tables.
//!
//! ```text
//!  start: run/routes ──► engine ──► listeners from the vault ──► serving ──► draining ──► exit 0
//!                                                                   │ link to the holder closed
//!                                                                orphaned: starts a new holder, if nobody else does
//! ```
//! It serves the last good table whoever is dead: an agent that is gone changes nothing, and without a holder
//! the sockets are still here. It decides nothing about instances; it reports, and uses the table it is given.

mod agent;
mod control;
mod holder;
mod report;

use std::io;

use host::channel::Channel;
use host::paths::Layout;
use host::rescue::RescueSocket;
use wire::link::Hello;

/// Descriptor of the link to the holder.
const LINK_DESCRIPTOR: i32 = 3;

/// How a proxy is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything lies.
    pub layout: Layout,
    /// Which proxy this is; the newest has the highest.
    pub generation: u64,
}

/// Why a proxy cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The system does not let it start.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
    /// A thread has ended that must not.
    #[error("a thread that serves has ended by a bug")]
    Threads,
}

impl ProxyError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}

/// Runs until the proxy was told to drain and nothing is left to do.
///
/// # Errors
/// When it cannot start, or cannot serve any more.
pub fn run(options: Options) -> Result<(), ProxyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(ProxyError::system("no runtime"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let channel =
            Channel::inherited(LINK_DESCRIPTOR).map_err(ProxyError::system("no link to a holder"))?;
        serve(options, channel).await
    })
}

/// Runs on that link.
async fn serve(options: Options, channel: Channel) -> Result<(), ProxyError> {
    let hello = Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: "proxy".to_owned(),
        pid: host::process::current_pid(),
        generation: options.generation,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        rescue: false,
    };
    let path = options.layout.rescue_socket("proxy", options.generation);
    let rescue = RescueSocket::bind(&path).map_err(ProxyError::system("no rescue socket"))?;
    let link =
        holder::HolderLink::new(hello.clone(), channel).map_err(ProxyError::system("no link to a holder"))?;
    let mut control = control::Control::new(options.layout, hello, link, rescue);
    let ended = control.run().await;
    control.stop();
    // Nobody is to be rescued here any more; a socket that stays behind is found dead by the next holder.
    let _ = std::fs::remove_file(&path);
    ended
}

#[cfg(test)]
#[path = "role_tests.rs"]
mod tests;
