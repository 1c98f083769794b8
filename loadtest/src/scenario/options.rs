//! What shapes a load: one set of options for all scenarios, each with a default that fits its scenario.
use super::Name;
use crate::carrier::{HttpPlan, Impairment};
use crate::client::{Feedback, Layering, TrackConfig, VideoCodec};
use clap::Args;
use std::collections::BTreeMap;
use std::time::Duration;

/// RTP header, extensions and the SRTP tag of a packet: what is not payload.
const OVERHEAD: usize = 36;

/// See the module. What is not given is the scenario's own.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many publish. (Not in a conference, where all do.)
    #[arg(long, value_name = "N")]
    pub publishers: Option<u32>,
    /// How many watch and listen; in a conference how many take part.
    #[arg(long, value_name = "N", visible_alias = "viewers")]
    pub subscribers: Option<u32>,
    /// Seconds to measure, once all are in.
    #[arg(long, value_name = "S")]
    pub duration: Option<u64>,
    /// People who join in one second, before measuring begins.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub rate: u32,
    /// Bits a second of each camera: of its largest encoding with --simulcast. 0: no cameras.
    #[arg(long, value_name = "N", default_value_t = 1_500_000)]
    pub video_bps: u32,
    /// Frames a second of each camera.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub fps: u32,
    /// Bytes of a video packet on the wire, UDP and IP left out.
    #[arg(long, value_name = "N", default_value_t = 1_150)]
    pub packet_bytes: usize,
    /// The codec of cameras: vp8, vp9, h264 or av1. What a frame shows is made up; what a server reads of it is not.
    #[arg(long, value_name = "CODEC", default_value = "vp8", value_parser = codec)]
    pub codec: VideoCodec,
    /// Cameras send three encodings: a quarter of the bitrate for half the size, and a quarter of that for a quarter.
    #[arg(long)]
    pub simulcast: bool,
    /// How the frames of each encoding depend on each other, as WebRTC names it: L1T3, L3T3_KEY, ... VP8 and H.264 have temporal layers only.
    #[arg(long, value_name = "MODE", default_value = "L1T1", value_parser = layering)]
    pub layers: Layering,
    /// What those who watch tell the server of their path: when each packet came, an estimate of their own, or nothing.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Feedback::TransportCc)]
    pub feedback: Feedback,
    /// Milliseconds over which the packets of a frame are spread. 0: one burst, as Chromium sends all but its largest frames.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub pacing_ms: u64,
    /// Bits a second of each microphone, at 50 packets a second. 0: no microphones.
    #[arg(long, value_name = "N", default_value_t = 32_000)]
    pub audio_bps: u32,
    /// join-storm, churn: people who join in one second while the call runs.
    #[arg(long, value_name = "N")]
    pub storm_rate: Option<u32>,
    /// churn: how many of the visitors break and resume their socket, or change their view, in one second.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub changes: u32,
    /// join-storm, churn: seconds that a visitor stays.
    #[arg(long, value_name = "S")]
    pub stay: Option<u64>,
    /// webinar: nobody sends anything, so that it shows what it costs to have people.
    #[arg(long)]
    pub silent: bool,
    /// webinar: messages and raised hands in one second, of all viewers together.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub presence: u32,
    /// bad-network: the share of the clients that are behind it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub impaired: f64,
    /// bad-network: the share of their datagrams that are lost, each way.
    #[arg(long, value_name = "SHARE", default_value_t = 0.03)]
    pub loss: f64,
    /// bad-network: milliseconds that they take longer, each way.
    #[arg(long, value_name = "MS", default_value_t = 40)]
    pub delay_ms: u64,
    /// bad-network: milliseconds that they take longer at random, each way.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pub jitter_ms: u64,
    /// bad-network: the share of their datagrams that are overtaken, each way.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    pub reorder: f64,
    /// bad-network: bits a second that the path to each of them carries, UDP and IP left out. 0: as many as come.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub path_bps: u64,
    /// bad-network: milliseconds that a datagram may wait for a narrow path; then it is lost.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub buffer_ms: u64,
    /// What viewers say that they see of each camera, in pixels: 640x360. The server chooses layers by it.
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub view: Option<(u16, u16)>,
    /// Slots for cameras that everybody offers at most: how many they see at a time. Without it as many as the server has for one.
    #[arg(long, value_name = "N")]
    pub video_slots: Option<u32>,
    /// Cameras go on sending what the server says that nobody looks at.
    #[arg(long)]
    pub cameras_stay_on: bool,
    /// How clients speak to the server: over its room API, or each by itself over WHIP (publishers) and WHEP (all others).
    #[arg(long, value_name = "API", value_enum, default_value_t = Api::Room)]
    pub api: Api,
    /// --api whip: where publishers post their offers; {room} is replaced.
    #[arg(long, value_name = "PATH", default_value = "/v1/whip/{room}")]
    pub whip_path: String,
    /// --api whip: where viewers post their offers; {room} is replaced.
    #[arg(long, value_name = "PATH", default_value = "/v1/whep/{room}")]
    pub whep_path: String,
    /// --api whip: what is sent as the bearer token.
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,
    /// The room to join.
    #[arg(long, value_name = "NAME", default_value = "loadtest")]
    pub room: String,
    /// Seeds all that is random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// See [`Options::api`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Api {
    Room,
    Whip,
}

fn codec(text: &str) -> Result<VideoCodec, String> {
    let named = |codec: &VideoCodec| format!("{codec:?}").eq_ignore_ascii_case(text);
    VideoCodec::ALL.into_iter().find(named).ok_or_else(|| "vp8, vp9, h264 or av1".to_owned())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (width, height) = text.split_once('x').ok_or("as 640x360")?;
    let of = |text: &str| text.parse::<u16>().map_err(|_| "as 640x360".to_owned());
    Ok((of(width)?, of(height)?))
}

fn layering(text: &str) -> Result<Layering, String> {
    Layering::parse(text).ok_or_else(|| "LxTy or LxTy_KEY, x and y from 1 to 3".to_owned())
}

impl Options {
    /// With the scenario's own where nothing is given.
    pub fn publishers(&self, name: Name) -> u32 {
        self.publishers.unwrap_or(match name {
            Name::Webinar | Name::AudioRoom => 3,
            _ => 1,
        })
    }

    /// See [`publishers`](Self::publishers).
    pub fn subscribers(&self, name: Name) -> u32 {
        self.subscribers.unwrap_or(match name {
            Name::Conference => 10,
            Name::AudioRoom => 200,
            Name::Webinar => 1_000,
            Name::Classroom | Name::JoinStorm | Name::Churn | Name::BadNetwork => 50,
        })
    }

    /// How long is measured.
    pub fn duration(&self, name: Name) -> Duration {
        let default = match name {
            Name::Churn => 3_600,
            Name::JoinStorm => 60,
            _ => 20,
        };
        Duration::from_secs(self.duration.unwrap_or(default))
    }

    /// People who join in one second while the call runs.
    pub fn storm_rate(&self, name: Name) -> u32 {
        let default = if name == Name::Churn { 5 } else { 100 };
        self.storm_rate.unwrap_or(default).max(1)
    }

    pub fn stay(&self, name: Name) -> Duration {
        let default = if name == Name::Churn { 20 } else { 5 };
        Duration::from_secs(self.stay.unwrap_or(default))
    }

    /// What a publisher publishes.
    pub fn tracks(&self, name: Name) -> Vec<TrackConfig> {
        let mut tracks = Vec::new();
        if self.audio_bps > 0 {
            let mut microphone = TrackConfig::microphone();
            // 50 packets a second.
            microphone.encodings.iter_mut().for_each(|e| e.frame_bytes = (self.audio_bps / 400) as usize);
            tracks.push(microphone);
        }
        if self.video_bps > 0 && name != Name::AudioRoom {
            tracks.push(self.camera());
        }
        tracks
    }

    fn camera(&self) -> TrackConfig {
        let fps = self.fps.clamp(1, 240);
        // The bitrate is that of whole packets; what is to be counted is how many.
        let payload = self.packet_bytes.saturating_sub(OVERHEAD);
        let frame_bytes = |bps: u32| bps as usize / 8 / fps as usize * payload / self.packet_bytes.max(1);
        let camera = if self.simulcast {
            let of = |share| frame_bytes(self.video_bps / share);
            TrackConfig::simulcast(&[("q", of(16)), ("h", of(4)), ("f", of(1))])
        } else {
            TrackConfig::camera(frame_bytes(self.video_bps))
        };
        let camera = camera.every(Duration::from_secs(1) / fps).codec(self.codec).layered(self.layers).mtu(payload);
        camera.even().paced(Duration::from_millis(self.pacing_ms))
    }

    /// Kinds of tracks that somebody who watches `publishers` gets: audio and video slots.
    pub fn expected(&self, name: Name, publishers: u32, limits: (u32, u32)) -> (usize, usize) {
        // Over WHEP there is one slot of each kind.
        let limits = if self.api == Api::Whip { (1, 1) } else { limits };
        let limits = (limits.0, self.video_slots.unwrap_or(u32::MAX).min(limits.1));
        let audio = if self.audio_bps > 0 && !self.silent { publishers.min(limits.0) } else { 0 };
        let video =
            if self.video_bps > 0 && name != Name::AudioRoom && !self.silent { publishers.min(limits.1) } else { 0 };
        (audio as usize, video as usize)
    }

    /// How somebody signals who publishes, or does not.
    pub fn http(&self, publishes: bool) -> Option<HttpPlan> {
        let path = if publishes { &self.whip_path } else { &self.whep_path };
        let plan = HttpPlan { path: path.replace("{room}", &self.room), bearer: self.bearer.clone() };
        (self.api == Api::Whip).then_some(plan)
    }

    /// What cannot be done.
    pub fn check(&self, name: Name) -> Result<(), String> {
        if self.layers.spatial > 1 && matches!(self.codec, VideoCodec::Vp8 | VideoCodec::H264) {
            return Err("VP8 and H.264 have no spatial layers".into());
        }
        let rooms_only = matches!(name, Name::Conference | Name::Churn | Name::Webinar);
        if self.api == Api::Whip && rooms_only {
            return Err(format!(
                "{} needs the room API: over WHIP and WHEP people only publish or only watch",
                name.text()
            ));
        }
        Ok(())
    }

    pub fn impairment(&self) -> Impairment {
        Impairment {
            loss: self.loss,
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            reorder: self.reorder,
            bandwidth: (self.path_bps > 0).then_some(self.path_bps),
            buffer: Duration::from_millis(self.buffer_ms),
        }
    }

    /// Everything that shapes the load of a scenario, for the result.
    pub fn told(&self, name: Name) -> BTreeMap<String, serde_json::Value> {
        let mut told = BTreeMap::new();
        let mut tell = |key: &str, value: serde_json::Value| _ = told.insert(key.to_owned(), value);
        tell(
            "publishers",
            if name == Name::Conference { self.subscribers(name) } else { self.publishers(name) }.into(),
        );
        tell("subscribers", self.subscribers(name).into());
        tell("api", format!("{:?}", self.api).to_lowercase().into());
        tell("rate", self.rate.into());
        tell("videoBps", if name == Name::AudioRoom { 0 } else { self.video_bps }.into());
        tell("fps", self.fps.into());
        tell("packetBytes", self.packet_bytes.into());
        tell("codec", format!("{:?}", self.codec).to_lowercase().into());
        tell("simulcast", self.simulcast.into());
        tell("layers", self.layers.to_string().into());
        tell("feedback", serde_json::to_value(self.feedback).unwrap_or_default());
        if let Some((width, height)) = self.view {
            tell("view", format!("{width}x{height}").into());
        }
        if let Some(slots) = self.video_slots {
            tell("videoSlots", slots.into());
        }
        if self.cameras_stay_on {
            tell("camerasStayOn", true.into());
        }
        tell("pacingMs", self.pacing_ms.into());
        tell("audioBps", self.audio_bps.into());
        if matches!(name, Name::JoinStorm | Name::Churn) {
            tell("stormRate", self.storm_rate(name).into());
            tell("stayS", self.stay(name).as_secs().into());
        }
        if name == Name::Churn {
            tell("changes", self.changes.into());
        }
        if name == Name::Webinar {
            tell("silent", self.silent.into());
            tell("presence", self.presence.into());
        }
        if name == Name::BadNetwork {
            tell("impaired", self.impaired.into());
            tell("loss", self.loss.into());
            tell("delayMs", self.delay_ms.into());
            tell("jitterMs", self.jitter_ms.into());
            tell("reorder", self.reorder.into());
            tell("pathBps", self.path_bps.into());
            tell("bufferMs", self.buffer_ms.into());
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &str) -> Options {
        Command::parse_from(std::iter::once("loadtest").chain(arguments.split_whitespace())).options
    }

    /// Packets a second of an encoding of the camera, and their payload.
    fn rate(options: &Options, encoding: usize) -> (f64, usize) {
        let camera = options.tracks(Name::Classroom).pop().unwrap();
        let per_frame = camera.encodings[encoding].frame_bytes as f64 / camera.mtu as f64;
        (per_frame / camera.interval.as_secs_f64(), camera.mtu)
    }

    #[test]
    fn the_bitrate_is_that_of_whole_packets() {
        let (packets, payload) = rate(&options(""), 0);
        assert!((packets - 1_500_000.0 / 8.0 / 1_150.0).abs() < 1.0, "{packets}");
        assert_eq!(payload + OVERHEAD, 1_150);
        let (packets, _) = rate(&options("--simulcast --video-bps 2400000 --packet-bytes 1000 --fps 25"), 1);
        assert!((packets - 75.0).abs() < 1.0, "{packets}");
    }

    #[test]
    fn everybody_expects_what_there_is() {
        let defaults = options("");
        assert_eq!(defaults.expected(Name::Conference, 9, (20, 25)), (9, 9));
        assert_eq!(defaults.expected(Name::Conference, 49, (20, 25)), (20, 25));
        assert_eq!(defaults.expected(Name::AudioRoom, 3, (20, 25)), (3, 0));
        assert_eq!(options("--video-slots 9").expected(Name::Conference, 49, (20, 25)), (20, 9));
        assert_eq!(options("--api whip").expected(Name::Classroom, 3, (20, 25)), (1, 1));
        assert_eq!(options("--silent").expected(Name::Webinar, 3, (20, 25)), (0, 0));
        assert_eq!(options("--audio-bps 0").expected(Name::Classroom, 1, (20, 25)), (0, 1));
    }

    #[test]
    fn what_raises_the_load_is_told() {
        let raised = Name::JoinStorm.with_load(&options(""), 250);
        assert_eq!((raised.storm_rate(Name::JoinStorm), raised.subscribers(Name::JoinStorm)), (250, 50));
        assert_eq!(raised.told(Name::JoinStorm)["stormRate"], 250);
        assert_eq!(Name::Classroom.with_load(&options(""), 900).told(Name::Classroom)["subscribers"], 900);
        assert!(options("--api whip").check(Name::Conference).is_err());
    }
}
