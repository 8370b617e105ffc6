"""A small shop that Handover can replace while it is being used. Nothing but the standard library."""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("HANDOVER_VERSION", "unknown")


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are used again
    timeout = 5  # seconds an idle one is kept: longer than `upstream.idle_reuse`, which is 2 s
    wbufsize = 1 << 16  # head and body of an answer go out together

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1)
        text = "ok\n" if self.path == "/healthz" else f"shop, version {VERSION}\n"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass  # Handover writes an access log


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for the requests in flight
    request_queue_size = 128


def main():
    # Handover chooses the port: two releases run side by side while one takes over from the other.
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Shop)

    def stop(*_):
        # shutdown() waits for serve_forever(), which runs below: so from another thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    print("stopping: the requests in flight", flush=True)
    server.server_close()
    print("all requests are answered; goodbye", flush=True)


if __name__ == "__main__":
    main()
