//! `/v1/admin`: what operators look at, and have recorded. Off unless the server has an admin token; then whoever has that sees everything.
use super::Signal;
use super::addresses::ClientAddress;
use super::auth::{Secret, bearer};
use super::clock;
use super::names::RoomName;
use super::problem::Problem;
use crate::room::api::{HttpRequest, HttpResponse, Inspect};
use crate::room::messages::{Record, RecordAction, RecordLayout, RoomList, parse};
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a room may take to answer: longer than the room waits for its engine.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const BODY: usize = 64 << 10;
/// Wrong tokens that an address may try at once.
const GUESSES: f64 = 10.0;
/// Seconds until it may try one more.
const GUESS_EVERY_S: f64 = 6.0;
/// Addresses whose wrong tokens are counted.
const GUESSERS: usize = 4096;

pub(super) fn routes() -> Router<Signal> {
    Router::new()
        .route("/v1/admin/rooms", get(rooms))
        .route("/v1/admin/rooms/{room}", get(room))
        .route("/v1/admin/rooms/{room}/recording", get(recording).post(start_recording).delete(stop_recording))
        .route("/v1/admin/rooms/{room}/participants/{participant}/decisions", get(decisions))
}

async fn rooms(State(signal): State<Signal>, request: Request) -> Result<Response, Problem> {
    admit(&signal, &request)?;
    let list = RoomList { rooms: signal.hub().list() };
    Ok((UNCACHED, Json(list)).into_response())
}

async fn room(State(s): State<Signal>, Path(room): Path<String>, request: Request) -> Result<Response, Problem> {
    admit(&s, &request)?;
    inspect(&s, &room, Inspect::Room).await
}

async fn decisions(
    State(signal): State<Signal>,
    Path((room, participant)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    admit(&signal, &request)?;
    inspect(&signal, &room, Inspect::Decisions { participant }).await
}

async fn recording(State(s): State<Signal>, Path(room): Path<String>, request: Request) -> Result<Response, Problem> {
    admit(&s, &request)?;
    inspect(&s, &room, Inspect::Recording).await
}

/// The body may say which tracks, and how a composite is to look: `{"tracks": ["t1"], "layout": "speaker"}`.
async fn start_recording(
    State(signal): State<Signal>,
    Path(room): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    admit(&signal, &request)?;
    let body = to_bytes(request.into_body(), BODY).await;
    let body = body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {BODY} bytes")))?;
    let wish: Value = match &body[..] {
        [] => Value::Null,
        text => serde_json::from_slice(text).map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?,
    };
    let Wish { tracks, layout } = parse(wish).map_err(|error| Problem::from_api(error, true))?;
    let record = Record { action: RecordAction::Start, tracks, layout, force: false };
    ask(&signal, &room, HttpRequest::Record(record)).await
}

#[derive(Deserialize)]
struct Wish {
    tracks: Option<Vec<String>>,
    layout: Option<RecordLayout>,
}

async fn stop_recording(
    State(s): State<Signal>,
    Path(room): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    admit(&s, &request)?;
    ask(&s, &room, HttpRequest::Record(Record { action: RecordAction::Stop, tracks: None, layout: None, force: true }))
        .await
}

async fn inspect(signal: &Signal, room: &str, what: Inspect) -> Result<Response, Problem> {
    ask(signal, room, HttpRequest::Inspect(what)).await
}

async fn ask(signal: &Signal, room: &str, request: HttpRequest) -> Result<Response, Problem> {
    let link = RoomName::try_from(room).ok().and_then(|name| signal.hub().find(&name));
    let link = link.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "nobody is in this room"))?;
    let answer = timeout(ANSWER_WITHIN, link.http(signal.hub(), request)).await;
    match answer {
        Ok(Some(HttpResponse::Shown(json))) => {
            Ok((UNCACHED, [(CONTENT_TYPE, "application/json")], json).into_response())
        }
        Ok(Some(HttpResponse::Failed(error))) => Err(Problem::from_api(error, true)),
        Ok(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the room ended before it answered")),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the room is too busy to answer").retry_after(2)),
    }
}

const UNCACHED: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// Lets an operator in, or says why not.
fn admit(signal: &Signal, request: &Request) -> Result<(), Problem> {
    let Some(token) = &signal.settings.admin else {
        let off = "this is off: an --admin-token (EXEDRA_ADMIN_TOKEN) switches it on";
        return Err(Problem::new(StatusCode::FORBIDDEN, off));
    };
    admit_operator(signal, token, request)
}

/// Whether who asks has the admin token.
pub(super) fn admit_operator(signal: &Signal, token: &Secret, request: &Request) -> Result<(), Problem> {
    let client = request.extensions().get::<ClientAddress>().and_then(|ClientAddress(ip)| super::addresses::key(*ip));
    check(&signal.guesses, token, request.headers(), client, clock::now())
}

/// `client`: whose wrong tokens are counted, if anybody's.
fn check(
    guesses: &Guesses,
    token: &Secret,
    headers: &HeaderMap,
    client: Option<IpAddr>,
    now: Instant,
) -> Result<(), Problem> {
    let Some(given) = bearer(headers)? else {
        return Err(Problem::unauthorized("the admin token is needed here", false));
    };
    let Some(client) = client else { return is_right(token, given) };
    // Not even looked at: a right one would tell that it is.
    guesses.may_try(client, now)?;
    is_right(token, given).inspect_err(|_| guesses.was_wrong(client, now))
}

fn is_right(token: &Secret, given: &str) -> Result<(), Problem> {
    if token.is(given) { Ok(()) } else { Err(Problem::unauthorized("this is not the admin token", true)) }
}

/// Wrong tokens of each address, so that nobody tries out many.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, Wrong>>);

#[derive(Clone, Copy, Debug)]
struct Wrong {
    /// Tries that are left.
    left: f64,
    at: Instant,
}

impl Wrong {
    fn left(&self, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() / GUESS_EVERY_S).min(GUESSES)
    }
}

impl Guesses {
    fn may_try(&self, client: IpAddr, now: Instant) -> Result<(), Problem> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = all.get(&client).map_or(GUESSES, |wrong| wrong.left(now));
        if left >= 1.0 {
            return Ok(());
        }
        let wait = ((1.0 - left) * GUESS_EVERY_S).ceil() as u64;
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens").retry_after(wait.max(1)))
    }

    fn was_wrong(&self, client: IpAddr, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= GUESSERS {
            all.retain(|_, wrong| wrong.left(now) < GUESSES);
        }
        // With thousands of addresses at it, a token of 128 bits is what protects.
        if all.len() < GUESSERS || all.contains_key(&client) {
            let left = all.get(&client).map_or(GUESSES, |wrong| wrong.left(now)) - 1.0;
            all.insert(client, Wrong { left, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::AUTHORIZATION;

    #[test]
    fn wrong_tokens_are_few() {
        let (guesses, token) = (Guesses::default(), Secret::try_from("0123456789abcdef").unwrap());
        let (start, here) = (clock::now(), IpAddr::from([192, 0, 2, 1]));
        let try_at = |given: &str, client: Option<IpAddr>, s: u64| {
            let headers = [(AUTHORIZATION, format!("Bearer {given}").parse().unwrap())].into_iter().collect();
            let checked = check(&guesses, &token, &headers, client, start + Duration::from_secs(s));
            checked.map_or_else(|problem| problem.into_response().status().as_u16(), |()| 200)
        };
        assert_eq!(try_at("0123456789abcdef", Some(here), 0), 200);
        assert!((0..10).all(|_| try_at("0123456789abcdeF", Some(here), 0) == 401));
        assert_eq!(try_at("0123456789abcdef", Some(here), 1), 429, "a right one is not told from a wrong one");
        assert_eq!(
            try_at("0123456789abcdef", Some(IpAddr::from([192, 0, 2, 2])), 1),
            200,
            "of others nothing is known"
        );
        assert_eq!(try_at("0123456789abcdef", Some(here), 7), 200);
        assert_eq!(try_at("", Some(here), 7), 401);
        assert_eq!(try_at("x", Some(here), 8), 429);
        assert!((0..100).all(|_| try_at("x", None, 8) == 401), "a proxy on this machine stands for everybody");
        for n in 0..6000u32 {
            try_at("x", Some(IpAddr::from(n.to_be_bytes())), 9);
        }
        assert_eq!(guesses.0.lock().unwrap().len(), GUESSERS);
        try_at("x", Some(here), 1000);
        assert_eq!(guesses.0.lock().unwrap().len(), 1, "whoever has waited long enough is forgotten");
    }
}
