//! An ICE-lite agent (RFC 8445 section 2.5), always controlled: it answers checks, and never sends any.
//!
//! Nothing that is not authenticated is answered or has an effect. The peer decides which path is used: the one that it
//! nominated last.
use super::config::{IceConfig, IceCredentials};
use super::stun::{Class, Message, Refusal};
use crate::metrics::DropReason;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Browsers check their selected pair every 2.5 s (Chromium) to 6 s (Firefox, RFC 7675 section 5.1: 5 s ± 20%). Media
/// counts as a sign of life as well.
pub const DISCONNECTED_AFTER: Duration = Duration::from_secs(7);
/// RFC 7675 section 5.1.
pub const FAILED_AFTER: Duration = Duration::from_secs(30);
/// Another path takes over from a nominated one that has been silent for so long, although nobody nominated it.
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(8);
/// A path without a check for so long is forgotten.
const PATH_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A peer with several networks and address families has a handful. Beyond it, the path that was silent longest goes.
const MAX_PATHS: usize = 16;

/// A way to a peer: which socket of ours, and which address of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The index of our UDP socket.
    pub socket: u8,
    pub remote: SocketAddr,
    /// The local address that the peer sent to, where the socket is bound to all of them.
    pub local_ip: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceEvent {
    /// The first path is there.
    Connected,
    /// No sign of life for [`DISCONNECTED_AFTER`].
    Disconnected,
    /// A check came after that.
    Reconnected,
    /// Datagrams on this path are this peer's from now on.
    PathAdded(Path),
    /// And from now on no more.
    PathRemoved(Path),
    /// What is sent to the peer goes here from now on.
    PathSelected(Path),
    /// No check within [`FAILED_AFTER`] of the start, or of the last sign of life. Nothing follows.
    Failed(IceFailure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceFailure {
    NeverConnected,
    ConsentExpired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Checking { since: Instant },
    Connected { seen: Instant },
    Disconnected { seen: Instant },
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct KnownPath {
    path: Path,
    checked: Instant,
}

/// Time is an argument; `poll_*` is to be drained after every call.
pub struct IceAgent {
    local: IceCredentials,
    /// The local credentials from before an ICE restart, until a check with the new ones came.
    previous: Option<IceCredentials>,
    paths: Vec<KnownPath>,
    selected: Option<Path>,
    state: State,
    answers: VecDeque<(Path, Vec<u8>)>,
    events: VecDeque<IceEvent>,
}

/// Whose password a check was made with, and its answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    Local,
    /// That of before an ICE restart.
    Previous,
}

impl IceAgent {
    pub fn new(now: Instant, config: &IceConfig) -> Self {
        Self {
            local: config.local.clone(),
            previous: None,
            paths: Vec::new(),
            selected: None,
            state: State::Checking { since: now },
            answers: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes new credentials (ICE restart, RFC 8445 section 2.4). The old ones stay valid, and the old path in use,
    /// until the peer has shown that it knows the new ones, for which it has [`FAILED_AFTER`] from now. The same
    /// credentials again change nothing.
    pub fn update(&mut self, now: Instant, config: &IceConfig) {
        if config.local == self.local {
            return;
        }
        // A second restart before the first was taken up: the credentials that are in use are the oldest.
        let old = std::mem::replace(&mut self.local, config.local.clone());
        self.previous.get_or_insert(old);
        self.state = match self.state {
            State::Checking { .. } => State::Checking { since: now },
            State::Disconnected { .. } => State::Disconnected { seen: now },
            other => other,
        };
    }

    /// The path to send on: known as soon as the first check came.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// True if a genuine check has come on this path.
    pub fn knows(&self, path: &Path) -> bool {
        self.paths.iter().any(|known| same_tuple(&known.path, path))
    }

    /// True if a check has come, and consent has not run out.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// Takes a STUN datagram. An answer, if any, is in [`poll_transmit`](Self::poll_transmit).
    pub fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        let message = Message::parse(datagram)?;
        match message.class {
            Class::Request => self.handle_request(now, path, &message),
            // A keepalive (RFC 8445 section 11): it asks for nothing and, not being authenticated, changes nothing.
            Class::Indication => Ok(()),
            // We never ask.
            Class::Success | Class::Error => Err(DropReason::StunMalformed),
        }
    }

    fn handle_request(&mut self, now: Instant, path: Path, request: &Message<'_>) -> Result<(), DropReason> {
        let signer = self.authenticate(request)?;
        if self.state == State::Failed {
            return Err(DropReason::NotConnected);
        }
        if let Some(kind) = request.unknown {
            self.answer(path, request.refusal(Refusal::UnknownAttribute(kind), self.password(signer)));
            return Ok(());
        }
        if request.controlled {
            // A lite agent has to stay controlled, so it is the other one that must change.
            self.answer(path, request.refusal(Refusal::RoleConflict, self.password(signer)));
            return Ok(());
        }
        self.answer(path, request.success(path.remote, self.password(signer)));
        self.remember(now, path);
        self.select(now, path, request.use_candidate);
        self.alive(now);
        Ok(())
    }

    /// With whose password the request is genuine. The first check with new credentials ends the old ones.
    fn authenticate(&mut self, request: &Message<'_>) -> Result<Signer, DropReason> {
        let ufrag = request.username.and_then(|u| u.split_once(':')).map(|(local, _)| local);
        let ufrag = ufrag.ok_or(DropReason::StunUnauthenticated)?;
        if ufrag == self.local.ufrag && request.is_authentic(&self.local.pwd) {
            if self.previous.take().is_some() {
                // The paths of before have to be nominated anew.
                self.selected = None;
            }
            return Ok(Signer::Local);
        }
        match &self.previous {
            Some(old) if ufrag == old.ufrag && request.is_authentic(&old.pwd) => Ok(Signer::Previous),
            _ => Err(DropReason::StunUnauthenticated),
        }
    }

    fn password(&self, signer: Signer) -> &str {
        match (signer, &self.previous) {
            (Signer::Previous, Some(old)) => &old.pwd,
            _ => &self.local.pwd,
        }
    }

    fn answer(&mut self, path: Path, datagram: Vec<u8>) {
        // One answer for one authenticated request, drained after each: the bound is for a caller that forgets to.
        if self.answers.len() < MAX_PATHS {
            self.answers.push_back((path, datagram));
        }
    }

    fn remember(&mut self, now: Instant, path: Path) {
        if let Some(known) = self.paths.iter_mut().find(|known| same_tuple(&known.path, &path)) {
            known.checked = now;
            known.path = path;
            return;
        }
        if self.paths.len() >= MAX_PATHS
            && let Some(path) = self.spare_paths().min_by_key(|known| known.checked).map(|known| known.path)
        {
            self.forget(path);
        }
        self.paths.push(KnownPath { path, checked: now });
        self.events.push_back(IceEvent::PathAdded(path));
    }

    /// All paths but the selected one.
    fn spare_paths(&self) -> impl Iterator<Item = &KnownPath> {
        self.paths.iter().filter(|known| !self.selected.is_some_and(|selected| same_tuple(&known.path, &selected)))
    }

    fn forget(&mut self, path: Path) {
        self.paths.retain(|known| known.path != path);
        self.events.push_back(IceEvent::PathRemoved(path));
    }

    /// Follows the peer to the path that it nominated last; before the first nomination, any path will do.
    fn select(&mut self, now: Instant, path: Path, nominates: bool) {
        let silent = |selected: Path| {
            let checked = self.paths.iter().find(|known| same_tuple(&known.path, &selected)).map(|known| known.checked);
            checked.is_none_or(|checked| now.saturating_duration_since(checked) > TAKEN_OVER_AFTER)
        };
        let take = match self.selected {
            None => true,
            Some(selected) => nominates || silent(selected),
        };
        if !take {
            return;
        }
        if self.selected.replace(path) != Some(path) {
            self.events.push_back(IceEvent::PathSelected(path));
        }
    }

    /// Notes an authenticated packet of another kind: media keeps the connection alive as well as checks do.
    pub fn alive(&mut self, now: Instant) {
        match self.state {
            State::Checking { .. } => self.events.push_back(IceEvent::Connected),
            State::Disconnected { .. } => self.events.push_back(IceEvent::Reconnected),
            State::Connected { .. } => {}
            State::Failed => return,
        }
        self.state = State::Connected { seen: now };
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Checking { since } if now >= since + FAILED_AFTER => self.fail(IceFailure::NeverConnected),
            State::Disconnected { seen } if now >= seen + FAILED_AFTER => self.fail(IceFailure::ConsentExpired),
            State::Connected { seen } if now >= seen + DISCONNECTED_AFTER => {
                self.state = State::Disconnected { seen };
                self.events.push_back(IceEvent::Disconnected);
            }
            _ => {}
        }
        let old = |known: &&KnownPath| now >= known.checked + PATH_FORGOTTEN_AFTER;
        let old: Vec<Path> = self.spare_paths().filter(old).map(|known| known.path).collect();
        old.into_iter().for_each(|path| self.forget(path));
    }

    fn fail(&mut self, why: IceFailure) {
        self.state = State::Failed;
        self.events.push_back(IceEvent::Failed(why));
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Checking { since } => Some(since + FAILED_AFTER),
            State::Connected { seen } => Some(seen + DISCONNECTED_AFTER),
            State::Disconnected { seen } => Some(seen + FAILED_AFTER),
            State::Failed => None,
        };
        state.into_iter().chain(self.spare_paths().map(|known| known.checked + PATH_FORGOTTEN_AFTER)).min()
    }

    /// The next answer to send.
    pub fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        self.answers.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }
}

/// The local address is a hint for sending, and no part of a path's identity: DTLS and media are found by socket and
/// remote address alone.
fn same_tuple(a: &Path, b: &Path) -> bool {
    a.socket == b.socket && a.remote == b.remote
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::peer::stun::testing::Request;

    pub fn credentials(name: &str) -> IceCredentials {
        IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}-password-of-22-chars") }
    }

    pub fn path(port: u16) -> Path {
        Path { socket: 0, remote: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None }
    }

    /// A check of the peer.
    pub fn check(to: &IceCredentials, use_candidate: bool) -> Vec<u8> {
        let username = format!("{}:peer", to.ufrag);
        let transaction = [9; 12];
        Request {
            username: &username,
            password: Some(&to.pwd),
            transaction,
            use_candidate,
            controlled: false,
            extra: None,
        }
        .write()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::peer::stun::testing::Request;
    use IceEvent::*;

    fn agent(now: Instant) -> IceAgent {
        IceAgent::new(now, &IceConfig { local: credentials("ours"), remote: credentials("peer") })
    }

    fn events(agent: &mut IceAgent) -> Vec<IceEvent> {
        std::iter::from_fn(|| agent.poll_event()).collect()
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_check_connects_and_nominations_are_followed_both_ways() {
        let now = start();
        let mut a = agent(now);
        let ours = credentials("ours");
        a.handle_stun(now, path(1), &check(&ours, false)).unwrap();
        assert_eq!(events(&mut a), [PathAdded(path(1)), PathSelected(path(1)), Connected]);
        a.handle_stun(now, path(2), &check(&ours, false)).unwrap();
        assert_eq!(events(&mut a), [PathAdded(path(2))]);
        for port in [2, 1, 2] {
            a.handle_stun(now, path(port), &check(&ours, true)).unwrap();
            assert_eq!(events(&mut a), [PathSelected(path(port))]);
        }
        a.handle_stun(now, path(1), &check(&ours, false)).unwrap();
        assert_eq!((events(&mut a), a.selected()), (vec![], Some(path(2))));
        assert_eq!(std::iter::from_fn(|| a.poll_transmit()).count(), 6);
    }

    #[test]
    fn what_is_not_authentic_gets_no_answer_and_changes_nothing() {
        let now = start();
        let mut a = agent(now);
        let ok = Request {
            username: "ours:peer",
            password: Some("ours-password-of-22-chars"),
            transaction: [1; 12],
            use_candidate: true,
            controlled: false,
            extra: None,
        };
        let forgeries = [
            Request { password: Some("ours-password-of-22-charz"), ..ok.clone() },
            Request { password: Some("peer-password-of-22-chars"), ..ok.clone() },
            Request { password: None, ..ok.clone() },
            Request { username: "other:peer", ..ok.clone() },
            Request { username: "ours", ..ok.clone() },
            // Neither refusal is for a stranger.
            Request { password: Some("wrong-password-of-22-char"), controlled: true, ..ok.clone() },
            Request { password: Some("wrong-password-of-22-char"), extra: Some(0x31), ..ok.clone() },
        ];
        for forged in forgeries {
            assert_eq!(
                a.handle_stun(now, path(1), &forged.write()),
                Err(DropReason::StunUnauthenticated),
                "{forged:?}"
            );
            assert!(a.poll_transmit().is_none() && a.poll_event().is_none() && !a.knows(&path(1)));
        }
        let success = Message::parse(&ok.write()).unwrap().success(path(1).remote, "ours-password-of-22-chars");
        assert_eq!(a.handle_stun(now, path(1), &success), Err(DropReason::StunMalformed));
        assert!(a.handle_stun(now, path(1), &ok.write()).is_ok());
    }

    #[test]
    fn refusals_name_no_path() {
        let now = start();
        let mut a = agent(now);
        let ok = Request {
            username: "ours:peer",
            password: Some("ours-password-of-22-chars"),
            transaction: [1; 12],
            use_candidate: true,
            controlled: true,
            extra: None,
        };
        for refused in [ok.clone(), Request { controlled: false, extra: Some(0x31), ..ok }] {
            a.handle_stun(now, path(1), &refused.write()).unwrap();
            let (to, answer) = a.poll_transmit().unwrap();
            assert_eq!((to, Message::parse(&answer).unwrap().class), (path(1), Class::Error));
            assert!(a.poll_event().is_none() && !a.knows(&path(1)));
        }
    }

    #[test]
    fn consent_runs_out_and_comes_back() {
        let now = start();
        let mut a = agent(now);
        let ours = credentials("ours");
        a.handle_stun(now, path(1), &check(&ours, true)).unwrap();
        events(&mut a);
        a.handle_timeout(now + secs(6));
        assert_eq!(events(&mut a), []);
        let at = a.poll_timeout().unwrap();
        assert_eq!(at, now + DISCONNECTED_AFTER);
        a.handle_timeout(at);
        assert_eq!(events(&mut a), [Disconnected]);
        a.handle_stun(now + secs(29), path(2), &check(&ours, true)).unwrap();
        assert_eq!(events(&mut a), [PathAdded(path(2)), PathSelected(path(2)), Reconnected]);
        a.alive(now + secs(40));
        a.handle_timeout(now + secs(46));
        assert_eq!(events(&mut a), []);
        a.handle_timeout(now + secs(70));
        a.handle_timeout(now + secs(70));
        assert_eq!(events(&mut a), [Disconnected, PathRemoved(path(1)), Failed(IceFailure::ConsentExpired)]);
        while a.poll_transmit().is_some() {}
        assert_eq!(a.handle_stun(now + secs(71), path(1), &check(&ours, true)), Err(DropReason::NotConnected));
        assert!(a.poll_event().is_none() && a.poll_transmit().is_none());
    }

    #[test]
    fn who_never_comes_fails_after_30_seconds() {
        let now = start();
        let mut a = agent(now);
        assert_eq!(a.poll_timeout(), Some(now + secs(30)));
        a.handle_timeout(now + secs(30));
        assert_eq!(events(&mut a), [Failed(IceFailure::NeverConnected)]);
        assert_eq!(a.poll_timeout(), None);
    }

    #[test]
    fn a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() {
        let now = start();
        let mut a = agent(now);
        let (old, new, newer) = (credentials("ours"), credentials("anew"), credentials("newr"));
        a.handle_stun(now, path(1), &check(&old, true)).unwrap();
        a.update(now, &IceConfig { local: new.clone(), remote: credentials("peer2") });
        a.update(now, &IceConfig { local: newer.clone(), remote: credentials("peer3") });
        a.handle_stun(now, path(1), &check(&old, true)).unwrap();
        assert_eq!(events(&mut a), [PathAdded(path(1)), PathSelected(path(1)), Connected]);
        assert_eq!(a.handle_stun(now, path(2), &check(&new, true)), Err(DropReason::StunUnauthenticated));
        a.handle_stun(now, path(2), &check(&newer, false)).unwrap();
        assert_eq!(events(&mut a), [PathAdded(path(2)), PathSelected(path(2))]);
        assert_eq!(a.handle_stun(now, path(1), &check(&old, true)), Err(DropReason::StunUnauthenticated));
        // The same configuration again is no restart.
        a.update(now, &IceConfig { local: newer.clone(), remote: credentials("peer3") });
        assert!(a.previous.is_none());
    }

    #[test]
    fn the_paths_of_a_peer_are_bounded_and_the_selected_one_stays() {
        let now = start();
        let mut a = agent(now);
        let ours = credentials("ours");
        a.handle_stun(now, path(1), &check(&ours, true)).unwrap();
        for port in 2..100 {
            a.handle_stun(now + secs(1), path(port), &check(&ours, false)).unwrap();
            a.poll_transmit();
        }
        assert_eq!(a.paths.len(), MAX_PATHS);
        assert!(a.knows(&path(1)) && a.selected() == Some(path(1)));
        let (added, removed) = events(&mut a).into_iter().fold((0, 0), |(added, removed), e| match e {
            PathAdded(_) => (added + 1, removed),
            PathRemoved(_) => (added, removed + 1),
            _ => (added, removed),
        });
        assert_eq!(added - removed, MAX_PATHS);
    }

    #[test]
    fn a_silent_path_loses_to_one_that_is_checked() {
        let now = start();
        let mut a = agent(now);
        let ours = credentials("ours");
        a.handle_stun(now, path(1), &check(&ours, true)).unwrap();
        a.handle_stun(now + secs(5), path(2), &check(&ours, false)).unwrap();
        assert_eq!(a.selected(), Some(path(1)));
        a.handle_stun(now + secs(9), path(2), &check(&ours, false)).unwrap();
        assert_eq!(a.selected(), Some(path(2)));
    }
}
