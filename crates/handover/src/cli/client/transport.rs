//! One request on one connection.
//!
//! It tells apart what matters to a retry: whether the request may have arrived.

use std::io;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Client, Place};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It did not leave: there was no connection.
    NotSent {
        /// Not even something to connect to is there.
        missing: bool,
        /// For people.
        why: String,
    },
    /// It may have arrived.
    Unanswered(String),
    /// This user may not connect.
    NotPermitted(String),
}

impl Broken {
    fn connecting(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(error.to_string()),
            kind => Self::NotSent { missing: kind == io::ErrorKind::NotFound, why: error.to_string() },
        }
    }
}

impl Client {
    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), Broken> {
        let request = self.request(method, path, body);
        let late = || "it did not answer in time".to_owned();
        match self.place() {
            Place::Socket(path) => {
                let connected = timeout_at(deadline, host::listener::LocalStream::connect(path)).await;
                let connected =
                    connected.map_err(|_elapsed| Broken::NotSent { missing: false, why: late() })?;
                let stream = connected.map_err(|error| Broken::connecting(&error))?;
                timeout_at(deadline, send(stream, request)).await
            }
            Place::Tcp(authority) => {
                let connected = timeout_at(deadline, TcpStream::connect(authority.as_str())).await;
                let connected =
                    connected.map_err(|_elapsed| Broken::NotSent { missing: false, why: late() })?;
                let stream = connected.map_err(|error| Broken::connecting(&error))?;
                timeout_at(deadline, send(stream, request)).await
            }
        }
        .map_err(|_elapsed| Broken::Unanswered(late()))?
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let authority = match self.place() {
            Place::Socket(_) => "localhost",
            Place::Tcp(authority) => authority,
        };
        let is_post = method == Method::POST;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("invariant: paths are made of checked names and numbers");
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(authority).expect("invariant: the authority was checked"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if is_post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = self.authorization() {
            headers.insert(AUTHORIZATION, token);
        }
        request
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let unanswered = |error: &dyn std::error::Error| {
        Broken::Unanswered(format!("the connection broke before the answer ({error})"))
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unanswered(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| unanswered(&error))?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| unanswered(&*error))?;
        Ok((head.status, body.to_bytes()))
    };
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        // A connection that has ended leaves the answer either whole in the channel, or an error.
        _ = connection => answer.await,
    }
}
