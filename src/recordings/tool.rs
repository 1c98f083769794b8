//! `exedra recordings list` and `heal`: what an operator does with a folder of recordings by hand. It may be in use by a server.
use super::begin::{date_time, size};
use super::catalogue::Catalogue;
use crate::record::disk::heal_all;
use crate::record::manifest::State;
use std::io::{self, Write};
use std::path::Path;

/// Recordings read at once.
const PAGE: usize = 500;

/// Closes what a crash left open, and tells. False if something could not be closed.
pub fn heal(root: &Path, out: &mut impl Write) -> io::Result<bool> {
    let told = heal_all(root)?;
    for healed in &told {
        match healed {
            Ok(healed) => {
                let (closed, empty) = (healed.closed, healed.empty);
                writeln!(out, "{}: healed: {closed} files closed, {empty} empty ones taken away", healed.id)?;
            }
            Err((id, error)) => writeln!(out, "{id}: left as it is: {error}")?,
        }
    }
    if told.is_empty() {
        writeln!(out, "there is nothing to heal")?;
    }
    Ok(told.iter().all(Result::is_ok))
}

/// Tells what there is, the newest first. `now_ms`: Unix milliseconds.
pub fn list(root: &Path, now_ms: u64, out: &mut impl Write) -> io::Result<()> {
    let catalogue = Catalogue::new(root.to_owned());
    let mut after = None;
    writeln!(
        out,
        "{:<24} {:<19} {:>8} {:>10} {:>5}  {:<10} ROOM",
        "ID", "BEGAN (UTC)", "LASTED", "SIZE", "FILES", "STATE"
    )?;
    loop {
        let page = catalogue.list(None, after.as_ref(), PAGE, now_ms)?;
        for one in &page.recordings {
            let began = date_time(one.started_at_ms / 1_000);
            let seconds = one.duration_ms / 1_000;
            let lasted = format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
            let state = match one.state {
                State::Recording if one.ended.is_some() => "closing",
                State::Recording => "recording",
                State::Complete => "complete",
                State::Healed => "healed",
            };
            let (id, files, bytes) = (&one.id, one.files, size(one.bytes));
            // A room is named by whoever made it: what a terminal would take for a command is escaped.
            writeln!(out, "{id:<24} {began:<19} {lasted:>8} {bytes:>10} {files:>5}  {state:<10} {:?}", one.room)?;
        }
        match page.next.and_then(|next| next.as_str().try_into().ok()) {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
