//! Plots as SVG: axes with round ticks, lines, areas, columns. Colours are classes of the page's style.
use std::fmt::Write as _;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// No line has more points than this: what is more is joined.
const MAX_POINTS: usize = 480;

/// A plot over some x, with one y axis.
pub struct Plot {
    pub title: String,
    /// Behind the title.
    pub note: String,
    /// What is said when there is no point.
    pub empty: &'static str,
    pub series: Vec<Series>,
    pub x: Axis,
    pub y: Axis,
    /// Stretches of x that are not what is measured, and what they are.
    pub shades: Vec<(f64, f64, &'static str)>,
    /// Where something must not go, and what it is.
    pub limit: Option<(f64, String)>,
    /// Vertical marks: where, and what.
    pub marks: Vec<(f64, String)>,
}

pub struct Series {
    pub name: String,
    /// The class that gives its colour: `c1`, `c2`, …
    pub class: &'static str,
    pub kind: Kind,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Line,
    /// A line that does not say much, such as a maximum.
    Thin,
    Area,
    /// A column from each x to the next; the last point only ends the one before.
    Columns,
    Dots,
}

pub struct Axis {
    pub show: fn(f64) -> String,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// From zero, to at least this.
    FromZero(f64),
    /// Seconds, from zero to this.
    Time(f64),
    /// By factors; what is not positive is at the lower edge.
    Log,
}

/// Ends of an axis, and its ticks.
struct Range {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Plot {
    /// A figure: title, legend, drawing. Without any point it says so.
    pub fn svg(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        let _ = write!(out, "<figure class=plot><figcaption><b>{}</b>", super::escape(&self.title));
        if !self.note.is_empty() {
            let _ = write!(out, " <span>{}</span>", super::escape(&self.note));
        }
        self.legend(&mut out);
        out.push_str("</figcaption>");
        let points = || self.series.iter().flat_map(|s| &s.points);
        if points().next().is_none() {
            let _ = write!(out, "<p class=nothing>{}</p></figure>", self.empty);
            return out;
        }
        let x = Range::of(self.x.scale, points().map(|p| p.0), false);
        let y = Range::of(self.y.scale, points().map(|p| p.1), true);
        let _ =
            write!(out, "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{}'>", super::escape(&self.title));
        self.shades(&mut out, &x);
        self.axes(&mut out, &x, &y);
        for series in &self.series {
            series.draw(&mut out, &x, &y);
        }
        self.marks(&mut out, &x, &y);
        out.push_str("</svg></figure>");
        out
    }

    fn legend(&self, out: &mut String) {
        if self.series.len() < 2 {
            return;
        }
        out.push_str("<span class=legend>");
        for series in &self.series {
            let _ = write!(out, "<i class={}></i>{} ", series.class, super::escape(&series.name));
        }
        out.push_str("</span>");
    }

    fn shades(&self, out: &mut String, x: &Range) {
        for (from, to, what) in &self.shades {
            let (left, right) = (across(x, *from), across(x, *to));
            let (width, height) = ((right - left).max(0.0), HEIGHT - TOP - BOTTOM);
            let _ = write!(out, "<rect class=shade x={left:.1} y={TOP} width={width:.1} height={height} />");
            if width > 7.0 * what.len() as f64 {
                let _ = write!(out, "<text class=faint x={:.1} y={:.1}>{what}</text>", left + 4.0, TOP + 12.0);
            }
        }
    }

    fn axes(&self, out: &mut String, x: &Range, y: &Range) {
        for tick in &y.ticks {
            let at = up(y, *tick);
            let _ = write!(out, "<line class=grid x1={LEFT} x2={:.1} y1={at:.1} y2={at:.1} />", WIDTH - RIGHT);
            let (at, text) = (at + 3.5, (self.y.show)(*tick));
            let _ = write!(out, "<text class=tick x={:.1} y={at:.1} text-anchor=end>{text}</text>", LEFT - 6.0);
        }
        for tick in &x.ticks {
            let (at, bottom) = (across(x, *tick), HEIGHT - BOTTOM);
            let _ = write!(out, "<line class=stub x1={at:.1} x2={at:.1} y1={bottom} y2={} />", bottom + 4.0);
            let (y, text) = (HEIGHT - 8.0, (self.x.show)(*tick));
            let _ = write!(out, "<text class=tick x={at:.1} y={y} text-anchor=middle>{text}</text>");
        }
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = write!(out, "<line class=axis x1={LEFT} x2={right} y1={bottom} y2={bottom} />");
    }

    fn marks(&self, out: &mut String, x: &Range, y: &Range) {
        if let Some((limit, what)) = self.limit.as_ref().filter(|(limit, _)| (y.low..=y.high).contains(limit)) {
            let (at, right) = (up(y, *limit), WIDTH - RIGHT);
            let _ = write!(out, "<line class=limit x1={LEFT} x2={right} y1={at:.1} y2={at:.1} />");
            let what = super::escape(what);
            let _ = write!(out, "<text class=limit x={right} y={:.1} text-anchor=end>{what}</text>", at - 4.0);
        }
        let mut free = [f64::MIN; 3];
        for (mark, what) in &self.marks {
            let (at, bottom) = (across(x, *mark), HEIGHT - BOTTOM);
            let _ = write!(out, "<line class=mark x1={at:.1} x2={at:.1} y1={TOP} y2={bottom} />");
            // The first row in which the words do not run into those before.
            let row = free.iter().position(|end| *end < at).unwrap_or(free.len() - 1);
            let width = 6.2 * what.chars().count() as f64;
            free[row] = at + width + 8.0;
            let (anchor, text) = if at + width > WIDTH - RIGHT { ("end", at - 4.0) } else { ("start", at + 4.0) };
            let (y, what) = (TOP + 11.0 + 13.0 * row as f64, super::escape(what));
            let _ = write!(out, "<text class=marked x={text:.1} y={y:.1} text-anchor={anchor}>{what}</text>");
        }
    }
}

impl Series {
    pub fn line(name: &str, class: &'static str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self::new(name, class, Kind::Line, points)
    }

    pub fn new(name: &str, class: &'static str, kind: Kind, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        Self { name: name.to_owned(), class, kind, points }
    }

    fn draw(&self, out: &mut String, x: &Range, y: &Range) {
        let class = self.class;
        let place = |(px, py): &(f64, f64)| (across(x, *px), up(y, *py));
        match self.kind {
            Kind::Columns => {
                for pair in self.points.windows(2).filter(|pair| pair[0].1 > 0.0) {
                    let ((left, top), (right, _)) = (place(&pair[0]), place(&pair[1]));
                    let (width, height) = ((right - left - 0.6).max(0.8), (HEIGHT - BOTTOM - top).max(0.8));
                    let top = HEIGHT - BOTTOM - height;
                    let _ = write!(
                        out,
                        "<rect class='{class} column' x={left:.1} y={top:.1} width={width:.1} height={height:.1} />"
                    );
                }
            }
            Kind::Dots => {
                for (px, py) in self.points.iter().map(place) {
                    let _ = write!(out, "<circle class='{class} dot' cx={px:.1} cy={py:.1} r=4 />");
                }
            }
            Kind::Line | Kind::Thin | Kind::Area => {
                let points = thinned(&self.points);
                let mut path = String::with_capacity(points.len() * 12);
                for (index, (px, py)) in points.iter().map(place).enumerate() {
                    let _ = write!(path, "{}{px:.1} {py:.1}", if index == 0 { "M" } else { "L" });
                }
                if let Some((first, last)) = points.first().zip(points.last()).filter(|_| self.kind == Kind::Area) {
                    let (left, right, bottom) = (across(x, first.0), across(x, last.0), HEIGHT - BOTTOM);
                    let _ =
                        write!(out, "<path class='{class} area' d='{path}L{right:.1} {bottom}L{left:.1} {bottom}Z'/>");
                }
                let weight = if self.kind == Kind::Thin { "thin" } else { "line" };
                let _ = write!(out, "<path class='{class} {weight}' d='{path}'/>");
            }
        }
    }
}

/// At most `MAX_POINTS`: neighbours become one point, which keeps the greatest y, for it is the peaks that one looks for.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let joined = points.len().div_ceil(MAX_POINTS).max(1);
    points.chunks(joined).filter_map(|chunk| chunk.iter().copied().reduce(|a, b| (b.0, a.1.max(b.1)))).collect()
}

fn across(x: &Range, value: f64) -> f64 {
    LEFT + x.part(value) * (WIDTH - LEFT - RIGHT)
}

fn up(y: &Range, value: f64) -> f64 {
    HEIGHT - BOTTOM - y.part(value) * (HEIGHT - TOP - BOTTOM)
}

impl Range {
    /// A y axis ends at a round number; an x axis where the points end.
    fn of(scale: Scale, values: impl Iterator<Item = f64> + Clone, round: bool) -> Self {
        let highest = values.clone().fold(f64::MIN, f64::max);
        match scale {
            Scale::FromZero(least) => {
                let high = highest.max(least).max(1e-9);
                let step = round_step(high / if round { 4.0 } else { 7.0 });
                let high = if round { (high / step - 1e-9).ceil() * step } else { high };
                let ticks = (0..=(high / step + 1e-9) as u32).map(|n| f64::from(n) * step).collect();
                Self { low: 0.0, high, log: false, ticks }
            }
            Scale::Time(end) => {
                let high = highest.max(end).max(1.0);
                let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0];
                let step = steps
                    .into_iter()
                    .find(|step| high / step <= 8.0)
                    .unwrap_or((high / 8.0 / 3_600.0).ceil() * 3_600.0);
                let ticks = (0..=(high / step) as u32).map(|n| f64::from(n) * step).collect();
                Self { low: 0.0, high, log: false, ticks }
            }
            Scale::Log => {
                let high = highest.max(1e-9);
                let lowest = values.filter(|v| *v > 0.0).fold(f64::MAX, f64::min).min(high);
                let (low, high) =
                    if round { (round_125(lowest, false), round_125(high, true)) } else { (lowest, high) };
                let high = high.max(low * 3.0);
                let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let all = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d)));
                let mut ticks: Vec<f64> = all.filter(|t| (low * 0.999..=high * 1.001).contains(t)).collect();
                if ticks.len() > 8 {
                    ticks.retain(|t| (t.log10() - t.log10().round()).abs() < 1e-6);
                }
                Self { low, high, log: true, ticks }
            }
        }
    }

    /// Where a value is, from 0 (low) to 1 (high).
    fn part(&self, value: f64) -> f64 {
        let part = match self.log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        part.clamp(0.0, 1.0)
    }
}

/// The next 1, 2 or 5 times a power of ten, above or below.
fn round_125(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    match up {
        true => steps.into_iter().find(|s| *s >= value * 0.999_999).unwrap_or(10.0 * power),
        false => steps.into_iter().rev().find(|s| *s <= value * 1.000_001).unwrap_or(power),
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, and not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plot(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let x = Axis { show: |x| format!("{x}"), scale: Scale::FromZero(0.0) };
        let y = Axis { show: |y| format!("{y:.3}"), scale };
        let series = [Kind::Line, Kind::Area, Kind::Columns, Kind::Dots]
            .map(|kind| Series::new("a < b", "c1", kind, points.iter().copied()))
            .into();
        let (shades, limit) = (vec![(0.0, 5.0, "joining")], Some((50.0, "50 ms".to_owned())));
        let marks = vec![(1.0, "p50".to_owned()), (1.1, "p99".to_owned())];
        Plot { title: "T & U".to_owned(), note: String::new(), empty: "nothing", series, x, y, shades, limit, marks }
            .svg()
    }

    proptest! {
        #[test]
        fn any_figures_give_a_drawing_without_nonsense(
            points in proptest::collection::vec((0.0..1e6f64, prop_oneof![Just(0.0), Just(f64::NAN), 1e-9..1e12f64]), 0..700),
            log in any::<bool>(),
        ) {
            let svg = plot(if log { Scale::Log } else { Scale::FromZero(0.0) }, points);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            prop_assert!(svg.len() < 400_000);
        }

        #[test]
        fn axes_have_a_few_round_ticks_and_hold_every_value(low in 1e-6..1e9f64, factor in 1.0..1e6f64) {
            for scale in [Scale::FromZero(0.0), Scale::Log] {
                let range = Range::of(scale, [low, low * factor].into_iter(), true);
                prop_assert!((2..=12).contains(&range.ticks.len()), "{:?}", range.ticks);
                prop_assert!(range.low <= low * 1.000_01 && range.high >= low * factor * 0.999_99);
            }
        }
    }

    #[test]
    fn words_are_escaped() {
        let svg = plot(Scale::Log, vec![(0.0, 1.0)]);
        assert!(svg.contains("T &amp; U") && svg.contains("a &lt; b"));
    }

    #[test]
    fn hours_are_thinned_and_keep_their_peaks() {
        let points: Vec<(f64, f64)> = (0..7_200).map(|s| (f64::from(s), if s == 4_321 { 99.0 } else { 1.0 })).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= MAX_POINTS && thin.iter().any(|p| p.1 == 99.0));
    }
}
