//! The scenarios: who comes when, and what they do.
#![allow(clippy::disallowed_methods, reason = "the epoch of a run is taken from the clock")]
mod options;
mod play;
mod script;

pub use options::{Api, Options};
pub use script::Script;

use clap::ValueEnum;
use serde::Serialize;
use std::time::Duration;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// One publishes microphone and camera, all others watch.
    Classroom,
    /// Everybody publishes and watches everybody.
    Conference,
    /// Some speak, many listen; no pictures.
    AudioRoom,
    /// A call runs while others join at a high rate, stay for a moment and leave. Nobody in the call may notice.
    JoinStorm,
    /// For hours people join, leave, lose their sockets and come back, and change what they look at.
    Churn,
    /// A few speakers, and thousands who watch, raise hands and write messages.
    Webinar,
    /// A classroom in which some are behind a network that loses, delays and reorders datagrams both ways.
    BadNetwork,
}

impl Name {
    /// As it is written on the command line.
    pub fn text(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// What `--find-limit` raises.
    pub fn unit(self) -> &'static str {
        match self {
            Name::Conference => "participants",
            Name::AudioRoom => "listeners",
            Name::JoinStorm | Name::Churn => "joins a second",
            Name::Classroom | Name::Webinar | Name::BadNetwork => "viewers",
        }
    }

    /// One sentence for people.
    pub fn summary(self, options: &Options) -> String {
        let (publishers, subscribers) = (options.publishers(self), options.subscribers(self));
        let megabits = f64::from(options.video_bps) / 1e6;
        let media = match (options.video_bps > 0 && self != Name::AudioRoom, options.audio_bps > 0) {
            (true, _) => format!("{megabits} Mbit/s of {:?}", options.codec),
            (false, true) => format!("{} kbit/s of audio", options.audio_bps / 1_000),
            (false, false) => "nothing".to_owned(),
        };
        let called = format!("{publishers} publisher{} of {media}", if publishers == 1 { "" } else { "s" });
        match self {
            Name::Conference => format!("{subscribers} people, each publishing {media} and watching the others"),
            Name::AudioRoom => {
                format!("{publishers} speakers of {} kbit/s, {subscribers} listeners", options.audio_bps / 1_000)
            }
            Name::Webinar if options.silent => format!("{subscribers} silent viewers, nobody publishes"),
            Name::Classroom | Name::Webinar => format!("{called}, {subscribers} viewers"),
            Name::JoinStorm => {
                format!("{called}, {subscribers} viewers, {} joins a second", options.storm_rate(self))
            }
            Name::Churn => format!(
                "{called}, {subscribers} viewers, {} joins and leaves a second, {} changes a second",
                options.storm_rate(self),
                options.changes
            ),
            Name::BadNetwork => format!(
                "{called}, {subscribers} viewers, {:.0}% of them losing {}% of their datagrams each way, {} ms away",
                options.impaired * 100.0,
                options.loss * 100.0,
                options.delay_ms
            ),
        }
    }

    /// With another load: what `--find-limit` raises.
    pub fn with_load(self, options: &Options, load: u64) -> Options {
        let (mut options, load) = (options.clone(), load.min(u64::from(u32::MAX)) as u32);
        match self {
            Name::JoinStorm | Name::Churn => options.storm_rate = Some(load),
            _ => options.subscribers = Some(load),
        }
        options
    }

    /// How long it goes on when nothing more is sent: what is on its way still comes. Where people come and go, it shows what they left behind.
    pub fn settling(self) -> Duration {
        Duration::from_millis(if matches!(self, Name::JoinStorm | Name::Churn) { 4_000 } else { 1_500 })
    }

    /// How long a run takes, about.
    pub fn expected_time(self, options: &Options) -> Duration {
        let people = match self {
            Name::Conference => options.subscribers(self),
            _ => options.subscribers(self) + options.publishers(self),
        };
        let joining = Duration::from_secs_f64(f64::from(people) / f64::from(options.rate.max(1)));
        joining + script::STEADYING + options.duration(self) + self.settling()
    }
}
