// An origin that says what it saw: one line per request in the log, and its target in the answer.
// As lenient as Node can be told to be.
const http = require('http');
const fs = require('fs');
const log = fs.createWriteStream(process.argv[2], { flags: 'a' });
const server = http.createServer({ insecureHTTPParser: true, keepAliveTimeout: 60000 }, (request, response) => {
  log.write(`SEEN ${request.method} ${request.url}\n`);
  let bytes = 0;
  request.on('data', (data) => { bytes += data.length; });
  request.on('error', () => {});
  request.on('end', () => {
    response.setHeader('X-Seen', encodeURI(request.url));
    response.end(`${bytes}\n`);
  });
});
server.on('clientError', (error, socket) => {
  // An end in the middle is that of a request that Handover gave up.
  if (!['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE'].includes(error.code)) {
    log.write(`BAD ${error.code} ${(error.rawPacket || Buffer.alloc(0)).toString('latin1').slice(0, 300).replace(/\n/g, '\\n')}\n`);
  }
  socket.destroy();
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
