//! Coming, coming back, and going.
use super::api::{Claims, Grants, Output, RecordingStop, SocketId, Text};
use super::messages::{
    self as msg, ApiError, Bye, ByeAction, Connection, ErrorCode, Event, Heartbeat, Hello, LeftWhy, ParticipantLeft,
    Pc, Revs, Snapshot, Welcome, You,
};
use super::participant::{Origin, Participant, Publisher, Subscriber, Track};
use super::presence::Standing;
use super::quality::Health;
use super::session::{EventText, Session, Verdict};
use super::slots::Slot;
use super::timers::Timer;
use super::{At, Room};
use crate::engine::Command;
use crate::ids::{ParticipantId, TrackId};
use std::time::{Duration, Instant};

/// How much more rarely pings come in a large room.
const RARER: u32 = 4;
/// Characters of a name.
const NAME: usize = 64;

impl Room {
    /// The first request of a socket.
    pub(super) fn hello(&mut self, at: At, socket: SocketId, id: u64, hello: Hello, claims: Claims) {
        if self.index.sockets.contains_key(&socket) {
            let error = ApiError::new(ErrorCode::Conflict, "this socket has said hello already");
            return self.answer_socket(socket, id, &Err::<Welcome, _>(error));
        }
        let session = hello.resume.as_ref().and_then(|r| Some((self.index.sessions.get(&r.session).copied()?, r)));
        let result = match session {
            Some((participant, resume)) if self.may_resume(participant, &resume.secret, &claims) => {
                let seq = resume.seq;
                return self.resume(at, participant, socket, id, seq, claims);
            }
            Some(_) => Err((ErrorCode::Unauthorized, "this is not the secret of that session", 4401)),
            None => self.join(at, socket, id, &claims),
        };
        if let Err((code, message, close)) = result {
            self.answer_socket(socket, id, &Err::<Welcome, _>(ApiError::new(code, message)));
            self.out.push_back(Output::Close { socket, code: close, reason: message });
        }
    }

    fn may_resume(&self, participant: ParticipantId, secret: &str, claims: &Claims) -> bool {
        let Some(participant) = self.participants.get(&participant) else { return false };
        let same = claims.identity.is_none() || claims.identity == participant.identity;
        same && participant.session().is_some_and(|s| s.secret_is(secret))
    }

    fn join(
        &mut self,
        at: At,
        socket: SocketId,
        id: u64,
        claims: &Claims,
    ) -> Result<(), (ErrorCode, &'static str, u16)> {
        self.replace(claims);
        if self.participants.len() >= self.settings.limits.participants {
            return Err((ErrorCode::LimitReached, "the room is full", 4403));
        }
        let (name, secret) = (self.secret(), self.secret());
        let session = Session::new(name, secret, socket, &self.settings.limits, self.ping(), at.now);
        let session_id = session.id.clone();
        let participant = self.admit(at, claims, Origin::Socket(Box::new(session)));
        self.index.sockets.insert(socket, participant);
        self.index.sessions.insert(session_id, participant);
        self.announce(participant);
        self.rerank();
        self.expect(at, participant);
        let welcome = self.welcome(participant, false, 0, true);
        self.answer_socket(socket, id, &welcome.ok_or_else(internal));
        self.tell_newcomer(participant);
        Ok(())
    }

    /// The identity joins again: who had it goes.
    fn replace(&mut self, claims: &Claims) {
        let Some(same) = claims.identity.as_ref().and_then(|i| self.index.identities.get(i)) else { return };
        for participant in same.clone() {
            if self.participants.get(&participant).is_some_and(|p| p.session().is_some()) {
                self.bye(participant, ByeAction::Stop, "replaced", 4409, LeftWhy::Replaced);
            }
        }
    }

    /// Puts somebody on the list, and tells nobody yet.
    pub(super) fn admit(&mut self, at: At, claims: &Claims, origin: Origin) -> ParticipantId {
        let id = self.ids.participant();
        let participant = Participant {
            id,
            identity: claims.identity.clone(),
            name: claims.name.chars().take(NAME).collect(),
            attributes: Default::default(),
            joined_at_ms: at.wall_ms,
            grants: claims.grants,
            expires: expiry(at, claims.expires_ms),
            origin,
            connection: Connection::Live,
            standing: Standing::default(),
            health: Health::default(),
            publisher: Publisher::default(),
            subscriber: Subscriber::default(),
        };
        if let Some(identity) = &claims.identity {
            self.index.identities.entry(identity.clone()).or_default().insert(id);
        }
        self.participants.insert(id, participant);
        self.arm_participant(id);
        id
    }

    fn resume(&mut self, at: At, id: ParticipantId, socket: SocketId, request: u64, seq: u64, claims: Claims) {
        let ping = self.ping();
        let Some(participant) = self.participants.get_mut(&id) else { return };
        let grants = participant.grants;
        // Without a token of the same identity, what the first one said holds.
        if claims.identity == participant.identity {
            participant.grants = claims.grants;
            participant.expires = expiry(at, claims.expires_ms);
        }
        let Some(session) = participant.session_mut() else { return };
        tracing::info!(participant = %id, seq, "resumed");
        let old = session.socket.replace(socket);
        session.take_up(ping, at.now);
        let missed = session.log.since(seq, &self.history);
        let last = session.log.last();
        if let Some(old) = old {
            self.index.sockets.remove(&old);
            self.out.push_back(Output::Close { socket: old, code: 4409, reason: "resumed by a newer socket" });
        }
        self.index.sockets.insert(socket, id);
        let covered = if missed.is_some() { seq } else { last };
        let welcome = self.welcome(id, true, covered, missed.is_none());
        self.answer_socket(socket, request, &welcome.ok_or_else(internal));
        self.out.extend(missed.into_iter().flatten().map(|text| Output::Send { socket, text }));
        self.grants_changed(id, grants);
        self.review_connection(id);
        self.arm_participant(id);
    }

    /// A newer token may allow something else.
    fn grants_changed(&mut self, id: ParticipantId, before: Grants) {
        let Some(participant) = self.participants.get(&id) else { return };
        let (grants, you) = (participant.grants, participant.you());
        if grants == before {
            return;
        }
        self.tell(id, &Event::YouUpdated(you));
        if !grants.publish {
            self.unpublish_all(id);
        }
        self.review_standing(id);
        self.stale.subscribers.insert(id);
    }

    /// What the answer to `hello` says. `seq` is what it covers.
    fn welcome(&self, id: ParticipantId, resumed: bool, seq: u64, with_snapshot: bool) -> Option<Welcome> {
        let participant = self.participants.get(&id)?;
        let session = participant.session()?;
        Some(Welcome {
            session: session.id.clone(),
            secret: session.secret.clone(),
            seq,
            resumed,
            participant: id.to_string(),
            ping_ms: millis(session.ping),
            grace_ms: millis(self.settings.grace),
            limits: self.settings.limits.told(),
            ice_servers: self.settings.ice_servers.clone(),
            revs: Revs { publish: participant.link(Pc::Pub).rev, subscribe: participant.link(Pc::Sub).rev },
            snapshot: with_snapshot.then(|| self.snapshot(participant)),
        })
    }

    pub(super) fn snapshot(&self, participant: &Participant) -> Snapshot {
        let subscriber = &participant.subscriber;
        let own = participant.publisher.tracks.iter().filter_map(|t| self.tracks.get(t));
        let bound = subscriber.slots.iter().filter_map(|s| Some((s, s.bound.as_ref()?)));
        Snapshot {
            room: self.about.clone(),
            you: You { participant: participant.id.to_string(), grants: participant.grants },
            participants: self.listed(participant.id).map(Participant::message).collect(),
            tracks: self.tracks.values().map(Track::message).collect(),
            slots: msg::Slots {
                need: subscriber.need,
                bindings: bound.map(|(slot, b)| binding(slot.mid.as_str(), Some(b.candidate.track), b.why)).collect(),
            },
            states: subscriber.states.iter().map(|(track, told)| told.message(*track)).collect(),
            layers: own.filter(|t| t.demand.is_told()).map(Track::layers).collect(),
            speakers: if participant.grants.subscribe { self.speakers.told().to_vec() } else { Vec::new() },
            quality: self.listed(participant.id).filter_map(|p| p.health.told(p.id)).collect(),
            messages: self.retained.values().cloned().collect(),
            recording: self.recording_that_runs(),
        }
    }

    /// The socket is gone; the session waits for another.
    pub(super) fn socket_closed(&mut self, at: At, socket: SocketId) {
        let Some(id) = self.index.sockets.remove(&socket) else { return };
        let Some(session) = self.participants.get_mut(&id).and_then(Participant::session_mut) else { return };
        session.socket = None;
        session.lost_at = Some(at.now);
        self.review_connection(id);
        self.arm_participant(id);
    }

    /// Closes the socket; the session waits for another.
    pub(super) fn drop_socket(&mut self, at: At, socket: SocketId, code: u16, reason: &'static str) {
        self.out.push_back(Output::Close { socket, code, reason });
        self.socket_closed(at, socket);
    }

    /// Tells the others when somebody is lost or back.
    pub(super) fn review_connection(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get_mut(&id) else { return };
        let connection = participant.true_connection();
        if connection != std::mem::replace(&mut participant.connection, connection) {
            let event = Event::ParticipantUpdated(participant.message());
            self.tell_of(id, &event);
        }
    }

    /// Sends somebody away.
    fn bye(&mut self, id: ParticipantId, action: ByeAction, reason: &'static str, code: u16, why: LeftWhy) {
        self.say_bye(id, action, reason, None, code);
        self.leave(id, why);
    }

    fn say_bye(&mut self, id: ParticipantId, action: ByeAction, reason: &'static str, url: Option<String>, code: u16) {
        self.tell(id, &Event::Bye(Bye { action, reason: reason.into(), url }));
        let session = self.participants.get_mut(&id).and_then(Participant::session_mut);
        if let Some(socket) = session.and_then(|s| s.socket) {
            self.out.push_back(Output::Close { socket, code, reason });
        }
    }

    /// Takes somebody off the list, with all that it published and watched, and tells the others.
    pub(super) fn leave(&mut self, id: ParticipantId, why: LeftWhy) {
        // First of all: it hears nothing of its own going.
        let Some(participant) = self.participants.remove(&id) else { return };
        for track in &participant.publisher.tracks {
            self.unpublish(*track);
        }
        for pc in [Pc::Pub, Pc::Sub] {
            if let Some(peer) = participant.link(pc).peer {
                self.index.peers.remove(&peer);
                self.command(Command::RemovePeer { peer });
            }
        }
        for track in participant.subscriber.slots.iter().filter_map(Slot::track) {
            self.unwatch(track, id);
        }
        self.forget(&participant);
        self.stale.recording = true;
        self.stale.reranked |= self.speakers.order().contains(&id);
        if self.speakers.leave(id) {
            self.tell_levels();
        }
        tracing::info!(participant = %id, ?why, "left");
        if participant.standing != Standing::Unlisted {
            self.tell_all(&Event::ParticipantLeft(ParticipantLeft { participant: id.to_string(), why }));
        }
        self.review_size();
    }

    pub(super) fn forget(&mut self, participant: &Participant) {
        let id = participant.id;
        self.timers.disarm(Timer::Participant(id));
        self.timers.disarm(Timer::States(id));
        self.presence.forget(participant);
        self.forget_queries(id);
        match &participant.origin {
            Origin::Socket(session) => {
                self.index.sessions.remove(&session.id);
                if let Some(socket) = session.socket {
                    self.index.sockets.remove(&socket);
                }
            }
            Origin::Http { resource, .. } => drop(self.index.resources.remove(resource)),
        }
        if let Some(identity) = &participant.identity
            && let Some(same) = self.index.identities.get_mut(identity)
        {
            same.remove(&id);
            if same.is_empty() {
                self.index.identities.remove(identity);
            }
        }
    }

    /// The server goes away, or its media engine has failed.
    pub(super) fn dissolve(&mut self, reason: &'static str, url: Option<&str>, code: u16, stop: RecordingStop) {
        self.end_recording(stop, None);
        for (id, participant) in std::mem::take(&mut self.participants) {
            let text = EventText::new(&Event::Bye(Bye {
                action: ByeAction::Rejoin,
                reason: reason.into(),
                url: url.map(str::to_owned),
            }));
            for peer in [Pc::Pub, Pc::Sub].into_iter().filter_map(|pc| participant.link(pc).peer) {
                self.command(Command::RemovePeer { peer });
            }
            self.forget(&participant);
            self.speakers.leave(id);
            if let Origin::Socket(mut session) = participant.origin {
                session.tell(&text, &mut self.out);
                if let Some(socket) = session.socket {
                    self.out.push_back(Output::Close { socket, code, reason });
                }
            }
        }
        for track in std::mem::take(&mut self.tracks).into_keys() {
            self.timers.disarm(Timer::Unwatched(track));
            self.timers.disarm(Timer::Waking(track));
        }
        self.index.peers.clear();
        self.forget_presence();
        self.stale = Default::default();
    }

    /// Something of a participant is due: heartbeat, grace, expiry.
    pub(super) fn participant_due(&mut self, at: At, id: ParticipantId) {
        let grace = self.settings.grace;
        let Some(participant) = self.participants.get_mut(&id) else { return };
        if participant.expires.is_some_and(|e| at.now >= e) {
            return self.bye(id, ByeAction::Stop, "expired", 4401, LeftWhy::Expired);
        }
        if participant.publisher.orphaned_until.take_if(|until| at.now >= *until).is_some() {
            self.unpublish_all(id);
            self.review_connection(id);
        }
        let Some(participant) = self.participants.get_mut(&id) else { return };
        if let Some(session) = participant.session_mut() {
            match (session.socket, session.lost_at) {
                (None, Some(lost)) if at.now >= lost + grace => return self.leave(id, LeftWhy::Timeout),
                (Some(socket), _) if at.now >= session.silent_until() => {
                    return self.drop_socket(at, socket, 4408, "heartbeat missed");
                }
                (Some(_), _) if at.now >= session.next_ping => {
                    session.pings(at.now, at.wall_ms);
                    session.send(Text::plain(msg::text(&Heartbeat::Ping { t: at.wall_ms })), &mut self.out);
                }
                _ => {}
            }
        }
        self.arm_participant(id);
    }

    /// Between two pings of a session that begins now. Of thousands who only watch, one whose network is gone may be missed
    /// a little later: in a large room pings come more rarely.
    fn ping(&self) -> Duration {
        let large = self.participants.len() > self.settings.full_presence;
        self.settings.ping * if large { RARER } else { 1 }
    }

    /// Sets the timer to whatever of this participant comes first.
    pub(super) fn arm_participant(&mut self, id: ParticipantId) {
        let grace = self.settings.grace;
        let Some(participant) = self.participants.get(&id) else { return };
        let session = participant.session().and_then(|session| match session.socket {
            Some(_) => Some(session.next_ping.min(session.silent_until())),
            None => session.lost_at.map(|lost| lost + grace),
        });
        let dues = [session, participant.expires, participant.publisher.orphaned_until];
        if let Some(due) = dues.into_iter().flatten().min() {
            self.timers.arm(Timer::Participant(id), due);
        }
    }

    /// The heartbeat was answered. Pongs that nobody asked for count like requests, so a flood of them ends too.
    pub(super) fn pong(&mut self, at: At, socket: SocketId) {
        let id = self.heard(at, socket);
        let session = id.and_then(|id| self.participants.get_mut(&id)).and_then(Participant::session_mut);
        let verdict = session.map(|session| {
            session.answers.arrived();
            session.pace.request(at.now)
        });
        if verdict == Some(Verdict::Flood) {
            self.drop_socket(at, socket, 4429, "too many pongs");
        }
    }
}

pub(super) fn binding(mid: &str, track: Option<TrackId>, why: msg::Why) -> msg::SlotBinding {
    msg::SlotBinding { mid: mid.into(), track: track.map(|t| t.to_string()), layer: None, why }
}

/// When a token's time is over. A time beyond what the clock can say never comes.
fn expiry(at: At, expires_ms: Option<u64>) -> Option<Instant> {
    at.now.checked_add(Duration::from_millis(expires_ms?.saturating_sub(at.wall_ms)))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn internal() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the session is gone")
}
