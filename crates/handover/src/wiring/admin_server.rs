//! The admin API on the listeners that the holder keeps: served while they are there, anew when they change.

use std::io;

use admin::{Accept, Front, Server, TcpAccess};
use drivers::fleet::AdminListeners;
use host::Descriptor;
use host::listener::{LocalListener, LocalStream};
use host::paths::Layout;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Local(LocalListener);

impl Accept for Local {
    type Stream = LocalStream;

    async fn accept(&mut self) -> io::Result<LocalStream> {
        self.0.accept().await
    }
}

/// The bearer token for TCP, made at the first start.
pub(super) fn token(layout: &Layout) -> io::Result<String> {
    let path = layout.admin_token();
    match std::fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let token = host::random::token();
    host::file::write_private(&path, format!("{token}\n").as_bytes())?;
    Ok(token)
}

/// Serves for as long as the agent runs.
pub(super) async fn run(server: Server, access: TcpAccess, mut listeners: watch::Receiver<AdminListeners>) {
    let mut local = Kept::default();
    let mut tcp = Kept::default();
    loop {
        let now = listeners.borrow_and_update().clone();
        local.keep(now.local, |descriptor| {
            let accept = Local(LocalListener::from_descriptor(descriptor)?);
            Ok(tokio::task::spawn_local(admin::serve(server.clone(), Front::Local, accept)))
        });
        tcp.keep(now.tcp, |descriptor| {
            let accept = host::listener::into_tcp(descriptor)?;
            Ok(tokio::task::spawn_local(admin::serve(server.clone(), Front::Tcp(access.clone()), accept)))
        });
        if listeners.changed().await.is_err() {
            return; // the agent ends
        }
    }
}

/// One served listener.
#[derive(Default)]
struct Kept {
    /// Which socket, whatever the descriptor: a new holder deposits copies of the same ones.
    cookie: Option<u64>,
    task: Option<JoinHandle<()>>,
}

impl Kept {
    fn keep(
        &mut self,
        now: Option<Descriptor>,
        serve: impl FnOnce(&Descriptor) -> io::Result<JoinHandle<()>>,
    ) {
        let cookie = now.as_ref().and_then(|descriptor| host::listener::socket_cookie(descriptor).ok());
        if cookie == self.cookie {
            return;
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.cookie = cookie;
        let Some(descriptor) = now else { return };
        match serve(&descriptor) {
            Ok(task) => self.task = Some(task),
            Err(error) => tracing::error!(%error, "the admin API cannot be served"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        let made = token(&layout).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(token(&layout).unwrap(), made);
        std::fs::write(layout.admin_token(), "\n").unwrap();
        assert_ne!(token(&layout).unwrap(), "", "an empty token would let nobody in");
    }
}
