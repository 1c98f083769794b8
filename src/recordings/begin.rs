//! The beginning of a recording: whether there is room for it, its name, and its folder.
use super::{Store, watch};
use crate::record::SessionStart;
use crate::record::disk::{Folder, Hashed, remove_unborn};
use crate::record::manifest::Layout;
use crate::record::session::{Session, SessionId};
use crate::room::messages::{ApiError, ErrorCode, RecordLayout};
use crate::rtp::Codec;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After which it may be worth to try again.
const RETRY_MS: u64 = 60_000;
/// Of all video codecs this is the usual one.
const USUAL: Codec = Codec::Vp8;

/// A recording that has a folder and a manifest.
pub(super) struct Begun {
    pub id: SessionId,
    pub session: Session<Folder>,
    /// Hashes of its files, as they are there.
    pub hashes: Receiver<Hashed>,
}

/// Makes the root if it is not there, and sees that folders can be made in it.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !root.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let probe = root.join(format!(".probe-{:016x}", rand::random::<u64>()));
    DirBuilder::new().mode(0o700).create(&probe)?;
    fs::remove_dir(probe)
}

/// Begins a recording. `used`: bytes of all recordings that there are.
pub(super) fn begin(
    store: &Store,
    used: u64,
    room: &str,
    layout: Option<RecordLayout>,
    began: SessionStart,
) -> Result<Begun, ApiError> {
    let settings = &store.settings;
    let free = watch::free(&settings.root).map_err(|e| refused(&e))?;
    if free < settings.min_free {
        let (free, floor) = (size(free), size(settings.min_free));
        let message = format!("the disk of recordings is full: {free} are free, and {floor} have to stay so");
        return Err(ApiError::retry(ErrorCode::Unavailable, message, RETRY_MS));
    }
    if let Some(quota) = settings.quota.filter(|quota| used >= *quota) {
        let message = format!("recordings may take {}, and take {} already", size(quota), size(used));
        return Err(ApiError::retry(ErrorCode::LimitReached, message, RETRY_MS));
    }
    let (id, folder) = make_folder(&settings.root, began.wall).map_err(|e| refused(&e))?;
    let (told, hashes) = channel();
    let folder = folder.hashed_by(store.unhashed.clone(), told);
    let mut session = Session::new(&id, room, began, USUAL, settings.min_free, folder);
    if let Some(layout) = layout {
        session.arrange(match layout {
            RecordLayout::Grid => Layout::Grid,
            RecordLayout::Speaker => Layout::Speaker,
        });
    }
    // Writes the manifest: without it a folder is none.
    session.handle_timeout(began.instant);
    if session.has_ended() {
        drop(session);
        // If even that fails, a later start finds it.
        let _ = remove_unborn(&settings.root, &id);
        return Err(refused(&io::ErrorKind::StorageFull.into()));
    }
    Ok(Begun { id, session, hashes })
}

fn refused(error: &io::Error) -> ApiError {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "the folder of recordings is gone".into(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk of recordings is full".into(),
        _ => format!("the folder of recordings cannot be written: {error}"),
    };
    ApiError::retry(ErrorCode::Unavailable, message, RETRY_MS)
}

/// Names are so many that a second try is rare, and a third one a sign of something else.
fn make_folder(root: &Path, wall: SystemTime) -> io::Result<(SessionId, Folder)> {
    let mut tries = 0;
    loop {
        let id = name(wall, rand::random());
        match Folder::create(root, &id) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 8 => tries += 1,
            other => return other.map(|folder| (id, folder)),
        }
    }
}

/// `20261123-101500-7f3a`: the time in UTC, and something random.
pub(super) fn name(wall: SystemTime, salt: u16) -> SessionId {
    let seconds = wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let time: String = date_time(seconds).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let name = format!("{}-{salt:04x}", time.replace(' ', "-"));
    SessionId::try_from(name.as_str()).unwrap_or_else(|_| unreachable!("{name} is made of digits"))
}

/// `2026-11-23 10:15:00`, so many seconds after the Unix epoch, in UTC.
pub(super) fn date_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let time = seconds % 86_400;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Years begin in March here, so that a leap day is
/// the last day of one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097); // of 400 years
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// For people: `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_times_in_utc() {
        for (seconds, want) in [
            (0, "19700101-000000-0007"),
            (951_782_399, "20000228-235959-0007"),
            (951_868_799, "20000229-235959-0007"),
            (951_868_800, "20000301-000000-0007"),
            (1_795_428_900, "20261123-101500-0007"),
            (4_107_542_400, "21000301-000000-0007"),
        ] {
            assert_eq!(name(UNIX_EPOCH + Duration::from_secs(seconds), 7).as_str(), want);
        }
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 1_023, 1_536, 3 << 29].map(size), ["0 bytes", "1023 bytes", "1.5 KiB", "1.5 GiB"]);
    }
}
