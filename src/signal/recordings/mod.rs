//! `/v1/recordings`: what was recorded, and what is being recorded: to list, to play while it grows, to take home, to delete.
//!
//! Who has a token with the grant `record` finds the recordings of that token's room, and no others: of those it cannot even tell that they
//! are there. Who has the admin token finds all. Where guests may record, they find those of the room that they name.
mod range;
mod ticket;

use super::Signal;
use super::admin;
use super::auth::{Access, Visitor, bearer, is_token};
use super::clock;
use super::problem::Problem;
use crate::record::disk::{EVENTS, MANIFEST};
use crate::record::session::SessionId;
use crate::recordings::catalogue::{Catalogue, FileKind, OpenFile, RemoveError};
use crate::room::messages::{ApiError, ErrorCode};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use range::Wanted;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use ticket::Tickets;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Recordings in an answer: unless asked otherwise, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;
/// Looks at the disk that may be under way at once. Further ones wait: a slow disk must not take all threads.
const LOOKS: usize = 8;
/// Files that are being sent at once. More are answered 503.
const DOWNLOADS: usize = 1024;
/// A file is read and sent in pieces of this size, each when the one before was taken.
const PIECE: usize = 64 << 10;

const UNCACHED: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];
/// A file, should a browser open it as a page: media, and nothing that runs.
const FILE_POLICY: &str = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// The recordings that are kept.
pub(super) struct Kept {
    catalogue: Catalogue,
    tickets: Tickets,
    looks: Semaphore,
    downloads: Arc<Semaphore>,
}

impl Kept {
    pub fn new(root: PathBuf) -> Self {
        Self {
            catalogue: Catalogue::new(root),
            tickets: Tickets::new(&rand::random()),
            looks: Semaphore::new(LOOKS),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        }
    }
}

pub(super) fn routes() -> Router<Signal> {
    Router::new()
        .route("/v1/recordings", get(list))
        .route("/v1/recordings/{id}", get(show).delete(remove))
        .route("/v1/recordings/{id}/files/{name}", get(file))
}

/// Which recordings somebody may see.
#[derive(Debug, PartialEq)]
enum Scope {
    All,
    /// Those of this room. `until_ms`: Unix milliseconds.
    Room {
        name: String,
        until_ms: u64,
    },
}

#[derive(Deserialize)]
struct ListQuery {
    room: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(signal): State<Signal>,
    Query(query): Query<ListQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let kept = kept(&signal)?;
    let room = match scope(&signal, &request, query.room.as_deref())? {
        Scope::All => query.room,
        Scope::Room { name, .. } if query.room.as_ref().is_some_and(|room| *room != name) => {
            return Err(Problem::from_api(error(ErrorCode::Forbidden, "the token is for another room"), true));
        }
        Scope::Room { name, .. } => Some(name),
    };
    let after = query.after.as_deref().map(SessionId::try_from).transpose();
    let after = after.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, format!("`after`: {e}")))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = look(&kept, move |c| c.list(room.as_deref(), after.as_ref(), limit, clock::wall_ms())).await?;
    Ok((UNCACHED, Json(page)).into_response())
}

/// The manifest, with addresses that can be played.
async fn show(
    State(signal): State<Signal>,
    Path(id): Path<String>,
    Query(query): Query<RoomQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let kept = kept(&signal)?;
    let scope = scope(&signal, &request, query.room.as_deref())?;
    let id = visible(&kept, &scope, &id).await?;
    let now_ms = clock::wall_ms();
    let read = id.clone();
    let (manifest, summary, events) = look(&kept, move |c| {
        let events = c.open_file(&read, EVENTS).map_or(0, |events| events.len);
        Ok((c.manifest(&read)?, c.summary(&read, now_ms)?, events))
    })
    .await?;
    let until_ms = match scope {
        Scope::All => u64::MAX,
        Scope::Room { until_ms, .. } => until_ms,
    };
    let expires_ms = until_ms.min(now_ms + ticket::LIFETIME_MS);
    let ticket = kept.tickets.issue(&id, expires_ms);
    let url = |name: &str| format!("/v1/recordings/{}/files/{name}?ticket={ticket}", id.as_str());
    let mut answer = serde_json::to_value(&manifest).unwrap_or_default();
    if let Some(files) = answer["files"].as_array_mut() {
        for file in files {
            file["url"] = url(file["name"].as_str().unwrap_or_default()).into();
        }
    }
    answer["id"] = json!(id.as_str());
    answer["durationMs"] = json!(summary.duration_ms);
    answer["bytes"] = json!(manifest.files.iter().map(|f| f.size).sum::<u64>());
    answer["manifestUrl"] = url(MANIFEST).into();
    answer["eventsUrl"] = url(EVENTS).into();
    answer["eventsBytes"] = json!(events);
    answer["ticketExpiresAtMs"] = json!(expires_ms);
    Ok((UNCACHED, Json::<Value>(answer)).into_response())
}

async fn remove(
    State(signal): State<Signal>,
    Path(id): Path<String>,
    Query(query): Query<RoomQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let kept = kept(&signal)?;
    let scope = scope(&signal, &request, query.room.as_deref())?;
    let id = visible(&kept, &scope, &id).await?;
    if signal.hub().recordings().is_held(&id) {
        let detail = "this recording is just being uploaded or made into one file: it can be deleted afterwards";
        return Err(Problem::from_api(error(ErrorCode::Conflict, detail), true));
    }
    let gone = id.clone();
    match look_at(&kept, move |c| c.remove(&gone)).await? {
        Ok(()) => {
            tracing::info!(id = id.as_str(), "a recording was deleted");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(RemoveError::Running) => {
            let detail = "this recording still runs, or is just being closed: it can be deleted once it was stopped";
            Err(Problem::from_api(error(ErrorCode::Conflict, detail), true))
        }
        Err(RemoveError::Io(error)) => Err(failed(&error)),
    }
}

/// Which room a guest is of.
#[derive(Deserialize)]
struct RoomQuery {
    room: Option<String>,
}

#[derive(Deserialize)]
struct FileQuery {
    room: Option<String>,
    ticket: Option<String>,
    download: Option<String>,
}

/// One file: whole or a part of it, finished or as much as there is.
async fn file(
    State(signal): State<Signal>,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<FileQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let kept = kept(&signal)?;
    let id = match &query.ticket {
        Some(ticket) => ticketed(&kept, &id, ticket)?,
        None => visible(&kept, &scope(&signal, &request, query.room.as_deref())?, &id).await?,
    };
    let place = Arc::clone(&kept.downloads).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many files are being sent just now").retry_after(5)
    })?;
    let (of, called) = (id.clone(), name.clone());
    let opened = look(&kept, move |c| c.open_file(&of, &called)).await?;
    let download = query.download.as_deref().is_some_and(|d| d != "0");
    let attached = download.then(|| format!("attachment; filename=\"{}-{name}\"", id.as_str()));
    Ok(send(opened, &name, attached, request.headers(), place))
}

fn send(
    opened: OpenFile,
    name: &str,
    attached: Option<String>,
    asked: &HeaderMap,
    place: OwnedSemaphorePermit,
) -> Response {
    let OpenFile { file, len, kind, sha256 } = opened;
    let etag = sha256.map(|hash| format!("\"{hash}\""));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(kind, name)));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY));
    // What grows must be asked for again each time; what is finished only whether it still is the same.
    let cache = if etag.is_some() { "private, no-cache" } else { "no-store" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    let mut put = |name, value: String| HeaderValue::from_str(&value).is_ok_and(|v| headers.insert(name, v).is_none());
    if let Some(attached) = attached {
        put(CONTENT_DISPOSITION, attached);
    }
    if let Some(etag) = &etag {
        put(ETAG, etag.clone());
        if asked.get_all(IF_NONE_MATCH).iter().any(|known| known == etag || known == "*") {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
    }
    let (status, start, end) = match Wanted::of(asked, len, etag.as_deref()) {
        Wanted::Whole => (StatusCode::OK, 0, len),
        Wanted::Part { start, end } => {
            put(CONTENT_RANGE, format!("bytes {start}-{}/{len}", end - 1));
            (StatusCode::PARTIAL_CONTENT, start, end)
        }
        Wanted::Nothing => {
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {len} bytes"));
            let range = HeaderValue::from_str(&format!("bytes */{len}"));
            return range.into_iter().fold(problem, |p, range| p.header(CONTENT_RANGE, range)).into_response();
        }
    };
    put(CONTENT_LENGTH, (end - start).to_string());
    (status, headers, Body::from_stream(pieces(file, start, end, place))).into_response()
}

/// Reads from `start` up to `end`, each piece when it is asked for. A file that has become shorter breaks the answer off.
fn pieces(
    file: File,
    start: u64,
    end: u64,
    place: OwnedSemaphorePermit,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    let file = Arc::new(file);
    stream::unfold((file, start, place), move |(file, at, place)| async move {
        let len = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
        if len == 0 {
            return None;
        }
        let reader = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; len];
            reader.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
        });
        let piece = read.await.unwrap_or_else(|_| Err(ErrorKind::Other.into()));
        Some((piece, (file, at + len as u64, place)))
    })
}

fn media_type(kind: FileKind, name: &str) -> &'static str {
    match kind {
        FileKind::Manifest => "application/json",
        FileKind::Events => "application/x-ndjson; charset=utf-8",
        _ if name.ends_with(".mkv") => "video/x-matroska",
        _ if name.ends_with(".mp4") => "video/mp4",
        FileKind::Audio => "audio/webm",
        FileKind::Video => "video/webm",
    }
}

fn kept(signal: &Signal) -> Result<Arc<Kept>, Problem> {
    let off = "this server keeps no recordings: it was started without --recordings DIR";
    signal.recordings.clone().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, off))
}

/// Who asks. What has the form of a room's token is one: it is not tried as the admin token, so that one that has expired does not count as
/// a guess of that.
fn scope(signal: &Signal, request: &Request, room: Option<&str>) -> Result<Scope, Problem> {
    let Some(token) = bearer(request.headers())? else { return guest(signal.access(), room) };
    match &signal.settings.admin {
        Some(admin) if !is_token(token) => admin::admit_operator(signal, admin, request).map(|()| Scope::All),
        _ if signal.access().secret.is_none() => {
            let detail =
                "the admin token is needed here: this server was started without a --secret for tokens of rooms";
            Err(Problem::unauthorized(detail, true))
        }
        _ => {
            let visitor = Visitor { token: Some(token), ..Visitor::default() };
            let admitted = signal.access().admit(visitor, clock::wall_ms()).map_err(|e| Problem::from_api(e, true))?;
            if !admitted.claims.grants.record {
                let detail = "the grant \"record\" is missing";
                return Err(Problem::from_api(error(ErrorCode::Forbidden, detail), true));
            }
            let until_ms = admitted.claims.expires_ms.unwrap_or(u64::MAX);
            Ok(Scope::Room { name: admitted.room.as_str().to_owned(), until_ms })
        }
    }
}

/// Without a token: who may record, may look at it.
fn guest(access: &Access, room: Option<&str>) -> Result<Scope, Problem> {
    let detail = match room {
        _ if !(access.open && access.guests.record) => {
            "a token with the grant \"record\" is needed here, or the admin token"
        }
        Some(name) => return Ok(Scope::Room { name: name.to_owned(), until_ms: u64::MAX }),
        None => "a token is needed here, or the `room` whose recordings are meant",
    };
    Err(Problem::unauthorized(detail, false))
}

/// The id of a recording that is there and within the scope.
async fn visible(kept: &Arc<Kept>, scope: &Scope, id: &str) -> Result<SessionId, Problem> {
    let id = SessionId::try_from(id).map_err(|_| no_such_recording())?;
    let of = id.clone();
    let room = look(kept, move |c| c.room(&of)).await?;
    match scope {
        Scope::Room { name, .. } if *name != room => Err(no_such_recording()),
        _ => Ok(id),
    }
}

fn ticketed(kept: &Kept, id: &str, ticket: &str) -> Result<SessionId, Problem> {
    let id = SessionId::try_from(id).map_err(|_| no_such_recording())?;
    if kept.tickets.admits(&id, ticket, clock::wall_ms()) {
        return Ok(id);
    }
    Err(Problem::unauthorized("this link is not good any more: ask for the recording again to get a new one", true))
}

fn no_such_recording() -> Problem {
    Problem::from_api(error(ErrorCode::NotFound, "there is no such recording, or none that this token may see"), true)
}

/// Does something with the disk, on a thread that may wait for it.
async fn look_at<T: Send + 'static>(
    kept: &Arc<Kept>,
    work: impl FnOnce(&Catalogue) -> T + Send + 'static,
) -> Result<T, Problem> {
    let busy = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the recordings cannot be read");
    let _turn = kept.looks.acquire().await.map_err(|_| busy())?;
    let at = Arc::clone(kept);
    tokio::task::spawn_blocking(move || work(&at.catalogue)).await.map_err(|_| busy())
}

async fn look<T: Send + 'static>(
    kept: &Arc<Kept>,
    work: impl FnOnce(&Catalogue) -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    look_at(kept, work).await?.map_err(|error| failed(&error))
}

fn failed(error: &io::Error) -> Problem {
    if error.kind() == ErrorKind::NotFound {
        return no_such_recording();
    }
    tracing::warn!(%error, "a recording cannot be read");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be read: the server's log says more")
}

fn error(code: ErrorCode, message: impl Into<String>) -> ApiError {
    ApiError::new(code, message)
}
