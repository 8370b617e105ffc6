//! The holder's end of its link to a role: the hello first, then whatever comes.
//!
//! ```text
//!  new: hello out ──► hello in ──► greeted        nothing before the hello, and no second one
//! ```
//! No IO, and no meaning of a message but the hello's.

use crate::link::{FromHolder, Hello, ToHolder};
use crate::session::{Session, SessionError};
use crate::{PROTOCOL_MAX, PROTOCOL_MIN};

/// Why a role is not listened to.
#[derive(Debug, thiserror::Error)]
pub enum HolderEndError {
    /// The stream's rules were broken.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// No protocol version in common.
    #[error("it speaks protocol {0} to {1}, this build {PROTOCOL_MIN} to {PROTOCOL_MAX}")]
    Protocol(u16, u16),
    /// Something at the wrong time.
    #[error("it broke the protocol: {0}")]
    Order(&'static str),
}

/// One end.
#[derive(Debug)]
pub struct HolderEnd<F> {
    session: Session<ToHolder, F>,
    greeted: bool,
}

impl<F> HolderEnd<F> {
    /// An end that begins with our hello. With `rescue` it asks for the role's vault.
    ///
    /// # Errors
    /// Never for a hello of a sensible length.
    pub fn new(pid: u32, build: &str, rescue: bool) -> Result<Self, HolderEndError> {
        let hello = Hello {
            min: PROTOCOL_MIN,
            max: PROTOCOL_MAX,
            role: "holder".to_owned(),
            pid,
            generation: 0,
            build: build.to_owned(),
            rescue,
        };
        let mut end = Self { session: Session::new(), greeted: false };
        end.send(&FromHolder::Hello(hello), Vec::new())?;
        Ok(end)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When it is too long, or the role reads nothing.
    pub fn send(&mut self, message: &FromHolder, descriptors: Vec<F>) -> Result<(), HolderEndError> {
        Ok(self.session.queue(message, descriptors)?)
    }

    /// What is to be written, with what travels along.
    pub fn transmit(&mut self) -> Option<(&[u8], &[F])> {
        self.session.transmit()
    }

    /// So much of it was written.
    pub fn transmitted(&mut self, written: usize) {
        self.session.transmitted(written);
    }

    /// Takes what was read, and gives the messages that are whole by now.
    ///
    /// # Errors
    /// When the role breaks the rules; what it said before is among the messages.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<F>,
        messages: &mut Vec<(ToHolder, Vec<F>)>,
    ) -> Result<(), HolderEndError> {
        self.session.receive(bytes, descriptors)?;
        while let Some((message, descriptors)) = self.session.poll_message()? {
            self.check(&message)?;
            messages.push((message, descriptors));
        }
        Ok(())
    }

    fn check(&mut self, message: &ToHolder) -> Result<(), HolderEndError> {
        match message {
            ToHolder::Hello(_) if self.greeted => Err(HolderEndError::Order("a second hello")),
            ToHolder::Hello(hello) if hello.min > PROTOCOL_MAX || hello.max < PROTOCOL_MIN => {
                Err(HolderEndError::Protocol(hello.min, hello.max))
            }
            ToHolder::Hello(_) => {
                self.greeted = true;
                Ok(())
            }
            _ if !self.greeted => Err(HolderEndError::Order("something before its hello")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(min: u16, max: u16) -> ToHolder {
        let role = "agent".to_owned();
        ToHolder::Hello(Hello { min, max, role, pid: 1, generation: 1, build: String::new(), rescue: false })
    }

    fn hear(said: &[ToHolder]) -> (Vec<ToHolder>, Result<(), HolderEndError>) {
        let mut end = HolderEnd::<u8>::new(1, "0", false).unwrap();
        let bytes: Vec<u8> = said.iter().flat_map(|said| crate::frame::encode(said, 0).unwrap()).collect();
        let mut messages = Vec::new();
        let result = end.receive(&bytes, Vec::new(), &mut messages);
        (messages.into_iter().map(|(message, _)| message).collect(), result)
    }

    #[test]
    fn a_role_greets_once_and_first() {
        let good = [hello(PROTOCOL_MIN, PROTOCOL_MAX), ToHolder::Alive];
        let (heard, result) = hear(&good);
        assert_eq!(heard, good);
        result.unwrap();
        assert!(matches!(hear(&[ToHolder::Alive]).1, Err(HolderEndError::Order(_))));
        let (heard, result) = hear(&[good[0].clone(), good[0].clone()]);
        assert!(heard.len() == 1 && matches!(result, Err(HolderEndError::Order(_))));
    }

    #[test]
    fn a_role_of_another_time_is_refused_with_both_ranges() {
        let (_, result) = hear(&[hello(PROTOCOL_MAX + 1, PROTOCOL_MAX + 3)]);
        let text = result.unwrap_err().to_string();
        assert!(text.contains(&format!("{} to {}", PROTOCOL_MAX + 1, PROTOCOL_MAX + 3)), "{text}");
    }
}
