use super::*;
use proptest::prelude::*;

/// A camera with three encodings of two temporal layers, as Chromium sends it at 1280x720.
fn camera() -> Vec<Layer> {
    [(0, 320, 180, 150_000), (1, 640, 360, 500_000), (2, 1_280, 720, 2_500_000)]
        .into_iter()
        .flat_map(encoding)
        .collect()
}

fn encoding((encoding, width, height, bps): (u8, u16, u16, u32)) -> [Layer; 2] {
    let top = Layer { encoding, spatial: 0, temporal: 1, fps: 30, width, height, bps };
    [Layer { temporal: 0, fps: 15, bps: bps / 5 * 3, ..top }, top]
}

/// One subscriber, as the engine would have it: it remembers from call to call what was chosen.
#[derive(Clone, Debug, Default)]
struct World {
    layers: Vec<Layer>,
    slots: Vec<Slot>,
    path: Path,
    now_ms: u64,
    outcome: Outcome,
}

impl World {
    fn new(slots: impl IntoIterator<Item = (Wish, Vec<Layer>)>) -> Self {
        let mut world = Self::default();
        for (wish, layers) in slots {
            let slot = Slot { wish, first: world.layers.len() as u16, count: layers.len() as u8, ..Slot::default() };
            world.slots.push(slot);
            world.layers.extend(layers);
        }
        world
    }

    fn run(&mut self, budget: u64) -> Vec<Choice> {
        self.path.budget_bps = Some(budget);
        let mut scratch = Scratch::default();
        self.outcome = allocate(self.now_ms, &self.path, &self.slots, &self.layers, &mut scratch);
        self.path.calm = self.outcome.calm;
        for (slot, choice) in self.slots.iter_mut().zip(scratch.choices()) {
            (slot.current, slot.memory) = (choice.layer, choice.memory);
        }
        scratch.choices().to_vec()
    }

    /// As [`run`](Self::run), and time goes on: a second for each budget. What was chosen at the end.
    fn follow(&mut self, budget: u64, seconds: u64) -> Vec<u32> {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            self.run(budget);
        }
        self.rates()
    }

    fn rates(&self) -> Vec<u32> {
        self.slots.iter().map(|slot| self.rate(slot)).collect()
    }

    fn rate(&self, slot: &Slot) -> u32 {
        slot.current.map_or(0, |at| self.layers[usize::from(slot.first) + usize::from(at)].bps)
    }
}

fn sized(width: u16, height: u16) -> Wish {
    Wish { width, height, ..Wish::default() }
}

fn rates(budget: u64, slots: impl IntoIterator<Item = (Wish, Vec<Layer>)>) -> Vec<u32> {
    let mut world = World::new(slots);
    world.run(budget);
    world.rates()
}

const PLENTY: u64 = 100_000_000;

#[test]
fn nothing_larger_than_it_is_shown() {
    for (wish, expected) in [
        (sized(160, 90), 150_000),
        (sized(320, 180), 150_000),
        (sized(360, 200), 150_000),
        (sized(400, 225), 500_000),
        (sized(640, 640), 500_000), // A square place for it: 640 wide is all that is seen of it.
        (sized(1_280, 720), 2_500_000),
        (sized(3_840, 2_160), 2_500_000),
        (sized(0, 0), 2_500_000),
        (Wish { fps: 15, ..sized(640, 360) }, 300_000),
        (Wish { fps: 20, ..sized(640, 360) }, 500_000),
        (Wish { fps: 1, ..sized(0, 0) }, 1_500_000),
    ] {
        assert_eq!(rates(PLENTY, [(wish, camera())]), [expected], "{wish:?}");
    }
}

#[test]
fn sizes_that_are_not_known_are_told_by_bit_rate() {
    let unknown: Vec<Layer> = camera().into_iter().map(|l| Layer { width: 0, height: 0, fps: 0, ..l }).rev().collect();
    for (budget, expected) in [
        (PLENTY, 2_500_000),
        (2_000_000, 1_500_000),
        (1_000_000, 500_000),
        (400_000, 300_000),
        (110_000, 90_000),
        (50_000, 0),
    ] {
        assert_eq!(rates(budget, [(sized(160, 90), unknown.clone())]), [expected], "{budget}");
    }
}

#[test]
fn a_screen_keeps_its_size_and_a_camera_its_motion() {
    let slow: Vec<Layer> = [(0, 640, 360, 200_000), (1, 1_920, 1_080, 1_200_000)]
        .into_iter()
        .flat_map(|(encoding, width, height, bps): (u8, u16, u16, u32)| {
            let layer = |temporal: u8| Layer {
                encoding,
                spatial: 0,
                temporal,
                fps: 30 >> (2 - temporal),
                width,
                height,
                bps: bps / 10 * [4, 6, 10][usize::from(temporal)],
            };
            [layer(0), layer(1), layer(2)]
        })
        .collect();
    let screen = Wish { screen: true, ..Wish::default() };
    assert_eq!(rates(560_000, [(screen, slow.clone())]), [480_000], "all pixels, a quarter of the frames");
    assert_eq!(rates(560_000, [(Wish::default(), slow.clone())]), [480_000], "nine times the pixels are worth it");
    let mut half = slow;
    half.iter_mut().filter(|l| l.encoding == 1).for_each(|l| (l.width, l.height) = (1_280, 720));
    assert_eq!(rates(560_000, [(screen, half.clone())]), [480_000]);
    assert_eq!(rates(560_000, [(Wish::default(), half)]), [200_000], "four times are not");
}

#[test]
fn a_small_picture_for_everybody_first() {
    let nine = || (0..9).map(|_| (sized(640, 360), camera()));
    assert_eq!(rates(9 * 150_000 * 12 / 10, nine()), [150_000; 9]);
    let few = rates(700_000, nine());
    assert_eq!(few.iter().filter(|bps| **bps > 0).count(), 7, "{few:?}");
    let stage = Wish { stage: true, ..sized(1_280, 720) };
    let with_stage = || std::iter::once((stage, camera())).chain((0..4).map(|_| (sized(320, 180), camera())));
    assert_eq!(rates(PLENTY, with_stage()), [2_500_000, 150_000, 150_000, 150_000, 150_000]);
    assert_eq!(rates(3_200_000, with_stage()), [2_500_000, 150_000, 90_000, 90_000, 90_000]);
    assert_eq!(rates(3_000_000, with_stage()), [1_500_000, 150_000, 150_000, 150_000, 150_000], "no room to spare");
    assert_eq!(rates(1_000_000, with_stage()), [500_000, 150_000, 90_000, 90_000, 90_000]);
}

#[test]
fn priorities_come_before_sizes() {
    let high = Wish { priority: 5, ..sized(640, 360) };
    let low = sized(1_280, 720);
    assert_eq!(rates(900_000, [(low, camera()), (high, camera())]), [300_000, 500_000]);
    let result = rates(100_000, [(low, camera()), (high, camera())]);
    assert_eq!(result, [0, 90_000], "what does not fit is paused");
    let stage = Wish { stage: true, priority: -5, ..low };
    assert_eq!(rates(100_000, [(stage, camera()), (high, camera())]), [90_000, 0], "the stage before all");
}

#[test]
fn what_is_missing_is_said() {
    let mut world = World::new([(sized(1_280, 720), camera()), (sized(160, 90), camera())]);
    world.path.audio_bps = 64_000;
    let choices = world.run(1_000_000);
    assert_eq!((choices[0].limit, choices[1].limit), (Limit::Bandwidth, Limit::View));
    assert_eq!((choices[0].need_bps, choices[0].have_bps), (1_500_000, 1_000_000 - 64_000 - 150_000));
    assert_eq!(world.outcome.allocated_bps, 64_000 + 150_000 + 500_000);
    assert_eq!(world.outcome.wanted_bps, 64_000 + 150_000 + 2_500_000);
    assert_eq!(world.outcome.next_bps, 64_000 + 1_793_478, "a step up needs room to spare");
    assert_eq!(world.run(PLENTY)[0].limit, Limit::Publisher);
    let nothing = World::new([(Wish::default(), vec![])]).run(PLENTY)[0];
    assert_eq!((nothing.layer, nothing.limit, nothing.memory.fresh), (None, Limit::Publisher, true));
}

#[test]
fn of_an_untested_path_something_is_asked() {
    let single = || vec![Layer { bps: 2_000_000, ..camera()[5] }];
    let mut world = World::new([(sized(320, 180), single()), (sized(1_280, 720), single())]);
    world.path.untested = true;
    assert_eq!(world.follow(600_000, 2), [0, 2_000_000]);
    assert!(world.outcome.wanted_bps > world.outcome.allocated_bps);
    world.path.untested = false;
    assert_eq!(world.follow(600_000, 1), [0, 0]);
}

#[test]
fn a_drop_is_followed_at_once_and_comes_back_by_itself() {
    let mut world = World::new([(sized(1_280, 720), camera())]);
    assert_eq!(world.follow(4_000_000, 1), [2_500_000]);
    world.now_ms += 10;
    world.run(600_000);
    assert_eq!(world.rates(), [500_000]);
    world.now_ms += 10;
    assert!(world.run(60_000)[0].memory.paused);
    assert_eq!(world.rates(), [0]);
    assert_eq!(world.follow(80_000, 5), [0], "ten seconds of rest");
    assert_eq!(world.follow(4_000_000, 1), [2_500_000], "but not on a much wider path");
    world.now_ms += 60_000;
    assert_eq!(world.follow(2_000_000, 1), [1_500_000]);
    assert_eq!(world.follow(2_900_000, 9), [1_500_000], "ten seconds again");
    assert_eq!(world.follow(2_900_000, 2), [2_500_000]);
}

#[test]
fn a_little_too_much_is_borne_for_a_while() {
    let mut world = World::new([(sized(1_280, 720), camera())]);
    world.follow(4_000_000, 1);
    assert_eq!(world.follow(2_400_000, 30), [2_500_000], "within the tolerance");
    world.now_ms += 500;
    world.run(2_300_000);
    assert_eq!(world.rates(), [2_500_000]);
    assert_eq!(world.outcome.again_at, Some(world.now_ms + BEAR_MS));
    assert_eq!(world.follow(2_300_000, 2), [1_500_000]);
    assert_eq!(world.follow(80_000, 9), [90_000], "a picture that just does not fit is better than none");
    assert_eq!(world.follow(70_000, 3), [0]);
    assert_eq!(world.follow(92_000, 60), [0], "no room to spare");
    assert_eq!(world.follow(100_000, 2), [90_000]);
}

#[test]
fn a_step_up_that_was_a_mistake_is_tried_again_later_and_later() {
    let mut world = World::new([(sized(1_280, 720), camera())]);
    let mut waits = vec![];
    assert_eq!(world.follow(800_000, 1), [500_000]);
    for _ in 0..5 {
        let before = world.now_ms;
        while world.rates() == [500_000] {
            world.follow(1_700_000, 1);
        }
        waits.push((world.now_ms - before) / 1_000);
        world.follow(1_700_000, 2);
        assert_eq!(world.follow(800_000, 1), [500_000]);
    }
    assert_eq!(waits, [1, 20, 40, 40, 40]);
    assert_eq!(world.follow(1_700_000, 20), [500_000]);
    world.follow(4_000_000, 6);
    assert_eq!(world.rates(), [2_500_000], "a path that is another one is not held against what was tried before");
}

#[test]
fn what_the_viewer_changes_is_followed_at_once() {
    let mut world = World::new([(sized(1_280, 720), camera()), (sized(320, 180), camera())]);
    assert_eq!(world.follow(3_000_000, 2), [2_500_000, 150_000]);
    for slot in &mut world.slots {
        (slot.wish.width, slot.wish.height) = (slot.wish.width ^ 1_280 ^ 320, slot.wish.height ^ 720 ^ 180);
        slot.memory.fresh = true;
    }
    world.now_ms += 1;
    world.run(3_000_000);
    assert_eq!(world.rates(), [150_000, 2_500_000]);
    // Where the viewer asks for less, nobody has to say that it is fresh.
    world.slots[1].wish.height = 100;
    world.slots[1].wish.width = 100;
    world.run(3_000_000);
    assert_eq!(world.rates(), [150_000, 150_000]);
}

#[test]
fn an_encoding_that_vanishes_is_replaced_at_once() {
    let mut world = World::new([(sized(1_280, 720), camera())]);
    world.follow(4_000_000, 1);
    let all = std::mem::take(&mut world.layers);
    world.layers = all[..4].to_vec();
    (world.slots[0].count, world.slots[0].current) = (4, None);
    world.now_ms += 1;
    world.run(400_000);
    assert_eq!(world.rates(), [300_000]);
    (world.layers, world.slots[0].count) = (all, 6);
    assert_eq!(world.follow(4_000_000, 2), [2_500_000], "and is back when it is");
}

/// A browser, busy with one more who has come: what that one sends is taken for much more than it is, and the estimate dips.
#[test]
fn who_made_room_for_a_newcomer_has_his_own_back_soon() {
    let slow = || encoding((0, 640, 360, 90_000)).to_vec();
    for dip in [500_000, 300_000, 120_000] {
        let mut world = World::new([(sized(320, 180), slow()), (sized(320, 180), slow()), (sized(320, 180), vec![])]);
        assert_eq!(world.follow(550_000, 4), [90_000, 90_000, 0]);
        world.slots[2].first = 4;
        world.slots[2].count = 1;
        world.layers.push(Layer { bps: 350_000, ..Layer::default() });
        world.now_ms += 10;
        world.run(dip);
        assert!(dip == 300_000 || world.rates()[..2] != [90_000; 2], "{dip}: nobody has to make room");
        // It is what the others are.
        world.layers.truncate(4);
        world.layers.extend(slow());
        world.slots[2].count = 2;
        world.now_ms += 100;
        world.run(dip);
        assert_eq!(world.follow(650_000, 4), [90_000, 90_000, 90_000], "{dip}");
    }
}

/// Rates and estimates wander by a twentieth, each by itself, and the budget is what the present choice needs, or the next one, or
/// something in between: how often does the picture change?
#[test]
fn noise_changes_nothing() {
    for (seed, budget) in (0..60).map(|n| (n, 400_000 + 50_000 * n)) {
        let mut noise = Noise(seed + 1);
        let wishes = [sized(1_280, 720), sized(640, 360), sized(320, 180)];
        let mut world = World::new(wishes.map(|wish| (wish, camera())));
        let true_rates: Vec<u32> = world.layers.iter().map(|l| l.bps).collect();
        let mut changes = [0; 3];
        for _ in 0..1_200 {
            world.now_ms += 500;
            for (layer, bps) in world.layers.iter_mut().zip(&true_rates) {
                layer.bps = noise.around(u64::from(*bps)) as u32;
            }
            let before: Vec<_> = world.slots.iter().map(|s| s.current).collect();
            world.run(noise.around(budget));
            for (n, slot) in world.slots.iter().enumerate() {
                changes[n] += u32::from(before[n].is_some() && slot.current != before[n]);
            }
        }
        let most = changes.into_iter().max().unwrap();
        assert!(most <= 10, "{budget} bit/s: {changes:?} changes in ten minutes");
    }
}

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Within five percent.
    fn around(&mut self, value: u64) -> u64 {
        value * (9_500 + self.next() % 1_001) / 10_000
    }
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let size = prop_oneof![Just((0, 0)), (1u16..2_000, 1u16..2_000)];
    (size, prop_oneof![Just(0u8), 1u8..60], -1..2i32, any::<bool>(), any::<bool>()).prop_map(
        |((width, height), fps, priority, stage, screen)| Wish { width, height, fps, priority, stage, screen },
    )
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let size = prop_oneof![Just((0, 0)), (1u16..2_000, 1u16..2_000)];
    (0u8..3, 0u8..3, 0u8..3, 0u8..61, size, 1u32..4_000_000).prop_map(
        |(encoding, spatial, temporal, fps, size, bps)| Layer {
            encoding,
            spatial,
            temporal,
            fps,
            width: size.0,
            height: size.1,
            bps,
        },
    )
}

fn any_world() -> impl Strategy<Value = World> {
    let slot = (any_wish(), prop_oneof![Just(camera()), prop::collection::vec(any_layer(), 0..10)]);
    prop::collection::vec(slot, 0..8).prop_map(World::new)
}

proptest! {
    #[test]
    fn the_sum_fits_and_everybody_has_a_picture_if_that_fits(mut world in any_world(), budget in 0u64..20_000_000) {
        let choices = world.run(budget);
        let sum: u64 = world.rates().into_iter().map(u64::from).sum();
        prop_assert_eq!(sum, world.outcome.allocated_bps);
        prop_assert!(sum <= budget);
        prop_assert!(world.outcome.wanted_bps >= sum && world.outcome.next_bps >= sum);
        let mut scratch = Scratch::default();
        ladder::build(&world.slots, &world.layers, &mut scratch);
        let smallest = scratch.sum(|w| w.count.min(1));
        if smallest <= budget {
            for (choice, work) in choices.iter().zip(&scratch.work) {
                prop_assert_eq!(choice.layer.is_some(), work.count > 0);
            }
        }
    }

    #[test]
    fn asked_again_it_says_the_same(mut world in any_world(), budgets in prop::collection::vec(0u64..20_000_000, 1..5), step in 0u64..20_000) {
        for budget in budgets {
            world.now_ms += step;
            world.run(budget);
            let (rates, slots) = (world.rates(), world.slots.clone());
            world.run(budget);
            prop_assert_eq!(rates, world.rates());
            let chosen = |slots: &[Slot]| slots.iter().map(|s| s.current).collect::<Vec<_>>();
            prop_assert_eq!(chosen(&slots), chosen(&world.slots));
        }
    }

    /// From the first class on: with more to share nobody in it has less, as long as all have something.
    #[test]
    fn more_bandwidth_is_never_worse(world in any_world(), budget in 0u64..10_000_000, more in 0u64..10_000_000) {
        let (mut before, mut after) = (world.clone(), world);
        let (few, many) = (before.run(budget), after.run(budget + more));
        prop_assume!(few.iter().zip(&before.slots).all(|(c, s)| c.layer.is_some() || s.count == 0));
        let mut scratch = Scratch::default();
        let mut rest = before.slots.clone();
        rest.iter_mut().for_each(|s| (s.memory, s.current) = (Memory::default(), None));
        ladder::build(&rest, &before.layers, &mut scratch);
        let best = before.slots.iter().map(|s| (s.wish.stage, s.wish.priority)).max();
        let level = |at: usize, choice: &Choice| {
            let work = &scratch.work[at];
            let ladder = &scratch.rungs[work.first as usize..][..usize::from(work.count)];
            choice.layer.and_then(|l| ladder.iter().position(|r| r.layer == l)).map_or(0, |l| l + 1)
        };
        for at in (0..rest.len()).filter(|at| Some((rest[*at].wish.stage, rest[*at].wish.priority)) == best) {
            prop_assert!(level(at, &many[at]) >= level(at, &few[at]), "slot {}", at);
        }
    }

    /// Nobody has more than his smallest layer while, with that, somebody of a higher class could take his next step.
    #[test]
    fn priorities_are_never_inverted(mut world in any_world(), budget in 0u64..10_000_000) {
        let choices = world.run(budget);
        let class = |s: &Slot| (s.wish.stage, s.wish.priority);
        let raised = (budget as f64 * RAISE_SHARE) as u64;
        let mut scratch = Scratch::default();
        let free: Vec<Slot> = world.slots.iter().map(|s| Slot { current: None, ..*s }).collect();
        ladder::build(&free, &world.layers, &mut scratch);
        let bps = |at: usize, level| scratch.bps(&scratch.work[at], level);
        for (at, slot) in free.iter().enumerate().filter(|(at, _)| choices[*at].layer.is_some()) {
            let now = u64::from(world.rate(&world.slots[at]));
            let next = (1..=scratch.work[at].count).map(|l| bps(at, l)).find(|b| *b > now);
            let Some(next) = next else { continue };
            let taken: u64 = (0..free.len())
                .filter(|n| choices[*n].layer.is_some())
                .map(|n| if class(&free[n]) < class(slot) { bps(n, 1) } else { world.rate(&world.slots[n]).into() })
                .sum();
            prop_assert!(taken + (next - now) > raised, "slot {} could have {}", at, next);
        }
    }

    /// Whatever is fed to it, out comes something sane.
    #[test]
    fn garbage_is_harmless(
        slots in prop::collection::vec((any_wish(), any::<u16>(), any::<u8>(), any::<Option<u8>>(), any::<(bool, bool, u64, u8)>()), 0..20),
        layers in prop::collection::vec(any_layer(), 0..40),
        budget in any::<Option<u64>>(),
        audio_bps in 0u64..1 << 50,
        now_ms in 0u64..1 << 50,
    ) {
        let slots: Vec<Slot> = slots.into_iter().map(|(wish, first, count, current, (fresh, paused, time, strikes))| {
            let time = time % (1 << 50);
            let memory = Memory { fresh, paused, fits_since: Some(time), raised_at: Some(time), no_raise_before: time, strikes: strikes % 3 };
            Slot { wish, first: first % 50, count, current, memory }
        }).collect();
        let mut scratch = Scratch::default();
        let path = Path { budget_bps: budget, audio_bps, untested: now_ms % 2 == 0, calm: Calm::default() };
        allocate(now_ms, &path, &slots, &layers, &mut scratch);
        prop_assert_eq!(scratch.choices().len(), slots.len());
        for (choice, slot) in scratch.choices().iter().zip(&slots) {
            prop_assert!(choice.layer.is_none_or(|l| l < slot.count));
        }
    }
}
