//! Any text as a frame of the room socket: the envelope, and the data of every kind of request.
#![no_main]
use exedra::room::messages::{
    self, Candidate, Hello, Moderate, Negotiate, Nothing, ParticipantsAfter, Record, Say, Set, SetTrack, View,
};
use exedra::signal::frame::{self, Frame};
use exedra::signal::names::{RoomName, person_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = RoomName::try_from(text);
    let _ = person_name(text);
    let Ok(Frame::Request(request)) = frame::parse(text) else { return };
    let data = || request.data.clone();
    let _ = frame::hello(data());
    let _ = messages::parse::<Hello>(data());
    let _ = messages::parse::<Negotiate>(data());
    let _ = messages::parse::<Candidate>(data());
    let _ = messages::parse::<SetTrack>(data());
    let _ = messages::parse::<View>(data());
    let _ = messages::parse::<Set>(data());
    let _ = messages::parse::<Say>(data());
    let _ = messages::parse::<ParticipantsAfter>(data());
    let _ = messages::parse::<Moderate>(data());
    let _ = messages::parse::<Record>(data());
    let _ = messages::parse::<Nothing>(data());
});
