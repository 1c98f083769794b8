//! People who come, talk, and go.
use crate::world::{Sim, ms, secs};
use loadtest::client::TrackConfig;

fn microphone_and_camera() -> [TrackConfig; 2] {
    [TrackConfig::microphone(), TrackConfig::camera(1_800)]
}

#[test]
fn two_people_hear_and_see_each_other() {
    let mut sim = Sim::new(1);
    sim.join_many(2, &microphone_and_camera());
    let took = sim.run_until(secs(2), "sound and picture", Sim::everybody_gets_everything);
    assert!(took < ms(500), "{took:?}");
    let since = sim.now;
    sim.run(secs(10));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(100));
    assert_eq!(sim.audio_gaps(), 0.0);
}
