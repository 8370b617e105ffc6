//! The proxy's end of its link to the agent. Another agent means another link; none is no reason to stop.

use std::io;

use host::Descriptor;
use host::channel::{AsyncChannel, Channel};
use host::pump::{Duplex, Pumped, pump_once};
use wire::link::Hello;
use wire::session::Session;
use wire::traffic::{FromProxy, ToProxy};

#[derive(Debug)]
struct End(Session<ToProxy, Descriptor>);

impl Duplex for End {
    fn transmit(&mut self) -> Option<(&[u8], &[Descriptor])> {
        self.0.transmit()
    }

    fn transmitted(&mut self, written: usize) {
        self.0.transmitted(written);
    }

    fn receive(&mut self, bytes: &[u8], descriptors: Vec<Descriptor>) -> Result<(), String> {
        self.0.receive(bytes, descriptors).map_err(|error| error.to_string())
    }
}

/// The link to one agent, or to none.
#[derive(Debug, Default)]
pub(super) struct AgentLink {
    connected: Option<(u64, AsyncChannel, End)>,
}

impl AgentLink {
    /// The agent of that generation is at the other end of `descriptor`, from now on the only one.
    pub(super) fn connect(
        &mut self,
        generation: u64,
        descriptor: Descriptor,
        hello: &Hello,
    ) -> io::Result<()> {
        let channel = AsyncChannel::new(Channel::from_descriptor(descriptor)?)?;
        self.connected = Some((generation, channel, End(Session::new())));
        self.send(&FromProxy::Hello(hello.clone()));
        Ok(())
    }

    /// The agent of that generation is gone.
    pub(super) fn gone(&mut self, generation: u64) {
        if self.connected.as_ref().is_some_and(|(connected, ..)| *connected == generation) {
            self.connected = None;
        }
    }

    /// Whether everything said so far has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.connected.as_ref().is_none_or(|(.., end)| end.0.is_flushed())
    }

    /// Whether there is nobody to talk to.
    pub(super) fn is_alone(&self) -> bool {
        self.connected.is_none()
    }

    /// Queues a message; without an agent it is forgotten, and said again when the next one sends its table.
    pub(super) fn send(&mut self, message: &FromProxy) {
        let Some((generation, _, end)) = &mut self.connected else { return };
        if let Err(error) = end.0.queue(message, Vec::new()) {
            tracing::error!(agent = *generation, %error, "the agent is given up");
            self.connected = None;
        }
    }

    /// Moves bytes, and gives what the agent said. Without an agent it waits for ever. Cancel-safe.
    pub(super) async fn messages(&mut self) -> Vec<(ToProxy, Vec<Descriptor>)> {
        let Some((generation, channel, end)) = &mut self.connected else {
            return std::future::pending().await;
        };
        let lost = match pump_once(channel, end).await {
            Ok(Pumped::Wrote) => return Vec::new(),
            Ok(Pumped::Read) => None,
            Ok(Pumped::Closed) => Some("its stream closed".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let mut messages = Vec::new();
        let broken = loop {
            match end.0.poll_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break lost,
                Err(error) => break Some(error.to_string()),
            }
        };
        if let Some(why) = broken {
            tracing::info!(agent = *generation, why, "the agent is gone; serving goes on");
            self.connected = None;
        }
        messages
    }
}
