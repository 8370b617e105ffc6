// ws against the address in argv: messages of all sizes there and back, an orderly end.
const { WebSocket } = require(process.argv[3]);
const assert = require('assert');
const sizes = [0, 1, 125, 126, 65535, 65536, 300000];
const socket = new WebSocket(process.argv[2]);
let next = 0;
const send = () => socket.send(Buffer.alloc(sizes[next], next));
socket.on('open', send);
socket.on('message', (data) => {
  assert.ok(Buffer.from(data).equals(Buffer.alloc(sizes[next], next)));
  next += 1;
  if (next < sizes.length) send();
  else socket.close(1000, 'done');
});
socket.on('close', (code) => {
  assert.strictEqual(code, 1000);
  assert.strictEqual(next, sizes.length);
  console.log('all good');
});
socket.on('error', (error) => { console.error(error); process.exit(1); });
