/** Why a picture is not as good as it could be, in plain words. Pure: what there is goes in, words come out. */

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
