// Writes the offers that the installed browsers make to ../*.sdp. Run: node tests/offers/capture/browsers.js
import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { launch, openPage } from '../../browser/browsers.js';

const OFFERS = {
  'chromium-pub': ['chromium', { send: [{}] }],
  'chromium-pub-simulcast': ['chromium', { send: [{ rids: ['q', 'h', 'f'] }] }],
  'chromium-pub-svc': ['chromium', { send: [{ scalabilityMode: 'L3T3_KEY', codec: 'video/VP9' }] }],
  'chromium-pub-screen': ['chromium', { send: [{ rids: ['q', 'h', 'f'] }, {}] }],
  'chromium-sub': ['chromium', { receive: [2, 2] }],
  'firefox-pub': ['firefox', { send: [{}] }],
  'firefox-pub-simulcast': ['firefox', { send: [{ rids: ['q', 'h', 'f'] }] }],
  'firefox-sub': ['firefox', { receive: [2, 2] }],
};

const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'));
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const url = `http://127.0.0.1:${server.address().port}/`;
try {
  for (const name of ['chromium', 'firefox']) {
    const browser = await launch(name);
    try {
      const page = await openPage(browser, url);
      for (const [file, [wants, how]] of Object.entries(OFFERS)) {
        if (wants !== name) continue;
        const sdp = await page.evaluate(makeOffer, how);
        // Only loopback and documentation addresses (RFC 5737, RFC 3849) belong in a file.
        const shown = sdp
          .replace(/\b(?!127\.|0\.0\.0\.0)(\d{1,3}\.){3}\d{1,3}(?= \d+ typ)/g, '192.0.2.7')
          .replace(/(IP4) (?!127\.|0\.0\.0\.0)[\d.]+/g, '$1 192.0.2.7')
          .replace(/\bf[de][0-9a-f]{2}:[0-9a-f:]+(?= \d+ typ)/g, '2001:db8::7');
        await writeFile(new URL(`../${file}.sdp`, import.meta.url), shown);
        console.log(`${file}: ${shown.length} bytes`);
      }
    } finally {
      await browser.close();
    }
  }
} finally {
  server.close();
}

/** Runs in the page. Candidates are gathered first, so that the file shows them. */
async function makeOffer({ send = [], receive: [audio, video] = [0, 0] }) {
  const pc = new RTCPeerConnection();
  for (const { rids, scalabilityMode, codec } of send) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 1280, height: 720 } });
    const scale = { q: 4, h: 2, f: 1 };
    const sendEncodings = rids
      ? rids.map((rid) => ({ rid, scaleResolutionDownBy: scale[rid] }))
      : scalabilityMode && [{ scalabilityMode }];
    pc.addTransceiver(stream.getAudioTracks()[0], { direction: 'sendonly', streams: [stream] });
    const transceiver = pc.addTransceiver(stream.getVideoTracks()[0], {
      direction: 'sendonly',
      streams: [stream],
      ...(sendEncodings && { sendEncodings }),
    });
    if (codec) {
      const { codecs } = RTCRtpSender.getCapabilities('video');
      transceiver.setCodecPreferences(codecs.filter((c) => [codec, 'video/rtx'].includes(c.mimeType)));
    }
  }
  for (let n = 0; n < audio; n++) pc.addTransceiver('audio', { direction: 'recvonly' });
  for (let n = 0; n < video; n++) pc.addTransceiver('video', { direction: 'recvonly' });
  const gathered = new Promise((done) => pc.addEventListener('icecandidate', (event) => event.candidate ?? done()));
  await pc.setLocalDescription();
  await Promise.race([gathered, new Promise((done) => setTimeout(done, 3000))]);
  const { sdp } = pc.localDescription;
  pc.getSenders().forEach((sender) => sender.track?.stop());
  pc.close();
  return sdp;
}
