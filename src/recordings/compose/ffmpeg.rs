//! FFmpeg as a subprocess: what it can do, and running it.
use super::script::{Arg, Container, Job};
use super::{Error, Stop};
use crate::record::manifest::{State, Track};
use crate::rtp::Kind;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The first version that this was tested with.
const OLDEST: u32 = 5;
/// So much of the end of what it complained of is told, in bytes.
const COMPLAINTS: usize = 4 << 10;
/// Whether to stop is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
const FILTERS: [&str; 16] = [
    "aformat",
    "alimiter",
    "amix",
    "anullsrc",
    "apad",
    "aresample",
    "asetpts",
    "atrim",
    "color",
    "concat",
    "drawbox",
    "fps",
    "overlay",
    "scale",
    "sendcmd",
    "tpad",
];

/// An FFmpeg that can do what is needed.
#[derive(Debug)]
pub struct Tool {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    decoders: BTreeSet<String>,
    /// It can draw text, as far as it says.
    pub text: bool,
}

impl Tool {
    /// Looks whether `path`, or `ffmpeg` of the `PATH`, can make this.
    pub fn find(path: Option<&Path>, container: Container) -> Result<Self, Error> {
        let ffmpeg = path.unwrap_or(Path::new("ffmpeg")).to_owned();
        let ask = |what: &str| -> Result<String, Error> {
            let output = Command::new(&ffmpeg).args(["-hide_banner", what]).stdin(Stdio::null()).output();
            let output = output.map_err(|error| Error::NoFfmpeg { path: ffmpeg.clone(), error })?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let told = ask("-version")?;
        let told = told.lines().next().unwrap_or_default();
        let Some(version) = told.strip_prefix("ffmpeg version ") else { return Err(Error::NotFfmpeg(ffmpeg)) };
        if is_too_old(version) {
            let version = version.split(' ').next().unwrap_or_default().to_owned();
            return Err(Error::OldFfmpeg { version, oldest: OLDEST });
        }
        let (encoders, filters) = (names(&ask("-encoders")?), names(&ask("-filters")?));
        let lacks = |known: &BTreeSet<String>, wanted: &[&'static str]| -> Vec<&'static str> {
            wanted.iter().copied().filter(|name| !known.contains(*name)).collect()
        };
        let missing = lacks(&encoders, &container.encoders());
        if !missing.is_empty() {
            return Err(Error::NoEncoder { missing, container });
        }
        let missing = lacks(&filters, &FILTERS);
        if !missing.is_empty() {
            return Err(Error::NoFilter { missing });
        }
        let ffprobe = ffmpeg.with_file_name("ffprobe");
        Ok(Self { ffprobe, decoders: names(&ask("-decoders")?), text: filters.contains("drawtext"), ffmpeg })
    }

    /// The decoder to ask for. libvpx shows only the highest layer of VP9 with spatial layers; FFmpeg's own shows each.
    pub fn decoder(&self, codec: &str) -> Option<&'static str> {
        (codec == "VP9" && self.decoders.contains("libvpx-vp9")).then_some("libvpx-vp9")
    }

    /// Runs a job in `dir`. `told` hears how much of its length is done, in milliseconds.
    pub fn run(
        &self,
        job: &Job,
        dir: &Path,
        media: &dyn Fn(usize) -> PathBuf,
        stop: &Stop,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        for (name, text) in &job.files {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
        }
        let args = job.args.iter().map(|arg| match arg {
            Arg::Text(text) => OsString::from(text),
            // So that no name is taken for an address.
            Arg::Media(file) => {
                let mut url = OsString::from("file:");
                url.push(media(*file));
                url
            }
        });
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-nostdin", "-hide_banner", "-v", "error", "-nostats", "-y", "-progress", "pipe:1"]).args(args);
        // A group of its own: it is to be ended by us, and not by the terminal at the same time.
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|error| Error::NoFfmpeg { path: self.ffmpeg.clone(), error })?;
        Running(child).finish(stop, told)
    }

    /// The tracks of a file, as it is itself. For sessions that were healed, whose manifest is as old as the crash.
    pub fn tracks(&self, path: &Path, start_ms: u64, duration_ms: u64) -> Result<Vec<Track>, Error> {
        let args = ["-v", "error", "-show_entries", "stream=codec_type,codec_name,start_time", "-of", "compact=p=0"];
        let output = Command::new(&self.ffprobe).args(args).arg(path).stdin(Stdio::null()).output();
        let output = output.map_err(|error| Error::NoFfmpeg { path: self.ffprobe.clone(), error })?;
        if !output.status.success() {
            return Err(Error::failed(&output));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| track(line, start_ms, duration_ms)).collect())
    }
}

/// `codec_name=vp8|codec_type=video|start_time=0.054000`. A stream without a packet has no start.
fn track(line: &str, start_ms: u64, duration_ms: u64) -> Option<Track> {
    let value = |key: &str| line.split('|').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let kind = match value("codec_type")? {
        "video" => Kind::Video,
        "audio" => Kind::Audio,
        _ => return None,
    };
    let start = value("start_time")?.parse::<f64>().ok()?.clamp(0.0, 1e9);
    Some(Track {
        id: String::new(),
        kind,
        codec: value("codec_name")?.to_uppercase(),
        first_ms: start_ms.saturating_add((start * 1_000.0) as u64),
        last_ms: start_ms.saturating_add(duration_ms),
        frames: 1,
        keyframes: 1,
        lost_packets: 0,
        sizes: Vec::new(),
    })
}

/// Whether what the manifest says of tracks may be older than the files.
pub fn is_doubtful(state: State) -> bool {
    state == State::Healed
}

/// Versions from git are called `N-…`, or by a date; they are taken to be new.
fn is_too_old(version: &str) -> bool {
    let digits: String = version.trim_start_matches('n').chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|major| major < OLDEST)
}

/// The second word of each line of FFmpeg's lists.
fn names(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| Some(line.split_ascii_whitespace().nth(1)?.to_owned())).collect()
}

/// It is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn finish(mut self, stop: &Stop, told: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let progress = self.progress();
        let complaints = self.0.stderr.take().map(|stderr| thread::spawn(move || tail(stderr)));
        loop {
            if stop.is_wanted() {
                return Err(Error::Interrupted);
            }
            match progress.recv_timeout(LOOK) {
                Ok(ms) => told(ms),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.0.wait().map_err(|error| Error::NoFfmpeg { path: "ffmpeg".into(), error })?;
        let stderr = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() { Ok(()) } else { Err(Error::failed(&Output { status, stdout: Vec::new(), stderr })) }
    }

    /// What `-progress` tells, in milliseconds. Ends with the process.
    fn progress(&mut self) -> Receiver<u64> {
        let (tell, told) = mpsc::sync_channel(16);
        let stdout = self.0.stdout.take();
        thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok));
            for line in lines {
                let micros = line.strip_prefix("out_time_us=").and_then(|n| n.trim().parse::<u64>().ok());
                if micros.is_some_and(|micros| tell.send(micros / 1_000).is_err()) {
                    return;
                }
            }
        });
        told
    }
}

/// The end of what is read.
fn tail(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; 1 << 10]);
    while let Ok(n @ 1..) = from.read(&mut piece) {
        kept.extend_from_slice(&piece[..n]);
        if kept.len() > 2 * COMPLAINTS {
            kept.drain(..kept.len() - COMPLAINTS);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, old) in
            [("5.1.9-0+deb12u1", false), ("4.4.2", true), ("n4.2", true), ("N-110-gabc", false), ("7.1", false)]
        {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }

    #[test]
    fn lists_and_tracks() {
        let list = names(" V....D libx264   libx264 H.264\n T.C drawtext   V->V  Draw text\n\n");
        assert!(list.contains("libx264") && list.contains("drawtext"));
        let video = track("codec_name=vp9|codec_type=video|start_time=0.054000", 200, 5_000).expect("a track");
        assert_eq!((video.kind, video.codec.as_str(), video.first_ms, video.last_ms), (Kind::Video, "VP9", 254, 5_200));
        assert_eq!(track("codec_name=opus|codec_type=audio|start_time=N/A", 0, 0), None);
    }

    #[test]
    fn only_the_end_of_complaints_is_kept() {
        let text = "x".repeat(100_000) + "end";
        let kept = tail(text.as_bytes());
        assert!(kept.ends_with(b"end") && kept.len() <= 2 * COMPLAINTS);
    }
}
