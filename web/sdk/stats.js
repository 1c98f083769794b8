// @ts-check
/**
 * The server's view and the browser's, side by side. Rates are counters: take the difference of two calls.
 * @param {{signal: import('./signal.js').Signal, pub: RTCPeerConnection | null, sub: RTCPeerConnection | null, slots: any[], local: any[]}} parts
 */
export async function collectStats({ signal, pub, sub, slots, local }) {
  const server = signal.phase === 'live' ? signal.request('stats', {}, { timeoutMs: 3000 }).catch(() => null) : null;
  const [sent, received, fromServer] = await Promise.all([pub?.getStats(), sub?.getStats(), server]);
  const bySlot = new Map(slots.map((slot) => [slot.mid, slot.trackId]));
  const byMid = new Map(local.map((track) => [track.transceiver?.mid, track.id]));
  return {
    at: Date.now(),
    server: fromServer,
    pub: { ...path(sent), tracks: streams(sent, 'outbound-rtp', byMid) },
    sub: { ...path(received), tracks: streams(received, 'inbound-rtp', bySlot) },
  };
}

/** @param {RTCStatsReport | undefined} report */
function path(report) {
  const entry = selectedPair(report);
  if (!entry) return { rttMs: null, availableBps: null, bytesSent: 0, bytesReceived: 0, remote: null };
  const remote = report?.get(entry.remoteCandidateId);
  return {
    rttMs: entry.currentRoundTripTime === undefined ? null : Math.round(entry.currentRoundTripTime * 1000),
    availableBps: entry.availableOutgoingBitrate ?? entry.availableIncomingBitrate ?? null,
    bytesSent: entry.bytesSent,
    bytesReceived: entry.bytesReceived,
    remote: remote ? `${remote.protocol} ${remote.address ?? remote.ip}:${remote.port}` : null,
  };
}

/** The candidate pair in use: several may have been nominated one after the other. @param {RTCStatsReport | undefined} report */
function selectedPair(report) {
  const entries = [...(report?.values() ?? [])];
  const transport = entries.find(({ type, selectedCandidatePairId }) => type === 'transport' && selectedCandidatePairId);
  if (transport) return report?.get(transport.selectedCandidatePairId);
  const usable = entries.filter(({ type, nominated, selected, state }) => type === 'candidate-pair' && (nominated || selected) && state === 'succeeded');
  return usable.find(({ selected }) => selected) ?? usable[0];
}

/** @param {RTCStatsReport | undefined} report @param {string} type @param {Map<any, any>} tracks mid -> track id */
function streams(report, type, tracks) {
  /** @type {any[]} */
  const list = [];
  for (const entry of report?.values() ?? []) {
    if (entry.type !== type) continue;
    const track = tracks.get(entry.mid);
    if (!track) continue;
    const codec = entry.codecId ? report?.get(entry.codecId)?.mimeType : undefined;
    const keys = ['kind', 'mid', 'rid', 'bytesSent', 'bytesReceived', 'packetsSent', 'packetsReceived', 'packetsLost', 'jitter', 'frameWidth', 'frameHeight',
      'framesPerSecond', 'framesDecoded', 'framesEncoded', 'framesDropped', 'freezeCount', 'totalFreezesDuration', 'keyFramesDecoded', 'nackCount', 'pliCount',
      'concealedSamples', 'totalSamplesReceived', 'audioLevel', 'totalAudioEnergy', 'qualityLimitationReason', 'active',
      'scalabilityMode', 'targetBitrate'];
    // What the server reported of it (RTCP receiver reports).
    const remote = entry.remoteId ? report?.get(entry.remoteId) : undefined;
    const told = type === 'outbound-rtp' && remote ? { remoteLost: remote.packetsLost, remoteRttMs: remote.roundTripTime === undefined ? undefined : remote.roundTripTime * 1000 } : {};
    list.push({ track, codec, ...told, ...Object.fromEntries(keys.filter((key) => entry[key] !== undefined).map((key) => [key, entry[key]])) });
  }
  return list;
}
