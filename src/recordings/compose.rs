//! One file out of a session's many: everybody on one canvas, and all sounds mixed. FFmpeg does the work, as a subprocess.
//!
//! ```text
//!   session.json, events.jsonl > plan (scenes, on the frames of the composite) > script (arguments, graphs) > ffmpeg
//! ```
//!
//! The pictures are rendered in chunks of scenes: usually one. Only where more than [`MAX_VIDEOS`] files take part in it there are
//! more, so that no process has more of them open at a time. The chunks are put behind each other as they are, and the sound is mixed
//! in one piece over all of it.
mod ffmpeg;
mod layout;
mod plan;
mod progress;
mod script;

pub use crate::record::manifest::Layout;
pub use layout::{Canvas, InvalidCanvas};
pub use script::Container;

use crate::record::manifest::{EventLine, Session, State};
use ffmpeg::Tool;
use plan::{Look, NothingRecorded, Plan, Speech};
use progress::{Progress, clock};
use script::{Backgrounds, Job};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Files whose pictures one process decodes.
pub const MAX_VIDEOS: usize = 64;
/// No manifest is longer, and no line of events.
const MAX_MANIFEST: u64 = 256 << 20;
const MAX_LINE: u64 = 1 << 20;
/// Mixing sound is so much less work than pictures of the same length.
const PICTURES: u64 = 12;

/// What is to be made of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// A session's.
    pub folder: PathBuf,
    pub out: PathBuf,
    pub container: Container,
    /// `None`: as whoever started the recording wished, else a grid.
    pub layout: Option<Layout>,
    pub canvas: Canvas,
    /// 1 to 60.
    pub fps: u32,
    /// `None`: that of the `PATH`.
    pub ffmpeg: Option<PathBuf>,
    /// `None`: what FFmpeg finds by itself.
    pub font: Option<PathBuf>,
    /// A file of that name is overwritten.
    pub force: bool,
}

/// Whether somebody wants it to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Wanted as soon as SIGINT, SIGTERM or SIGHUP comes.
    pub fn on_signals() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = Self::default();
        let (mut interrupt, mut terminate, mut hang_up) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
        };
        let wanted = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
            });
            wanted.want();
        });
        Ok(stop)
    }

    pub fn want(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why there is no composite.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is not the folder of a recording: {reason}", path = path.display())]
    NoSession { path: PathBuf, reason: String },
    #[error(
        "the session is still being recorded. Stop it first; if the server died, start it again or run `exedra recordings heal`"
    )]
    StillRecording,
    #[error("{name} is named by session.json but is not there")]
    FileGone { name: String },
    #[error(transparent)]
    Nothing(#[from] NothingRecorded),
    #[error("{path} is there already: --force overwrites it", path = .0.display())]
    OutExists(PathBuf),
    #[error("{path} is there: another compose is writing it, or one was killed. --force removes it", path = .0.display())]
    Unfinished(PathBuf),
    #[error("{path} cannot be run ({error}): install FFmpeg (Debian: apt install ffmpeg), or say where it is with --ffmpeg PATH", path = path.display())]
    NoFfmpeg { path: PathBuf, error: io::Error },
    #[error("{path} is not FFmpeg", path = .0.display())]
    NotFfmpeg(PathBuf),
    #[error("FFmpeg {version} is too old: version {oldest} or newer is needed")]
    OldFfmpeg { version: String, oldest: u32 },
    #[error("this FFmpeg was built without {missing}, which .{extension} needs: Debian's package ffmpeg has it",
        missing = missing.join(" and "), extension = container.extension())]
    NoEncoder { missing: Vec<&'static str>, container: Container },
    #[error("this FFmpeg was built without the filters {missing}: Debian's package ffmpeg has them", missing = missing.join(", "))]
    NoFilter { missing: Vec<&'static str> },
    #[error("FFmpeg failed ({status}):\n{complaints}")]
    Failed { status: String, complaints: String },
    #[error("interrupted: nothing was written")]
    Interrupted,
}

impl Error {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    fn failed(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let complaints = lines[lines.len().saturating_sub(12)..].join("\n");
        Self::Failed { status: output.status.to_string(), complaints }
    }
}

/// Makes the composite. Tells on stderr how far it is, as a bar if that is a `terminal`. It blocks: for minutes, or hours.
pub fn compose(request: &Request, terminal: bool, stop: &Stop) -> Result<Made, Error> {
    if request.out.exists() && !request.force {
        return Err(Error::OutExists(request.out.clone()));
    }
    let folder = Folder::open(&request.folder)?;
    let tool = Tool::find(request.ffmpeg.as_deref(), request.container)?;
    let session = folder.session(&tool)?;
    let layout = request.layout.or(session.layout).unwrap_or_default();
    let look = Look { layout, canvas: request.canvas, fps: request.fps };
    let plan = Plan::new(&session, &folder.speech()?, look)?;
    let work = Work::begin(&request.out, request.force)?;
    let made =
        Composer { request, plan: &plan, session: &session, folder: &folder, tool, work: &work, stop }.run(terminal)?;
    if request.out.exists() && !request.force {
        return Err(Error::OutExists(request.out.clone()));
    }
    fs::rename(work.0.join(script::out_name(request.container)), &request.out)
        .map_err(|error| Error::io(&request.out, error))?;
    Ok(made)
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    pub length: Duration,
    pub took: Duration,
    /// Bytes.
    pub size: u64,
    /// What could not be done as well as it might.
    pub warnings: Vec<&'static str>,
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = self.size as f64 / 1e6;
        write!(f, "{} in {mb:.1} MB, made in {}", clock(self.length), clock(self.took))
    }
}

/// A session's folder. Wherever it was copied to, and whatever it is called there.
struct Folder(PathBuf);

impl Folder {
    fn open(path: &Path) -> Result<Self, Error> {
        // FFmpeg runs in another directory.
        path.canonicalize().map(Self).map_err(|error| Error::io(path, error))
    }

    /// The manifest of a session that is finished.
    fn session(&self, tool: &Tool) -> Result<Session, Error> {
        let path = self.0.join("session.json");
        let no_session = |reason: String| Error::NoSession { path: self.0.clone(), reason };
        let file = File::open(&path).map_err(|error| no_session(format!("session.json: {error}")))?;
        let mut text = Vec::new();
        file.take(MAX_MANIFEST).read_to_end(&mut text).map_err(|error| Error::io(&path, error))?;
        let mut session: Session =
            serde_json::from_slice(&text).map_err(|error| no_session(format!("session.json: {error}")))?;
        if session.version != crate::record::manifest::VERSION {
            return Err(no_session(format!(
                "session.json is of version {}, which this program does not know",
                session.version
            )));
        }
        if session.state == State::Recording {
            return Err(Error::StillRecording);
        }
        for file in &mut session.files {
            // A name leads nowhere else, whoever wrote the manifest.
            let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if file.name.starts_with('.') || file.name.is_empty() || !file.name.bytes().all(harmless) {
                return Err(no_session("session.json names a file outside of it".into()));
            }
            let path = self.0.join(&file.name);
            if !path.is_file() {
                return Err(Error::FileGone { name: file.name.clone() });
            }
            if ffmpeg::is_doubtful(session.state) {
                file.tracks = tool.tracks(&path, file.start_ms, file.duration_ms)?;
            }
        }
        Ok(session)
    }

    /// Who spoke when. A line that cannot be read is left out, and there may be no lines at all.
    fn speech(&self) -> Result<Vec<Speech>, Error> {
        let path = self.0.join("events.jsonl");
        let mut lines = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => BufReader::new(other.map_err(|error| Error::io(&path, error))?),
        };
        let (mut speech, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line);
            match read.map_err(|error| Error::io(&path, error))? {
                0 => break,
                _ => speech.extend(serde_json::from_slice::<EventLine>(&line).ok().and_then(Speech::of)),
            }
        }
        speech.sort_by_key(|s| s.at_ms);
        Ok(speech)
    }
}

/// Where it is made: a private directory beside the file that it becomes, gone at the end however that is.
struct Work(PathBuf);

impl Work {
    fn begin(out: &Path, force: bool) -> Result<Self, Error> {
        let mut path = out.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        if force && path.is_dir() {
            fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => path.canonicalize().map(Self).map_err(|error| Error::io(&path, error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Unfinished(path)),
            Err(error) => Err(Error::io(&path, error)),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Composer<'a> {
    request: &'a Request,
    plan: &'a Plan,
    session: &'a Session,
    folder: &'a Folder,
    tool: Tool,
    work: &'a Work,
    stop: &'a Stop,
}

impl Composer<'_> {
    fn run(&self, terminal: bool) -> Result<Made, Error> {
        let begun = now();
        let (plan, container) = (self.plan, self.request.container);
        let warnings = self.backgrounds()?;
        let backgrounds = Backgrounds::of(plan);
        let chunks = plan.chunks(MAX_VIDEOS);
        let pictures = chunks.iter().enumerate().map(|(n, scenes)| {
            script::chunk(plan, &backgrounds, n, scenes.clone(), container, |codec| self.tool.decoder(codec))
        });
        let mixes = (0..script::batches(plan)).map(|n| script::mix(plan, n));
        let sounds = mixes.chain([script::join(plan, &chunks, container)]);
        let jobs: Vec<(Job, u64)> = pictures.map(|job| (job, PICTURES)).chain(sounds.map(|job| (job, 1))).collect();
        let length = Duration::from_millis(plan.length_ms());
        let work = jobs.iter().map(|(job, weight)| job.length_ms * weight).sum();
        let mut progress = Progress::new(now(), terminal, length, work);
        let ended: Result<(), Error> = jobs.iter().try_for_each(|(job, weight)| {
            self.job(job, &mut |ms| {
                if let Some(text) = progress.update(now(), ms.min(job.length_ms) * weight) {
                    eprint!("{text}");
                    let _ = io::stderr().flush();
                }
            })?;
            progress.finish(job.length_ms * weight);
            Ok(())
        });
        eprint!("{}", progress.end());
        ended?;
        let made = self.work.0.join(script::out_name(container));
        let size = fs::metadata(&made).map_err(|error| Error::io(&made, error))?.len();
        Ok(Made { length, took: now().saturating_duration_since(begun), size, warnings })
    }

    /// Draws what is behind the pictures. Without names if that fails with them: there may be no font.
    fn backgrounds(&self) -> Result<Vec<&'static str>, Error> {
        let font = match &self.request.font {
            None => false,
            Some(font) => {
                // By a harmless name, for it stands in a graph.
                fs::copy(font, self.work.0.join("font")).map_err(|error| Error::io(font, error))?;
                true
            }
        };
        let all = Backgrounds::of(self.plan);
        let draw = |text: bool| all.jobs(self.plan, text, font).try_for_each(|job| self.job(&job, &mut |_| ()));
        if self.tool.text {
            match draw(true) {
                Err(Error::Failed { .. }) if !font => {}
                other => return other.map(|()| Vec::new()),
            }
        }
        draw(false)?;
        Ok(vec!["there are no names in it: FFmpeg cannot draw text, or finds no font (--font FILE names one)"])
    }

    fn job(&self, job: &Job, told: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let media = |file: usize| {
            let name = self.session.files.get(file).map(|f| f.name.as_str()).unwrap_or_default();
            self.folder.0.join(name)
        };
        self.tool.run(job, &self.work.0, &media, self.stop, told)
    }
}

#[allow(clippy::disallowed_methods, reason = "to say how long it takes: nothing else depends on it")]
fn now() -> Instant {
    Instant::now()
}
