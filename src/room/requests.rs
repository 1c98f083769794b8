//! Requests of a session: each is answered once, whatever it says.
use super::api::{Output, SocketId, Text};
use super::messages::{
    self as msg, ApiError, ErrorCode, Event, LeftWhy, Message, Moderate, Nothing, Request, Said, Say, Set, SetTrack,
    View,
};
use super::participant::Participant;
use super::session::{Known, Verdict};
use super::slots::Wish;
use super::{At, Room};
use crate::engine::Command;
use crate::ids::{ParticipantId, TrackId};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Entries of `view.tracks`, of `say.to`, and of `record.tracks`.
pub(super) const ENTRIES: usize = 1024;
/// Bytes of a topic.
const TOPIC: usize = 64;

/// What a request comes to.
pub(super) enum Reply {
    Now(Value),
    /// The engine must be asked first.
    Later,
}

impl Room {
    pub(super) fn request(&mut self, at: At, socket: SocketId, request: Request) {
        // A socket without a session was closed: nobody reads an answer there.
        let Some(id) = self.heard(at, socket) else { return };
        let Some(session) = self.participants.get_mut(&id).and_then(Participant::session_mut) else { return };
        match session.pace.request(at.now) {
            Verdict::Go => {}
            Verdict::Wait(ms) => {
                let error = ApiError::retry(ErrorCode::RateLimited, "too many requests", ms);
                return self.answer_socket(socket, request.id, &Err::<Nothing, _>(error));
            }
            Verdict::Flood => return self.drop_socket(at, socket, 4429, "too many requests"),
        }
        match session.answers.lookup(request.id) {
            Known::New => {}
            Known::Pending => return,
            Known::Answered(text) => return session.send(Text::plain(text), &mut self.out),
            Known::Forgotten => {
                let error = ApiError::new(ErrorCode::Conflict, "this id was used too long ago to know its answer");
                return self.answer_socket(socket, request.id, &Err::<Nothing, _>(error));
            }
        }
        session.answers.begin(request.id);
        let (request_id, leaving, position) = (request.id, request.kind == "leave", self.out.len());
        match self.dispatch(at, id, request) {
            Ok(Reply::Later) => {}
            Ok(Reply::Now(data)) => self.answer(id, request_id, &Ok(data), Some(position)),
            Err(error) => self.answer(id, request_id, &Err::<Value, _>(error), Some(position)),
        }
        if leaving {
            self.out.push_back(Output::Close { socket, code: 1000, reason: "bye" });
            self.leave(id, LeftWhy::Left);
        }
    }

    /// Something came from this socket: it lives. Whose it is.
    pub(super) fn heard(&mut self, at: At, socket: SocketId) -> Option<ParticipantId> {
        let id = *self.index.sockets.get(&socket)?;
        let session = self.participants.get_mut(&id).and_then(Participant::session_mut)?;
        session.heard = at.now;
        Some(id)
    }

    /// Answers a request of a session, wherever its socket is by now, and keeps the answer. `before`: the answer goes in
    /// front of what this request has made the room say since then, so a client hears first that it succeeded.
    pub(super) fn answer<T: Serialize>(
        &mut self,
        id: ParticipantId,
        request: u64,
        result: &Result<T, ApiError>,
        before: Option<usize>,
    ) {
        let Some(session) = self.participants.get_mut(&id).and_then(Participant::session_mut) else { return };
        let text = msg::answer_text(request, result);
        match result {
            Err(error) if error.retryable => session.answers.forget(request),
            _ => session.answers.finish(request, text.clone()),
        }
        let Some(socket) = session.socket else { return };
        let from = before.unwrap_or(self.out.len());
        let told = self.out.iter().skip(from).position(|o| matches!(o, Output::Send { .. }));
        let position = told.map_or(self.out.len(), |n| from + n);
        self.out.insert(position, Output::Send { socket, text: Text::plain(text) });
    }

    /// Answers on a socket that has no session, or outside of its cache.
    pub(super) fn answer_socket<T: Serialize>(&mut self, socket: SocketId, id: u64, result: &Result<T, ApiError>) {
        let text = Text::plain(msg::answer_text(id, result));
        self.out.push_back(Output::Send { socket, text });
    }

    fn dispatch(&mut self, at: At, id: ParticipantId, request: Request) -> Result<Reply, ApiError> {
        let data = request.data;
        match request.kind.as_str() {
            "negotiate" => now(self.negotiate(id, msg::parse(data)?)?),
            "candidate" => msg::parse::<msg::Candidate>(data).and_then(|_| done()),
            "view" => self.view(id, msg::parse(data)?),
            "track" => self.set_track(id, msg::parse(data)?),
            "set" => self.set(id, msg::parse(data)?),
            "say" => self.say(at, id, msg::parse(data)?),
            "participants" => now(self.page(&msg::parse(data)?)?),
            "stats" => self.stats(at, id, request.id),
            "leave" => done(),
            "moderate" => self.refuse(id, msg::parse::<Moderate>(data).map(drop), |g| g.moderate, "moderate"),
            "record" => self.record(at, id, request.id, msg::parse(data)?),
            "hello" => Err(ApiError::new(ErrorCode::Conflict, "this socket has said hello already")),
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(ApiError::new(ErrorCode::Unsupported, format!("there is no request {shown:?}")))
            }
        }
    }

    fn view(&mut self, id: ParticipantId, view: View) -> Result<Reply, ApiError> {
        self.granted(id, |g| g.subscribe, "subscribe")?;
        if view.tracks.len() > ENTRIES {
            return Err(ApiError::new(ErrorCode::LimitReached, format!("tracks: at most {ENTRIES} entries")));
        }
        let wish = Wish::read(view).map_err(bad)?;
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.subscriber.wish = Some(wish);
        }
        self.view_changed(id);
        done()
    }

    fn set_track(&mut self, id: ParticipantId, data: SetTrack) -> Result<Reply, ApiError> {
        let track = data.track.parse::<TrackId>().ok().and_then(|t| self.tracks.get_mut(&t));
        let Some(track) = track else {
            return Err(ApiError::new(ErrorCode::NotFound, "track: there is no such track"));
        };
        if track.owner != id {
            return Err(ApiError::new(ErrorCode::Forbidden, "track: it is somebody else's"));
        }
        if std::mem::replace(&mut track.muted, data.muted) != data.muted {
            let (track, event) = (track.id, Event::TrackUpdated(track.message()));
            self.command(Command::SetMuted { track, muted: data.muted });
            self.record_muted(track, data.muted);
            self.tell_all(&event);
            self.review_watchers(track);
        }
        done()
    }

    fn set(&mut self, id: ParticipantId, data: Set) -> Result<Reply, ApiError> {
        let limit = self.settings.limits.attributes_bytes;
        let Some(participant) = self.participants.get_mut(&id) else { return done() };
        if let Some(name) = &data.name
            && !(1..=64).contains(&name.chars().count())
        {
            return Err(bad("name: 1 to 64 characters"));
        }
        let attributes = data.attributes.map(|patch| {
            let mut merged = participant.attributes.clone();
            merge(&mut merged, patch);
            merged
        });
        if attributes.as_ref().is_some_and(|a| msg::text(a).len() > limit) {
            return Err(ApiError::new(ErrorCode::LimitReached, format!("attributes: at most {limit} bytes")));
        }
        let before = participant.message();
        participant.name = data.name.unwrap_or_else(|| before.name.clone());
        participant.attributes = attributes.unwrap_or_else(|| before.attributes.clone());
        let after = participant.message();
        if after == before {
            return done();
        }
        let listed = self.is_listed(id);
        match after.attributes != before.attributes {
            true if !after.attributes.is_empty() => self.notice(id),
            true => self.review_standing(id),
            false => {}
        }
        match listed {
            true => self.tell_of(id, &Event::ParticipantUpdated(after)),
            // The others heard of it just now, if they did.
            false => drop(self.tell(id, &Event::ParticipantUpdated(after))),
        }
        done()
    }

    fn say(&mut self, at: At, id: ParticipantId, data: Say) -> Result<Reply, ApiError> {
        self.granted(id, |g| g.say, "say")?;
        let to = self.check_say(&data)?;
        // All are to know who speaks to all; a word to some makes nobody known to all.
        if to.is_none() {
            self.notice(id);
        }
        let unlisted = self.participants.get(&id).filter(|_| !self.is_listed(id));
        let message = Message {
            participant: id.to_string(),
            from: unlisted.map(Participant::message),
            to: data.to,
            topic: data.topic,
            body: data.body,
            retain: data.retain,
            at_ms: at.wall_ms,
        };
        if message.retain && message.body.is_null() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic.clone(), message.clone());
        }
        let event = Event::Message(message);
        match to {
            Some(mut to) => {
                to.insert(id);
                self.tell_these(&event, &to);
            }
            None => self.tell_all(&event),
        }
        let session = self.participants.get(&id).and_then(Participant::session);
        now(Said { seq: session.map_or(0, |s| s.log.last()) })
    }

    /// To whom, when not to everybody.
    fn check_say(&self, data: &Say) -> Result<Option<BTreeSet<ParticipantId>>, ApiError> {
        let limits = &self.settings.limits;
        if !(1..=TOPIC).contains(&data.topic.len()) {
            return Err(bad("topic: 1 to 64 bytes"));
        }
        if msg::text(&data.body).len() > limits.say_bytes {
            return Err(ApiError::new(ErrorCode::LimitReached, format!("body: at most {} bytes", limits.say_bytes)));
        }
        let adds = data.retain && !data.body.is_null() && !self.retained.contains_key(&data.topic);
        if adds && self.retained.len() >= limits.retained {
            let message = format!("retain: at most {} topics", limits.retained);
            return Err(ApiError::new(ErrorCode::LimitReached, message));
        }
        let Some(to) = &data.to else { return Ok(None) };
        if to.is_empty() || to.len() > ENTRIES || data.retain {
            return Err(bad("to: 1 to 1024 participants, and not together with retain"));
        }
        let known = |name: &String| {
            let id = name.parse::<ParticipantId>().ok().filter(|p| self.participants.contains_key(p));
            id.ok_or_else(|| {
                let shown: String = name.chars().take(32).collect();
                ApiError::new(ErrorCode::NotFound, format!("to: there is no participant {shown:?}"))
            })
        };
        to.iter().map(known).collect::<Result<_, _>>().map(Some)
    }

    fn refuse(
        &self,
        id: ParticipantId,
        data: Result<(), ApiError>,
        grant: impl Fn(&super::Grants) -> bool,
        name: &str,
    ) -> Result<Reply, ApiError> {
        self.granted(id, grant, name)?;
        data?;
        Err(ApiError::new(ErrorCode::Unsupported, format!("this version of the server has no {name}")))
    }

    /// # Errors
    /// `forbidden`.
    pub(super) fn granted(
        &self,
        id: ParticipantId,
        grant: impl Fn(&super::Grants) -> bool,
        name: &str,
    ) -> Result<(), ApiError> {
        match self.participants.get(&id) {
            Some(p) if grant(&p.grants) => Ok(()),
            _ => Err(ApiError::new(ErrorCode::Forbidden, format!("the grant {name:?} is missing"))),
        }
    }
}

pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message)
}

pub(super) fn now<T: Serialize>(data: T) -> Result<Reply, ApiError> {
    serde_json::to_value(data).map(Reply::Now).map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}

fn done() -> Result<Reply, ApiError> {
    now(Nothing {})
}

/// JSON merge patch (RFC 7396) of one object into another.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            Value::Object(patch) => {
                let entry = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                if let Value::Object(inner) = entry {
                    merge(inner, patch);
                }
            }
            value => drop(target.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patches_as_rfc_7396_says() {
        // From appendix A of RFC 7396, as far as both are objects.
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (target, patch, want) in cases {
            let read = |text| serde_json::from_str::<Map<String, Value>>(text).expect("an object");
            let mut target = read(target);
            merge(&mut target, read(patch));
            assert_eq!(target, read(want), "{patch}");
        }
    }
}
