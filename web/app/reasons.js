/** Why a picture is not as good as it could be, and what becomes of a recording, in plain words. Pure: what there is goes in, words come out. */

/** A connection is said to be weak up to here; 5 is nothing to wish for. */
const WEAK = 2;

const OWN_LINE = {
  loss: 'Much of what you send is lost on its way to the server.',
  delay: 'What you send takes long to reach the server.',
  bandwidth: 'Your connection carries less than your picture takes.',
  lost: 'Nothing that you send reaches the server.',
};

/**
 * @param {{track: any, participant: any, isLocal: boolean, width?: number, height?: number}} shown `width` and `height` are of the picture received
 * @returns {{question: string, text: string} | null} null when all is well
 */
export function reasonOf({ track, participant, isLocal, width = 0, height = 0 }) {
  if (!track || track.muted || participant.connection === 'lost') return null;
  const weak = participant.quality && participant.quality.up <= WEAK;
  if (isLocal) return weak ? { question: 'Why may others see me badly?', text: `${OWN_LINE[participant.quality.why] ?? 'Your connection to the server is weak.'} Others may see you small, or standing still. The camera switched off leaves more for your voice.` } : null;
  const whose = pictureOf(track, participant);
  if (track.why === 'bandwidth' && track.state === 'paused') {
    return { question: 'Why is there no picture?', text: `The network carries no picture of ${whose} to you at the moment. ${figures('It', track)} It comes back by itself.` };
  }
  if (track.why === 'bandwidth') {
    const size = width && height ? ` (${width}×${height})` : '';
    return { question: 'Why is this picture small?', text: `The network carries only a smaller picture of ${whose} to you${size}. ${figures('The next better one', track)} It gets better by itself.` };
  }
  if (weak) return { question: 'Why is this picture bad?', text: `The connection of ${participant.name || 'this guest'} to the server is weak, so everybody gets a worse picture. Nothing is wrong at your end.` };
  return null;
}

/** @param {any} track @param {any} participant */
function pictureOf(track, participant) {
  const name = participant.name || 'this guest';
  return track.source === 'screen' ? `${name}’s screen` : name;
}

/** @param {string} what @param {{needBps: number | null, haveBps: number | null}} track */
function figures(what, { needBps, haveBps }) {
  if (needBps === null) return '';
  if (haveBps !== null && haveBps >= needBps) return `${what} takes ${kbits(needBps)}, and there are ${kbits(haveBps)}: it comes as soon as that has held for a while.`;
  const there = haveBps === null ? '' : `, and there are ${kbits(haveBps)} for it`;
  return `${what} takes ${kbits(needBps)}${there}.`;
}

/** @param {number} bps */
export function kbits(bps) {
  return `${Math.round(bps / 1000).toLocaleString('en')} kbit/s`;
}

const ENDED = {
  diskFull: 'The recording has ended: the server has no more room for it. What was recorded until now is kept.',
  diskError: 'The recording has ended: the server could not write it. What was recorded until now is kept.',
  refused: 'This call should be recorded, and is not: the server cannot at the moment. It tries again.',
};

/** Who wants a recording, an operator and the server in words too. @param {string[]} owners @param {any} room */
function names(owners, room) {
  const words = owners.map((id) => ({ admin: 'an operator of the server', server: 'the server, as always in this room' })[id] ?? (id === room.me?.id ? 'you' : room.nameOf(id) || 'somebody who has left'));
  return words.length > 1 ? `${words.slice(0, -1).join(', ')} and ${words.at(-1)}` : (words[0] ?? '');
}

/** @param {any} recording one that runs @param {any} room */
export function whoRecords({ owners, tracks }, room) {
  const what = tracks ? 'Some of this call is being recorded' : 'This call is being recorded';
  return owners.length ? `${what}, wanted by ${names(owners, room)}.` : `${what}.`;
}

/** The owners who are here, if we are none of them. @param {any} recording @param {any} room */
export function startedByOthers({ owners }, room) {
  const here = owners.filter((/** @type {string} */ id) => room.participants.has(id));
  return owners.includes(room.me?.id) ? '' : names(here, room);
}

/** Why one cannot stop it, or nothing. @param {any} recording @param {any} room */
export function whoKeeps(recording, room) {
  const { owners } = recording;
  if (owners.includes(room.me?.id)) return '';
  if (owners.includes('server')) return 'This room is always recorded. The recording cannot be stopped from here.';
  if (owners.includes('admin')) return 'An operator of the server has this call recorded. It cannot be stopped from here.';
  const others = startedByOthers(recording, room);
  return others && !room.grants.moderate ? `${others} started this recording, and can stop it.` : '';
}

/** One has said stop, and others have not. @param {any} recording @param {any} room */
export function goesOn({ owners }, room) {
  return `The recording goes on: it is also wanted by ${names(owners, room)}.`;
}

/** @param {any} recording one that does not run any more @param {any} room */
export function recordingEnded({ state, why, by }, room) {
  if (state === 'failed') return ENDED[why] ?? 'The recording has ended: something went wrong on the server.';
  const who = by === undefined ? '' : names([by], room);
  return who && who !== 'you' ? `The recording was stopped by ${who}.` : 'The recording has ended.';
}

/** Why it could not be started or stopped. @param {'start' | 'stop'} action @param {{code: string, message: string}} error */
export function notRecorded(action, { code, message }) {
  if (action === 'start' && code === 'unsupported') return 'This server keeps no recordings. Whoever runs it can switch them on (--recordings).';
  if (action === 'start') return `The recording did not start: ${message}.`;
  return `The recording was not stopped: ${message}.`;
}
