//! `handover sample`: a small HTTP service to try Handover with, and for its examples and tests.
//!
//! It ends the way a service should: after SIGTERM every response says `Connection: close`, requests in flight
//! finish, and idle connections are closed last, so that no client writes into a closed one.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Failure, Global, client, render};
use crate::config::units::parse_duration;
use crate::exit_code::Code;

/// How long a connection that is idle when the stop begins may still bring a request.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// After this long without a new connection the queue of the listener is taken to be empty.
const QUEUE_EMPTY_AFTER: Duration = Duration::from_millis(10);
/// Longest answer that `/slow` delays.
const SLOW_MS_MAX: u64 = 600_000;

/// Arguments of `sample`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It answers:
  GET /anything     200 with its text and version
  GET /healthz      200 once it is ready, 503 before
  GET /slow?ms=N    200 after N milliseconds
  POST /anything    200 with the length of the body")]
pub(crate) struct Args {
    /// Address to listen on; without it 127.0.0.1 and the port in the variable PORT
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// What it answers
    #[arg(long, value_name = "TEXT", conflicts_with = "text_file")]
    pub(crate) text: Option<String>,
    /// File with what it answers
    #[arg(long, value_name = "FILE")]
    pub(crate) text_file: Option<PathBuf>,
    /// How long it takes to get ready
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    pub(crate) ready_after: Duration,
    /// How long it takes to stop, at least
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    pub(crate) stop_after: Duration,
}

/// Runs `handover sample`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("sample")?;
    let text = match (&args.text_file, &args.text) {
        (Some(path), _) => std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Code::Failed, format_args!("{} cannot be read: {error}", path.display()))
        })?,
        (None, Some(text)) => text.clone(),
        (None, None) => "Hello from the sample service.".to_owned(),
    };
    let address = args.listen.or_else(address_by_port).ok_or_else(|| {
        Failure::new(Code::Usage, "no address to listen on")
            .with_hint("write --listen 127.0.0.1:8000, or set the variable PORT")
    })?;
    client::block_on(async move {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::new(Code::Failed, format_args!("cannot listen on {address}: {error}"))
        })?;
        let sample = Sample {
            text: text.trim_end().to_owned(),
            version: std::env::var("HANDOVER_VERSION").unwrap_or_else(|_| "unknown".to_owned()),
            instance: std::env::var("HANDOVER_INSTANCE").unwrap_or_else(|_| "alone".to_owned()),
            ready_at: Instant::now() + args.ready_after,
            stage: watch::Sender::new(Stage::Serving),
        };
        let stop = async {
            // A system that cannot tell of a signal ends this process by it.
            if host::signals::terminate().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        serve(listener, Arc::new(sample), stop, args.stop_after).await;
        render::print("sample: stopped\n");
        Ok(Code::Done.into())
    })
}

fn address_by_port() -> Option<SocketAddr> {
    Some(SocketAddr::from((Ipv4Addr::LOCALHOST, std::env::var("PORT").ok()?.parse().ok()?)))
}

/// How far the stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not begun.
    Serving,
    /// Every response says that its connection ends with it.
    Closing,
    /// Idle connections end now.
    ClosingIdle,
}

/// What every connection shares.
#[derive(Debug)]
struct Sample {
    text: String,
    version: String,
    instance: String,
    ready_at: Instant,
    stage: watch::Sender<Stage>,
}

async fn serve(
    listener: TcpListener,
    sample: Arc<Sample>,
    stop: impl Future<Output = ()>,
    stop_after: Duration,
) {
    if let Ok(address) = listener.local_addr() {
        render::print(&format!("sample: {} listens on {address}\n", sample.version));
    }
    let mut connections = JoinSet::new();
    let ready = tokio::spawn(tell_ready(sample.ready_at));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, Arc::clone(&sample)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    ready.abort();
    let stop_began = Instant::now();
    sample.stage.send_replace(Stage::Closing);
    // Connections that are in the listener's queue would be reset with it.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(QUEUE_EMPTY_AFTER, listener.accept()).await {
        connections.spawn(connection(stream, Arc::clone(&sample)));
    }
    drop(listener);
    let close_idle = tokio::time::sleep_until(stop_began + IDLE_GRACE);
    tokio::pin!(close_idle);
    while !connections.is_empty() {
        tokio::select! {
            () = &mut close_idle, if *sample.stage.borrow() == Stage::Closing => {
                sample.stage.send_replace(Stage::ClosingIdle);
            }
            Some(_) = connections.join_next() => {}
        }
    }
    tokio::time::sleep_until(stop_began + stop_after).await;
}

/// Says READY=1 where somebody asked to be told.
async fn tell_ready(ready_at: Instant) {
    tokio::time::sleep_until(ready_at).await;
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = host::notify::send(path.as_ref(), "READY=1")
    {
        render::print(&format!("sample: cannot say that it is ready: {error}\n"));
    }
}

async fn connection(stream: TcpStream, sample: Arc<Sample>) {
    let mut stage = sample.stage.subscribe();
    let service = service_fn(move |request| {
        let sample = Arc::clone(&sample);
        async move { Ok::<_, Infallible>(answer(request, &sample).await) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stage.wait_for(|stage| *stage == Stage::ClosingIdle) => served.as_mut().graceful_shutdown(),
    }
    // A client that broke off is no concern of a sample.
    let _ = served.await;
}

async fn answer(request: Request<Incoming>, sample: &Sample) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::POST | &Method::PUT, _) => match length(request.into_body()).await {
            Ok(length) => (StatusCode::OK, format!("received {length} bytes")),
            Err(error) => (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
        },
        (_, "/healthz") if Instant::now() < sample.ready_at => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready yet".to_owned())
        }
        (_, "/healthz") => (StatusCode::OK, "ready".to_owned()),
        (_, "/slow") => {
            let delay = delay(request.uri().query().unwrap_or_default());
            tokio::time::sleep(delay).await;
            (StatusCode::OK, format!("answered after {} ms", delay.as_millis()))
        }
        _ => (StatusCode::OK, format!("{}\n{} ({})", sample.text, sample.version, sample.instance)),
    };
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if *sample.stage.borrow() != Stage::Serving {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn length(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut length = 0;
    while !body.is_end_stream() {
        match body.frame().await {
            Some(frame) => length += frame?.data_ref().map_or(0, |data| data.len() as u64),
            None => break,
        }
    }
    Ok(length)
}

/// `ms=N` in a query.
fn delay(query: &str) -> Duration {
    let ms = query.split('&').find_map(|pair| pair.strip_prefix("ms=")?.parse().ok());
    Duration::from_millis(ms.unwrap_or(0).min(SLOW_MS_MAX))
}

#[cfg(test)]
mod tests;
