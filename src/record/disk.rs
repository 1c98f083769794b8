//! The folder of a session on disk: the one place of `record` that touches files.
//!
//! Everything is made anew (`O_EXCL`, so that no link is followed) and private: folders 0700, files 0600. Names come from
//! [`SessionId`] and [`FileName`], which hold nothing that a user chose.
use super::heal::{Cut, Healed, heal};
use super::manifest::{Ended, EventLine, Session as Manifest, State};
use super::session::{FileName, SessionId, Storage};
use aws_lc_rs::digest;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the session says of itself.
pub const MANIFEST: &str = "session.json";
const NEW_MANIFEST: &str = "session.json.new";
/// What happened in the room.
pub const EVENTS: &str = "events.jsonl";
/// A manifest is not longer: 10 000 participants, and 2 000 files with their gaps.
const MAX_MANIFEST: u64 = 256 << 20;
/// Files are read in pieces of this size to hash them.
const PIECE: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    events: Option<File>,
}

impl Cut for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

impl Folder {
    /// Makes the folder of a new session under `root`, which is there. Fails if there is one of this name.
    pub fn create(root: &Path, id: &SessionId) -> io::Result<Self> {
        let path = root.join(id.as_str());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, events: None })
    }

    /// The folder of a session that is there. A link is none.
    pub fn open(root: &Path, id: &SessionId) -> io::Result<Self> {
        let path = root.join(id.as_str());
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path, events: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the session says of itself.
    pub fn manifest(&self) -> io::Result<Manifest> {
        let file = open_plain(&self.path.join(MANIFEST), false)?;
        let mut text = Vec::new();
        file.take(MAX_MANIFEST).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }

    /// Opens a file of this folder to read. A name that leads elsewhere, a link, or whatever else is no file, is not found.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        if !is_plain(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = open_plain(&self.path.join(name), false);
        file.map_err(|e| if e.kind() == io::ErrorKind::InvalidData { io::ErrorKind::NotFound.into() } else { e })
    }

    fn make(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }
}

impl Storage for Folder {
    type File = File;

    fn create(&mut self, name: &FileName) -> io::Result<File> {
        self.make(name.as_str())
    }

    /// Reads it once more, for its front was written last; most of it is still in the page cache. Then it is on the disk.
    fn close(&mut self, _: &FileName, mut file: File) -> io::Result<String> {
        let hash = sha256(&mut file)?;
        file.sync_data()?;
        Ok(hash)
    }

    fn discard(&mut self, name: &FileName, file: File) -> io::Result<()> {
        drop(file);
        fs::remove_file(self.path.join(name.as_str()))
    }

    /// Writes it beside the old one, and puts it in its place: there is always a whole one.
    fn write_manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        let new = self.path.join(NEW_MANIFEST);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.make(NEW_MANIFEST)?;
        file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
        if manifest.state != State::Recording {
            file.sync_data()?;
        }
        fs::rename(new, self.path.join(MANIFEST))
    }

    /// In one write, so that a line is there or not.
    fn write_event(&mut self, line: &EventLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = match self.events.take() {
            Some(file) => file,
            None => self.make(EVENTS)?,
        };
        file.write_all(&text)?;
        self.events = Some(file);
        Ok(())
    }
}

/// What became of a session that the server had not closed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealedSession {
    pub id: String,
    /// Files that were closed now.
    pub closed: usize,
    /// Files in which there was nothing; they are taken away.
    pub empty: usize,
}

/// Closes every session under `root` that is not being recorded and was not closed. To be called before the first recording begins. What
/// cannot be healed is left as it is, and told.
pub fn heal_all(root: &Path) -> io::Result<Vec<Result<HealedSession, (String, io::Error)>>> {
    let mut told = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| SessionId::try_from(name).ok()) else { continue };
        match heal_session(root, &id) {
            Ok(None) => {}
            Ok(Some(healed)) => told.push(Ok(healed)),
            Err(error) => told.push(Err((id.as_str().to_owned(), error))),
        }
    }
    Ok(told)
}

/// Closes a session that was left open; `None` if it was not.
pub fn heal_session(root: &Path, id: &SessionId) -> io::Result<Option<HealedSession>> {
    let mut folder = Folder::open(root, id)?;
    let mut manifest = folder.manifest()?;
    if manifest.state != State::Recording {
        return Ok(None);
    }
    let mut report = HealedSession { id: id.as_str().to_owned(), ..HealedSession::default() };
    let mut kept = Vec::new();
    for mut file in std::mem::take(&mut manifest.files) {
        // The manifest is ours, but a name out of a file is checked like any other.
        if !is_plain(&file.name) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if file.sha256.is_none() {
            let path = folder.path.join(&file.name);
            let mut out = match open_plain(&path, true) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            match heal(&mut out)? {
                Healed::Nothing => {
                    fs::remove_file(&path)?;
                    report.empty += 1;
                    continue;
                }
                Healed::Closed { duration, .. } => file.duration_ms = duration,
                Healed::Whole => {}
            }
            report.closed += 1;
            file.sha256 = Some(sha256(&mut out)?);
            file.size = out.metadata()?.len();
            out.sync_data()?;
        }
        kept.push(file);
    }
    manifest.files = kept;
    manifest.ended.get_or_insert(Ended::Crash);
    let end = manifest.files.iter().map(|f| f.start_ms + f.duration_ms).max().unwrap_or(0);
    manifest.ended_at_ms.get_or_insert(manifest.started_at_ms + end);
    manifest.state = State::Healed;
    folder.write_manifest(&manifest)?;
    Ok(Some(report))
}

/// A name within a folder, that leads nowhere else.
pub fn is_plain(name: &str) -> bool {
    let harmless = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(harmless)
}

/// Opens a file that is a file, and no link: also if it was put there between the look and the opening.
fn open_plain(path: &Path, write: bool) -> io::Result<File> {
    let seen = fs::symlink_metadata(path)?;
    if !seen.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let file = OpenOptions::new().read(true).write(write).open(path)?;
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(file)
}

fn sha256(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => context.update(&piece[..n]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "A", "ä", "a b", "\u{202e}x", &"x".repeat(200)] {
            assert!(SessionId::try_from(bad).is_err(), "{bad:?}");
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert!(is_plain("p7-camera-1.webm") && SessionId::try_from("20261123-101500-7f3a").is_ok());
    }
}
