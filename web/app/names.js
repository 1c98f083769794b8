/** Room names that are easy to say and hard to guess by accident. */
const FIRST = 'amber autumn birch blue calm cedar clear copper coral dawn early fern gentle golden green harbour hazel ivory june kind lake lemon light linen little maple marble mellow mild mint morning mossy north olive open pale pearl pine plum quiet river rose round saffron sage sandy silver slow soft spring still stone summer sunny teal tender thyme tidal velvet warm willow winter wooden'.split(' ');
const SECOND = 'acorn alcove arch arcade atrium bay bench bridge brook canopy cove court crane cypress dell dome evening field finch fountain gable garden glade grove harbor hearth heron hill island kite lantern lark loft meadow mill orchard otter patio pavilion pebble plaza pond porch portico reed robin salon shore sparrow swallow table tea terrace thicket tower valley veranda village walnut wharf window wren yard'.split(' ');

export function inventRoomName() {
  const random = crypto.getRandomValues(new Uint32Array(3));
  const tail = (random[2] % 46656).toString(36).padStart(3, '0');
  return `${FIRST[random[0] % FIRST.length]}-${SECOND[random[1] % SECOND.length]}-${tail}`;
}

/** What somebody typed, as a room name; empty if nothing of it can be one. It may be a whole link. */
export function asRoomName(typed) {
  const path = /\/r\/([^/?#]+)/.exec(typed)?.[1];
  const text = path ? decode(path) : typed;
  return text.trim().toLowerCase().replace(/\s+/g, '-').replace(/[^\p{L}\p{N}_.-]/gu, '').replace(/^\.+/, '').slice(0, 64);
}

export function roomPath(room) {
  return `/r/${encodeURIComponent(room)}`;
}

export function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}

export function initials(name) {
  const words = name.trim().split(/[\s_-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0] ?? '').join('').toUpperCase() || '?';
}

/** One of eight colours, always the same for a name. */
export function hue(name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return hash % 8;
}
