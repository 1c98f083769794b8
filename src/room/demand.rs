//! What a publisher is asked to send of a track: what somebody looks at, at once; what nobody looks at any more is asked for a
//! while longer, because people come back.
use crate::ids::Rid;
use crate::rtp::Kind;
use std::time::{Duration, Instant};

/// How long something may be of no use before its publisher is told to send it no more.
pub(super) const UNWATCHED: Duration = Duration::from_secs(5);

/// What is asked of the publisher of one track.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// As negotiated; one without a rid for video that has no simulcast. Empty for what is always sent: audio, and what
    /// somebody publishes who cannot be told (WHIP).
    encodings: Vec<Encoding>,
    /// There was somebody who watches when it was last looked at.
    watched: bool,
    /// The publisher was told anything.
    told: bool,
}

#[derive(Debug)]
struct Encoding {
    rid: Option<Rid>,
    /// The engine says that somebody has a use for it. So is everything of which it has said nothing.
    useful: bool,
    /// The publisher is asked to send it.
    asked: bool,
    /// Since when it is asked for and of no use.
    idle_since: Option<Instant>,
}

impl Demand {
    /// All is asked, which is what a publisher that was told nothing sends.
    pub fn new(kind: Kind, rids: &[Rid]) -> Self {
        let whole = |rid: Option<Rid>| Encoding { rid, useful: true, asked: true, idle_since: None };
        let encodings = match (kind, rids) {
            (Kind::Audio, _) => Vec::new(),
            (Kind::Video, []) => vec![whole(None)],
            (Kind::Video, rids) => rids.iter().cloned().map(Some).map(whole).collect(),
        };
        Self { encodings, watched: false, told: false }
    }

    /// The publisher has another connection, or other encodings: all is asked again.
    pub fn renew(&mut self, kind: Kind, rids: &[Rid]) {
        *self = Self { told: self.told, ..Self::new(kind, rids) };
    }

    /// Which encodings are of use to those who watch. Of a track without simulcast this says nothing.
    pub fn handle_wanted(&mut self, rids: &[Rid]) {
        for encoding in &mut self.encodings {
            if let Some(rid) = &encoding.rid {
                encoding.useful = rids.contains(rid);
            }
        }
    }

    /// Brings what is asked in line with what is of use. Whether something else is asked now. A second call does nothing.
    pub fn review(&mut self, now: Instant, watched: bool) -> bool {
        let before = std::mem::replace(&mut self.watched, watched);
        // What the engine will say of the first who watches is not known yet.
        let mut changed = watched && !before && self.wake();
        for encoding in &mut self.encodings {
            if watched && encoding.useful {
                changed |= !std::mem::replace(&mut encoding.asked, true);
                encoding.idle_since = None;
            } else if encoding.asked && now >= *encoding.idle_since.get_or_insert(now) + UNWATCHED {
                (encoding.asked, encoding.idle_since) = (false, None);
                changed = true;
            }
        }
        self.told |= changed;
        changed
    }

    /// Somebody is about to watch. Whether something else is asked now.
    pub fn expect(&mut self, now: Instant) -> bool {
        let changed = self.wake();
        for encoding in &mut self.encodings {
            encoding.idle_since = encoding.idle_since.map(|_| now);
        }
        self.told |= changed;
        changed
    }

    /// When to review it at the latest.
    pub fn next_review(&self) -> Option<Instant> {
        self.encodings.iter().filter_map(|e| e.idle_since).min().map(|since| since + UNWATCHED)
    }

    /// Whether anything is asked.
    pub fn is_active(&self) -> bool {
        self.encodings.is_empty() || self.encodings.iter().any(|e| e.asked)
    }

    /// Whether the publisher was told anything, ever.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// The encodings that are asked. Empty also without simulcast.
    pub fn asked(&self) -> impl Iterator<Item = &Rid> {
        self.encodings.iter().filter(|e| e.asked).filter_map(|e| e.rid.as_ref())
    }

    fn wake(&mut self) -> bool {
        let asleep = !self.is_active();
        if asleep {
            self.encodings.iter_mut().for_each(|e| e.asked = true);
        }
        asleep
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rids(names: &str) -> Vec<Rid> {
        names.split_whitespace().map(|n| Rid::try_from(n).expect("a rid")).collect()
    }

    /// A demand with a clock in milliseconds. What it asks is told as the rids, `none`, or `-` when nothing has changed.
    struct Script {
        demand: Demand,
        start: Instant,
    }

    impl Script {
        fn new(names: &str) -> Self {
            Self { demand: Demand::new(Kind::Video, &rids(names)), start: Instant::now() }
        }
        fn told(&self, changed: bool) -> String {
            let asked: Vec<&str> = self.demand.asked().map(Rid::as_str).collect();
            match changed {
                false => "-".into(),
                true if !self.demand.is_active() => "none".into(),
                true => asked.join(" "),
            }
        }
        fn review(&mut self, ms: u64, watched: bool) -> String {
            let now = self.start + Duration::from_millis(ms);
            let changed = self.demand.review(now, watched);
            assert!(!self.demand.review(now, watched), "a second call does nothing");
            assert!(self.demand.next_review().is_none_or(|next| next > now));
            self.told(changed)
        }
        fn useful(&mut self, ms: u64, names: &str) -> String {
            self.demand.handle_wanted(&rids(names));
            self.review(ms, true)
        }
        fn due(&self) -> Option<u64> {
            self.demand.next_review().map(|at| at.duration_since(self.start).as_millis() as u64)
        }
    }

    #[test]
    fn what_is_added_is_told_at_once_and_what_goes_five_seconds_later() {
        let mut s = Script::new("q h f");
        assert_eq!(s.review(0, true), "-", "all is asked before anything is said");
        assert_eq!(s.useful(1000, "q h"), "-");
        assert_eq!(s.due(), Some(6000));
        assert_eq!(s.useful(4000, "q"), "-");
        assert_eq!(s.review(5999, true), "-");
        assert_eq!(s.review(6000, true), "q h", "f went first, and each has its own five seconds");
        assert_eq!(s.useful(7000, "q h"), "-", "it was asked still");
        assert_eq!(s.due(), None);
        assert_eq!(s.useful(7100, "q h f"), "q h f");
        assert_eq!(s.useful(8000, "q"), "-");
        assert_eq!(s.useful(12_900, "q f"), "-");
        assert_eq!(s.review(13_000, true), "q f");
    }

    #[test]
    fn nobody_is_nothing_and_the_first_gets_all_until_more_is_known() {
        let mut s = Script::new("q f");
        assert_eq!(s.review(0, false), "-");
        assert_eq!(s.review(5000, false), "none");
        assert_eq!(s.due(), None);
        // What the engine said of the last who watched does not hold for the next.
        s.demand.handle_wanted(&[]);
        assert_eq!(s.review(6000, true), "q f");
        assert_eq!(s.useful(6020, "q"), "-");
        assert_eq!(s.review(11_000, true), "q");
        assert_eq!(s.useful(12_000, ""), "-", "those who watch have no use for any of it");
        assert_eq!(s.review(17_000, true), "none");
        assert_eq!(s.review(30_000, true), "-", "and it is not tried again and again");
        assert_eq!(s.useful(31_000, "q"), "q");
    }

    #[test]
    fn who_is_about_to_watch_finds_it_there_and_has_five_seconds() {
        let mut s = Script::new("q f");
        let expect = |s: &mut Script, ms| {
            let changed = s.demand.expect(s.start + Duration::from_millis(ms));
            s.told(changed)
        };
        s.review(0, false);
        assert_eq!(expect(&mut s, 4000), "-");
        assert_eq!(s.review(5000, false), "-", "it is expected");
        assert_eq!(s.review(9000, false), "none");
        assert_eq!(expect(&mut s, 10_000), "q f");
        assert_eq!(s.review(10_000, false), "-");
        assert_eq!(s.review(15_000, false), "none");
    }

    #[test]
    fn without_simulcast_it_is_all_or_nothing_and_sound_is_always_sent() {
        let mut s = Script::new("");
        s.review(0, true);
        assert_eq!(s.useful(0, ""), "-", "no rids say nothing of it");
        assert_eq!(s.due(), None);
        s.review(1000, false);
        assert_eq!(s.review(6000, false), "none");
        assert_eq!((s.demand.is_active(), s.review(7000, true)), (false, String::new()));
        assert!(s.demand.is_active());
        let mut audio = Demand::new(Kind::Audio, &[]);
        assert!(!audio.review(s.start, false) && audio.is_active());
        assert_eq!(audio.next_review(), None);
    }

    proptest! {
        /// Whatever happens: what is of use to somebody is asked at once, and nothing else for longer than five seconds.
        #[test]
        fn what_is_of_use_is_asked_and_the_rest_ends(
            steps in prop::collection::vec((0..3000u64, prop::bool::ANY, prop::option::of(0..8usize)), 1..60),
        ) {
            let all = rids("q h f");
            let mut demand = Demand::new(Kind::Video, &all);
            let (mut now, mut useful) = (Instant::now(), all.clone());
            let (mut watching, mut used) = (false, vec![now; 3]);
            demand.review(now, false);
            for (ms, watched, wanted) in steps {
                let end = now + Duration::from_millis(ms);
                while let Some(due) = demand.next_review().filter(|due| *due <= end) {
                    demand.review(due, demand.watched);
                }
                now = end;
                let of_use = |n: usize, watched: bool, useful: &[Rid]| watched && useful.contains(&all[n]);
                (0..3).filter(|n| of_use(*n, watching, &useful)).for_each(|n| used[n] = now);
                watching = watched;
                if let Some(bits) = wanted {
                    useful = (0..3).filter(|n| bits >> n & 1 == 1).map(|n| all[n].clone()).collect();
                    demand.handle_wanted(&useful);
                }
                let woken = watched && !demand.is_active();
                demand.review(now, watched);
                for (n, rid) in all.iter().enumerate() {
                    let asked = demand.asked().any(|r| r == rid);
                    used[n] = if woken { now } else { used[n] };
                    prop_assert!(asked || !of_use(n, watched, &useful), "{rid} is of use");
                    prop_assert!(!asked || of_use(n, watched, &useful) || now < used[n] + UNWATCHED, "{rid} idles");
                }
            }
        }
    }
}
