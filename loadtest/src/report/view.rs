//! What one sees while it runs: a block of lines that is drawn in place on a terminal, or a plain line every five seconds elsewhere.
//!
//! A block is one write, and the cursor rests below it: whenever the program ends, by Ctrl-C too, the terminal is as it should be.
use super::model::{Phase, Sample};
use super::text::{bytes, clock, count, duration_us, number, percent};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

const BAR: usize = 54;
/// Seconds that a sparkline shows.
const SPARKS: usize = 24;
const PLAIN_EVERY_MS: u64 = 5_000;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows samples as they come. Errors of writing are not errors of the load test: they are passed over.
pub struct View<W> {
    out: W,
    style: Style,
    title: String,
    expected_ms: u64,
    /// Lines of the block that is on the screen.
    drawn: usize,
    recent: VecDeque<Sample>,
    repaired: u64,
    told_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A block in place, with colours.
    Colour,
    /// A block in place.
    Mono,
    /// A line every five seconds.
    Plain,
}

impl Style {
    /// What fits stderr: in place on a terminal that can do it, in colours unless NO_COLOR is set.
    pub fn of_stderr() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match std::io::stderr().is_terminal() {
            true if !dumb && set("NO_COLOR") => Self::Mono,
            true if !dumb => Self::Colour,
            _ => Self::Plain,
        }
    }
}

impl View<std::io::Stderr> {
    pub fn stderr() -> Self {
        Self::new(std::io::stderr(), Style::of_stderr())
    }
}

impl<W: Write> View<W> {
    pub fn new(out: W, style: Style) -> Self {
        Self {
            out,
            style,
            title: String::new(),
            expected_ms: 0,
            drawn: 0,
            recent: VecDeque::with_capacity(SPARKS),
            repaired: 0,
            told_ms: 0,
        }
    }

    /// A run begins, which will take about so long. What an earlier run has shown stays above.
    pub fn begin(&mut self, title: &str, expected_ms: u64) {
        self.title = title.to_owned();
        self.expected_ms = expected_ms;
        (self.drawn, self.repaired, self.told_ms) = (0, 0, 0);
        self.recent.clear();
        if self.style == Style::Plain {
            self.write(&format!("{title}\n"));
        }
    }

    /// Shows a second.
    pub fn update(&mut self, sample: &Sample) {
        if self.recent.len() == SPARKS {
            self.recent.pop_front();
        }
        self.recent.push_back(sample.clone());
        self.repaired += sample.repaired;
        match self.style {
            Style::Plain if sample.at_ms < self.told_ms + PLAIN_EVERY_MS => (),
            Style::Plain => {
                self.told_ms = sample.at_ms;
                let line = self.line(sample);
                self.write(&line);
            }
            Style::Colour | Style::Mono => self.draw(),
        }
    }

    /// A line that stays, above the block.
    pub fn note(&mut self, note: &str) {
        let text = self.replacing(&format!("{note}\n"));
        self.drawn = 0;
        self.write(&text);
        if self.style != Style::Plain {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let Some(sample) = self.recent.back() else { return };
        let block = self.block(sample);
        let text = self.replacing(&block);
        self.drawn = block.lines().count();
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }

    /// `text` in the place of the block that is on the screen. Lines are cut at the right edge, not wrapped: a wrapped line could not be drawn over.
    fn replacing(&self, text: &str) -> String {
        match (self.style, self.drawn) {
            (Style::Plain, _) => text.to_owned(),
            (_, 0) => format!("\x1b[?7l{text}\x1b[?7h"),
            (_, lines) => format!("\x1b[{lines}A\r\x1b[J\x1b[?7l{text}\x1b[?7h"),
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.style == Style::Colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn block(&self, now: &Sample) -> String {
        let mut text = String::with_capacity(1_024);
        let dim = |label: &str| self.paint("2", &format!("{label:<10}"));
        let _ = writeln!(text, "{}", self.paint("1", &self.title));
        let _ = writeln!(text, "{}", self.bar(now));
        let joined = format!("{}/{}", count(now.joined), count(now.wanted));
        let (sent, got) = (now.per_s(now.packets_sent), now.per_s(now.packets_received));
        let rates = format!("{} in {}/s  out {}/s", self.paint("2", "packets"), number(sent), number(got));
        let sparks = self.sparks("36", |s| s.per_s(s.packets_received));
        let _ = writeln!(text, "{}{joined:<14}{}{sparks}", dim("joined"), pad(&rates, 42));
        let latency = &now.latency;
        let times = match latency.count {
            0 => format!("{} –", self.paint("2", "latency")),
            _ => {
                let (p50, p99) = (duration_us(latency.p50_us), duration_us(latency.p99_us));
                format!("{} p50 {p50}  p99 {p99}", self.paint("2", "latency"))
            }
        };
        let sparks = self.sparks("35", |s| s.latency.p99_us as f64);
        let loss = self.loss_text(now);
        let _ = writeln!(text, "{}{}{}{sparks}", dim("missing"), pad(&loss, 14), pad(&times, 42));
        if let Some(server) = &now.server {
            let cpu = server.cpu_share.map_or("–".to_owned(), |share| format!("{} CPU", percent(share)));
            let rss = server.rss_bytes.map_or(String::new(), |rss| format!("RSS {}", bytes(rss as f64)));
            let spent = server.cpu_share.filter(|_| server.packets_out > 0).map_or(String::new(), |share| {
                let us = share * now.interval_ms as f64 * 1e3 / server.packets_out as f64;
                format!("  {} µs/packet", number(us))
            });
            let sparks = self.sparks("33", |s| s.server.and_then(|s| s.cpu_share).unwrap_or(0.0));
            let _ = writeln!(text, "{}{cpu:<14}{:<42}{sparks}", dim("server"), format!("{rss}{spent}"));
        }
        let generator = &now.generator;
        let busy = format!("{} CPU", percent(generator.cpu_share));
        let state = match generator.socket_drops + generator.unsent {
            0 => format!("{} {}", self.paint("2", "late by"), duration_us(generator.loop_lag_max_us)),
            lost => self.paint("31", &format!("dropped {} datagrams itself", count(lost))),
        };
        let sparks = self.sparks("2", |s| s.generator.cpu_share);
        let _ = writeln!(text, "{}{busy:<14}{}{sparks}", dim("load test"), pad(&state, 42));
        text
    }

    /// A time bar: done, to come, and the clock.
    fn bar(&self, now: &Sample) -> String {
        let expected = self.expected_ms.max(now.at_ms).max(1);
        let done = (BAR as u64 * now.at_ms / expected) as usize;
        let (full, rest) = ("━".repeat(done), "─".repeat(BAR - done));
        let (phase, at, end) = (now.phase.words(), clock(now.at_ms), clock(expected));
        format!("{:<10}{}{}  {at} / {end}", phase, self.paint("32", &full), self.paint("2", &rest))
    }

    fn loss_text(&self, now: &Sample) -> String {
        match (now.missing, self.repaired) {
            (0, 0) => self.paint("32", "nothing"),
            (0, repaired) => self.paint("33", &format!("0, {} again", count(repaired))),
            (lost, _) => self.paint("31", &count(lost)),
        }
    }

    /// The last seconds as little columns, the highest of them full.
    fn sparks(&self, colour: &str, of: impl Fn(&Sample) -> f64) -> String {
        let values: Vec<f64> = self.recent.iter().map(of).collect();
        let top = values.iter().copied().fold(0.0, f64::max);
        let column = |value: &f64| {
            let level = if top > 0.0 { value / top * (LEVELS.len() - 1) as f64 } else { 0.0 };
            LEVELS.get(level.round() as usize).copied().unwrap_or(' ')
        };
        self.paint(colour, &values.iter().map(column).collect::<String>())
    }

    /// The second that ends now; of p99 the worst since the last line.
    fn line(&self, now: &Sample) -> String {
        let mut text = format!("{:>6} {:<9}", clock(now.at_ms), now.phase.words());
        let _ = write!(text, "  joined {}/{}", now.joined, now.wanted);
        let rate = now.per_s(now.packets_received);
        let _ = write!(text, "  out {}/s  missing {}  repaired {}", number(rate), now.missing, self.repaired);
        if now.latency.count > 0 {
            let since = self.recent.iter().rev().take_while(|s| s.at_ms + PLAIN_EVERY_MS > now.at_ms);
            let worst = since.map(|s| s.latency.p99_us).max().unwrap_or(0);
            let (p50, p99) = (duration_us(now.latency.p50_us), duration_us(worst));
            let _ = write!(text, "  p50 {p50}  p99 {p99}");
        }
        if let Some(server) = &now.server {
            let cpu = server.cpu_share.map_or("–".to_owned(), percent);
            let rss = server.rss_bytes.map_or("–".to_owned(), |n| bytes(n as f64));
            let _ = write!(text, "  server {cpu} {rss}");
        }
        let _ = write!(text, "  load test {}", percent(now.generator.cpu_share));
        let dropped = now.generator.socket_drops + now.generator.unsent;
        if dropped > 0 {
            let _ = write!(text, ", dropped {dropped} itself");
        }
        text.push('\n');
        text
    }
}

impl Phase {
    pub fn words(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Measuring => "measuring",
            Self::Settling => "settling",
        }
    }
}

/// Fills up to `width` columns; colours take none.
fn pad(text: &str, width: usize) -> String {
    let mut columns = 0;
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if !escape => columns += 1,
            _ => (),
        }
    }
    format!("{text}{}", " ".repeat(width.saturating_sub(columns).max(1)))
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn shown(style: Style, seconds: usize) -> String {
        let mut screen = Vec::new();
        let mut view = View::new(&mut screen, style);
        view.begin("classroom", 45_000);
        example::classroom().samples.iter().take(seconds).for_each(|sample| view.update(sample));
        view.note("done");
        String::from_utf8(screen).unwrap()
    }

    /// What a terminal shows after such output: lines, with the cursor movements that the view uses.
    fn screen(text: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => lines.push(String::new()),
                '\r' => (),
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (number, verb) = (&rest[1..end], &rest[end..=end]);
                    rest = &rest[end + 1..];
                    match verb {
                        "A" => lines.truncate(lines.len() - number.parse::<usize>().unwrap()),
                        "J" => lines.last_mut().unwrap().clear(),
                        _ => (),
                    }
                }
                c => lines.last_mut().unwrap().push(c),
            }
        }
        lines
    }

    #[test]
    fn a_block_is_drawn_in_place_and_the_note_stays_above() {
        let lines = screen(&shown(Style::Mono, 30));
        assert_eq!(lines[0], "done");
        assert!(lines[1].starts_with("classroom") && lines[2].starts_with("measuring ━"), "{lines:?}");
        assert_eq!(lines.len(), 8, "{lines:#?}");
        assert!(lines[3].starts_with("joined    301/301       packets in 210/s  out 63,"), "{lines:#?}");
        assert_eq!(lines[7], "");
    }

    #[test]
    fn colours_change_no_column_and_are_all_ended() {
        let (colour, mono) = (shown(Style::Colour, 30), shown(Style::Mono, 30));
        assert_eq!(screen(&colour), screen(&mono));
        assert_eq!(colour.matches("\x1b[0m").count() * 2, colour.matches('m').count() - mono.matches('m').count());
        assert_eq!(colour.matches("\x1b[?7l").count(), colour.matches("\x1b[?7h").count());
    }

    #[test]
    fn plain_is_a_line_every_five_seconds() {
        let text = shown(Style::Plain, 30);
        assert!(!text.contains('\x1b'));
        assert_eq!(text.lines().count(), 1 + 6 + 1, "{text}");
        assert!(text.contains("  0:30 measuring  joined 301/301  out 63,"), "{text}");
    }
}
