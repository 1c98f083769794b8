//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): participants without a socket, one connection each.
use super::api::{Claims, HttpId, HttpKind, HttpRequest, HttpResponse, Output};
use super::messages::{ApiError, ErrorCode, LeftWhy, Pc};
use super::negotiation::Connected;
use super::participant::Origin;
use super::requests::bad;
use super::{At, Room};
use crate::engine::Command;
use crate::ids::ParticipantId;
use crate::peer::negotiate::{AnswerContext, FragmentOutcome};

impl Room {
    pub(super) fn http(&mut self, at: At, http: HttpId, request: HttpRequest) {
        let response = match request {
            HttpRequest::Create { kind, sdp, claims, whep_of } => {
                self.create(at, kind, &sdp, &claims, whep_of).map(Some)
            }
            HttpRequest::Patch { kind, resource, fragment, if_match } => {
                self.patch(kind, &resource, &fragment, if_match.as_deref()).map(Some)
            }
            HttpRequest::Delete { kind, resource } => self.delete(kind, &resource).map(Some),
            HttpRequest::Inspect(what) => self.inspect(at, http, &what),
            HttpRequest::Record(data) => self.record_for_operator(at, http, data),
        };
        if let Some(response) = response.unwrap_or_else(|error| Some(HttpResponse::Failed(error))) {
            self.out.push_back(Output::Http { http, response });
        }
    }

    fn create(
        &mut self,
        at: At,
        kind: HttpKind,
        sdp: &str,
        claims: &Claims,
        show: Option<String>,
    ) -> Result<HttpResponse, ApiError> {
        let (granted, grant, pc) = match kind {
            HttpKind::Whip => (claims.grants.publish, "publish", Pc::Pub),
            HttpKind::Whep => (claims.grants.subscribe, "subscribe", Pc::Sub),
        };
        if !granted {
            return Err(ApiError::new(ErrorCode::Forbidden, format!("the grant {grant:?} is missing")));
        }
        if show.as_ref().is_some_and(|name| self.find_participant(name).is_none()) {
            return Err(ApiError::new(ErrorCode::NotFound, "there is no such participant"));
        }
        let predecessor = self.predecessor(kind, claims);
        if self.participants.len() - usize::from(predecessor.is_some()) >= self.settings.limits.participants {
            return Err(ApiError::retry(ErrorCode::LimitReached, "the room is full", 5000));
        }
        let resource = self.secret();
        let id = self.admit(at, claims, Origin::Http { kind, resource: resource.clone(), show });
        let connected = match self.connect(id, pc, sdp) {
            Ok(connected) => connected,
            Err(error) => {
                // Nobody has heard of it yet.
                if let Some(participant) = self.participants.remove(&id) {
                    self.forget(&participant);
                    self.speakers.leave(id);
                }
                return Err(error);
            }
        };
        if let Some(predecessor) = predecessor {
            self.leave(predecessor, LeftWhy::Replaced);
        }
        self.index.resources.insert(resource.clone(), id);
        self.enter(id, kind, &connected);
        let etag = connected.config.ice.local.ufrag.clone();
        Ok(HttpResponse::Created { participant: id, resource, etag, sdp: connected.sdp })
    }

    fn enter(&mut self, id: ParticipantId, kind: HttpKind, connected: &Connected) {
        self.announce(id);
        match kind {
            HttpKind::Whip => drop(self.publish(id, connected, None)),
            HttpKind::Whep => self.take_slots(id, connected),
        }
    }

    /// A publisher that starts again with the same identity takes the place of the one before. Viewers do not.
    fn predecessor(&self, kind: HttpKind, claims: &Claims) -> Option<ParticipantId> {
        let same = self.index.identities.get(claims.identity.as_ref()?)?;
        let is_whip = |id: &&ParticipantId| {
            let origin = self.participants.get(id).map(|p| &p.origin);
            matches!(origin, Some(Origin::Http { kind: HttpKind::Whip, .. }))
        };
        same.iter().find(is_whip).copied().filter(|_| kind == HttpKind::Whip)
    }

    fn resource(&self, kind: HttpKind, resource: &str) -> Result<ParticipantId, ApiError> {
        let id = self.index.resources.get(resource).copied();
        let fits = |id: &ParticipantId| {
            let origin = self.participants.get(id).map(|p| &p.origin);
            matches!(origin, Some(Origin::Http { kind: of, .. }) if *of == kind)
        };
        id.filter(fits).ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such resource"))
    }

    fn patch(
        &mut self,
        kind: HttpKind,
        resource: &str,
        fragment: &str,
        if_match: Option<&str>,
    ) -> Result<HttpResponse, ApiError> {
        let id = self.resource(kind, resource)?;
        let pc = match kind {
            HttpKind::Whip => Pc::Pub,
            HttpKind::Whep => Pc::Sub,
        };
        let limits = self.settings.sdp_limits();
        let (fingerprint, candidates) = (&self.settings.fingerprint, self.settings.candidates.as_slice());
        let context = AnswerContext { fingerprint, candidates, limits: &limits };
        let link = self.participants.get_mut(&id).map(|p| p.link_mut(pc));
        let Some((link, peer)) = link.and_then(|l| l.peer.map(|peer| (l, peer))) else {
            return Err(ApiError::new(ErrorCode::NotFound, "there is no such resource"));
        };
        let Some(negotiation) = &mut link.negotiation else {
            return Err(ApiError::new(ErrorCode::NotFound, "there is no such resource"));
        };
        if if_match.is_some_and(|tag| tag != "*" && tag.trim_matches('"') != link.etag) {
            return Ok(HttpResponse::PreconditionFailed);
        }
        match negotiation.fragment(&context, fragment).map_err(|e| bad(e.to_string()))? {
            FragmentOutcome::Trickle => Ok(HttpResponse::Done),
            FragmentOutcome::Restart { fragment, config } => {
                link.etag.clone_from(&config.ice.local.ufrag);
                let etag = link.etag.clone();
                self.command(Command::UpdatePeer { peer, config });
                Ok(HttpResponse::Restarted { etag, fragment })
            }
        }
    }

    fn delete(&mut self, kind: HttpKind, resource: &str) -> Result<HttpResponse, ApiError> {
        let id = self.resource(kind, resource)?;
        self.leave(id, LeftWhy::Left);
        Ok(HttpResponse::Done)
    }
}
