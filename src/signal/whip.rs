//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): a publisher or a viewer that speaks HTTP alone.
//!
//! `POST /v1/whip/{room}[/{participant}]` publishes, under that name; `POST /v1/whep/{room}[/{participant}]` watches that
//! participant, or the room's stage. The answer's `Location`, `…/{room}/resource/{id}`, takes `PATCH` and `DELETE`.
use super::auth::{Visitor, bearer};
use super::clock;
use super::hub::RoomLink;
use super::names::{InvalidRoomName, RoomName};
use super::origin::{ACCEPT_PATCH, ACCEPT_POST};
use super::problem::Problem;
use super::{IceServer, Signal};
use crate::room::api::{Claims, HttpKind, HttpRequest, HttpResponse};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long the room may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The routes of one of the two protocols.
pub(super) fn routes(kind: HttpKind) -> Router<Signal> {
    let base = match kind {
        HttpKind::Whip => "/v1/whip",
        HttpKind::Whep => "/v1/whep",
    };
    let to_room = move |State(s): State<Signal>, Path(room): Path<String>, request: Request| async move {
        create(&s, kind, &room, None, request).await
    };
    let to_participant = move |State(s): State<Signal>, Path((room, who)): Path<(String, String)>, request: Request| async move {
        create(&s, kind, &room, Some(&who), request).await
    };
    let change = move |State(s): State<Signal>, Path((room, id)): Path<(String, String)>, request: Request| async move {
        change(&s, kind, &room, id, request).await
    };
    let end = move |State(s): State<Signal>, Path((room, id)): Path<(String, String)>| async move {
        ask(&s, kind, find(&s, &room)?, HttpRequest::Delete { kind, resource: id }).await
    };
    Router::new()
        .route(&format!("{base}/{{room}}"), post(to_room))
        .route(&format!("{base}/{{room}}/{{participant}}"), post(to_participant))
        .route(&format!("{base}/{{room}}/resource/{{id}}"), patch(change).delete(end))
}

/// POST: an offer comes, an answer and a resource go.
async fn create(
    signal: &Signal,
    kind: HttpKind,
    room: &str,
    participant: Option<&str>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let (name, claims) = admit(signal, kind, room, participant, &head.headers)?;
    if !accepts_sdp(&head.headers) {
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "the answer is application/sdp"));
    }
    let sdp = text(signal, &head.headers, body, (ACCEPT_POST, SDP)).await?;
    let link = match kind {
        HttpKind::Whip => signal.hub().enter(&name).map_err(|e| Problem::from_api(e, false))?,
        HttpKind::Whep => signal.hub().find(&name).ok_or_else(|| no_such_room().retry_after(2))?,
    };
    let whep_of = participant.filter(|_| kind == HttpKind::Whep).map(str::to_owned);
    ask(signal, kind, link, HttpRequest::Create { kind, sdp, claims, whep_of }).await
}

/// PATCH: candidates, or an ICE restart.
async fn change(
    signal: &Signal,
    kind: HttpKind,
    room: &str,
    id: String,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let link = find(signal, room)?;
    let fragment = text(signal, &head.headers, body, (ACCEPT_PATCH, FRAGMENT)).await?;
    // RFC 9725 section 4.3.1: without If-Match, 428 (RFC 6585).
    let Some(if_match) = head.headers.get(IF_MATCH).and_then(|v| v.to_str().ok()) else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "If-Match is missing: the ETag of the ICE session, or * to restart it",
        ));
    };
    let if_match = Some(unquoted(if_match).to_owned());
    ask(signal, kind, link, HttpRequest::Patch { kind, resource: id, fragment, if_match }).await
}

/// Who asks, and for which room.
fn admit(
    signal: &Signal,
    kind: HttpKind,
    room: &str,
    participant: Option<&str>,
    headers: &HeaderMap,
) -> Result<(RoomName, Claims), Problem> {
    let token = bearer(headers)?;
    let own_name = participant.filter(|_| kind == HttpKind::Whip);
    let default_name = if kind == HttpKind::Whip { "WHIP" } else { "WHEP" };
    let visitor = Visitor { token, room: Some(room), name: Some(own_name.unwrap_or(default_name)) };
    RoomName::try_from(room).map_err(|e: InvalidRoomName| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?;
    let admitted =
        signal.access().admit(visitor, clock::wall_ms()).map_err(|e| Problem::from_api(e, token.is_some()))?;
    match (own_name, &admitted.claims.identity) {
        (Some(wanted), Some(identity)) if wanted != identity => {
            Err(Problem::new(StatusCode::FORBIDDEN, "the token is somebody else's than the participant in the address"))
        }
        _ => Ok((admitted.room, admitted.claims)),
    }
}

fn find(signal: &Signal, room: &str) -> Result<RoomLink, Problem> {
    RoomName::try_from(room).ok().and_then(|name| signal.hub().find(&name)).ok_or_else(no_such_room)
}

fn no_such_room() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here: nobody is in this room")
}

/// The body, if it is of the type wanted, within the limit, in time, and UTF-8.
async fn text(
    signal: &Signal,
    headers: &HeaderMap,
    body: Body,
    (accept, wanted): (HeaderName, &'static str),
) -> Result<String, Problem> {
    if !media_types(headers, &CONTENT_TYPE).any(|t| t.eq_ignore_ascii_case(wanted)) {
        return Err(Problem::unsupported_media_type(accept, wanted));
    }
    let limit = signal.settings.limits.sdp_bytes;
    let bytes: Bytes = timeout(BODY_WITHIN, to_bytes(body, limit))
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 10 s"))?
        .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes")))?;
    String::from_utf8(bytes.into()).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

/// Whether `Accept`, if there is one, takes SDP (RFC 9110 section 12.5.1).
fn accepts_sdp(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT)
        || media_types(headers, &ACCEPT)
            .any(|t| [SDP, "application/*", "*/*"].iter().any(|wanted| t.eq_ignore_ascii_case(wanted)))
}

/// The media types of a header without their parameters.
fn media_types<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(|t| t.split(';').next().unwrap_or_default().trim())
}

/// Has the room answer, and says it in HTTP.
async fn ask(signal: &Signal, kind: HttpKind, link: RoomLink, request: HttpRequest) -> Result<Response, Problem> {
    let name = link.name().clone();
    let answer = timeout(ANSWER_WITHIN, link.http(signal.hub(), request))
        .await
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the room is too busy to answer").retry_after(2))?
        .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the room ended before it answered"))?;
    match answer {
        HttpResponse::Created { participant, resource, etag, sdp } => {
            tracing::debug!(room = %name, %participant, ?kind, "created");
            Ok(created(kind, &name, &resource, &etag, &signal.settings.ice_servers, sdp))
        }
        HttpResponse::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        HttpResponse::Restarted { etag, fragment } => {
            let headers = [(CONTENT_TYPE, header(FRAGMENT)), (ETAG, header(&quoted(&etag)))];
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
        HttpResponse::Failed(error) => Err(Problem::from_api(error, false)),
        HttpResponse::PreconditionFailed => {
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "If-Match is not the ETag of this ICE session"))
        }
        // What operators ask is not asked here.
        HttpResponse::Shown(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the room misunderstood")),
    }
}

fn created(kind: HttpKind, room: &RoomName, id: &str, etag: &str, ice: &[IceServer], sdp: String) -> Response {
    let protocol = if kind == HttpKind::Whip { "whip" } else { "whep" };
    let location = format!("/v1/{protocol}/{}/resource/{id}", percent_encoded(room.as_str()));
    let mut response = (StatusCode::CREATED, sdp).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, header(SDP));
    headers.insert(LOCATION, header(&location));
    headers.insert(ETAG, header(&quoted(etag)));
    headers.insert(ACCEPT_PATCH, header(FRAGMENT));
    for url in ice.iter().flat_map(|server| server.links()) {
        headers.append(LINK, header(&url));
    }
    response
}

/// What we write ourselves is ASCII; should it not be, an empty header harms less than a panic.
fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

fn quoted(etag: &str) -> String {
    format!("\"{}\"", unquoted(etag))
}

/// The entity tag without its quotes, and without the mark of a weak one.
fn unquoted(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// A path segment (RFC 3986 section 3.3).
pub fn percent_encoded(segment: &str) -> String {
    segment.bytes().fold(String::with_capacity(segment.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_clients_write_it() {
        let accepts = |value: Option<&'static str>| {
            accepts_sdp(&value.map(|v| (ACCEPT, HeaderValue::from_static(v))).into_iter().collect())
        };
        for yes in [
            None,
            Some("*/*"),
            Some("application/sdp"),
            Some("text/html, Application/SDP;q=0.5"),
            Some("application/*"),
        ] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [Some("text/html"), Some("application/sdpx"), Some("")] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    #[test]
    fn entity_tags_and_paths() {
        assert_eq!(unquoted("W/\"a b\""), "a b");
        assert_eq!(unquoted("*"), "*");
        assert_eq!(quoted("abc"), "\"abc\"");
        assert_eq!(quoted("\"abc\""), "\"abc\"");
        assert_eq!(percent_encoded("größe.1"), "gr%C3%B6%C3%9Fe.1");
    }
}
