//! A room of three thousand: what one arrival, one departure, one word and one speaker cost everybody else.
use super::world::{claims, offer, settings, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::Speaker;
use crate::room::messages::Request;
use serde_json::{Value, json};

const PUBLISHERS: u64 = 10;

/// A room without the checks of `World`, which look at everybody after each input.
struct Hall {
    room: Room,
    now: Instant,
    wall_ms: u64,
    sockets: u64,
    requests: u64,
}

/// What one input made the room do.
#[derive(Debug, Default)]
struct Bill {
    time: Duration,
    messages: usize,
    bytes: usize,
    commands: usize,
}

impl Hall {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new() -> Self {
        let mut settings = settings();
        settings.limits.participants = 10_000;
        let (now, wall_ms) = (Instant::now(), 1_800_000_000_000);
        let (settings, ids) = (Arc::new(settings), Arc::new(IdSource::default()));
        let room = Room::new(RoomId(7), "demo", settings, ids, rand::SeedableRng::seed_from_u64(1), wall_ms);
        Self { room, now, wall_ms, sockets: 0, requests: 0 }
    }

    /// Publishers 1 to 10, then viewers, each with as many slots as it needs, and with a view if `viewing`.
    fn full(viewers: u64, viewing: bool) -> Self {
        let mut hall = Self::new();
        for n in 1..=PUBLISHERS {
            hall.join();
            hall.publish(n);
        }
        for n in 1..=viewers {
            hall.join();
            let socket = PUBLISHERS + n;
            hall.ask(socket, "negotiate", json!({"pc": "sub", "rev": 1, "sdp": slots_offer(1, 4, 4)}));
            if viewing {
                hall.ask(
                    socket,
                    "view",
                    json!({"tracks": {"t2": {"w": 640, "h": 360}}, "lastN": 2, "follow": "speaker"}),
                );
            }
        }
        hall.pass(Duration::from_secs(4));
        hall
    }

    #[allow(clippy::disallowed_methods, reason = "the time that it takes is what is asked")]
    fn bill(&mut self, act: impl FnOnce(&mut Room, Instant, u64)) -> Bill {
        let began = Instant::now();
        act(&mut self.room, self.now, self.wall_ms);
        let mut bill = Bill { time: began.elapsed(), ..Bill::default() };
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Send { text, .. } => {
                    bill.messages += 1;
                    bill.bytes += text.bytes();
                }
                Output::Engine(_) => bill.commands += 1,
                _ => {}
            }
        }
        bill
    }

    fn input(&mut self, input: Input) -> Bill {
        self.bill(|room, now, wall_ms| room.handle(now, wall_ms, input))
    }

    /// Lets time pass; nobody hears pings in here.
    fn pass(&mut self, time: Duration) -> Bill {
        self.now += time;
        self.wall_ms += time.as_millis() as u64;
        self.bill(|room, now, wall_ms| room.handle_timeout(now, wall_ms))
    }

    fn join(&mut self) -> Bill {
        self.sockets += 1;
        let hello = Default::default();
        let claims = claims(None, "Somebody or other");
        self.input(Input::Hello { socket: SocketId(self.sockets), id: 1, hello, claims })
    }

    fn ask(&mut self, socket: u64, kind: &str, data: Value) -> Bill {
        self.requests += 1;
        let request = Request { id: 1 + self.requests, kind: kind.into(), data };
        self.input(Input::Request { socket: SocketId(socket), request })
    }

    fn publish(&mut self, socket: u64) -> Bill {
        let sdp = offer(socket, &[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
        self.ask(socket, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": sdp}))
    }

    fn leave(&mut self, socket: u64) -> Bill {
        self.ask(socket, "leave", json!({}))
    }

    /// The `n`th publisher is heard, alone.
    fn speaks(&mut self, n: u64) -> Bill {
        let speakers = vec![Speaker { track: TrackId(2 * n - 1), level: 30 }];
        self.input(Input::Engine(engine::Event::Speakers { room: RoomId(7), speakers }))
    }
}

/// What arrivals, departures and silence cost in a room of that many viewers.
fn costs(viewers: u64) -> Vec<usize> {
    let mut hall = Hall::full(viewers, false);
    let mut costs = vec![hall.join().messages];
    let last = hall.sockets;
    let slots = json!({"pc": "sub", "rev": 1, "sdp": slots_offer(1, 4, 4)});
    let filled = hall.ask(last, "negotiate", slots);
    costs.extend([filled.messages, filled.commands]);
    costs.push(hall.ask(last, "set", json!({"name": "Otto"})).messages);
    costs.push(hall.leave(last).messages);
    costs.push(hall.leave(last - 1).messages);
    costs
}

#[test]
fn an_arrival_and_a_departure_cost_the_same_in_a_room_of_any_size() {
    let (few, many) = (costs(200), costs(800));
    assert_eq!(few, many);
    assert_eq!(few, [2, 9, 9, 2, 1, 1], "the newcomer is answered, its eight slots filled; a name is told to oneself");
}

/// `cargo test --release -p exedra --lib -- --ignored --nocapture figures_of_a_big_room`
#[test]
#[ignore = "figures for people"]
fn figures_of_a_big_room() {
    for viewing in [false, true] {
        println!("viewers with a view: {viewing}");
        let mut hall = Hall::full(3000, viewing);
        println!("join      {:?}", hall.join());
        let last = hall.sockets;
        println!(
            "sub       {:?}",
            hall.ask(last, "negotiate", json!({"pc": "sub", "rev": 1, "sdp": slots_offer(1, 4, 4)}))
        );
        println!("hand      {:?}", hall.ask(last, "set", json!({"attributes": {"hand": true}})));
        println!("say       {:?}", hall.ask(last, "say", json!({"topic": "chat", "body": "Hello"})));
        println!("leave     {:?}", hall.leave(last));
        println!("leave     {:?}", hall.leave(last - 1));
        println!("joins     {:?}", (0..100).map(|_| hall.join().time).sum::<Duration>() / 100);
        for n in [1, 2, 9, 9, 2] {
            println!("speaks {n}  {:?}", hall.speaks(n));
            println!("  after   {:?}", hall.pass(Duration::from_millis(300)));
            println!("  again   {:?}", hall.speaks(n));
        }
        println!("publish   {:?}", hall.publish(50));
        println!("leave     {:?}", hall.leave(3));
    }
}
