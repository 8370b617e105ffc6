// A small shop that Handover can replace while it is being used. Nothing but Node itself.
"use strict";

const http = require("node:http");

const version = process.env.HANDOVER_VERSION ?? "unknown";

const server = http.createServer((request, response) => {
  const answer = (text) => {
    response.setHeader("Content-Type", "text/plain; charset=utf-8");
    response.end(text);
  };
  request.resume();
  if (request.url === "/healthz") {
    answer("ok\n");
  } else if (request.url === "/slow") {
    setTimeout(answer, 1000, "that took a second\n");
  } else {
    answer(`shop, version ${version}\n`);
  }
});

// Idle connections are kept for longer than Handover uses them again (`upstream.idle_reuse`, 2 s).
server.keepAliveTimeout = 5000;

// Handover chooses the port: two releases run side by side while one takes over from the other.
server.listen(process.env.PORT, "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});

process.on("SIGTERM", () => {
  console.log("stopping: no new connections, then the requests in flight");
  server.close(() => console.log("all requests are answered; goodbye"));
  server.closeIdleConnections();
});
