// A call without the server, from one page to another: what the browsers can do by themselves.

/** Sends the source `camera` of the page `from` to the page `to`, where it is measured as `direct`. `codec`: such as `VP9`. */
export async function callDirectly(from, to, codec) {
  const offer = await from.evaluate(async (preferred) => {
    const pc = new RTCPeerConnection();
    bench.peers.set('direct', pc);
    const { stream } = bench.sources.get('camera');
    stream.getTracks().forEach((track) => pc.addTrack(track, stream));
    const codecs = RTCRtpSender.getCapabilities('video').codecs.filter(({ mimeType }) => mimeType === `video/${preferred}`);
    if (preferred) pc.getTransceivers().find(({ sender }) => sender.track.kind === 'video').setCodecPreferences(codecs);
    await pc.setLocalDescription();
    await new Promise((done) => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done()));
    return pc.localDescription.sdp;
  }, codec);
  const answer = await to.evaluate(async (sdp) => {
    const pc = new RTCPeerConnection();
    bench.peers.set('direct', pc);
    pc.ontrack = ({ track }) => bench.watch('direct', track);
    await pc.setRemoteDescription({ type: 'offer', sdp });
    await pc.setLocalDescription();
    await new Promise((done) => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done()));
    return pc.localDescription.sdp;
  }, offer);
  await from.evaluate((sdp) => bench.peers.get('direct').setRemoteDescription({ type: 'answer', sdp }), answer);
}

/** Ends that call. */
export async function hangUp(...pages) {
  await Promise.all(pages.map((page) => page.evaluate(() => bench.peers.get('direct')?.close())));
}
