//! Who is told of whom. In a small room everybody hears of everybody. In a large one there is a list of those that all are
//! told of: who publishes or moderates, and the latest who have said or shown something. The others are counted.
//!
//! So an arrival or a departure of somebody silent costs nobody else anything, and what a client has to know is bounded.
use super::messages::{
    ApiError, ErrorCode, Event, LeftWhy, ParticipantLeft, ParticipantPage, ParticipantsAfter, Population,
};
use super::participant::Participant;
use super::timers::Timer;
use super::{At, Room};
use crate::ids::ParticipantId;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Between two counts, at least.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// What is told to all of a large room again and again (counts, levels of speakers) takes at most this many messages a
/// second altogether: it comes more rarely in a larger room.
const MESSAGES_PER_S: usize = 3000;
/// Participants of a page, when the client does not say how many.
const PAGE: usize = 100;
/// Participants of a page at most.
const PAGE_MAX: usize = 500;

/// Whether everybody is told of a participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Counted only.
    #[default]
    Unlisted,
    /// On the list, and the first to leave it when others have more to say.
    Guest(Rank),
    /// On the list for as long as it publishes or moderates.
    Member,
}

/// In which order guests leave the list: first who shows no attributes (a raised hand), then who was silent the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    shows: bool,
    at: u64,
}

#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Not everybody is on the list.
    large: bool,
    guests: BTreeSet<(Rank, ParticipantId)>,
    publishers: BTreeSet<ParticipantId>,
    /// Counts what guests do.
    last_act: u64,
    /// When the count was last told.
    counted_at: Option<Instant>,
}

impl Presence {
    /// How long to wait between two things that `listeners` participants are told.
    pub fn pause(&self, listeners: usize) -> Duration {
        if self.large { Duration::from_secs(listeners as u64) / MESSAGES_PER_S as u32 } else { Duration::ZERO }
    }

    /// Somebody is gone.
    pub fn forget(&mut self, participant: &Participant) {
        self.publishers.remove(&participant.id);
        self.forget_guest(participant);
    }

    fn forget_guest(&mut self, participant: &Participant) {
        if let Standing::Guest(rank) = participant.standing {
            self.guests.remove(&(rank, participant.id));
        }
    }

    /// Who publishes anything.
    pub fn publishers(&self) -> &BTreeSet<ParticipantId> {
        &self.publishers
    }

    pub fn publishes(&mut self, id: ParticipantId, publishes: bool) {
        match publishes {
            true => self.publishers.insert(id),
            false => self.publishers.remove(&id),
        };
    }
}

impl Room {
    /// Somebody is new. Tells the others, unless it is one silent viewer of many.
    pub(super) fn announce(&mut self, id: ParticipantId) {
        self.presence.large |= self.participants.len() > self.settings.full_presence;
        let Some(participant) = self.participants.get(&id) else { return };
        tracing::info!(participant = %id, name = ?participant.name, "joined");
        if participant.grants.moderate || !self.presence.large {
            self.notice(id);
        }
        self.recording_joined(id);
    }

    /// Somebody does what all are told of: they have to know who that is.
    pub(super) fn notice(&mut self, id: ParticipantId) {
        let Some(before) = self.participants.get(&id).map(|p| p.standing) else { return };
        self.stand(id);
        self.stale.recording |= before == Standing::Unlisted;
        if before == Standing::Unlisted
            && let Some(joined) = self.participants.get(&id).map(Participant::message)
        {
            self.tell_others(id, &Event::ParticipantJoined(joined));
            self.tell_health_anew(id);
        }
        let guests = &self.presence.guests;
        if self.presence.large
            && guests.len() > self.settings.full_presence
            && let Some((_, first)) = guests.iter().find(|(_, guest)| *guest != id).copied()
        {
            self.unlist(first);
        }
    }

    /// What is on the list may have another reason to be there.
    pub(super) fn review_standing(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get(&id) else { return };
        match participant.standing {
            Standing::Unlisted if participant.grants.moderate => self.notice(id),
            Standing::Unlisted => {}
            Standing::Guest(_) | Standing::Member => self.stand(id),
        }
    }

    /// Puts somebody on the list, at the place that it has now.
    fn stand(&mut self, id: ParticipantId) {
        let presence = &mut self.presence;
        let Some(participant) = self.participants.get_mut(&id) else { return };
        presence.forget_guest(participant);
        participant.standing = if participant.grants.moderate || presence.publishers.contains(&id) {
            Standing::Member
        } else {
            presence.last_act += 1;
            let rank = Rank { shows: !participant.attributes.is_empty(), at: presence.last_act };
            presence.guests.insert((rank, id));
            Standing::Guest(rank)
        };
    }

    /// Somebody made place on the list. It hears nothing of that itself.
    fn unlist(&mut self, id: ParticipantId) {
        if let Some(participant) = self.participants.get_mut(&id) {
            self.presence.forget_guest(participant);
            participant.standing = Standing::Unlisted;
        }
        let left = ParticipantLeft { participant: id.to_string(), why: LeftWhy::Unlisted };
        self.tell_others(id, &Event::ParticipantLeft(left));
    }

    /// Tells what became of a participant to all who know it.
    pub(super) fn tell_of(&mut self, id: ParticipantId, event: &Event) {
        if self.is_listed(id) {
            self.tell_all(event);
        } else {
            self.tell(id, event);
        }
    }

    pub(super) fn is_listed(&self, id: ParticipantId) -> bool {
        self.participants.get(&id).is_some_and(|p| p.standing != Standing::Unlisted)
    }

    /// Everybody on the list, and oneself.
    pub(super) fn listed(&self, me: ParticipantId) -> impl Iterator<Item = &Participant> {
        self.participants.values().filter(move |p| p.standing != Standing::Unlisted || p.id == me)
    }

    /// A room that has become small again: everybody is told of everybody.
    pub(super) fn review_size(&mut self) {
        let few = self.settings.full_presence - self.settings.full_presence / 4;
        if !self.presence.large || self.participants.len() > few {
            return;
        }
        self.presence.large = false;
        let unlisted = self.participants.values().filter(|p| p.standing == Standing::Unlisted).map(|p| p.id);
        for id in unlisted.collect::<Vec<_>>() {
            self.notice(id);
        }
    }

    /// Tells all how many there are, in a large room, when that has changed: not too often.
    pub(super) fn review_count(&mut self, at: At) {
        let (total, publishers) = (self.participants.len(), self.presence.publishers().len());
        let count = self.presence.large.then(|| Population { total, viewers: total.saturating_sub(publishers) });
        if count == self.about.participants {
            return self.timers.disarm(Timer::Count);
        }
        let pause = COUNT_EVERY.max(self.presence.pause(total));
        let due = self.presence.counted_at.map_or(at.now, |told| told + pause);
        if at.now < due {
            return self.timers.arm(Timer::Count, due);
        }
        self.timers.disarm(Timer::Count);
        self.presence.counted_at = Some(at.now);
        self.about.participants = count;
        self.tell_all(&Event::RoomUpdated(self.about.clone()));
    }

    /// The room begins anew.
    pub(super) fn forget_presence(&mut self) {
        self.presence = Presence::default();
        self.about.participants = None;
        self.checkup = Default::default();
        self.timers.disarm(Timer::Count);
        self.timers.disarm(Timer::Quality);
    }

    /// The request `participants`: everybody, page by page.
    pub(super) fn page(&self, data: &ParticipantsAfter) -> Result<ParticipantPage, ApiError> {
        let after = match data.after.as_deref().map(str::parse::<ParticipantId>) {
            None => Bound::Unbounded,
            Some(Ok(id)) => Bound::Excluded(id),
            Some(Err(())) => return Err(ApiError::new(ErrorCode::BadRequest, "after: not a participant id")),
        };
        let limit = data.limit.map_or(PAGE, |limit| usize::from(limit).clamp(1, PAGE_MAX));
        let mut rest = self.participants.range((after, Bound::Unbounded)).map(|(_, p)| p);
        let participants: Vec<_> = rest.by_ref().take(limit).map(Participant::message).collect();
        let last = participants.last().map(|p| p.participant.clone());
        let next = last.filter(|_| rest.next().is_some());
        Ok(ParticipantPage { participants, next, total: self.participants.len() })
    }
}
