//! The folder of a session on disk: the one place of `record` that touches files.
//!
//! Everything is made anew (`O_EXCL`, so that no link is followed) and private: folders 0700, files 0600. Names come from
//! [`SessionId`] and [`FileName`], which hold nothing that a user chose.
use super::heal::{Cut, Healed, heal};
use super::manifest::{self, Ended, EventLine, Session as Manifest, State};
use super::session::{FileName, SessionId, Storage};
use super::webm;
use aws_lc_rs::digest;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// What the session says of itself.
pub const MANIFEST: &str = "session.json";
const NEW_MANIFEST: &str = "session.json.new";
/// What happened in the room.
pub const EVENTS: &str = "events.jsonl";
/// A manifest is not longer: 10 000 participants, and 2 000 files with their gaps.
const MAX_MANIFEST: u64 = 256 << 20;
/// Files are read in pieces of this size to hash them.
const PIECE: usize = 256 << 10;

/// See the module. The file of events is locked for as long as the session is written: nobody else heals or removes it then.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Only of a session that is being written.
    events: Option<File>,
    /// Who hashes files, and whom to tell.
    hashing: Option<(Sender<Unhashed>, Sender<Hashed>)>,
}

/// A file that is finished, but for its hash.
#[derive(Debug)]
pub struct Unhashed {
    name: FileName,
    file: File,
    tell: Sender<Hashed>,
}

/// What became of it.
#[derive(Debug)]
pub struct Hashed {
    pub name: FileName,
    pub sha256: io::Result<String>,
}

impl Unhashed {
    /// Reads the whole file, sees that it is on the disk, and tells.
    pub fn hash(mut self) {
        let sha256 = seal(&mut self.file);
        // Whoever asked may have gone.
        let _ = self.tell.send(Hashed { name: self.name, sha256 });
    }
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
        let mut folder = Self { path, events: None, hashing: None };
        let events = folder.make(EVENTS)?;
        // A file system without locks has to do without: it is for those who share it.
        let _ = events.try_lock();
        folder.events = Some(events);
        Ok(folder)
    }

    /// Has files hashed by whoever takes them from `jobs`; the answers go to `told`, and from there to
    /// [`Session::handle_hash`](super::session::Session::handle_hash).
    pub fn hashed_by(self, jobs: Sender<Unhashed>, told: Sender<Hashed>) -> Self {
        Self { hashing: Some((jobs, told)), ..self }
    }

    /// The folder of a session that is there. A link is none.
    pub fn open(root: &Path, id: &SessionId) -> io::Result<Self> {
        let path = root.join(id.as_str());
        if !fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path, events: None, hashing: None })
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

    /// It is read once more, for its front was written last; most of it is still in the page cache. Then it is on the disk.
    fn close(&mut self, name: &FileName, mut file: File) -> io::Result<Option<String>> {
        if let Some((jobs, tell)) = &self.hashing {
            match jobs.send(Unhashed { name: name.clone(), file, tell: tell.clone() }) {
                Ok(()) => return Ok(None),
                Err(back) => file = back.0.file,
            }
        }
        seal(&mut file).map(Some)
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
        // Or a loss of power might leave a name without its content.
        file.sync_data()?;
        fs::rename(new, self.path.join(MANIFEST))
    }

    /// In one write, so that a line is there or not.
    fn write_event(&mut self, line: &EventLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.events.as_mut().ok_or(io::ErrorKind::Unsupported)?.write_all(&text)
    }
}

/// What became of a session that the server had not closed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealedSession {
    pub id: String,
    /// Files that were closed now.
    pub closed: usize,
    /// Files that were closed, and had no hash yet.
    pub hashed: usize,
    /// Files in which there was nothing; they are taken away.
    pub empty: usize,
}

/// The names of all sessions under `root`, in the order of their starts.
pub fn sessions(root: &Path) -> io::Result<Vec<SessionId>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        all.extend(name.to_str().and_then(|name| SessionId::try_from(name).ok()));
    }
    all.sort_unstable();
    Ok(all)
}

/// Closes every session under `root` that is not being recorded and was not closed. What cannot be healed is left as it is, and told.
pub fn heal_all(root: &Path) -> io::Result<Vec<Result<HealedSession, (String, io::Error)>>> {
    let heal = |id: SessionId| match heal_session(root, &id) {
        Ok(healed) => healed.map(Ok),
        Err(error) => Some(Err((id.as_str().to_owned(), error))),
    };
    Ok(sessions(root)?.into_iter().filter_map(heal).collect())
}

/// Closes a session that was left open; `None` if it was not, or if somebody is writing it.
pub fn heal_session(root: &Path, id: &SessionId) -> io::Result<Option<HealedSession>> {
    let mut folder = Folder::open(root, id)?;
    let events = match open_plain(&folder.path.join(EVENTS), true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    if let Some(Err(TryLockError::WouldBlock)) = events.as_ref().map(File::try_lock) {
        return Ok(None);
    }
    let mut manifest = match folder.manifest() {
        // It died, or is, before its first word; there is no media yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if manifest.state != State::Recording {
        return Ok(None);
    }
    let mut report = HealedSession { id: id.as_str().to_owned(), ..HealedSession::default() };
    let mut kept = Vec::new();
    for file in std::mem::take(&mut manifest.files) {
        kept.extend(folder.heal_file(file, &mut report)?);
    }
    manifest.files = kept;
    // It was only not hashed any more.
    let whole = manifest.ended.is_some() && report.closed == 0 && report.empty == 0;
    manifest.state = if whole { State::Complete } else { State::Healed };
    manifest.ended.get_or_insert(Ended::Crash);
    let end = manifest.files.iter().map(|f| f.start_ms + f.duration_ms).max().unwrap_or(0);
    manifest.ended_at_ms.get_or_insert(manifest.started_at_ms + end);
    folder.write_manifest(&manifest)?;
    Ok(Some(report))
}

impl Folder {
    /// Closes a file. `None` if there is nothing of it.
    fn heal_file(&self, mut file: manifest::File, report: &mut HealedSession) -> io::Result<Option<manifest::File>> {
        // The manifest is ours, but a name out of a file is checked like any other.
        if !is_plain(&file.name) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if file.sha256.is_some() {
            return Ok(Some(file));
        }
        let path = self.path.join(&file.name);
        let mut out = match open_plain(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match heal(&mut out)? {
            Healed::Nothing => {
                fs::remove_file(&path)?;
                report.empty += 1;
                return Ok(None);
            }
            Healed::Closed { duration, .. } => {
                file.duration_ms = duration;
                report.closed += 1;
            }
            Healed::Whole => {
                // It may have been closed after the manifest was last written.
                let told = webm::read::front(&mut out)?.and_then(|front| front.duration);
                file.duration_ms = told.map_or(file.duration_ms, |ms| ms as u64);
                report.hashed += 1;
            }
        }
        file.sha256 = Some(seal(&mut out)?);
        file.size = out.metadata()?.len();
        Ok(Some(file))
    }
}

/// Takes away the folder of a session that died before it had a manifest, and thus before it had any media. Does nothing to one that has. It
/// should not have begun just now.
pub fn remove_unborn(root: &Path, id: &SessionId) -> io::Result<()> {
    let Folder { path, .. } = Folder::open(root, id)?;
    if fs::symlink_metadata(path.join(MANIFEST)).is_ok() {
        return Ok(());
    }
    for name in [EVENTS, NEW_MANIFEST] {
        match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_dir(path)
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

/// Gives its hash; then it is on the disk.
fn seal(file: &mut File) -> io::Result<String> {
    let hash = sha256(file)?;
    file.sync_data()?;
    Ok(hash)
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
