//! A small shop that Handover can replace while it is being used.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let version = std::env::var("HANDOVER_VERSION").unwrap_or("unknown".to_owned());
    let hello = format!("shop, version {version}\n");

    let app = Router::new()
        .route("/", get(move || async move { hello }))
        .route("/slow", get(slow))
        // Ready means: it could serve a request now. Look at what it needs, a database, say.
        .route("/healthz", get(|| async { "ok\n" }));

    // Handover chooses the port: two releases run side by side while one takes over from the other.
    let port = std::env::var("PORT").unwrap_or("3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on {}", listener.local_addr()?);

    // SIGTERM: no new connection, the requests in flight get their answers, then `serve` returns.
    axum::serve(listener, app).with_graceful_shutdown(stop_signal()).await?;
    println!("all requests are answered; goodbye");
    Ok(())
}

/// A request that takes longer than a deploy.
async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_secs(1)).await;
    "that took a second\n"
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    terminate.recv().await;
    println!("asked to stop");
}
