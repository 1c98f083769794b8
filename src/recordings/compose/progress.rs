//! How far it is: a bar on a terminal, else a line now and then.
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A terminal is told this often, anything else more rarely.
const BAR: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(10);
const WIDTH: u64 = 30;

/// See the module.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    /// Of the composite.
    length: Duration,
    begun: Instant,
    told: Instant,
    /// All that there is to be done, in units of its own.
    work: u64,
    done: u64,
}

impl Progress {
    pub fn new(now: Instant, terminal: bool, length: Duration, work: u64) -> Self {
        Self { terminal, length, begun: now, told: now, work: work.max(1), done: 0 }
    }

    /// A part of the work is finished for good.
    pub fn finish(&mut self, work: u64) {
        self.done += work;
    }

    /// Of the next part so much is done. Gives what to print, if it is time to.
    pub fn update(&mut self, now: Instant, of_next: u64) -> Option<String> {
        let every = if self.terminal { BAR } else { LINE };
        if now.saturating_duration_since(self.told) < every {
            return None;
        }
        self.told = now;
        let done = (self.done + of_next).min(self.work);
        let share = done as f64 / self.work as f64;
        let elapsed = now.saturating_duration_since(self.begun).as_secs_f64();
        let at = self.length.mul_f64(share);
        let mut text = String::new();
        if self.terminal {
            let full = done * WIDTH / self.work;
            let (full, empty) = ("█".repeat(full as usize), "░".repeat((WIDTH - full) as usize));
            let _ = write!(text, "\r{full}{empty} ");
        }
        let _ = write!(text, "{:3.0}%  {} of {}", share * 100.0, clock(at), clock(self.length));
        if elapsed > 1.0 && done > 0 {
            let left = Duration::from_secs_f64((elapsed * (1.0 - share) / share).clamp(0.0, 1e8));
            let _ = write!(text, "  {:.1}x  {} left", at.as_secs_f64() / elapsed, clock(left));
        }
        // What was longer before is wiped out.
        text.push_str(if self.terminal { "\x1b[K" } else { "\n" });
        Some(text)
    }

    /// What takes the bar away.
    pub fn end(&self) -> &'static str {
        if self.terminal { "\r\x1b[K" } else { "" }
    }
}

/// `1:02:03`, or `2:03`.
pub fn clock(d: Duration) -> String {
    let (h, m, s) = (d.as_secs() / 3_600, d.as_secs() / 60 % 60, d.as_secs() % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn it_says_how_far_it_is_how_fast_and_how_long_it_takes() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut bar = Progress::new(start, true, Duration::from_secs(3_600), 2_000);
        assert_eq!(bar.update(start + Duration::from_millis(100), 10), None);
        bar.finish(1_000);
        assert_eq!(
            bar.update(at(100), 500).as_deref(),
            Some("\r██████████████████████░░░░░░░░  75%  45:00 of 1:00:00  27.0x  0:33 left\x1b[K")
        );
        let mut lines = Progress::new(start, false, Duration::from_secs(60), 0);
        assert_eq!(lines.update(at(9), 0), None);
        assert_eq!(lines.update(at(10), 0).as_deref(), Some("  0%  0:00 of 1:00\n"));
        assert_eq!(lines.update(at(19), 5), None);
    }
}
