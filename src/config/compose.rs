//! The command line of `exedra compose`.
use super::raw::Mistake;
use crate::recordings::compose::{Canvas, Container, Layout, Request};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;

pub(super) fn command() -> Command {
    let option = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    let path = |arg: Arg| arg.value_parser(clap::value_parser!(PathBuf));
    Command::new("compose")
        .about("Makes one video of a recording: everybody on one canvas, all sounds mixed (by FFmpeg)")
        .arg(path(
            Arg::new("folder").value_name("FOLDER").help("The folder of a recording that has ended").required(true),
        ))
        .arg(
            path(option("out", "FILE", "What is to be made: .mp4 (H.264, AAC) or .webm (VP9, Opus)"))
                .short('o')
                .required(true),
        )
        .arg(
            option(
                "layout",
                "LAYOUT",
                "grid: all alike; speaker: the shared screen large, else who speaks [default: what was asked for when it was recorded, else grid]",
            )
            .value_parser(["grid", "speaker"]),
        )
        .arg(option("size", "WxH", "Its size in pixels").default_value("1280x720"))
        .arg(option("fps", "N", "Its frames per second, up to 60").default_value("30"))
        .arg(path(option("ffmpeg", "PATH", "The FFmpeg to use [default: that of the PATH]")))
        .arg(path(option("font", "FILE", "A font to write the names with [default: what FFmpeg finds]")))
        .arg(Arg::new("force").long("force").action(ArgAction::SetTrue).help("Overwrite FILE if it is there"))
}

/// What was asked for, or every mistake in it.
pub(super) fn request(matches: &ArgMatches) -> Result<Request, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut wrong = |place: &str, message: String| mistakes.push(Mistake { place: place.into(), message });
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let out = path("out").unwrap_or_default();
    let container = match out.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("mp4") => Some(Container::Mp4),
        Some("webm") => Some(Container::WebM),
        _ => {
            wrong("--out", format!("{} ends neither in .mp4 nor in .webm", out.display()));
            None
        }
    };
    let canvas = Canvas::try_from(text("size")).map_err(|error| wrong("--size", error.to_string())).ok();
    let fps = text("fps").parse().ok().filter(|fps| (1..=60).contains(fps));
    if fps.is_none() {
        wrong("--fps", "is a number from 1 to 60".into());
    }
    let layout = match text("layout") {
        "grid" => Some(Layout::Grid),
        "speaker" => Some(Layout::Speaker),
        _ => None,
    };
    match (container, canvas, fps) {
        (Some(container), Some(canvas), Some(fps)) => Ok(Request {
            folder: path("folder").unwrap_or_default(),
            out,
            container,
            layout,
            canvas,
            fps,
            ffmpeg: path("ffmpeg"),
            font: path("font"),
            force: matches.get_flag("force"),
        }),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Request, Vec<String>> {
        let args = ["compose", "folder"].iter().chain(args);
        let matches = command().try_get_matches_from(args).unwrap_or_else(|error| panic!("{error}"));
        request(&matches).map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
    }

    #[test]
    fn what_is_not_said_is_a_grid_of_720p() {
        let asked = read(&["-o", "x.MP4"]).expect("no mistake");
        assert_eq!((asked.container, asked.layout, asked.fps), (Container::Mp4, None, 30));
        assert_eq!((asked.canvas, asked.force), (Canvas { width: 1280, height: 720 }, false));
        let asked =
            read(&["-o", "a/b.webm", "--layout", "speaker", "--size", "640x360", "--force"]).expect("no mistake");
        assert_eq!((asked.container, asked.layout, asked.force), (Container::WebM, Some(Layout::Speaker), true));
    }

    #[test]
    fn all_mistakes_are_told() {
        let told = read(&["-o", "x.avi", "--size", "big", "--fps", "0"]).expect_err("mistakes");
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("--out: x.avi ends neither"), "{told:?}");
    }
}
