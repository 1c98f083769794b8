//! Configuration: flags over environment over file over defaults, checked as a whole. All mistakes are told at once, each
//! with the place where it was made.
mod compose;
mod raw;
mod settings;

pub use raw::Mistake;

use crate::recordings;
use crate::recordings::upload::Target;
use crate::room::Grants;
use crate::room::settings::RoomPattern;
use crate::signal::auth::{Access, GRANT_NAMES, Secret, TokenClaims, grants_of};
use crate::signal::names::{RoomName, person_name};
use crate::signal::origin::{Origin, Origins};
use crate::signal::outbox::OutboxLimits;
use crate::signal::{self, IceServer};
use clap::ArgMatches;
use raw::{Given, Raw, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The media port, unless told otherwise.
pub const MEDIA_PORT: u16 = 7882;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Serve(Box<Config>),
    /// Print a token. `claims.exp` is still to be set, `lifetime` from now.
    Token {
        secret: Secret,
        claims: TokenClaims,
        lifetime: Duration,
    },
    /// Look after the folder of recordings.
    Recordings {
        root: PathBuf,
        action: RecordingsAction,
    },
    /// Make one video of a recording.
    Compose(Box<recordings::compose::Request>),
}

/// What is done with a folder of recordings by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingsAction {
    List,
    Heal,
}

/// A configuration that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub http: SocketAddr,
    /// Never empty.
    pub udp: Vec<SocketAddr>,
    /// Empty: this machine's own addresses.
    pub advertise: Vec<IpAddr>,
    pub ice_servers: Vec<IceServer>,
    pub access: Access,
    /// Opens `/v1/admin`.
    pub admin: Option<Secret>,
    pub cors: Origins,
    /// None: nothing is recorded.
    pub recordings: Option<recordings::Settings>,
    /// Rooms that are always recorded.
    pub record_rooms: Vec<RoomPattern>,
    /// A filter of `tracing_subscriber`, known to be well-formed.
    pub log: String,
    pub drain: Duration,
    /// Media threads: a room of any size is spread over all of them.
    pub shards: usize,
    pub limits: Limits,
    /// Doubts that are no mistakes, to be logged.
    pub warnings: Vec<String>,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub rooms: usize,
    /// In a room.
    pub participants: usize,
    /// Participants of a room in which everybody is told of everybody.
    pub full_presence: usize,
    /// Published by one participant.
    pub tracks: usize,
    pub audio_slots: usize,
    pub video_slots: usize,
    /// All retransmission histories together.
    pub history_bytes: usize,
    pub signal: signal::Limits,
}

/// More threads than this bring nothing but hand-overs.
const MAX_SHARDS: usize = 64;

fn shards(text: &str) -> Result<usize, String> {
    if text == "auto" { Ok(processors()) } else { number(text, 1..=MAX_SHARDS) }
}

/// How many threads this machine runs at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SHARDS)
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// Help or version was asked for, or the command line cannot be read: clap's own words, for clap's own stream.
    Clap(clap::Error),
    Mistakes(Vec<Mistake>),
    /// In the arguments of a subcommand that is not the server.
    Arguments(Vec<Mistake>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Clap(error) => error.fmt(f),
            ConfigError::Arguments(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            ConfigError::Mistakes(mistakes) => {
                writeln!(f, "exedra cannot start: its configuration has {}", count(mistakes.len()))?;
                mistakes.iter().try_for_each(|mistake| writeln!(f, "  {mistake}"))?;
                write!(f, "exedra --help explains every setting")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "a mistake:".into() } else { format!("{mistakes} mistakes:") }
}

/// Reads the arguments (the program's name first), the environment, and the file that they name.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Invocation, ConfigError> {
    load_with(args, env, &|path: &Path| std::fs::read_to_string(path))
}

fn load_with(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
    file: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Invocation, ConfigError> {
    let matches = settings::command().try_get_matches_from(args).map_err(ConfigError::Clap)?;
    if let Some(("compose", compose)) = matches.subcommand() {
        let request = compose::request(compose).map_err(ConfigError::Arguments)?;
        return Ok(Invocation::Compose(Box::new(request)));
    }
    let env: BTreeMap<String, String> = env.into_iter().filter(|(name, _)| name.starts_with("EXEDRA_")).collect();
    let mut mistakes = Vec::new();
    let raw = raw::gather(&matches, &env, file, &mut mistakes);
    let mut check = Check { raw, mistakes, warnings: raw::doubtful_variables(&env) };
    let invocation = match matches.subcommand() {
        Some(("token", token)) => check.token(token),
        Some(("recordings", action)) => check.recordings_tool(action),
        _ => check.config().map(|config| Invocation::Serve(Box::new(config))),
    };
    match invocation {
        Some(invocation) if check.mistakes.is_empty() => Ok(invocation),
        _ => Err(ConfigError::Mistakes(check.mistakes)),
    }
}

/// Reads the raw values one by one, and keeps every mistake.
struct Check {
    raw: Raw,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Check {
    fn config(&mut self) -> Option<Config> {
        let http = self.one("http", http_address);
        let udp = self.many("udp", |text| {
            text.parse().map_err(|_| "is not an IP address and a port, such as 0.0.0.0:7882".into())
        });
        let advertise = self.many("advertise", advertised_ip);
        let ice_servers = self.ice_servers();
        let access = self.access(http);
        let admin = self.admin(&access);
        let cors = self.cors();
        let recordings = self.recordings();
        let record_rooms = self.record_rooms();
        let log = self.one("log", log_filter);
        let drain = self.one("drain", duration);
        let shards = self.one("shards", shards);
        let limits = self.limits();
        let udp = udp.unwrap_or_else(default_udp);
        self.check_udp(&udp, advertise.as_deref().unwrap_or_default());
        Some(Config {
            http: http.unwrap_or(DEFAULT_HTTP),
            udp,
            advertise: advertise.unwrap_or_default(),
            ice_servers,
            access,
            admin,
            cors,
            recordings,
            record_rooms,
            log: log.unwrap_or_else(|| "info".into()),
            drain: drain.unwrap_or(Duration::from_secs(10)),
            shards: shards.unwrap_or_else(processors),
            limits,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn limits(&mut self) -> Limits {
        let mut n = |name, range, default| self.one(name, |text| number(text, range)).unwrap_or(default);
        let (rooms, participants) = (n("max-rooms", 1..=1_000_000, 1000), n("max-participants", 1..=100_000, 5000));
        let full_presence = n("full-presence", 1..=10_000, 100);
        let (tracks, sockets) = (n("max-tracks", 1..=100, 16), n("max-sockets", 1..=1_000_000, 10_000));
        let (audio_slots, video_slots) = (n("max-audio-slots", 0..=100, 20), n("max-video-slots", 0..=100, 25));
        let sockets_per_address = n("max-sockets-per-address", 1..=1_000_000, 10_000);
        let connections = n("max-connections", 1..=1_000_000, 10_000);
        let messages = n("queue-messages", 16..=100_000, 256);
        let mut b = |name, range, default| self.one(name, |text| bytes(text, range)).unwrap_or(default);
        let frame_bytes = b("max-frame", 64 << 10..=16 << 20, 256 << 10);
        let sdp_bytes = b("max-sdp", 16 << 10..=16 << 20, 240 << 10);
        let queue_bytes = b("queue-bytes", 64 << 10..=1 << 30, 1 << 20);
        let history_bytes = b("history-bytes", 1 << 20..=1 << 40, 512 << 20);
        let outbox = OutboxLimits { messages, bytes: queue_bytes };
        let signal = signal::Limits { frame_bytes, sdp_bytes, sockets, sockets_per_address, connections, outbox };
        Limits { rooms, participants, full_presence, tracks, audio_slots, video_slots, history_bytes, signal }
    }

    /// How recordings are made and kept. Settings of it without a folder are a mistake: whoever gives them believes that there are some.
    fn recordings(&mut self) -> Option<recordings::Settings> {
        let given = self.raw.contains_key("recordings");
        let root = self.one("recordings", directory);
        let any = |text: &str| bytes(text, 0..=usize::MAX).map(|n| n as u64);
        let min_free = self.one("recordings-min-free", any).unwrap_or(1 << 30);
        let (quota, keep_bytes) = (self.one("recordings-quota", any), self.one("recordings-keep-bytes", any));
        let keep = self.one("recordings-keep", duration);
        let queue = self.one("recordings-queue", |t| bytes(t, 1 << 20..=1 << 34)).unwrap_or(64 << 20);
        for name in ["recordings-quota", "recordings-keep", "recordings-keep-bytes"] {
            if !given && self.raw.contains_key(name) {
                self.wrong(name, "has no effect without --recordings DIR");
            }
        }
        let upload = self.upload();
        Some(recordings::Settings { root: root?, min_free, quota, keep, keep_bytes, queue, upload })
    }

    fn upload(&mut self) -> Option<recordings::upload::Settings> {
        let target = self.one("recordings-upload", |t| Target::try_from(t).map_err(|e| format!("{t:?} {e}")));
        let delete = self.one("recordings-upload-delete", switch).unwrap_or(false);
        let needs = [("recordings-upload", "recordings"), ("recordings-upload-delete", "recordings-upload")];
        for (name, other) in needs {
            if self.raw.contains_key(name) && !self.raw.contains_key(other) {
                self.wrong(name, format!("has no effect without --{other}"));
            }
        }
        Some(recordings::upload::Settings { target: target?, delete })
    }

    fn access(&mut self, http: Option<SocketAddr>) -> Access {
        let given = self.raw.contains_key("secret");
        let secret = self.one("secret", |text| Secret::try_from(text).map_err(|e| e.to_string()));
        let open = self.one("open", switch);
        // Whoever got --http wrong is not to be told of its consequences as well.
        let local = http.is_some_and(|a| a.ip().is_loopback()) || !self.raw.contains_key("http");
        if !given && open != Some(true) && !local && http.is_some() {
            self.wrong(
                "http",
                "others can reach this address, and nothing says who may come in: give a --secret, or --open to let \
                 anybody in on purpose",
            );
        }
        let open = open.unwrap_or(!given && local);
        Access { secret, open, guests: self.guests(open, local) }
    }

    /// What guests may do.
    fn guests(&mut self, open: bool, local: bool) -> Grants {
        let Some(names) = self.one("open-grants", grants) else { return Grants::USUAL };
        let guests = grants_of(&names);
        if !open {
            self.warnings.push("open-grants has no effect: nobody comes in without a token".into());
        } else if !local && (guests.record || guests.moderate) {
            let what = if guests.record { "record" } else { "moderate" };
            let warning = format!("open-grants: anybody who finds this server may {what}, in any room");
            self.warnings.push(warning);
        }
        guests
    }

    fn record_rooms(&mut self) -> Vec<RoomPattern> {
        let Some(patterns) = self.many("record-rooms", room_pattern) else { return Vec::new() };
        if !self.raw.contains_key("recordings") {
            self.wrong("record-rooms", "needs a place for recordings: give --recordings DIR");
        }
        patterns
    }

    fn admin(&mut self, access: &Access) -> Option<Secret> {
        let short = |_| "is shorter than 16 bytes: `openssl rand -base64 32` makes a good one".to_owned();
        let token = self.one("admin-token", |text| Secret::try_from(text).map_err(short))?;
        if access.secret.as_ref() == Some(&token) {
            self.wrong("admin-token", "is the --secret: whoever looks is not to sign tokens");
        }
        Some(token)
    }

    fn cors(&mut self) -> Origins {
        let Some(list) = self.many("cors-origin", origin) else { return Origins::Any };
        if list.len() > 1 && list.contains(&None) {
            self.wrong("cors-origin", "* is any origin: the others have no effect");
        }
        // With `*` in it there is no list.
        list.into_iter().collect::<Option<Vec<Origin>>>().map_or(Origins::Any, Origins::Only)
    }

    fn ice_servers(&mut self) -> Vec<IceServer> {
        let Some(given) = self.raw.get("ice-server").cloned() else { return Vec::new() };
        let mut servers = Vec::new();
        for value in given.values {
            match ice_server(value) {
                Ok(server) => servers.push(server),
                Err(message) => self.wrong("ice-server", message),
            }
        }
        servers
    }

    fn check_udp(&mut self, udp: &[SocketAddr], advertise: &[IpAddr]) {
        for (n, address) in udp.iter().enumerate() {
            if address.port() != 0 && udp[..n].contains(address) {
                self.wrong("udp", format!("{address} is given twice"));
            }
        }
        for ip in advertise {
            if !udp.iter().any(|a| a.is_ipv4() == ip.is_ipv4()) {
                let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
                self.wrong("advertise", format!("{ip} is of no use: no --udp address is {family}"));
            }
        }
    }

    fn token(&mut self, token: &ArgMatches) -> Option<Invocation> {
        let text = |name: &str| token.get_one::<String>(name).cloned();
        let secret = self.one("secret", |text| Secret::try_from(text).map_err(|e| e.to_string()));
        if !self.raw.contains_key("secret") {
            self.mistake("--secret", "is missing: the token has to be signed with the server's");
        }
        let room = self.flag("--room", &text("room")?, |t| RoomName::try_from(t).map_err(|e| e.to_string()));
        let name = self.flag("--name", &text("name")?, |t| person_name(t).map_err(|e| e.to_string()));
        let sub =
            text("identity").map(|id| self.flag("--identity", &id, |t| person_name(t).map_err(|e| e.to_string())));
        let grants = self.flag("--grants", &text("grants")?, grants);
        let lifetime = self.flag("--expires", &text("expires")?, duration)?;
        let claims = TokenClaims {
            room: room?.as_str().to_owned(),
            sub: sub.flatten(),
            name: Some(name?),
            grants: Some(grants?),
            exp: 0,
            nbf: None,
        };
        Some(Invocation::Token { secret: secret?, claims, lifetime })
    }

    fn recordings_tool(&mut self, matches: &ArgMatches) -> Option<Invocation> {
        if !self.raw.contains_key("recordings") {
            self.wrong("recordings", "is missing: whose recordings?");
        }
        let root = self.one("recordings", |text| match Path::new(text).is_dir() {
            true => Ok(PathBuf::from(text)),
            false => Err(format!("{text} is not a directory")),
        });
        let action = match matches.subcommand_name() {
            Some("heal") => RecordingsAction::Heal,
            _ => RecordingsAction::List,
        };
        Some(Invocation::Recordings { root: root?, action })
    }

    fn one<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let result = match self.raw.get(name)?.values.first()? {
            Value::Text(text) => read(text),
            Value::Table(_) => Err("cannot be a table".into()),
        };
        result.map_err(|message| self.wrong(name, message)).ok()
    }

    fn many<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let Given { values, .. } = self.raw.get(name)?.clone();
        let mut all = Vec::with_capacity(values.len());
        for value in &values {
            let result = match value {
                Value::Text(text) => read(text).map_err(|message| format!("{text:?} {message}")),
                Value::Table(_) => Err("cannot be a table".into()),
            };
            match result {
                Ok(value) => all.push(value),
                Err(message) => self.wrong(name, message),
            }
        }
        if values.is_empty() {
            self.wrong(name, "is an empty list");
        }
        // A list that is wrong in part is not looked at any further.
        (!all.is_empty()).then_some(all)
    }

    fn flag<T>(&mut self, flag: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        read(text).map_err(|message| self.mistake(flag, message)).ok()
    }

    /// A mistake in the setting of this name, wherever that was given.
    fn wrong(&mut self, name: &'static str, message: impl Into<String>) {
        let place = self.raw.get(name).map_or_else(|| format!("--{name}"), |given| given.place.to_string());
        self.mistake(&place, message);
    }

    fn mistake(&mut self, place: &str, message: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.to_owned(), message: message.into() });
    }
}

const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

fn default_udp() -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, MEDIA_PORT).into(), (Ipv6Addr::UNSPECIFIED, MEDIA_PORT).into()]
}

fn http_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| format!("{text:?} is not an IP address and a port, such as 127.0.0.1:8080"))
}

fn advertised_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr =
        text.parse().map_err(|_| "is not an IP address (names and ports do not belong here)".to_owned())?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("is not an address that anybody could send to".into());
    }
    Ok(ip)
}

fn ice_server(value: Value) -> Result<IceServer, String> {
    let server = match value {
        Value::Text(url) => IceServer { urls: vec![url], username: None, credential: None },
        Value::Table(table) => table.try_into().map_err(|e: toml::de::Error| e.message().to_owned())?,
    };
    let known = |url: &String| {
        let host = url.split_once(':').filter(|(s, _)| ["stun", "stuns", "turn", "turns"].contains(s)).map(|(_, h)| h);
        host.is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\".contains(&b)))
    };
    match server.urls.iter().find(|url| !known(url)) {
        Some(url) => Err(format!("{url:?} is not a URL such as stun:stun.example.org:3478 or turn:turn.example.org")),
        None if server.urls.is_empty() => Err("has no urls".into()),
        None if server.username.is_some() != server.credential.is_some() => {
            Err("has to have both a username and a credential, or neither".into())
        }
        None => Ok(server),
    }
}

/// None: any origin.
fn origin(text: &str) -> Result<Option<Origin>, String> {
    if text == "*" { Ok(None) } else { Origin::try_from(text).map(Some).map_err(|e| e.to_string()) }
}

/// Files of recordings go here: it is there, or can be made.
fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        Ok(path)
    } else if path.exists() {
        Err(format!("{text} is not a directory"))
    } else if parent.is_dir() {
        Ok(path)
    } else {
        Err(format!("{text} does not exist, and neither does {}", parent.display()))
    }
}

/// The name of a room, in which `*` may stand for any characters.
fn room_pattern(text: &str) -> Result<RoomPattern, String> {
    RoomName::try_from(text.replace('*', "x").as_str()).map_err(|e| format!("is no name of a room: {e}"))?;
    Ok(RoomPattern::new(text))
}

fn log_filter(text: &str) -> Result<String, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(text);
    filter.map(|_| text.to_owned()).map_err(|e| format!("{text:?} is not a filter: {e}"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| range.contains(n));
    number.ok_or_else(|| format!("{text:?} is not a number from {} to {}", range.start(), range.end()))
}

/// A number of bytes: `1000`, `64KiB`, `1MiB`, `1GiB`, `500GB`.
fn bytes(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let (digits, unit) = split_unit(text);
    let factor = match unit {
        "" | "B" => Some(1),
        "KiB" | "k" | "K" => Some(1 << 10),
        "MiB" | "M" => Some(1 << 20),
        "GiB" | "G" => Some(1 << 30),
        "TiB" | "T" => Some(1 << 40),
        "kB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let bytes = digits.parse::<usize>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    bytes.filter(|n| range.contains(n)).ok_or_else(|| {
        format!("{text:?} is not a size from {} to {} bytes, such as 256KiB", range.start(), range.end())
    })
}

/// A time of at most a year: `500ms`, `10s`, `15min`, `12h`, `30d`; without a unit, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split_unit(text);
    let millis = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let time =
        digits.parse::<u64>().ok().zip(millis).and_then(|(n, unit)| n.checked_mul(unit)).map(Duration::from_millis);
    time.filter(|t| *t <= Duration::from_secs(366 * 86_400))
        .ok_or_else(|| format!("{text:?} is not a time of at most a year, such as 500ms, 10s, 15min, 12h or 30d"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    (digits, unit.trim())
}

fn grants(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| match GRANT_NAMES.contains(&name) {
            true => Ok(name.to_owned()),
            false => Err(format!("{name:?} is none of {}", GRANT_NAMES.join(", "))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
