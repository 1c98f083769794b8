//! Where pictures stand on the canvas. Whatever the number, nothing is outside of it, and nothing covers anything else.
//!
//! Everything is even, because pictures are stored with half the resolution in colour.

/// The picture's width and height, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Canvas {
    pub width: u32,
    pub height: u32,
}

/// A canvas is 160 by 90 to 3840 by 2160, or on its side, and even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is WIDTHxHEIGHT, both even and from 90 to 3840, the longer at least 160: 1280x720 for instance")]
pub struct InvalidCanvas;

impl TryFrom<&str> for Canvas {
    type Error = InvalidCanvas;
    fn try_from(s: &str) -> Result<Self, InvalidCanvas> {
        let (width, height) = s.split_once('x').ok_or(InvalidCanvas)?;
        let side = |text: &str| {
            let harmless = text.bytes().all(|b| b.is_ascii_digit());
            let n = text.parse::<u32>().ok().filter(|n| harmless && (90..=3840).contains(n) && n % 2 == 0);
            n.ok_or(InvalidCanvas)
        };
        let (width, height) = (side(width)?, side(height)?);
        if width.max(height) < 160 { Err(InvalidCanvas) } else { Ok(Self { width, height }) }
    }
}

/// A rectangle on the canvas, in pixels from its upper left corner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

/// Where a picture is, and the name below it. No name where there is no room for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub picture: Rect,
    pub caption: Option<Rect>,
}

/// Rows and columns for so many: those in which pictures of 16 to 9 are largest.
pub fn grid(canvas: Canvas, count: usize) -> Vec<Place> {
    let count = count as u32;
    let gap = gap(canvas);
    let side = |length: u32, n: u32| even(length.saturating_sub(gap * (n + 1)) / n);
    let cell = |columns: u32| (side(canvas.width, columns), side(canvas.height, count.div_ceil(columns)));
    let area = |columns: &u32| {
        let (w, h) = cell(*columns);
        let picture = fit(Rect { x: 0, y: 0, w, h }, true).picture;
        (picture.w * picture.h, u32::MAX - columns)
    };
    let Some(columns) = (1..=count).max_by_key(area) else { return Vec::new() };
    let (w, h) = cell(columns);
    let rows = count.div_ceil(columns);
    let top = even(canvas.height.saturating_sub(rows * (h + gap) - gap) / 2);
    let place = |n: u32| {
        let (row, column) = (n / columns, n % columns);
        let in_row = columns.min(count - row * columns);
        let left = even(canvas.width.saturating_sub(in_row * (w + gap) - gap) / 2);
        fit(Rect { x: left + column * (w + gap), y: top + row * (h + gap), w, h }, true)
    };
    (0..count).map(place).collect()
}

/// One large, the others in a column on its right.
pub fn speaker(canvas: Canvas, others: usize) -> (Place, Vec<Place>) {
    let gap = gap(canvas);
    let whole = Rect { x: 0, y: 0, w: canvas.width, h: canvas.height };
    if others == 0 {
        return (fit(whole, false), Vec::new());
    }
    let strip = even(canvas.width / 5);
    let large = Rect { w: canvas.width - strip, ..whole };
    let n = others as u32;
    let w = even(strip.saturating_sub(2 * gap));
    let most = even(canvas.height.saturating_sub(gap * (n + 1)) / n);
    let h = most.min(even(w * 9 / 16 + MAX_CAPTION));
    let top = even(canvas.height.saturating_sub(n * (h + gap) - gap) / 2);
    let place = |n: u32| fit(Rect { x: large.w + gap, y: top + n * (h + gap), w, h }, true);
    (fit(large, false), (0..n).map(place).collect())
}

const MAX_CAPTION: u32 = 28;

fn gap(canvas: Canvas) -> u32 {
    even(canvas.width.min(canvas.height) / 90).max(2)
}

fn even(n: u32) -> u32 {
    n & !1
}

/// A picture in this cell, of 16 to 9 if `wide`, and its caption below.
fn fit(cell: Rect, wide: bool) -> Place {
    let room = cell.h >= 56 && cell.w >= 48;
    let caption = if room { even(cell.h / 9).clamp(14, MAX_CAPTION) } else { 0 };
    let (mut w, mut h) = (cell.w, cell.h - caption);
    if wide {
        (w, h) = (w.min(even(h * 16 / 9)), h.min(even(w * 9 / 16)));
    }
    let (w, h) = (w.max(2), h.max(2));
    let x = cell.x + even(cell.w.saturating_sub(w) / 2);
    let y = cell.y + even(cell.h.saturating_sub(h + caption) / 2);
    let below = Rect { x: cell.x, y: y + h, w: cell.w, h: caption };
    Place { picture: Rect { x, y, w, h }, caption: room.then_some(below) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(canvas: Canvas, places: &[Place]) {
        let mut rects = Vec::new();
        for place in places {
            rects.push(place.picture);
            rects.extend(place.caption);
        }
        for (n, a) in rects.iter().enumerate() {
            assert!(a.w >= 2 && a.h >= 2 && [a.x, a.y, a.w, a.h].iter().all(|v| v % 2 == 0), "{a:?}");
            assert!(a.x + a.w <= canvas.width && a.y + a.h <= canvas.height, "{a:?} is outside of {canvas:?}");
            for b in &rects[..n] {
                let apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
                assert!(apart, "{a:?} covers {b:?} on {canvas:?}");
            }
        }
    }

    fn canvas() -> impl Strategy<Value = Canvas> {
        let size = (45u32..=1920, 45u32..=1920).prop_map(|(w, h)| Canvas { width: 2 * w, height: 2 * h });
        size.prop_filter("long enough", |c| c.width.max(c.height) >= 160)
    }

    proptest! {
        #[test]
        fn pictures_are_on_the_canvas_and_apart(canvas in canvas(), count in 0usize..=64) {
            let places = grid(canvas, count);
            prop_assert_eq!(places.len(), count);
            check(canvas, &places);
            let (large, mut others) = speaker(canvas, count.min(6));
            prop_assert_eq!(others.len(), count.min(6));
            others.push(large);
            check(canvas, &others);
        }
    }

    #[test]
    fn four_are_two_by_two_and_fill_the_canvas() {
        let places = grid(Canvas { width: 1280, height: 720 }, 4);
        let lefts: Vec<_> = places.iter().map(|p| (p.picture.x < 640, p.picture.y < 360)).collect();
        assert_eq!(lefts, [(true, true), (false, true), (true, false), (false, false)]);
        assert!(places.iter().all(|p| p.picture.w > 550 && p.caption.is_some()), "{places:?}");
    }

    #[test]
    fn sizes() {
        assert_eq!(Canvas::try_from("1280x720"), Ok(Canvas { width: 1280, height: 720 }));
        for bad in ["", "1280", "1280x721", "0x0", "x", "1e3x90", "+640x360", "100x100", "9999x90", "1280x720x2"] {
            assert_eq!(Canvas::try_from(bad), Err(InvalidCanvas), "{bad}");
        }
    }
}
