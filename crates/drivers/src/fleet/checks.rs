//! Looks at an instance by HTTP or TCP, from the agent itself.
//!
//! The whole look has one time limit, reads little, and never many run at once: those that wait use up their time.
//! It deliberately keeps no connection: a look is to find out whether a new one is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::time::human;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Looks at once; more wait.
const CHECKS_MAX: usize = 64;
/// Most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// After the verdict, for the rest of an answer: a service that is cut off in the middle of one may complain.
const REST_PATIENCE: Duration = Duration::from_millis(100);

/// Shares the limit.
#[derive(Debug, Clone)]
pub(crate) struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CHECKS_MAX)))
    }
}

impl Checks {
    /// A connection is accepted.
    pub(crate) async fn tcp(&self, address: SocketAddr, timeout: Duration) -> Result<(), String> {
        self.within(timeout, async { connect(address).await.map(drop) }).await
    }

    /// GET answers 200 to 399.
    pub(crate) async fn http(
        &self,
        address: SocketAddr,
        path: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let (stream, status) = self.within(timeout, get(address, path)).await?;
        let _ = tokio::time::timeout(REST_PATIENCE, drain(stream)).await;
        match status {
            200..=399 => Ok(()),
            _ => Err(format!("GET {path} answered {status}")),
        }
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        look: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let turn = async {
            let _turn = self.0.acquire().await.map_err(|error| error.to_string())?;
            look.await
        };
        match tokio::time::timeout(timeout, turn).await {
            Ok(result) => result,
            Err(_elapsed) => Err(format!("no answer within {}", human(timeout))),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {address}"),
        _ => format!("no connection to {address}: {error}"),
    })
}

async fn get(address: SocketAddr, path: &str) -> Result<(TcpStream, u16), String> {
    let mut stream = connect(address).await?;
    let broken = |error: io::Error| format!("GET {path} broke off: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: handover\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    loop {
        match status(&answer) {
            Head::Status(status) => return Ok((stream, status)),
            Head::None => return Err(format!("GET {path} was answered with something that is not HTTP")),
            Head::More if answer.len() >= ANSWER_BYTES_MAX => {
                return Err(format!("GET {path}: no status in the first {ANSWER_BYTES_MAX} bytes"));
            }
            Head::More => {}
        }
        if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            return Err(format!("GET {path}: the connection was closed without an answer"));
        }
    }
}

async fn drain(mut stream: TcpStream) {
    let mut buffer = vec![0; 4 << 10];
    let mut left = ANSWER_BYTES_MAX;
    while left > 0
        && let Ok(read @ 1..) = stream.read(&mut buffer).await
    {
        left = left.saturating_sub(read);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Head {
    Status(u16),
    More,
    None,
}

/// The final status at the beginning of an answer; interim ones are passed over.
fn status(mut answer: &[u8]) -> Head {
    loop {
        let line = match memchr_line(answer) {
            Some(line) => line,
            None if b"HTTP/1.".starts_with(&answer[..answer.len().min(7)]) => return Head::More,
            None => return Head::None,
        };
        let Some(status) = status_of_line(line) else { return Head::None };
        if !(100..200).contains(&status) {
            return Head::Status(status);
        }
        match answer.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) => answer = &answer[end + 4..],
            None => return Head::More,
        }
    }
}

fn memchr_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]))
}

/// `HTTP/1.1 200 OK`.
fn status_of_line(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    if !(rest.is_empty() || rest[0] == b' ') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| *status >= 100)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// A service that answers every connection with these bytes, and keeps it open.
    async fn service(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer).await;
                open.push(stream);
            }
        });
        address
    }

    #[test]
    fn an_answer_from_200_to_399_is_good_and_others_are_named() {
        run(async {
            let checks = Checks::default();
            for (answer, good) in [
                (b"HTTP/1.1 200 OK\r\n\r\nhi".as_slice(), Ok(())),
                (b"HTTP/1.0 301\r\n\r\n", Ok(())),
                (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 None\r\n\r\n", Ok(())),
                (b"HTTP/1.1 503 No\r\n\r\n", Err("GET /healthz answered 503")),
                (b"SSH-2.0-x\r\n", Err("GET /healthz was answered with something that is not HTTP")),
                (b"HTTP/1.1 2000 X\r\n", Err("GET /healthz was answered with something that is not HTTP")),
            ] {
                let address = service(answer).await;
                let result = checks.http(address, "/healthz", LONG).await;
                assert_eq!(result, good.map_err(str::to_owned));
            }
        });
    }

    #[test]
    fn one_that_hangs_or_is_gone_is_told_in_time() {
        run(async {
            let checks = Checks::default();
            let address = service(b"HTTP/1.").await;
            assert_eq!(checks.http(address, "/", SOON).await.unwrap_err(), "no answer within 200ms");
            assert_eq!(checks.tcp(address, LONG).await, Ok(()));
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let error = checks.tcp(gone, LONG).await.unwrap_err();
            assert_eq!(error, format!("nobody listens on {gone}"));
        });
    }

    #[test]
    fn an_answer_without_end_is_not_read_for_ever() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = "HTTP/1.1 100 Continue\r\nX: ".to_owned() + &"x".repeat(1 << 20);
                let _ = stream.write_all(head.as_bytes()).await;
            });
            let error = Checks::default().http(address, "/", LONG).await.unwrap_err();
            assert!(error.contains("no status in the first 65536 bytes"), "{error}");
        });
    }

    #[test]
    fn those_that_wait_for_their_turn_use_up_their_time() {
        run(async {
            let checks = Checks::default();
            let turns = checks.0.acquire_many(u32::try_from(CHECKS_MAX).unwrap()).await.unwrap();
            let address = service(b"").await;
            assert_eq!(checks.tcp(address, SOON).await.unwrap_err(), "no answer within 200ms");
            drop(turns);
            assert_eq!(checks.tcp(address, LONG).await, Ok(()));
        });
    }
}
