//! What FFmpeg is told: arguments, filter graphs, lists, texts. Pure.
//!
//! - Nothing that a user chose stands in an argument or in a graph: names are files of their own, read with `expansion=none`.
//! - One process decodes each file once, however often the layout changes: commands move pictures and change their sizes
//!   at a frame (`sendcmd` right before the filter that it is for).
//! - What is behind the pictures (plain tiles, names) is a still image for each arrangement.
use super::layout::{Canvas, Rect};
use super::plan::{Plan, Scene, Tile};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;

/// Sounds that are mixed by one process. Of more, so many at a time are mixed into a file first.
pub const MAX_SOUNDS: usize = 64;
/// Mixes are made so much quieter, as a power of two, so that they are not cut; and louder again when they are mixed.
const HEADROOM: u32 = 4;
const RATE: u64 = 48_000;

/// What kind of file it is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Container {
    /// H.264 and AAC.
    Mp4,
    /// VP9 and Opus.
    WebM,
}

impl Container {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::WebM => "webm",
        }
    }

    /// FFmpeg's names of the encoders.
    pub fn encoders(self) -> [&'static str; 2] {
        match self {
            Self::Mp4 => ["libx264", "aac"],
            Self::WebM => ["libvpx-vp9", "libopus"],
        }
    }

    fn video(self) -> &'static str {
        match self {
            Self::Mp4 => "-c:v libx264 -preset veryfast -crf 23",
            Self::WebM => "-c:v libvpx-vp9 -deadline realtime -cpu-used 7 -row-mt 1 -tile-columns 2 -b:v 0 -crf 32",
        }
    }

    fn sound(self) -> &'static str {
        match self {
            Self::Mp4 => "-c:a aac -b:a 160k -movflags +faststart",
            Self::WebM => "-c:a libopus -b:a 128k",
        }
    }
}

/// One run of FFmpeg, in a directory of its own making.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Job {
    pub args: Vec<Arg>,
    /// To be written before: plain names, and what is in them.
    pub files: Vec<(String, String)>,
    /// Of what comes out, in milliseconds.
    pub length_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arg {
    Text(String),
    /// A file of the session, by its index in the manifest.
    Media(usize),
}

impl Job {
    /// Arguments without spaces in them.
    fn args(&mut self, words: &str) {
        self.args.extend(words.split_ascii_whitespace().map(|word| Arg::Text(word.to_owned())));
    }

    fn file(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.files.push((name.into(), text.into()));
    }
}

/// The still images: one for each arrangement of tiles, whatever pictures are on them.
#[derive(Debug, Default)]
pub struct Backgrounds {
    numbers: BTreeMap<Vec<Tile>, usize>,
}

impl Backgrounds {
    pub fn of(plan: &Plan) -> Self {
        let mut all = Self::default();
        for scene in &plan.scenes {
            let next = all.numbers.len();
            all.numbers.entry(Self::key(scene)).or_insert(next);
        }
        all
    }

    fn key(scene: &Scene) -> Vec<Tile> {
        scene.tiles.iter().map(|tile| Tile { video: None, ..*tile }).collect()
    }

    fn number(&self, scene: &Scene) -> usize {
        self.numbers.get(&Self::key(scene)).copied().unwrap_or_default()
    }

    /// A job for each. Without `text` there are no names. `font`: there is a file `font` to write them with.
    pub fn jobs<'a>(&'a self, plan: &'a Plan, text: bool, font: bool) -> impl Iterator<Item = Job> + 'a {
        let font = if font { "fontfile=font:" } else { "" };
        self.numbers
            .iter()
            .map(move |(tiles, number)| background(*number, plan.look.canvas, tiles, &plan.names, text.then_some(font)))
    }
}

fn background(
    number: usize,
    Canvas { width, height }: Canvas,
    tiles: &[Tile],
    names: &[String],
    font: Option<&str>,
) -> Job {
    let mut job = Job::default();
    let mut graph = format!("color=c=0x15171b:s={width}x{height}:r=1:d=1,format=rgb24");
    for (n, tile) in tiles.iter().enumerate() {
        let Rect { x, y, w, h } = tile.place.picture;
        let _ = write!(graph, ",\ndrawbox=x={x}:y={y}:w={w}:h={h}:color=0x2a2e36:t=fill");
        let name = names.get(tile.name).map(String::as_str).unwrap_or_default();
        let mut text = |suffix: &str, text: String, at: Rect, size: u32| {
            let Some(font) = font.filter(|_| !text.is_empty() && size >= 8) else { return };
            let Rect { x, y, w, h } = at;
            let file = format!("b{number}-{n}{suffix}.txt");
            let place = format!("x=max({x}\\,{x}+({w}-text_w)/2):y={y}+({h}-text_h)/2");
            let _ = write!(
                graph,
                ",\ndrawtext={font}textfile={file}:expansion=none:fontcolor=0xd6dae2:fontsize={size}:{place}"
            );
            job.file(file, text);
        };
        text("i", initial(name), tile.place.picture, h / 3);
        if let Some(caption) = tile.place.caption {
            let size = caption.h * 7 / 10;
            text("n", label(name, (caption.w * 100 / (size * 58).max(1)) as usize), caption, size);
        }
    }
    job.file(format!("b{number}.graph"), graph + "[out]");
    job.args(&format!("-filter_complex_script b{number}.graph -map [out] -frames:v 1 b{number}.png"));
    job
}

/// A name that can be shown: on one line, in its own direction, and no longer than so many columns.
fn label(name: &str, columns: usize) -> String {
    let steers = |c: &char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean: String =
        name.chars().take(1_000).map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !steers(c)).collect();
    let clean = clean.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
    // East Asian letters and pictures are two columns wide.
    let width = |c: char| if c >= '\u{1100}' { 2 } else { 1 };
    if clean.chars().map(width).sum::<usize>() <= columns {
        return clean;
    }
    let (mut room, mut cut) = (columns.saturating_sub(1), String::new());
    for c in clean.chars() {
        let Some(left) = room.checked_sub(width(c)) else { break };
        room = left;
        cut.push(c);
    }
    if cut.is_empty() { cut } else { cut.trim_end().to_owned() + "…" }
}

fn initial(name: &str) -> String {
    name.chars().find(|c| c.is_alphanumeric()).map(|c| c.to_uppercase().collect()).unwrap_or_default()
}

/// Renders the scenes of a chunk, without sound, into `v{number}`. `decoder` names the decoder for a codec, if it is not FFmpeg's own.
pub fn chunk<'d>(
    plan: &Plan,
    backgrounds: &Backgrounds,
    number: usize,
    scenes: Range<usize>,
    container: Container,
    decoder: impl Fn(&str) -> Option<&'d str>,
) -> Job {
    let scenes = plan.scenes.get(scenes).unwrap_or_default();
    let first = scenes.first().map_or(0, |s| s.frames.start);
    let last = scenes.last().map_or(0, |s| s.frames.end);
    let fps = plan.look.fps;
    let mut job = Job { length_ms: (last - first) * 1_000 / u64::from(fps), ..Job::default() };
    job.args(&format!("-copyts -f concat -i v{number}.list"));
    job.file(format!("v{number}.list"), slides(scenes, backgrounds, fps));
    let mut graph = format!("[0:v]format=yuv420p,fps={fps}:start_time=0,tpad=stop=-1:stop_mode=clone[c0]");
    let zero = plan.origin_ms + first * 1_000 / u64::from(fps);
    let used: BTreeSet<usize> = scenes.iter().flat_map(|s| &s.tiles).filter_map(|t| t.video).collect();
    let threads = if used.len() > 4 { "-threads 1" } else { "" };
    for (n, index) in used.iter().enumerate() {
        let Some(video) = plan.videos.get(*index) else { continue };
        if let Some(decoder) = decoder(&video.codec) {
            job.args(&format!("-c:v {decoder}"));
        }
        // Its picture at the chunk's zero is the last one before that: from the keyframe on it is decoded.
        if zero > video.first_ms {
            job.args(&format!(
                "-ss {} -noaccurate_seek -seek_timestamp 1",
                seconds(zero.saturating_sub(video.start_ms))
            ));
        }
        let offset = video.start_ms as i64 - zero as i64;
        let sign = if offset < 0 { "-" } else { "" };
        job.args(&format!(
            "{threads} -an -reinit_filter 0 -f matroska -itsoffset {sign}{} -i",
            seconds(offset.unsigned_abs())
        ));
        job.args.push(Arg::Media(video.file));
        let moves = Moves::of(scenes, *index, fps);
        let start = seconds(video.first_ms.saturating_sub(zero));
        graph += &moves.graph(&mut job, number, n, fps, &start);
    }
    job.file(format!("v{number}.graph"), graph);
    let (keyframes, frames, out) = (fps * 4, last - first, chunk_name(number, container));
    job.args(&format!(
        "-filter_complex_script v{number}.graph -map [c{}] -frames:v {frames} -g {keyframes}",
        used.len()
    ));
    job.args(&format!("{} -pix_fmt yuv420p {out}", container.video()));
    job
}

fn chunk_name(number: usize, container: Container) -> String {
    format!("v{number}.{}", container.extension())
}

/// Milliseconds as FFmpeg reads seconds.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// The images behind the scenes, for as long as each is there. The last one is named twice, or it would have no length.
fn slides(scenes: &[Scene], backgrounds: &Backgrounds, fps: u32) -> String {
    let mut list = String::from("ffconcat version 1.0\n");
    let micros = |frames: u64| frames * 1_000_000 / u64::from(fps);
    for scene in scenes {
        let length = micros(scene.frames.end) - micros(scene.frames.start);
        let number = backgrounds.number(scene);
        let _ = writeln!(list, "file b{number}.png\nduration {}.{:06}", length / 1_000_000, length % 1_000_000);
    }
    if let Some(last) = scenes.last() {
        let _ = writeln!(list, "file b{}.png", backgrounds.number(last));
    }
    list
}

/// Where a video is, from frame to frame. `None`: nowhere.
struct Moves {
    fps: u32,
    first: Rect,
    visible: bool,
    /// Frames after the chunk's zero.
    later: Vec<(u64, Option<Rect>)>,
}

impl Moves {
    fn of(scenes: &[Scene], video: usize, fps: u32) -> Self {
        let zero = scenes.first().map_or(0, |s| s.frames.start);
        let place = |scene: &Scene| scene.tiles.iter().find(|t| t.video == Some(video)).map(|t| t.place.picture);
        let mut later: Vec<_> = scenes.iter().map(|s| (s.frames.start - zero, place(s))).collect();
        later.dedup_by_key(|(_, rect)| *rect);
        let visible = later.first().is_some_and(|(_, rect)| rect.is_some());
        let first = later.iter().find_map(|(_, rect)| *rect).unwrap_or(Rect { x: 0, y: 0, w: 2, h: 2 });
        if !later.is_empty() {
            later.remove(0);
        }
        Self { fps, first, visible, later }
    }

    /// Puts input `n + 1` onto what came before it, at its places.
    fn graph(&self, job: &mut Job, chunk: usize, n: usize, fps: u32, start: &str) -> String {
        let input = n + 1;
        let mut commands = [String::new(), String::new()];
        for (frame, rect) in &self.later {
            // Half a frame early, so that no rounding makes it late.
            let at = (2 * frame - 1) * 500_000 / u64::from(self.fps);
            let at = format!("{}.{:06}", at / 1_000_000, at % 1_000_000);
            let [sizes, places] = &mut commands;
            let (x, y) = Self::place(*rect);
            if let Some(Rect { w, h, .. }) = rect {
                let _ = writeln!(sizes, "{at} scale@s{input} w {w}, scale@s{input} h {h};");
            }
            let _ = writeln!(places, "{at} overlay@o{input} x {x}, overlay@o{input} y {y};");
        }
        // A filter without a command is an error.
        let [sizes, places] = [("s", &commands[0]), ("o", &commands[1])].map(|(letter, commands)| {
            if commands.is_empty() {
                return String::new();
            }
            let name = format!("v{chunk}-{letter}{input}.cmd");
            job.file(name.as_str(), commands.as_str());
            format!("sendcmd=f={name},")
        });
        let (x, y) = Self::place(self.visible.then_some(self.first));
        let Rect { w, h, .. } = self.first;
        // In the alpha format that `overlay` takes, so that nothing between them changes a size back.
        format!(
            ";\n[{input}:v]fps={fps}:start_time={start},{sizes}scale@s{input}=w={w}:h={h}:\
             force_original_aspect_ratio=decrease:force_divisible_by=2:eval=frame,setsar=1,format=yuva420p[i{input}];\n\
             [c{n}]{places}null[o{input}];\n\
             [o{input}][i{input}]overlay@o{input}=x={x}:y={y}:eval=frame:eof_action=repeat[c{input}]"
        )
    }

    /// For `overlay`: in the middle of a place, or far below the canvas.
    fn place(rect: Option<Rect>) -> (String, String) {
        match rect {
            Some(Rect { x, y, w, h }) => (format!("{x}+({w}-w)/2"), format!("{y}+({h}-h)/2")),
            None => ("0".into(), "20000".into()),
        }
    }
}

/// Mixes the sounds of a batch ([`batches`]) into `a{number}.flac`.
pub fn mix(plan: &Plan, number: usize) -> Job {
    let mut job = Job::default();
    let sounds = batch(plan, number);
    let mut graph = String::new();
    for (input, sound) in sounds.iter().enumerate() {
        job.args("-vn -f matroska -i");
        job.args.push(Arg::Media(sound.file));
        graph += &placed(input, sound.at_ms);
        job.length_ms = plan.length_ms();
    }
    let inputs: String = (0..sounds.len()).map(|n| format!("[m{n}]")).collect();
    let _ = write!(graph, "{inputs}amix=inputs={}:normalize=0,volume=1/{HEADROOM}[out]", sounds.len());
    job.file(format!("a{number}.graph"), graph);
    job.args(&format!("-filter_complex_script a{number}.graph -map [out] -c:a flac -sample_fmt s32 a{number}.flac"));
    job
}

/// How many batches of sounds have to be mixed before: none where one process can have them all.
pub fn batches(plan: &Plan) -> usize {
    if plan.sounds.len() <= MAX_SOUNDS { 0 } else { plan.sounds.len().div_ceil(MAX_SOUNDS) }
}

fn batch(plan: &Plan, number: usize) -> &[super::plan::Sound] {
    plan.sounds.chunks(MAX_SOUNDS).nth(number).unwrap_or_default()
}

/// A sound in its place: silence, and then what is in the file. `adelay` would keep as much silence in memory.
fn placed(input: usize, at_ms: u64) -> String {
    let form = "aformat=sample_fmts=fltp:sample_rates=48000:channel_layouts=stereo";
    let sound = format!("[{input}:a]aresample=48000:async=1,{form},asetpts=PTS-STARTPTS");
    match at_ms * RATE / 1_000 {
        0 => format!("{sound}[m{input}];\n"),
        samples => format!(
            "{sound}[p{input}];\nanullsrc=r=48000:cl=stereo,atrim=end_sample={samples},{form}[q{input}];\n\
             [q{input}][p{input}]concat=n=2:v=0:a=1[m{input}];\n"
        ),
    }
}

/// Puts the chunks behind each other and adds the sound, in one piece: so there is no seam to be heard.
pub fn join(plan: &Plan, chunks: &[Range<usize>], container: Container) -> Job {
    let mut job = Job { length_ms: plan.length_ms(), ..Job::default() };
    let fps = u64::from(plan.look.fps);
    let mut list = String::from("ffconcat version 1.0\n");
    for (number, chunk) in chunks.iter().enumerate() {
        let scenes = plan.scenes.get(chunk.clone()).unwrap_or_default();
        let frames = scenes.last().map_or(0, |s| s.frames.end) - scenes.first().map_or(0, |s| s.frames.start);
        let micros = frames * 1_000_000 / fps;
        let name = chunk_name(number, container);
        let _ = writeln!(list, "file {name}\nduration {}.{:06}", micros / 1_000_000, micros % 1_000_000);
    }
    job.file("all.list", list);
    job.args("-f concat -i all.list");
    let mut graph = String::new();
    let (mut inputs, mut gain) = (0, 1);
    if batches(plan) > 0 {
        gain = HEADROOM;
        for number in 0..batches(plan) {
            job.args(&format!("-i a{number}.flac"));
            inputs += 1;
            graph += &placed(inputs, 0);
        }
    } else {
        for sound in &plan.sounds {
            job.args("-vn -f matroska -i");
            job.args.push(Arg::Media(sound.file));
            inputs += 1;
            graph += &placed(inputs, sound.at_ms);
        }
    }
    if inputs > 0 {
        let samples = plan.frames * RATE / fps;
        let all: String = (1..=inputs).map(|n| format!("[m{n}]")).collect();
        let _ = write!(
            graph,
            "{all}amix=inputs={inputs}:normalize=0,volume={gain},alimiter=limit=0.97:level=disabled,\
             apad=whole_len={samples},atrim=end_sample={samples}[sound]"
        );
        job.file("all.graph", graph);
        job.args("-filter_complex_script all.graph -map [sound]");
        job.args(container.sound());
    }
    job.args(&format!("-map 0:v -c:v copy {}", out_name(container)));
    job
}

/// What [`join`] makes.
pub fn out_name(container: Container) -> String {
    format!("out.{}", container.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_on_one_line_in_their_own_direction_and_cut() {
        assert_eq!(label("Ada Lovelace", 20), "Ada Lovelace");
        assert_eq!(label("Ada\n\tLovelace\0\u{202e}", 20), "Ada Lovelace");
        assert_eq!(label("Ada Lovelace", 6), "Ada L…");
        assert_eq!(label("埃达·洛夫莱斯", 7), "埃达·…");
        assert_eq!(
            (label("Ada", 0), label("", 10), label("\u{202e}", 10)),
            (String::new(), String::new(), String::new())
        );
        assert_eq!((initial("  ada"), initial("%{pts}"), initial("\u{202e}")), ("A".into(), "P".into(), String::new()));
    }
}
