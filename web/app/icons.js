/** Inline SVG icons: 24 by 24, strokes in the colour of the text. */
const SVG = 'http://www.w3.org/2000/svg';

const PATHS = {
  mic: ['M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3Z', 'M5.5 11a6.5 6.5 0 0 0 13 0', 'M12 17.5V21'],
  micOff: ['M9 9v2a3 3 0 0 0 4.6 2.5', 'M15 11V6a3 3 0 0 0-5.8-1', 'M5.5 11a6.5 6.5 0 0 0 10 5.5', 'M18.5 11a6.4 6.4 0 0 1-.6 2.7', 'M12 17.5V21', 'M4 3.5l16 17'],
  camera: ['M4.5 6.5h9a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2Z', 'M15.5 10.5l6-3v9l-6-3'],
  cameraOff: ['M8 6.5h5.5a2 2 0 0 1 2 2v5.5', 'M15 17c-.4.3-.9.5-1.5.5h-9a2 2 0 0 1-2-2v-7c0-.9.6-1.7 1.5-1.9', 'M15.5 10.5l6-3v9l-4-2', 'M4 3.5l16 17'],
  screen: ['M3.5 4.5h17a1.5 1.5 0 0 1 1.5 1.5v9.5a1.5 1.5 0 0 1-1.5 1.5h-17a1.5 1.5 0 0 1-1.5-1.5V6a1.5 1.5 0 0 1 1.5-1.5Z', 'M8 20.5h8', 'M12 13.5v-6', 'M9.3 10l2.7-2.7 2.7 2.7'],
  screenOff: ['M3.5 4.5h17a1.5 1.5 0 0 1 1.5 1.5v9.5a1.5 1.5 0 0 1-1.5 1.5h-17a1.5 1.5 0 0 1-1.5-1.5V6a1.5 1.5 0 0 1 1.5-1.5Z', 'M8 20.5h8', 'M9.5 8.3l5 5', 'M14.5 8.3l-5 5'],
  hand: ['M8 12.5V6.3a1.4 1.4 0 0 1 2.8 0V11', 'M10.8 11V4.6a1.4 1.4 0 0 1 2.8 0V11', 'M13.6 11V5.9a1.4 1.4 0 0 1 2.8 0V12', 'M16.4 9.4a1.4 1.4 0 0 1 2.8 0v4.8c0 4-2.6 6.8-6.2 6.8-3 0-4.5-1.3-6-3.7l-2.6-4.4c-.9-1.5 1-2.9 2.2-1.7L8 12.9'],
  chat: ['M12 4c5 0 9 3.2 9 7.3s-4 7.3-9 7.3c-1 0-2-.1-2.9-.4L4.5 20.5l1-3.6C3.9 15.6 3 13.6 3 11.3 3 7.2 7 4 12 4Z'],
  people: ['M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z', 'M2.5 19.5c.4-3.3 3.1-5.5 6.5-5.5s6.1 2.2 6.5 5.5', 'M15.5 4.9a3.4 3.4 0 0 1 0 6.3', 'M17.5 14.5c2.2.6 3.7 2.5 4 5'],
  more: ['M5.5 11.2a.8.8 0 1 0 0 1.6.8.8 0 0 0 0-1.6Z', 'M12 11.2a.8.8 0 1 0 0 1.6.8.8 0 0 0 0-1.6Z', 'M18.5 11.2a.8.8 0 1 0 0 1.6.8.8 0 0 0 0-1.6Z'],
  grid: ['M4 4.5h6.5v6.5H4z', 'M13.5 4.5H20v6.5h-6.5z', 'M4 14h6.5v5.5H4z', 'M13.5 14H20v5.5h-6.5z'],
  stage: ['M3.5 4.5h12v15h-12z', 'M18.5 4.5h2.5v4h-2.5z', 'M18.5 10.5h2.5v4h-2.5z', 'M18.5 16.5h2.5v3h-2.5z'],
  settings: ['M4 7h9', 'M17 7h3', 'M4 17h3', 'M11 17h9', 'M15 9.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z', 'M9 19.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z'],
  keyboard: ['M3.5 6.5h17a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-17a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1Z', 'M6.5 10h.01', 'M10 10h.01', 'M14 10h.01', 'M17.5 10h.01', 'M8 14h8'],
  leave: ['M3 14.3c0-.9.2-1.8.8-2.5C5.6 9.7 8.6 8.5 12 8.5s6.4 1.2 8.2 3.3c.6.7.8 1.6.8 2.5v.7c0 .8-.8 1.4-1.6 1.2l-2.8-.7c-.6-.1-1-.6-1-1.2v-1.5a11.5 11.5 0 0 0-7.2 0v1.5c0 .6-.4 1.1-1 1.2l-2.8.7C3.8 16.4 3 15.8 3 15v-.7Z'],
  link: ['M10 14a4 4 0 0 0 5.7 0l3.1-3.1a4 4 0 0 0-5.7-5.7L11.8 6.5', 'M14 10a4 4 0 0 0-5.7 0l-3.1 3.1a4 4 0 0 0 5.7 5.7l1.3-1.3'],
  close: ['M6 6l12 12', 'M18 6L6 18'],
  send: ['M4 12l16-7.5-5.5 15.5-3.3-6.2L4 12Z', 'M11.2 13.8L20 4.5'],
  pin: ['M9 4h6l-.7 6 3.2 3.5h-11L9.7 10 9 4Z', 'M12 13.5V20.5'],
  speaker: ['M4 9.5v5h3.5l4.5 4v-13l-4.5 4H4Z', 'M15.5 9a4.2 4.2 0 0 1 0 6', 'M18 6.5a8 8 0 0 1 0 11'],
  check: ['M5 12.5l4.5 4.5L19 7.5'],
  signal: ['M5 19v-4', 'M10 19v-7', 'M15 19V9', 'M20 19V5'],
  weak: ['M4.5 19v-5', 'M9.5 19v-9', 'M14.5 19v-1.5', 'M19.5 19v-1.5'],
  lost: ['M3 8.5c5.5-4.7 12.5-4.7 18 0', 'M6.5 12.5c3.3-2.8 7.7-2.8 11 0', 'M12 18.5h.01', 'M4 3.5l16 17'],
  record: ['M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17Z', 'M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6Z'],
  fullscreen: ['M4 9V4.5h4.5', 'M20 9V4.5h-4.5', 'M4 15v4.5h4.5', 'M20 15v4.5h-4.5'],
  play: ['M8 5.2v13.6a.6.6 0 0 0 .9.5l10.6-6.8a.6.6 0 0 0 0-1L8.9 4.7a.6.6 0 0 0-.9.5Z'],
  pause: ['M8.5 5v14', 'M15.5 5v14'],
  back: ['M14.5 5.5L8 12l6.5 6.5'],
  back10: ['M4.5 5v4.5H9', 'M4.9 9.4A8 8 0 1 1 4 13', 'M9.6 11.2l1.4-.9v5.4', 'M13.6 12v2a1.4 1.4 0 0 0 2.8 0v-2a1.4 1.4 0 0 0-2.8 0Z'],
  ahead10: ['M19.5 5v4.5H15', 'M19.1 9.4A8 8 0 1 0 20 13', 'M8.6 11.2l1.4-.9v5.4', 'M12.6 12v2a1.4 1.4 0 0 0 2.8 0v-2a1.4 1.4 0 0 0-2.8 0Z'],
  download: ['M12 4v11', 'M7.5 10.8L12 15.3l4.5-4.5', 'M5 19.5h14'],
  bin: ['M5 6.5h14', 'M9.5 6.5v-2h5v2', 'M7 6.5l.8 13h8.4l.8-13', 'M10.5 10v6', 'M13.5 10v6'],
  warning: ['M12 4l9 15.5H3L12 4Z', 'M12 10v4.5', 'M12 17h.01'],
};

export function icon(name, className = 'icon') {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', className);
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('focusable', 'false');
  for (const d of PATHS[name]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

/** Changes the icon of a button that has one. */
export function swapIcon(button, name) {
  if (button.dataset.icon === name) return;
  button.dataset.icon = name;
  button.querySelector('svg')?.replaceWith(icon(name));
}

/** Seats around a half circle: what an exedra is. */
export function logo() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 32 32');
  svg.setAttribute('class', 'logo');
  svg.setAttribute('aria-hidden', 'true');
  for (const [d, part] of [['M4.5 21a11.5 11.5 0 0 1 23 0', 'outer'], ['M10.5 21a5.5 5.5 0 0 1 11 0', 'inner'], ['M4 26h24', 'floor']]) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    path.setAttribute('class', `logo-${part}`);
    svg.append(path);
  }
  return svg;
}
