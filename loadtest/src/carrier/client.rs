//! One client on real sockets.
use super::http::{Exchange, Progress};
use super::network::Line;
use super::room_socket::{HttpAddress, News, RoomSocket};
use super::udp::{BATCH, Buffers, Udp};
use super::{Cohort, HttpPlan, JoinPlan, Shared, token};
use crate::client::Participant;
use crate::client::participant::Pc;
use mio::Registry;
use std::time::{Duration, Instant};

/// Turns that a client gets at one moment, before others get theirs.
const MAX_TURNS: usize = 32;
/// A server that is not ready for somebody (nobody publishes yet, or it is busy) is asked again after this, so often.
const RETRY: Duration = Duration::from_millis(500);
const MAX_TRIES: u32 = 20;
/// How long a leave may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// See the module.
pub struct Client {
    pub participant: Participant,
    pub cohort: Cohort,
    /// Audio and video slots that are to get something.
    pub expects: (usize, usize),
    pub began: Instant,
    pub(super) reached: Reached,
    /// Why its socket is closed, if it is and should not be.
    pub(super) broken: Option<String>,
    pub(super) leaving: Option<Instant>,
    /// Its figures have been taken.
    pub(super) counted: bool,
    /// When it came back to its session last, until that is answered.
    pub(super) resuming: Option<Instant>,
    /// Times that the server knew nothing of its session any more.
    pub(super) failed_resumes: u64,
    room: RoomSocket,
    http: Option<Http>,
    udp: [Option<Udp>; 2],
    /// To the client, and from it.
    pub(super) lines: Option<Box<[Line; 2]>>,
    /// The earliest of its timers that is set.
    scheduled: Option<Instant>,
    index: usize,
}

/// Signalling of somebody who speaks WHIP or WHEP.
struct Http {
    plan: HttpPlan,
    pc: Pc,
    exchange: Option<Exchange>,
    /// What is to be deleted in the end.
    resource: Option<String>,
    tries: u32,
    retry_at: Option<Instant>,
}

/// How far a join has come.
#[derive(Clone, Copy, Default)]
pub(super) struct Reached {
    pub(super) welcome: bool,
    pub(super) connected: bool,
    pub(super) first_packet: bool,
    pub(super) first_keyframe: bool,
}

impl Client {
    pub(super) fn new(index: usize, now: Instant, plan: JoinPlan, seed: u64) -> Self {
        let line = |way| plan.network.map(|impairment| Line::new(impairment, seed.wrapping_mul(2) + way));
        let pc = if plan.settings.publish.is_empty() { Pc::Sub } else { Pc::Pub };
        let http = plan.http.map(|plan| Http { plan, pc, exchange: None, resource: None, tries: 0, retry_at: None });
        Self {
            participant: Participant::new(plan.settings),
            http,
            cohort: plan.cohort,
            expects: plan.expects,
            began: now,
            reached: Reached::default(),
            broken: None,
            leaving: None,
            counted: false,
            resuming: None,
            failed_resumes: 0,
            room: RoomSocket::Closed,
            udp: [None, None],
            lines: line(0).zip(line(1)).map(|(down, up)| Box::new([down, up])),
            scheduled: None,
            index,
        }
    }

    pub(super) fn connect(&mut self, now: Instant, server: &HttpAddress, shared: &Shared) {
        if self.http.is_some() {
            return self.post(now, server, shared);
        }
        match RoomSocket::connect(server, &shared.registry, token(self.index, 0)) {
            Ok(socket) => self.room = socket,
            Err(error) => self.broken = Some(format!("cannot connect: {error}")),
        }
    }

    /// Posts an offer.
    fn post(&mut self, now: Instant, server: &HttpAddress, shared: &Shared) {
        let Some(http) = &mut self.http else { return };
        let offer = self.participant.offer_alone(now, http.pc);
        (http.tries, http.retry_at) = (http.tries + 1, None);
        let (path, bearer) = (&http.plan.path, http.plan.bearer.as_deref());
        let place = (&shared.registry, token(self.index, 0));
        match Exchange::start(server, "POST", path, bearer, &offer, place) {
            Ok(exchange) => http.exchange = Some(exchange),
            Err(error) => self.broken = Some(format!("cannot connect: {error}")),
        }
    }

    /// The room's socket breaks, as when a network goes away. The media stays.
    pub(super) fn break_socket(&mut self, registry: &Registry) {
        self.room.close(registry);
        self.participant.socket_closed();
    }

    pub(super) fn leave(&mut self, now: Instant, server: &HttpAddress, shared: &mut Shared) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(now);
        if let Some(http) = &mut self.http {
            let place = (&shared.registry, token(self.index, 0));
            let bearer = http.plan.bearer.as_deref();
            let delete = |path: String| Exchange::start(server, "DELETE", &path, bearer, "", place).ok();
            http.exchange = http.resource.take().and_then(delete);
        } else {
            self.participant.leave();
        }
        self.after(now, shared);
        self.close_udp(&shared.registry);
    }

    /// Nothing is left to be done for somebody who left.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        let speaking = self.room.is_open() || self.http.as_ref().is_some_and(|http| http.exchange.is_some());
        let over = |since| !speaking || now.saturating_duration_since(since) > FAREWELL;
        self.leaving.is_some_and(over)
    }

    pub(super) fn close(&mut self, registry: &Registry) {
        self.room.close(registry);
        if let Some(exchange) = self.http.as_mut().and_then(|http| http.exchange.take()) {
            exchange.close(registry);
        }
        self.close_udp(registry);
    }

    fn close_udp(&mut self, registry: &Registry) {
        self.udp.iter_mut().filter_map(Option::take).for_each(|udp| udp.close(registry));
    }

    /// The socket of signalling has news.
    pub(super) fn handle_signalling(&mut self, server: &HttpAddress, shared: &mut Shared) {
        match self.http {
            Some(_) => self.handle_http(server, shared),
            None => self.handle_room(shared),
        }
        self.after(Instant::now(), shared);
    }

    fn handle_http(&mut self, server: &HttpAddress, shared: &mut Shared) {
        let Some(http) = &mut self.http else { return };
        let Some(progress) = http.exchange.as_mut().map(Exchange::advance) else { return };
        if matches!(progress, Progress::Pending) {
            return;
        }
        if let Some(exchange) = http.exchange.take() {
            exchange.close(&shared.registry);
        }
        let now = Instant::now();
        let failure = match progress {
            Progress::Pending => return,
            _ if self.leaving.is_some() => return,
            Progress::Done(answer) if answer.status == 201 => {
                http.resource = answer.location.map(|location| path_of(&location, server));
                self.participant.take_answer_alone(now, http.pc, &answer.body).err()
            }
            Progress::Done(answer) if matches!(answer.status, 404 | 409 | 429 | 503) && http.tries < MAX_TRIES => {
                http.retry_at = Some(now + RETRY);
                None
            }
            Progress::Done(answer) => {
                Some(format!("{} answers {}: {}", http.plan.path, answer.status, answer.body.trim()))
            }
            Progress::Failed(why) => Some(why),
        };
        self.broken = self.broken.take().or(failure);
    }

    fn handle_room(&mut self, shared: &mut Shared) {
        loop {
            let now = Instant::now();
            match self.room.advance() {
                News::Opened => self.participant.socket_opened(),
                News::Text(text) => self.participant.handle_text(now, &text),
                News::Nothing => break,
                News::Closed(why) => {
                    self.room.close(&shared.registry);
                    self.participant.socket_closed();
                    if self.leaving.is_none() {
                        self.broken = Some(why);
                    }
                    break;
                }
            }
        }
    }

    /// Datagrams wait on one of its sockets.
    pub(super) fn handle_readable(&mut self, pc: usize, buffers: &mut Buffers, shared: &mut Shared) {
        let mut last = None;
        loop {
            let Some(udp) = self.udp.get(pc).and_then(Option::as_ref) else { return };
            let filled = buffers.receive(udp);
            if filled == 0 {
                break;
            }
            let now = Instant::now();
            last = Some(now);
            for index in 0..filled {
                self.handle_buffer(now, pc, index, buffers, shared);
            }
            if filled < BATCH {
                break;
            }
        }
        if let Some(now) = last {
            self.after(now, shared);
        }
    }

    fn handle_buffer(&mut self, now: Instant, pc: usize, index: usize, buffers: &Buffers, shared: &mut Shared) {
        let (datagrams, stamp) = buffers.filled(index);
        if let Some(lines) = &mut self.lines {
            datagrams.for_each(|datagram| lines[0].send(now, pc, datagram));
            return;
        }
        let meter = &mut shared.meters[self.cohort as usize];
        meter.arrived = stamp.map(|stamp| shared.wall.instant(stamp));
        let pc = Pc::BOTH[pc];
        for datagram in datagrams {
            self.participant.receive(now, pc, datagram, meter);
        }
    }

    /// Its timer has fired.
    pub(super) fn handle_timeout(&mut self, due: Instant, server: &HttpAddress, shared: &mut Shared) {
        if self.scheduled == Some(due) {
            self.scheduled = None;
        }
        let now = Instant::now();
        if self.http.as_ref().and_then(|http| http.retry_at).is_some_and(|at| at <= now) {
            self.post(now, server, shared);
        }
        for _ in 0..MAX_TURNS {
            let now = Instant::now();
            self.deliver(now, shared);
            if self.participant.poll_timeout().is_none_or(|at| at > now) {
                break;
            }
            self.participant.handle_timeout(now);
            self.drain(now, shared);
        }
        self.after(Instant::now(), shared);
    }

    /// What has crossed the bad network arrives.
    fn deliver(&mut self, now: Instant, shared: &mut Shared) {
        let Some(lines) = &mut self.lines else { return };
        while let Some((pc, bytes, at)) = lines[0].receive(now) {
            let meter = &mut shared.meters[self.cohort as usize];
            meter.arrived = Some(at);
            self.participant.receive(now, Pc::BOTH[pc], &bytes, meter);
        }
        while let Some((pc, bytes, _)) = lines[1].receive(now) {
            let to = self.participant.transport(Pc::BOTH[pc]).and_then(|t| t.remote());
            let taken = self.udp[pc].as_ref().zip(to).is_none_or(|(udp, to)| udp.send(to, &bytes));
            shared.unsent += u64::from(!taken);
        }
    }

    /// Sends what there is to send, looks how far the join has come, and sets the timer.
    pub(super) fn after(&mut self, now: Instant, shared: &mut Shared) {
        self.drain(now, shared);
        if !self.reached.first_keyframe || self.resuming.is_some() {
            self.note_progress(shared);
        }
        let lines = self.lines.iter().flat_map(|lines| lines.iter()).filter_map(Line::next_arrival);
        let farewell = self.leaving.map(|since| since + FAREWELL);
        let retry = self.http.as_ref().and_then(|http| http.retry_at);
        let next = self.participant.poll_timeout().into_iter().chain(lines).chain(farewell).chain(retry).min();
        if let Some(at) = next.filter(|at| self.scheduled.is_none_or(|scheduled| *at < scheduled)) {
            self.scheduled = Some(at);
            shared.timers.set(at, self.index);
        }
    }

    fn drain(&mut self, now: Instant, shared: &mut Shared) {
        if self.leaving.is_none() {
            while let Some((pc, to, datagram)) = self.participant.poll_transmit() {
                let pc = pc as usize;
                if self.udp[pc].is_none() {
                    match Udp::bind(to, &shared.registry, token(self.index, pc + 1)) {
                        Ok(udp) => {
                            shared.note_socket(&udp);
                            self.udp[pc] = Some(udp);
                        }
                        Err(error) => {
                            self.broken = Some(format!("a UDP socket: {error}"));
                            return;
                        }
                    }
                }
                match (&mut self.lines, &self.udp[pc]) {
                    (Some(lines), _) => lines[1].send(now, pc, &datagram),
                    (None, Some(udp)) => shared.unsent += u64::from(!udp.send(to, &datagram)),
                    (None, None) => {}
                }
            }
        }
        while let Some(text) = self.participant.poll_text() {
            if let Err(why) = self.room.send(text) {
                self.participant.socket_closed();
                if self.leaving.is_none() {
                    self.broken = Some(why);
                }
            }
        }
    }

    fn note_progress(&mut self, shared: &mut Shared) {
        if let Some(resumed) = self.participant.resumed().filter(|_| self.resuming.is_some()) {
            self.failed_resumes += u64::from(!resumed);
            self.resuming = None;
        }
        let (reached, began, joins) = (&mut self.reached, self.began, &mut shared.joins);
        if let Some(at) = self.participant.joined_at.filter(|_| !reached.welcome) {
            reached.welcome = true;
            joins.welcome.record(at.saturating_duration_since(began));
        }
        let subscriber = self.participant.subscriber.as_ref();
        let transport = subscriber.map(|s| &s.transport).or(self.participant.publisher.as_ref().map(|p| &p.transport));
        if let Some(at) = transport.and_then(|t| t.connected_at).filter(|_| !reached.connected) {
            reached.connected = true;
            joins.joined += 1;
            joins.connected.record(at.saturating_duration_since(began));
        }
        let Some(subscriber) = subscriber else { return };
        if let Some(at) = subscriber.first_packet.filter(|_| !reached.first_packet) {
            reached.first_packet = true;
            let took = at.saturating_duration_since(began);
            joins.first_packet.record(took);
            shared.first_packets.record(took);
        }
        if let Some(at) = subscriber.first_keyframe.filter(|_| !reached.first_keyframe) {
            reached.first_keyframe = true;
            joins.first_keyframe.record(at.saturating_duration_since(began));
        }
    }
}

/// The path of a `Location`, which may be an address.
fn path_of(location: &str, server: &HttpAddress) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or_else(|| "/".to_owned(), |at| rest[at..].to_owned()),
        None if location.starts_with('/') => location.to_owned(),
        None => format!("{}/{location}", server.path),
    }
}
