// What real clients talk to: says what it got, has one large answer, and a page with a hundred scripts.
const http = require('http');
const PARTS = 100;
const script = (number) => `<script src="/part/${number}.js"></script>`;
const page = `<html><head><title>page</title></head><body>${[...Array(PARTS).keys()].map(script).join('\n')}
<script>document.write('<p id="loaded">' + (window.loaded || 0) + ' parts</p>');</script></body></html>`;
const type = { 'Content-Type': 'text/html' };
http.createServer((request, response) => {
  let bytes = 0;
  request.on('data', (data) => { bytes += data.length; });
  request.on('end', () => {
    if (request.url === '/page') return response.writeHead(200, type).end(page);
    if (request.url.startsWith('/part/')) {
      return response.writeHead(200, { 'Content-Type': 'text/javascript' }).end('window.loaded = (window.loaded || 0) + 1;');
    }
    if (request.url === '/big') {
      const big = Buffer.alloc(1000000, 'b');
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range || '');
      if (!range) return response.writeHead(200, { 'Content-Length': big.length }).end(big);
      const [from, to] = [Number(range[1]), Number(range[2])];
      return response
        .writeHead(206, { 'Content-Range': `bytes ${from}-${to}/${big.length}`, 'Content-Length': to + 1 - from })
        .end(big.subarray(from, to + 1));
    }
    const text = JSON.stringify({ method: request.method, url: request.url, bytes });
    return response.writeHead(200, { 'Content-Type': 'application/json' }).end(text);
  });
}).listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
