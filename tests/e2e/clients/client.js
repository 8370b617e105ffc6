// fetch against the address in argv: kept connections, uploads of both kinds, streams, many at once.
const base = process.argv[2];
const assert = require('assert');
(async () => {
  for (let number = 0; number < 50; number += 1) {
    const answer = await (await fetch(`${base}/get/${number}?a=b`)).json();
    assert.strictEqual(answer.url, `/get/${number}?a=b`);
  }
  const posted = await fetch(`${base}/post`, { method: 'POST', body: Buffer.alloc(300000, 'x') });
  assert.strictEqual((await posted.json()).bytes, 300000);
  const stream = new ReadableStream({
    start(controller) {
      for (let piece = 0; piece < 100; piece += 1) controller.enqueue(new Uint8Array(1000));
      controller.close();
    },
  });
  const chunked = await fetch(`${base}/chunks`, { method: 'POST', body: stream, duplex: 'half' });
  assert.strictEqual((await chunked.json()).bytes, 100000);
  const all = await Promise.all([...Array(200).keys()].map((number) => fetch(`${base}/many/${number}`).then((a) => a.json())));
  all.forEach((answer, number) => assert.strictEqual(answer.url, `/many/${number}`));
  const big = await (await fetch(`${base}/big`)).arrayBuffer();
  assert.strictEqual(big.byteLength, 1000000);
  console.log('all good');
})().catch((error) => { console.error(error); process.exit(1); });
