//! Anything at any time, on any network; then it calms down, and everything must be as it should.
use crate::network::Conditions;
use crate::world::{Sim, ms, secs, seeds};
use loadtest::client::TrackConfig;
use loadtest::client::participant::Pc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const PEOPLE: usize = 4;

struct Chaos {
    sim: Sim,
    rng: StdRng,
    offline: [bool; PEOPLE],
    cut: [bool; PEOPLE],
    muted: [[bool; 2]; PEOPLE],
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let mut rng = StdRng::seed_from_u64(sim.seed);
        sim.conditions = conditions(&mut rng);
        for person in 0..PEOPLE {
            let camera = match person % 2 {
                0 => TrackConfig::camera(1_200),
                _ => TrackConfig::simulcast(&[("q", 300), ("f", 1_500)]),
            };
            let tracks = [TrackConfig::microphone(), camera];
            if person == 2 {
                sim.join_without_rtx(&tracks)
            } else {
                sim.join(&tracks)
            };
        }
        Self { sim, rng, offline: [false; PEOPLE], cut: [false; PEOPLE], muted: [[false; 2]; PEOPLE] }
    }

    fn act(&mut self) {
        let Self { sim, rng, offline, cut, muted } = self;
        let who = rng.random_range(0..PEOPLE);
        match rng.random_range(0..14) {
            0 | 1 => {
                let kind = rng.random_range(0..2);
                muted[who][kind] ^= true;
                sim.with(who, |p, _| p.mute(&kind.to_string(), muted[who][kind]));
            }
            2 => sim.move_client(who),
            3 => {
                let pc = Pc::BOTH[rng.random_range(0..2)];
                sim.with(who, |p, now| p.restart_ice(now, pc));
            }
            4 => {
                cut[who] = true;
                sim.close_socket(who);
            }
            5 => {
                cut[who] = false;
                sim.open_socket(who);
            }
            6 => {
                offline[who] ^= true;
                sim.set_offline(who, offline[who]);
            }
            7 | 8 => {
                let wanted: Vec<String> = sim.client(who).tracks.keys().filter(|_| rng.random()).cloned().collect();
                let tracks: serde_json::Map<_, _> =
                    wanted.into_iter().map(|t| (t, json!({"w": 640, "h": 360}))).collect();
                let last_n: u16 = rng.random_range(0..3);
                sim.with(who, |p, _| p.request("view", json!({"tracks": tracks, "lastN": last_n})));
            }
            9 => {
                let changed = conditions(rng);
                let client = &mut sim.clients[who];
                client.up.conditions = Conditions { offline: offline[who], ..changed };
                client.down.conditions = Conditions { offline: offline[who], ..changed };
            }
            10 => {
                let layers = [vec!["q"], vec!["f"], vec!["q", "f"]][rng.random_range(0..3)].clone();
                let layers: Vec<String> = layers.into_iter().map(str::to_owned).collect();
                sim.with(who, |p, _| {
                    if let Some(publisher) = &mut p.publisher {
                        publisher.set_made("1", &layers);
                    }
                });
            }
            11 => {
                let screen = TrackConfig::camera(2_500).source("screen").every(ms(200));
                if sim.client(who).settings.publish.len() < 5 {
                    sim.with(who, |p, now| p.publish(now, screen));
                }
            }
            12 => {
                let last = sim.client(who).settings.publish.len() - 1;
                if last > 1 {
                    sim.with(who, |p, now| p.unpublish(now, &last.to_string()));
                }
            }
            _ => sim.with(who, |p, _| p.request("say", json!({"topic": "chat", "body": "?"}))),
        }
    }

    /// All is well again with everybody.
    fn calm(&mut self) {
        for who in 0..PEOPLE {
            let client = &mut self.sim.clients[who];
            (client.up.conditions, client.down.conditions) = Default::default();
            if self.cut[who] {
                self.sim.open_socket(who);
            }
        }
        self.sim.run(secs(3));
        for who in 0..PEOPLE {
            for kind in 0..2 {
                self.sim.with(who, |p, _| p.mute(&kind.to_string(), false));
            }
            let all: Vec<String> = self.sim.client(who).tracks.keys().cloned().collect();
            let tracks: serde_json::Map<_, _> = all.into_iter().map(|t| (t, json!({"w": 640, "h": 360}))).collect();
            self.sim.with(who, |p, _| {
                if let Some(publisher) = &mut p.publisher {
                    publisher.set_made("1", &["q".to_owned(), "f".to_owned()]);
                }
                p.request("view", json!({"tracks": tracks, "lastN": 8}));
            });
        }
    }
}

fn conditions(rng: &mut StdRng) -> Conditions {
    Conditions {
        loss: [0.0, 0.02, 0.1][rng.random_range(0..3)],
        delay: ms(rng.random_range(1..100)),
        jitter: ms(rng.random_range(0..20)),
        duplicate: 0.02,
        reorder: 0.02,
        bandwidth: rng.random_bool(0.2).then_some(1_500_000),
        offline: false,
        ..Conditions::default()
    }
}

fn all_see_all(sim: &Sim) -> bool {
    let pairs = (0..PEOPLE).flat_map(|v| (0..PEOPLE).map(move |p| (v, p))).filter(|(v, p)| v != p);
    pairs.into_iter().all(|(viewer, publisher)| sim.sees(viewer, publisher, "1"))
}

#[test]
fn whatever_happens_it_comes_right() {
    for seed in seeds(600, 8) {
        let mut chaos = Chaos::new(seed);
        chaos.sim.run(ms(800));
        for _ in 0..60 {
            chaos.act();
            let pause = chaos.rng.random_range(0..1_200);
            chaos.sim.run(ms(pause));
        }
        chaos.calm();
        chaos.sim.run_until(secs(40), "everybody's picture", all_see_all);
        let since = chaos.sim.now + ms(1);
        chaos.sim.run(secs(3));
        chaos.sim.assert_no_freeze(since, ms(800));
        chaos.sim.assert_clean();
    }
}
