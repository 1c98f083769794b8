//! Questions that the engine must be asked first: the request `stats`, and what operators want explained.
use super::api::{HttpId, HttpKind, HttpResponse, Inspect, Output};
use super::messages::{
    ApiError, Decisions, Door, ErrorCode, Keeping, Look, ParticipantReport, Pc, RoomReport, Showing, SlotDecision,
    Stats, TrackReport,
};
use super::participant::{Origin, Participant, Track};
use super::requests::Reply;
use super::slots::{Bound, Slot};
use super::timers::Timer;
use super::{At, Room};
use crate::engine::Command;
use crate::engine::api::{Limit, PeerStats, SlotState};
use crate::engine::explain::DecisionLog;
use crate::ids::{ParticipantId, PeerId};
use crate::rtp::Kind;
use serde::Serialize;
use std::time::Duration;

/// How long the engine may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// A question that waits.
#[derive(Debug)]
pub(super) struct Query {
    /// Whose connections it is about.
    participant: ParticipantId,
    asker: Asker,
    /// What has not been answered yet.
    waiting: Vec<(PeerId, Awaited)>,
    stats: Stats,
    log: DecisionLog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Stats(Pc),
    Log,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    /// The participant itself, by this request.
    Request(u64),
    /// An operator.
    Http(HttpId),
}

impl Room {
    /// The request `stats`.
    pub(super) fn stats(&mut self, at: At, id: ParticipantId, request: u64) -> Result<Reply, ApiError> {
        let Some(participant) = self.participants.get(&id) else { return super::requests::now(Stats::default()) };
        let peers =
            [Pc::Pub, Pc::Sub].into_iter().filter_map(|pc| Some((participant.link(pc).peer?, Awaited::Stats(pc))));
        let waiting: Vec<_> = peers.collect();
        if waiting.is_empty() {
            return super::requests::now(Stats::default());
        }
        self.query(at, id, Asker::Request(request), waiting);
        Ok(Reply::Later)
    }

    /// What an operator asks. None: it is answered later.
    pub(super) fn inspect(&mut self, at: At, http: HttpId, what: &Inspect) -> Result<Option<HttpResponse>, ApiError> {
        let name = match what {
            Inspect::Room => return shown(&self.report()).map(Some),
            Inspect::Recording => return shown(&self.recording_that_runs().unwrap_or_default()).map(Some),
            Inspect::Decisions { participant } => participant,
        };
        let missing = |what: &str| ApiError::new(ErrorCode::NotFound, what);
        let id = self.find_participant(name).ok_or_else(|| missing("there is no such participant"))?;
        let peer = self.participants.get(&id).and_then(|p| p.link(Pc::Sub).peer);
        let peer = peer.ok_or_else(|| missing("it receives nothing: it has no `sub` connection"))?;
        self.query(at, id, Asker::Http(http), vec![(peer, Awaited::Stats(Pc::Sub)), (peer, Awaited::Log)]);
        Ok(None)
    }

    fn query(&mut self, at: At, participant: ParticipantId, asker: Asker, waiting: Vec<(PeerId, Awaited)>) {
        self.last_query += 1;
        let token = self.last_query;
        for &(peer, awaited) in &waiting {
            self.command(match awaited {
                Awaited::Stats(_) => Command::Stats { peer, token },
                Awaited::Log => Command::Explain { peer, token },
            });
        }
        let (stats, log) = (Stats::default(), DecisionLog::default());
        self.queries.insert(token, Query { participant, asker, waiting, stats, log });
        self.timers.arm(Timer::Query(token), at.now + WITHIN);
    }

    pub(super) fn stats_came(&mut self, peer: PeerId, token: u64, stats: PeerStats) {
        let Some(query) = self.queries.get_mut(&token) else { return };
        for pc in [Pc::Pub, Pc::Sub] {
            if query.is_answered(peer, Awaited::Stats(pc)) {
                match pc {
                    Pc::Pub => query.stats.publish = Some(stats),
                    Pc::Sub => query.stats.subscribe = Some(stats),
                }
                break;
            }
        }
        self.review_query(token);
    }

    pub(super) fn explained(&mut self, peer: PeerId, token: u64, log: DecisionLog) {
        let Some(query) = self.queries.get_mut(&token) else { return };
        if query.is_answered(peer, Awaited::Log) {
            query.log = log;
        }
        self.review_query(token);
    }

    fn review_query(&mut self, token: u64) {
        if self.queries.get(&token).is_some_and(|query| query.waiting.is_empty()) {
            self.finish_query(token);
        }
    }

    /// Everything was answered, or the engine did not answer in time.
    pub(super) fn finish_query(&mut self, token: u64) {
        self.timers.disarm(Timer::Query(token));
        let Some(Query { participant, asker, waiting, stats, log }) = self.queries.remove(&token) else { return };
        let late = || ApiError::retry(ErrorCode::Unavailable, "the media engine did not answer in time", 1000);
        let result = if waiting.is_empty() { Ok(stats) } else { Err(late()) };
        match asker {
            Asker::Request(request) => self.answer(participant, request, &result, None),
            Asker::Http(http) => {
                let result = result.and_then(|stats| shown(&self.decisions(participant, stats, log)));
                let response = result.unwrap_or_else(HttpResponse::Failed);
                self.out.push_back(Output::Http { http, response });
            }
        }
    }

    /// Nobody is left to ask about.
    pub(super) fn forget_queries(&mut self, id: ParticipantId) {
        for (token, query) in self.queries.extract_if(|_, query| query.participant == id) {
            self.timers.disarm(Timer::Query(token));
            if let Asker::Http(http) = query.asker {
                let response = HttpResponse::Failed(ApiError::new(ErrorCode::NotFound, "it has left"));
                self.out.push_back(Output::Http { http, response });
            }
        }
    }

    fn report(&self) -> RoomReport {
        RoomReport {
            room: self.about.clone(),
            participants: self.participants.values().map(participant_report).collect(),
            tracks: self.tracks.values().map(track_report).collect(),
        }
    }

    fn decisions(&self, id: ParticipantId, stats: Stats, log: DecisionLog) -> Decisions {
        let slots = self.participants.get(&id).map(|p| &p.subscriber.slots);
        let of = |kind| slots.into_iter().flat_map(move |s| s.of(kind)).filter_map(move |s| slot_decision(kind, s));
        Decisions {
            participant: id.to_string(),
            stats: stats.subscribe.unwrap_or_default(),
            slots: of(Kind::Audio).chain(of(Kind::Video)).collect(),
            log,
        }
    }
}

impl Query {
    /// Whether this was waited for. It is no longer.
    fn is_answered(&mut self, peer: PeerId, awaited: Awaited) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != (peer, awaited));
        self.waiting.len() < before
    }
}

pub(super) fn shown<T: Serialize>(report: &T) -> Result<HttpResponse, ApiError> {
    let json = serde_json::to_string(report);
    json.map(HttpResponse::Shown).map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}

fn participant_report(participant: &Participant) -> ParticipantReport {
    let slots = &participant.subscriber.slots;
    ParticipantReport {
        participant: participant.message(),
        identity: participant.identity.clone(),
        by: match participant.origin {
            Origin::Socket(_) => Door::Socket,
            Origin::Http { kind: HttpKind::Whip, .. } => Door::Whip,
            Origin::Http { kind: HttpKind::Whep, .. } => Door::Whep,
        },
        quality: participant.health.told(participant.id),
        view: participant.subscriber.wish.is_some(),
        slots: slots.iter().count(),
        filled: slots.iter().filter_map(Slot::track).count(),
    }
}

fn track_report(track: &Track) -> TrackReport {
    let asked = track.layers();
    TrackReport {
        track: track.message(),
        watchers: track.watchers.len(),
        stalled: track.stalled,
        wanted: asked.wanted,
        active: asked.active,
    }
}

fn slot_decision(kind: Kind, slot: &Slot) -> Option<SlotDecision> {
    let Bound { candidate, why, wish, report } = slot.bound.as_ref()?;
    Some(SlotDecision {
        mid: slot.mid.to_string(),
        kind,
        track: candidate.track.to_string(),
        why: *why,
        wish: Look {
            w: wish.width,
            h: wish.height,
            fps: wish.fps,
            priority: wish.priority,
            stage: wish.stage,
            screen: wish.screen,
        },
        state: match report.state {
            SlotState::Waiting => Showing::Waiting,
            SlotState::Live => Showing::Live,
            SlotState::Paused => Showing::Paused,
            SlotState::NoCodec => Showing::NoCodec,
        },
        layer: report.layer.as_ref().map(Into::into),
        limit: match report.limit {
            Limit::Publisher => Keeping::Publisher,
            Limit::View => Keeping::View,
            Limit::Bandwidth => Keeping::Bandwidth,
        },
        need_bps: report.need_bps,
        have_bps: report.have_bps,
    })
}
