//! A bucket: one file at a time, in parts, several of them at once.
use super::state::{Open, Stamp};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    RetryConfig,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::{JoinSet, spawn_blocking};

/// Of a part, in bytes: smaller files go up as a whole. S3 wants at least 5 MiB.
const PART: u64 = 8 << 20;
/// S3 takes 10 000 parts: larger files have larger ones.
const MAX_PARTS: u64 = 9_000;
/// Parts on the way at a time: so many are in memory.
const AT_ONCE: usize = 4;

/// Where recordings go: `s3://BUCKET` or `s3://BUCKET/PREFIX`. No credentials are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    bucket: String,
    /// Without a slash at its ends. May be empty.
    prefix: String,
}

/// Not a place in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not s3://BUCKET or s3://BUCKET/PREFIX (endpoint, region and credentials come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
)]
pub struct InvalidTarget;

impl TryFrom<&str> for Target {
    type Error = InvalidTarget;
    fn try_from(s: &str) -> Result<Self, InvalidTarget> {
        let rest = s.strip_prefix("s3://").ok_or(InvalidTarget)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let harmless = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=+!".contains(c);
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.chars().all(plain);
        let prefix_fits = prefix.is_empty() || prefix.split('/').all(segment);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(harmless) || !prefix_fits || prefix.len() > 512 {
            return Err(InvalidTarget);
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// In the folder.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// On the way, or there.
    #[error("{0}")]
    Store(#[from] object_store::Error),
}

/// Its credentials are never shown: `Debug` is not derived.
#[derive(Clone)]
pub(super) struct Store {
    s3: Arc<AmazonS3>,
    prefix: String,
}

impl Store {
    /// With endpoint, region and credentials of the environment (`AWS_…`).
    pub fn new(target: &Target) -> Result<Self, String> {
        let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&target.bucket).with_retry(retry);
        if std::env::var_os("AWS_TIMEOUT").is_none() {
            // A part may take this long on a slow line.
            builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "300 seconds");
        }
        let s3 = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { s3: Arc::new(s3), prefix: target.prefix.clone() })
    }

    /// The name of a recording's file there.
    pub fn path(&self, session: &str, name: &str) -> Path {
        Path::from_iter(self.prefix.split('/').filter(|s| !s.is_empty()).chain([session, name]))
    }

    pub async fn head(&self, path: &Path) -> Result<ObjectMeta, Error> {
        Ok(self.s3.head(path).await?)
    }

    /// Whether a file of this size goes up in parts.
    pub fn has_parts(size: u64) -> bool {
        size > PART
    }

    /// A small file as a whole. Gives its entity tag.
    pub async fn put(&self, path: &Path, file: &Arc<File>, stamp: Stamp) -> Result<Option<String>, Error> {
        let bytes = read(file, 0, stamp.size).await?;
        let options = PutOptions { attributes: attributes(path), ..PutOptions::default() };
        Ok(self.s3.put_opts(path, bytes.into(), options).await?.e_tag)
    }

    /// Begins a file that goes up in parts.
    pub async fn begin(&self, path: &Path, name: &str, file: Stamp) -> Result<Open, Error> {
        let options = PutMultipartOptions { attributes: attributes(path), ..PutMultipartOptions::default() };
        let upload_id = self.s3.create_multipart_opts(path, options).await?;
        let part_size = PART.max(file.size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        Ok(Open { name: name.to_owned(), file, upload_id, part_size, parts: Default::default() })
    }

    /// Sends the parts that are not there yet. `confirmed` hears of each that is.
    pub async fn send_parts(
        &self,
        path: &Path,
        file: &Arc<File>,
        open: &mut Open,
        bytes: &AtomicU64,
        mut confirmed: impl FnMut(&Open) -> io::Result<()>,
    ) -> Result<(), Error> {
        let count = open.file.size.div_ceil(open.part_size.max(1)) as usize;
        let mut missing: Vec<usize> = (0..count).filter(|n| !open.parts.contains_key(n)).rev().collect();
        let mut sending = JoinSet::new();
        loop {
            while sending.len() < AT_ONCE {
                let Some(n) = missing.pop() else { break };
                let at = n as u64 * open.part_size;
                let len = open.part_size.min(open.file.size - at);
                let (s3, path, file, id) = (self.s3.clone(), path.clone(), file.clone(), open.upload_id.clone());
                sending.spawn(async move {
                    let part = read(&file, at, len).await?;
                    let sent = s3.put_part(&path, &id, n, part.into()).await?;
                    Ok::<_, Error>((n, len, sent.content_id))
                });
            }
            let Some(sent) = sending.join_next().await else { return Ok(()) };
            let (n, len, tag) = sent.map_err(io::Error::other)??;
            bytes.fetch_add(len, Relaxed);
            open.parts.insert(n, tag);
            confirmed(open)?;
        }
    }

    /// Joins the parts. Gives the whole file's entity tag.
    pub async fn complete(&self, path: &Path, open: &Open) -> Result<Option<String>, Error> {
        let parts = open.parts.values().map(|tag| PartId { content_id: tag.clone() }).collect();
        Ok(self.s3.complete_multipart(path, &open.upload_id, parts).await?.e_tag)
    }

    /// Forgets what is there of a file, so that nobody pays for it.
    pub async fn abort(&self, path: &Path, open: &Open) {
        if let Err(error) = self.s3.abort_multipart(path, &open.upload_id).await {
            tracing::debug!(%error, "an upload could not be aborted");
        }
    }
}

async fn read(file: &Arc<File>, at: u64, len: u64) -> io::Result<Bytes> {
    let file = file.clone();
    let read = spawn_blocking(move || {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at).map(|()| Bytes::from(bytes))
    });
    read.await.map_err(io::Error::other)?
}

fn attributes(path: &Path) -> Attributes {
    let kind = match path.extension() {
        Some("webm") => "video/webm",
        Some("mkv") => "video/matroska",
        Some("json") => "application/json",
        Some("jsonl") => "application/jsonl",
        _ => "application/octet-stream",
    };
    Attributes::from_iter([(Attribute::ContentType, kind)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, shown) in [("s3://bucket", "s3://bucket"), ("s3://b.c-d/x/y/", "s3://b.c-d/x/y")] {
            assert_eq!(Target::try_from(text).map(|t| t.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for bad in [
            "",
            "bucket",
            "s3://",
            "s3://b",
            "https://x.example/y",
            "s3://user:key@bucket/x",
            "s3://bucket/../x",
            "s3://bucket//x",
            "s3://bucket/a b",
        ] {
            assert_eq!(Target::try_from(bad), Err(InvalidTarget), "{bad}");
        }
    }
}
