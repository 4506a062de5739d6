// An APNs played by Node's http2, for tests: no line of ours, nor of the h2 library, in its protocol.
//
//   node http2_server.js '{"pem": "server.pem", "settings": {…}, "padding": 2}'
//
// Prints its port, then one JSON line for each request. `apns-collapse-id` says how to behave: see below.

'use strict';
const fs = require('node:fs');
const http2 = require('node:http2');

const options = JSON.parse(process.argv[2]);
const pem = fs.readFileSync(options.pem);
const server = http2.createSecureServer({
  key: pem, cert: pem, settings: options.settings || {}, paddingStrategy: options.padding || 0,
  maxSendHeaderBlockLength: 65536,
});
const body = (reason) => JSON.stringify({ reason, timestamp: 1700000000000 });
let open = 0;

const BEHAVIOURS = {
  ok: (stream) => stream.respond({ ':status': 200 }, { endStream: true }),
  bad: (stream) => { stream.respond({ ':status': 400 }); stream.end(body('BadDeviceToken')); },
  gone: (stream) => { stream.respond({ ':status': 410 }); stream.end(body('Unregistered')); },
  pieces: (stream) => {
    stream.respond({ ':status': 400 });
    for (const char of body('BadTopic')) stream.write(char);
    stream.end();
  },
  hints: (stream) => { stream.additionalHeaders({ ':status': 103, link: '</>' }); BEHAVIOURS.ok(stream); },
  trailers: (stream) => {
    stream.respond({ ':status': 400 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-trailer': '1' }));
    stream.end(body('BadTopic'));
  },
  long: (stream) => stream.respond({ ':status': 200, 'x-long': '~'.repeat(20000) }, { endStream: true }),
  later: (stream) => {
    const wait = http2.constants.HTTP_STATUS_TOO_MANY_REQUESTS;
    stream.respond({ ':status': wait, 'retry-after': '7' });
    stream.end(body('TooManyRequests'));
  },
  refused: (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
  broken: (stream) => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR),
  closed: (stream) => { BEHAVIOURS.ok(stream); stream.close(http2.constants.NGHTTP2_NO_ERROR); },
  shrink: (stream) => {
    stream.session.settings({
      headerTableSize: 0, maxConcurrentStreams: 2, initialWindowSize: 4000, maxFrameSize: 16384,
    });
    BEHAVIOURS.ok(stream);
  },
  grow: (stream) => {
    stream.session.settings({
      headerTableSize: 4096, maxConcurrentStreams: 500, initialWindowSize: 100000, maxFrameSize: 50000,
    });
    BEHAVIOURS.ok(stream);
  },
  ping: (stream) => stream.session.ping((error) => (error ? stream.close(2) : BEHAVIOURS.ok(stream))),
  goaway: (stream) => {
    BEHAVIOURS.ok(stream);
    stream.session.goaway(0, stream.id, Buffer.from('{"reason":"Shutdown"}'));
  },
};

server.on('stream', (stream, headers) => {
  const size = { bytes: 0 };
  open += 1;
  stream.on('close', () => { open -= 1; });
  stream.on('error', () => {});
  stream.on('data', (data) => { size.bytes += data.length; });
  stream.on('end', () => {
    const plain = Object.fromEntries(Object.entries(headers));
    console.log(JSON.stringify({ headers: plain, never: headers[http2.sensitiveHeaders], size: size.bytes, open }));
    BEHAVIOURS[headers['apns-collapse-id'] || 'ok'](stream);
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
