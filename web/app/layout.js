/** Where the tiles go: pure arithmetic, in CSS pixels. */

const WIDEST = 16 / 9;

/**
 * Places `count` tiles of equal size so that they cover as much as possible; the last row is centred.
 * @returns {Array<{x: number, y: number, w: number, h: number}>}
 */
export function grid(count, width, height, gap, narrowest = 1) {
  if (count === 0 || width <= 0 || height <= 0) return [];
  let best = { area: -1, cols: 1, rows: 1, w: 0, h: 0 };
  for (let cols = 1; cols <= count; cols++) {
    const rows = Math.ceil(count / cols);
    let w = (width - gap * (cols - 1)) / cols;
    let h = (height - gap * (rows - 1)) / rows;
    if (w <= 0 || h <= 0) continue;
    if (w / h > WIDEST) w = h * WIDEST;
    else if (w / h < narrowest) h = w / narrowest;
    // Empty places in the last row are a little waste; of two nearly equal ways the fuller one looks calmer.
    const area = w * h * (1 - 0.02 * (cols * rows - count));
    if (area > best.area) best = { area, cols, rows, w, h };
  }
  const { cols, rows, w, h } = best;
  const top = (height - rows * h - gap * (rows - 1)) / 2;
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / cols);
    const inRow = row === rows - 1 ? count - cols * (rows - 1) : cols;
    const left = (width - inRow * w - gap * (inRow - 1)) / 2;
    return { x: left + (i - row * cols) * (w + gap), y: top + row * (h + gap), w, h };
  }).map(round);
}

/** How many tiles a grid of this size can hold before they get too small to see a face. */
export function capacity(width, height, gap) {
  const least = width < 600 ? 110 : 180;
  const cols = Math.max(1, Math.floor((width + gap) / (least + gap)));
  const rows = Math.max(1, Math.floor((height + gap) / ((least * 9) / 16 + gap)));
  return Math.max(2, Math.min(25, cols * rows));
}

/**
 * One large tile, the others in a strip beside it (wide) or below it (tall).
 * The first rect is the large one; there may be fewer rects than tiles.
 */
export function stage(count, width, height, gap) {
  if (count <= 1) return [round({ x: 0, y: 0, w: width, h: height })];
  return width > height * 1.1 ? beside(count - 1, width, height, gap) : below(count - 1, width, height, gap);
}

function beside(others, width, height, gap) {
  const w = clamp(width * 0.17, 150, 300);
  const h = (w * 9) / 16;
  const shown = clamp(Math.floor((height + gap) / (h + gap)), 1, others);
  const top = Math.max(0, (height - shown * (h + gap) + gap) / 2);
  const strip = Array.from({ length: shown }, (_, i) => ({ x: width - w, y: top + i * (h + gap), w, h }));
  return [{ x: 0, y: 0, w: width - w - gap, h: height }, ...strip].map(round);
}

/** A tall screen has room to spare under a wide picture: it goes to the others. */
function below(others, width, height, gap) {
  const large = Math.min(height - 96 - gap, Math.max((width * 9) / 16, height * 0.45));
  const rest = height - large - gap;
  const shown = Math.min(others, capacity(width, rest, gap));
  const tiles = grid(shown, width, rest, gap, 0.75).map((rect) => ({ ...rect, y: rect.y + large + gap }));
  return [round({ x: 0, y: 0, w: width, h: large }), ...tiles];
}

/** Two people: the other one large, oneself small in the corner. */
export function duo(width, height, gap) {
  const portrait = height > width;
  const w = clamp(Math.min(width, height) * (portrait ? 0.28 : 0.3), 96, 280);
  const h = portrait ? w * 1.3 : (w * 9) / 16;
  const [main] = grid(1, width, height, gap, portrait ? (width < 600 ? 0.5 : 0.8) : 1);
  // On a very wide screen the corner of the picture is nearer to the eye than the corner of the screen.
  return [main, round({ x: Math.min(width, main.x + main.w) - w - gap, y: main.y + main.h - h - gap, w, h })];
}

function round({ x, y, w, h }) {
  return { x: Math.round(x), y: Math.round(y), w: Math.floor(w), h: Math.floor(h) };
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
