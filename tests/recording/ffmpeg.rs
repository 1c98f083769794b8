//! FFmpeg as encoder, and as the judge of files.
use bytes::Bytes;
use exedra::rtp::Codec;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const RATE: u64 = 25;

/// Encoded media: pictures at 25 a second, and Opus packets of 20 ms. In the first 200 ms of each second it is white, and a tone sounds.
pub struct Film {
    pub pictures: Vec<Bytes>,
    pub sounds: Vec<Bytes>,
    /// The video as FFmpeg wrote it.
    pub original: PathBuf,
}

impl Film {
    /// Of the films that most tests send.
    pub const LENGTH: Duration = Duration::from_secs(crate::SECONDS as u64);

    pub fn encode(folder: &Path, codec: Codec, seconds: u32, width: u32, height: u32) -> Self {
        Self::encode_at(folder, RATE, codec, seconds, width, height)
    }

    /// At so many pictures a second.
    pub fn encode_at(folder: &Path, rate: u64, codec: Codec, seconds: u32, width: u32, height: u32) -> Self {
        let (encoder, options, _) = encoder(codec);
        let (picture, sound) = Self::files(folder, codec, seconds, width);
        let film = format!(
            "testsrc=s={width}x{height}:r={rate}:d={seconds},drawbox=c=white:t=fill:enable='lt(mod(t,1),0.199)'"
        );
        run(
            "ffmpeg",
            &["-v", "error", "-y", "-f", "lavfi", "-i", &film, "-pix_fmt", "yuv420p", "-c:v", encoder],
            |c| c.args(options.split(' ')).args(["-g", &rate.to_string(), "-b:v", "300k"]).arg(&picture),
        );
        let tone = format!("aevalsrc='if(lt(mod(t,1),0.2),0.5*sin(2*PI*1000*t),0)':s=48000:d={seconds}");
        run("ffmpeg", &["-v", "error", "-y", "-f", "lavfi", "-i", &tone, "-c:a", "libopus", "-ac", "2"], |c| {
            c.arg(&sound)
        });
        Self::read(folder, rate, codec, seconds, width)
    }

    /// One that was encoded before.
    pub fn load(folder: &Path, codec: Codec, seconds: u32, width: u32) -> Self {
        Self::read(folder, RATE, codec, seconds, width)
    }

    fn read(folder: &Path, rate: u64, codec: Codec, seconds: u32, width: u32) -> Self {
        let (original, sound) = Self::files(folder, codec, seconds, width);
        let bytes = std::fs::read(&original).unwrap();
        let pictures = if encoder(codec).2 == "ivf" { ivf(&bytes) } else { access_units(&bytes) };
        assert_eq!(pictures.len() as u64, u64::from(seconds) * rate, "{}", original.display());
        let mut sounds = ogg_packets(&std::fs::read(&sound).unwrap());
        // The last one is for the encoder's delay.
        sounds.truncate(seconds as usize * 50);
        Self { pictures, sounds, original }
    }

    fn files(folder: &Path, codec: Codec, seconds: u32, width: u32) -> (PathBuf, PathBuf) {
        let (encoder, _, ending) = encoder(codec);
        let name = format!("{encoder}-{width}-{seconds}");
        (folder.join(format!("{name}.{ending}")), folder.join(format!("{name}.ogg")))
    }

    /// When a picture is shown, in nanoseconds.
    pub fn picture_time(&self, n: usize) -> u64 {
        n as u64 * 1_000_000_000 / RATE
    }

    pub fn append(&mut self, other: Film) {
        self.pictures.extend(other.pictures);
        self.sounds.extend(other.sounds);
    }
}

/// FFmpeg's name of the encoder, its options, and the form of its output. A keyframe a second, like a publisher that is asked for
/// them; no frame that needs a later one.
fn encoder(codec: Codec) -> (&'static str, &'static str, &'static str) {
    match codec {
        Codec::Vp8 => ("libvpx", "-deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0", "ivf"),
        Codec::Vp9 { .. } => ("libvpx-vp9", "-deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0", "ivf"),
        Codec::Av1 { .. } => ("libaom-av1", "-usage realtime -cpu-used 8 -lag-in-frames 0", "ivf"),
        Codec::H264 { .. } => ("libx264", "-preset ultrafast -tune zerolatency -profile:v baseline -aud 1", "h264"),
        Codec::Opus | Codec::Red => unreachable!("no video"),
    }
}

/// The frames of an IVF file: 32 bytes of header, then 12 before each frame, of which the first four are its length.
fn ivf(file: &[u8]) -> Vec<Bytes> {
    let mut rest = &file[32..];
    let mut frames = Vec::new();
    while rest.len() > 12 {
        let len = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        frames.push(Bytes::copy_from_slice(&rest[12..12 + len]));
        rest = &rest[12 + len..];
    }
    frames
}

/// The access units of an H.264 byte stream with delimiters.
fn access_units(file: &[u8]) -> Vec<Bytes> {
    let is_delimiter = |at: usize| file[at..].starts_with(&[0, 0, 0, 1, 9]);
    let starts: Vec<_> = (0..file.len()).filter(|at| is_delimiter(*at)).collect();
    let ends = starts.iter().skip(1).copied().chain([file.len()]);
    starts.iter().zip(ends).map(|(start, end)| Bytes::copy_from_slice(&file[*start..end])).collect()
}

/// The packets of an Ogg file, without its two header packets (RFC 3533).
fn ogg_packets(mut file: &[u8]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while file.len() > 27 {
        assert_eq!(&file[..4], b"OggS");
        let segments = usize::from(file[26]);
        let (table, mut body) = file[27..].split_at(segments);
        for len in table {
            let (segment, rest) = body.split_at(usize::from(*len));
            body = rest;
            packet.extend_from_slice(segment);
            if *len < 255 {
                packets.push(Bytes::from(std::mem::take(&mut packet)));
            }
        }
        file = body;
    }
    packets.split_off(2)
}

/// What ffprobe says of a file.
pub struct Probe {
    /// What it warned of. It should be nothing.
    pub complaints: String,
    pub duration_ms: f64,
    streams: Vec<Value>,
}

pub fn probe(path: &Path) -> Probe {
    let args = ["-v", "warning", "-show_streams", "-show_format", "-count_frames", "-of", "json"];
    let (out, complaints) = run("ffprobe", &args, |c| c.arg(path));
    let told: Value = serde_json::from_str(&out).unwrap();
    let duration = told["format"]["duration"].as_str().and_then(|d| d.parse::<f64>().ok());
    let streams = told["streams"].as_array().cloned().unwrap_or_default();
    Probe { complaints, duration_ms: duration.unwrap_or(0.0) * 1_000.0, streams }
}

impl Probe {
    fn stream(&self, kind: &str) -> &Value {
        self.streams.iter().find(|s| s["codec_type"] == kind).expect("a stream of this kind")
    }
    pub fn codec(&self, kind: &str) -> &str {
        self.stream(kind)["codec_name"].as_str().unwrap()
    }
    pub fn frames(&self, kind: &str) -> u64 {
        self.stream(kind)["nb_read_frames"].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
    pub fn size(&self) -> (u64, u64) {
        let video = self.stream("video");
        (video["width"].as_u64().unwrap(), video["height"].as_u64().unwrap())
    }
}

/// Decodes everything; gives what FFmpeg complained of.
pub fn decode(path: &Path) -> String {
    // In milliseconds, as the file has them: by itself it counts in frames, and two that are less than one apart are a complaint.
    let args = ["-fps_mode", "passthrough", "-enc_time_base:v", "1:1000", "-f", "null", "-"];
    run("ffmpeg", &["-v", "warning", "-i"], |c| c.arg(path).args(args)).1
}

/// When each block of a stream is to be shown or heard, in milliseconds.
pub fn times(path: &Path, stream: &str) -> Vec<f64> {
    let args = ["-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let (out, _) = run("ffprobe", &args, |c| c.arg(path));
    out.lines().filter_map(|line| Some(line.trim_end_matches(',').parse::<f64>().ok()? * 1_000.0)).collect()
}

/// A hash of each decoded picture.
pub fn picture_hashes(path: &Path) -> Vec<String> {
    let args = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let (out, _) = run("ffmpeg", &["-v", "error", "-i"], |c| c.arg(path).args(args));
    out.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.rsplit_once(',')?.1.trim().to_owned())).collect()
}

/// When the picture turns white, in milliseconds.
pub fn flashes(path: &Path) -> Vec<f64> {
    flashes_in(path, "null")
}

/// The same, of what another filter leaves of it.
pub fn flashes_in(path: &Path, filter: &str) -> Vec<f64> {
    let filter = format!("{filter},signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-");
    let args = ["-map", "0:v", "-fps_mode", "passthrough", "-vf", &filter, "-f", "null", "-"];
    onsets(&run("ffmpeg", &["-v", "error", "-i"], |c| c.arg(path).args(args)).0, 200.0)
}

/// When the tone begins, in milliseconds: measured every 5 ms.
pub fn beeps(path: &Path) -> Vec<f64> {
    let filter =
        "asetnsamples=n=240,astats=metadata=1:reset=1,ametadata=mode=print:key=lavfi.astats.Overall.RMS_level:file=-";
    let args = ["-map", "0:a", "-af", filter, "-f", "null", "-"];
    onsets(&run("ffmpeg", &["-v", "error", "-i"], |c| c.arg(path).args(args)).0, -25.0)
}

/// The same for a long file, much faster: the samples are looked at here.
pub fn beeps_in_samples(path: &Path) -> Vec<f64> {
    const RATE: usize = 8_000;
    const WINDOW: usize = RATE / 200;
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", &RATE.to_string()])
        .args(["-f", "s16le", "-"])
        .output()
        .unwrap_or_else(|e| panic!("ffmpeg is needed: {e}"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let loud = out.stdout.chunks_exact(2 * WINDOW).map(|window| {
        let samples = window.chunks_exact(2).map(|s| f64::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0);
        samples.map(|s| s * s).sum::<f64>() / WINDOW as f64 > 10f64.powf(-2.5)
    });
    let (mut was_loud, mut found) = (true, Vec::new());
    for (n, loud) in loud.enumerate() {
        if loud && !was_loud {
            found.push(n as f64 * 5.0);
        }
        was_loud = loud;
    }
    found
}

/// Reads what the metadata filters print: a line with the time, then one with the value.
fn onsets(printed: &str, level: f64) -> Vec<f64> {
    let (mut at, mut was_high, mut found) = (0.0, true, Vec::new());
    for line in printed.lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at = time.trim().parse().unwrap();
        } else if let Some((_, value)) = line.split_once('=') {
            let high = value.parse().is_ok_and(|value: f64| value > level);
            if high && !was_high {
                found.push(at * 1_000.0);
            }
            was_high = high;
        }
    }
    found
}

/// Runs one of FFmpeg's programs to its end; gives what it printed, and what it complained of.
fn run(program: &str, args: &[&str], rest: impl FnOnce(&mut Command) -> &mut Command) -> (String, String) {
    let mut command = Command::new(program);
    if program == "ffmpeg" {
        command.arg("-nostdin");
    }
    command.args(args);
    let output = rest(&mut command).output().unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {complaints}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaints)
}
