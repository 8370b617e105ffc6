use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// Longest wait for anything in these tests.
const LIMIT: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

async fn start(ready_after: Duration) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let sample = Sample {
        text: "Hello".into(),
        version: "v1".into(),
        instance: "hello@v1/0".into(),
        ready_at: Instant::now() + ready_after,
        stage: watch::Sender::new(Stage::Serving),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve(listener, Arc::new(sample), stopped, Duration::ZERO));
    Running { address, stop, served }
}

/// Sends one request and reads one response with its Content-Length.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_response(stream).await
}

async fn read_response(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&response).to_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    break;
                }
            }
            let mut chunk = [0; 1024];
            let read = stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "closed after {text:?}");
            response.extend_from_slice(&chunk[..read]);
        }
    };
    tokio::time::timeout(LIMIT, read).await.unwrap();
    String::from_utf8(response).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn it_answers_with_its_text_and_version_and_counts_bodies() {
    let running = start(Duration::ZERO).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let response = ask(&mut stream, GET).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nHello\nv1 (hello@v1/0)\n"), "{response}");
    assert!(!response.to_lowercase().contains("connection: close"), "{response}");
    let chunked =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(ask(&mut stream, chunked).await.ends_with("received 5 bytes\n"));
}

#[tokio::test]
async fn it_is_not_ready_before_its_time() {
    let running = start(Duration::from_secs(3600)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let response = ask(&mut stream, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    let running = start(Duration::ZERO).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let response = ask(&mut stream, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_serves_idle_connections_a_last_time() {
    let running = start(Duration::ZERO).await;
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    ask(&mut idle, GET).await;
    ask(&mut busy, GET).await;
    busy.write_all(b"GET /slow?ms=300 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.stop.send(()).unwrap();
    let late = ask(&mut idle, GET).await.to_lowercase();
    assert!(late.starts_with("http/1.1 200") && late.contains("connection: close"), "{late}");
    let slow = read_response(&mut busy).await.to_lowercase();
    assert!(slow.contains("answered after 300 ms") && slow.contains("connection: close"), "{slow}");
    tokio::time::timeout(LIMIT, running.served).await.unwrap().unwrap();
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stop_closes_connections_that_stay_idle() {
    let running = start(Duration::ZERO).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    ask(&mut idle, GET).await;
    running.stop.send(()).unwrap();
    tokio::time::timeout(LIMIT, running.served).await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}

#[test]
fn a_delay_is_read_from_the_query_and_bounded() {
    assert_eq!(delay("ms=20"), Duration::from_millis(20));
    assert_eq!(delay("a=1&ms=5"), Duration::from_millis(5));
    assert_eq!(delay("ms=x"), Duration::ZERO);
    assert_eq!(delay("ms=99999999999"), Duration::from_millis(SLOW_MS_MAX));
}
