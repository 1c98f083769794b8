//! What of a recording is uploaded: `upload.json` in its folder. Whatever happens, there is a whole one, or none.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

pub(super) const NAME: &str = "upload.json";
const NEW: &str = "upload.json.new";
const VERSION: u32 = 1;
/// A state is not longer: 10 000 parts, and 2 000 files.
const MAX: u64 = 16 << 20;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    version: u32,
    /// Where it goes. What is said of another place does not count.
    to: String,
    /// By their names in the folder.
    pub done: BTreeMap<String, Done>,
    /// A file of which some parts are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// All of it was found there, then. Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at_ms: Option<u64>,
}

/// A file that is there as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Done {
    #[serde(flatten)]
    pub file: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A file that goes up in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    pub name: String,
    #[serde(flatten)]
    pub file: Stamp,
    pub upload_id: String,
    /// Bytes of each part but the last.
    pub part_size: u64,
    /// What the store calls those that it has, by their places.
    pub parts: BTreeMap<usize, String>,
}

/// What tells whether a file is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stamp {
    /// Bytes.
    pub size: u64,
    pub modified_ms: i64,
}

impl Stamp {
    pub fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self { size: data.len(), modified_ms: data.mtime() * 1_000 + data.mtime_nsec() / 1_000_000 })
    }
}

impl State {
    pub fn new(to: &str) -> Self {
        Self { version: VERSION, to: to.to_owned(), ..Self::default() }
    }

    /// What is known of an upload to there. One that cannot be read is as none: it all goes up once more.
    pub fn load(folder: &Path, to: &str) -> Self {
        let read = || -> io::Result<Self> {
            let path = folder.join(NAME);
            if !fs::symlink_metadata(&path)?.is_file() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut text = Vec::new();
            File::open(path)?.take(MAX).read_to_end(&mut text)?;
            serde_json::from_slice(&text).map_err(io::Error::from)
        };
        read().ok().filter(|s| s.version == VERSION && s.to == to).unwrap_or_else(|| Self::new(to))
    }

    /// Writes it beside the old one, and puts it in its place.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(NEW);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        if self.confirmed_at_ms.is_some() {
            file.sync_data()?;
        }
        fs::rename(new, folder.join(NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_for_the_same_place_alone() {
        let folder = std::env::temp_dir().join(format!("exedra-upload-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = Stamp { size: 7, modified_ms: -3 };
        let mut state = State::new("s3://a/b");
        state.done.insert("x.webm".into(), Done { file, etag: Some("\"e\"".into()) });
        let parts = BTreeMap::from([(0, "p0".to_owned()), (3, "p3".to_owned())]);
        let (name, upload_id) = ("y.webm".to_owned(), "u".to_owned());
        state.open = Some(Open { name, file, upload_id, part_size: 5, parts });
        state.save(&folder).unwrap();
        state.save(&folder).unwrap();
        assert_eq!(State::load(&folder, "s3://a/b"), state);
        assert_eq!(State::load(&folder, "s3://a/c"), State::new("s3://a/c"));
        fs::write(folder.join(NAME), b"{\"version\":1,").unwrap();
        assert_eq!(State::load(&folder, "s3://a/b"), State::new("s3://a/b"), "torn");
        fs::remove_dir_all(&folder).unwrap();
    }
}
