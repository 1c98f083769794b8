//! The table of settings: each row is a flag, an environment variable and a key of the file at once.
use clap::{Arg, ArgAction, Command};

/// One setting. `max-rooms` is `--max-rooms`, `EXEDRA_MAX_ROOMS`, and `max_rooms` in the file.
#[derive(Debug)]
pub(super) struct Setting {
    pub name: &'static str,
    pub shape: Shape,
    pub group: &'static str,
    pub help: &'static str,
    /// As the default reads in `--help`.
    pub default: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Takes one value; the name of the value.
    One(&'static str),
    /// Can be given again; separated by commas in the environment, an array in the file.
    Many(&'static str),
    /// On or off.
    Switch,
}

use Shape::{Many, One, Switch};

const NETWORK: &str = "Network";
const ACCESS: &str = "Who may come in";
const OPERATION: &str = "Operation";
const RECORDINGS: &str = "Recordings";
const LIMITS: &str = "Limits";

const fn row(
    group: &'static str,
    name: &'static str,
    shape: Shape,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, shape, group, help, default }
}

pub(super) const SETTINGS: &[Setting] = &[
    row(
        NETWORK,
        "http",
        One("ADDR"),
        "127.0.0.1:8080",
        "Where pages, the room API, WHIP and WHEP are served: an IP address and a port. Plain HTTP: put a proxy with TLS \
         in front, because browsers give camera and microphone to https:// and to localhost only",
    ),
    row(
        NETWORK,
        "udp",
        Many("ADDR"),
        "0.0.0.0:7882 and [::]:7882",
        "Where media goes in and out: an IP address and a port. One port serves everybody",
    ),
    row(
        NETWORK,
        "advertise",
        Many("IP"),
        "the addresses of --udp, or of all interfaces",
        "The address that clients reach the media port under, where that is not one of this machine (NAT 1:1, \
         a cloud's public address). It replaces the machine's own",
    ),
    row(
        NETWORK,
        "ice-server",
        Many("URL"),
        "none",
        "A STUN or TURN server to tell clients of (stun:host:port). None is needed for a server that clients can reach. \
         With a username and a credential: in the file, as a table",
    ),
    row(
        ACCESS,
        "secret",
        One("SECRET"),
        "none",
        "The key of the tokens (JWT, HS256) that let people in. At least 16 bytes: a short one can be guessed from any token, \
         at leisure. Better given by the environment or the file: other users of the machine can see flags",
    ),
    row(
        ACCESS,
        "open",
        Switch,
        "only where --http is a loopback address and there is no --secret",
        "Let anybody into any room without a token",
    ),
    row(
        ACCESS,
        "open-grants",
        One("GRANTS"),
        "publish,subscribe,say",
        "What those may do who come in without a token, separated by commas: publish, subscribe, say, moderate, record",
    ),
    row(
        ACCESS,
        "admin-token",
        One("TOKEN"),
        "none",
        "What operators send as a bearer token to look at rooms and at what was decided for whom (/v1/admin). Without it, nobody \
         may. At least 16 bytes. Better given by the environment or the file",
    ),
    row(
        ACCESS,
        "cors-origin",
        Many("ORIGIN"),
        "*",
        "An origin whose pages may use this server (https://meet.example.org). Credentials never are cookies, so that any \
         origin is no danger where tokens are asked for",
    ),
    row(
        RECORDINGS,
        "recordings",
        One("DIR"),
        "none",
        "Where recordings are kept: a folder for each. It is made, readable by this user alone, if it is not there. Without it nothing is \
         recorded",
    ),
    row(
        RECORDINGS,
        "recordings-min-free",
        One("BYTES"),
        "1GiB",
        "What recordings leave free on their disk: they end, and none begins, when there is less. Calls go on",
    ),
    row(
        RECORDINGS,
        "recordings-quota",
        One("BYTES"),
        "none",
        "What all recordings together may take (500GB): they end, and none begins, when it is more. Nothing is deleted for it",
    ),
    row(
        RECORDINGS,
        "recordings-keep",
        One("TIME"),
        "none",
        "How long recordings are kept (30d). Those that ended longer ago are DELETED",
    ),
    row(
        RECORDINGS,
        "recordings-keep-bytes",
        One("BYTES"),
        "none",
        "How much of recordings is kept (400GB). When all take more, the oldest are DELETED",
    ),
    row(
        RECORDINGS,
        "recordings-queue",
        One("BYTES"),
        "64MiB",
        "Media that may wait for each recording while the disk is slow. What finds no room is missing in its files, and told as a gap",
    ),
    row(
        RECORDINGS,
        "recordings-upload",
        One("URL"),
        "none",
        "Where recordings that ended are uploaded to: s3://BUCKET/PREFIX. Endpoint, region and credentials come from the environment \
         (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). What is not uploaded yet is not deleted",
    ),
    row(
        RECORDINGS,
        "recordings-upload-delete",
        Switch,
        "off",
        "Delete a recording here when all of it was found where it was uploaded to",
    ),
    row(
        OPERATION,
        "record-rooms",
        Many("NAME"),
        "none",
        "A room that is always recorded, as soon as anybody publishes in it: its name, in which * stands for any characters \
         (class-*)",
    ),
    row(
        OPERATION,
        "log",
        One("FILTER"),
        "info",
        "What to log to stderr: a level, or a filter such as info,exedra::signal=debug",
    ),
    row(
        OPERATION,
        "drain",
        One("TIME"),
        "10s",
        "How long a SIGTERM waits for rooms to end before it closes them. A second signal does not wait",
    ),
    row(
        OPERATION,
        "shards",
        One("N"),
        "auto",
        "Threads that carry media: a number, or auto for one for each processor. A room of any size is spread over all of them",
    ),
    row(LIMITS, "max-rooms", One("N"), "1000", "Rooms at a time"),
    row(LIMITS, "max-participants", One("N"), "5000", "Participants in a room"),
    row(
        LIMITS,
        "full-presence",
        One("N"),
        "100",
        "Participants of a room up to which everybody is told of everybody. In a larger room those who only watch are counted",
    ),
    row(LIMITS, "max-tracks", One("N"), "16", "Tracks that one participant may publish"),
    row(LIMITS, "max-audio-slots", One("N"), "20", "Audio streams that one participant is sent at a time"),
    row(LIMITS, "max-video-slots", One("N"), "25", "Video streams that one participant is sent at a time"),
    row(LIMITS, "max-frame", One("BYTES"), "256KiB", "The longest frame that a client may send on the room socket"),
    row(LIMITS, "max-sdp", One("BYTES"), "240KiB", "The longest session description"),
    row(LIMITS, "max-sockets", One("N"), "10000", "Open WebSockets"),
    row(
        LIMITS,
        "max-sockets-per-address",
        One("N"),
        "10000",
        "Open WebSockets from one address (of IPv6: from one /64 network). Loopback has no bound, for a proxy on this machine",
    ),
    row(LIMITS, "max-connections", One("N"), "10000", "Open TCP connections, WebSockets not counted"),
    row(
        LIMITS,
        "queue-messages",
        One("N"),
        "256",
        "Messages that may wait for a slow client before it is cut off (4408)",
    ),
    row(
        LIMITS,
        "queue-bytes",
        One("BYTES"),
        "1MiB",
        "Bytes that may wait for a slow client before it is cut off (4408)",
    ),
    row(
        LIMITS,
        "history-bytes",
        One("BYTES"),
        "512MiB",
        "Bytes of packets kept for retransmission, of all streams together. At the limit, less far back is kept",
    ),
];

impl Setting {
    /// Its key in the file.
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("EXEDRA_{}", self.key().to_uppercase())
    }

    fn arg(&self) -> Arg {
        let help = wrapped(&format!("{}.\n[default: {}] [env: {}]", self.help, self.default, self.variable()));
        let arg = Arg::new(self.name).long(self.name).help(help).help_heading(self.group);
        match self.shape {
            Shape::One(value) | Shape::Many(value) => {
                arg.value_name(value).action(ArgAction::Append).allow_hyphen_values(true)
            }
            Shape::Switch => arg.action(ArgAction::SetTrue),
        }
    }
}

/// Breaks lines between words.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > HELP_WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Of the text behind the indentation, in characters.
const HELP_WIDTH: usize = 88;

const AFTER_HELP: &str = "\
Where a setting comes from: a flag, else the environment, else the file, else the default.
A key in the file is the flag's name with _ for -:

  http = \"0.0.0.0:8080\"
  udp = [\"0.0.0.0:7882\"]
  advertise = [\"203.0.113.7\"]
  secret = \"…\"
  [[ice_server]]
  urls = [\"turn:turn.example.org\"]
  username = \"exedra\"
  credential = \"…\"

To try it on this machine:      exedra
To let others in:               exedra --http 0.0.0.0:8080 --secret \"$(openssl rand -base64 32)\"
A token for a room:             exedra token --room stand-up --name Ada --secret …";

/// The command line.
pub(super) fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("A file of settings, in TOML.\n[env: EXEDRA_CONFIG]")
        .help_heading(OPERATION)
        .action(ArgAction::Append)
        .global(true);
    let settings = SETTINGS.iter().map(|s| s.arg().global(matches!(s.name, "secret" | "recordings")));
    Command::new("exedra")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Exedra forwards audio and video between the people in a room (an SFU)")
        .after_help(AFTER_HELP)
        .next_line_help(true)
        .args(settings)
        .arg(config)
        .subcommand(token_command())
        .subcommand(recordings_command())
        .subcommand(super::compose::command())
}

fn recordings_command() -> Command {
    let heal = "Closes recordings that a crash left open. Those that are being written are left alone";
    Command::new("recordings")
        .about("Looks after the folder of recordings (--recordings DIR). A server may be using it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Lists the recordings that there are, the newest first"))
        .subcommand(Command::new("heal").about(heal))
}

fn token_command() -> Command {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    Command::new("token")
        .about("Prints a token that lets its bearer into a room of a server with the same secret")
        .arg(arg("room", "ROOM", "The room that it opens").required(true))
        .arg(arg("name", "NAME", "How its bearer is called in the room").required(true))
        .arg(arg(
            "identity",
            "ID",
            "Who its bearer is: a second session with the same identity replaces the first [default: anybody new]",
        ))
        .arg(
            arg(
                "grants",
                "GRANTS",
                "What its bearer may do, separated by commas: publish, subscribe, say, moderate, record",
            )
            .default_value("publish,subscribe,say"),
        )
        .arg(arg("expires", "TIME", "For how long it is good: 30s, 15min, 12h, 30d").default_value("24h"))
}
