"""An origin that says what it saw: one line per request in the log, and its target in the answer."""
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

LOG = open(sys.argv[1], "a", buffering=1, encoding="utf-8", errors="backslashreplace")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        LOG.write(f"SEEN {self.command} {self.path}\n")
        size = 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while True:
                count = int(self.rfile.readline().split(b";")[0], 16)
                size += len(self.rfile.read(count))
                if count == 0:
                    while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                        pass
                    break
                self.rfile.readline()
        elif "Content-Length" in self.headers:
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
        body = b"" if self.command == "HEAD" else f"{size}\n".encode()
        self.send_response(200)
        self.send_header("X-Seen", quote(self.path))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def send_error(self, code, message=None, explain=None):
        LOG.write(f"BAD {code} {message} {getattr(self, 'raw_requestline', b'')[:300]!r}\n")
        super().send_error(code, message, explain)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        # A connection that ended in the middle is that of a request that Handover gave up.
        pass


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
