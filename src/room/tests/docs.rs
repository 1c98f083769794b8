//! `docs/API.md` tells the truth: each example is a message, and each message is there.
use crate::room::messages::{
    self as msg, Answer, Event, Heartbeat, Hello, Negotiate, Negotiated, Nothing, Request, Say, Set, SetTrack, Stats,
    View, Welcome,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DOCS: &str = include_str!("../../../docs/API.md");

fn examples() -> Vec<Value> {
    let blocks = DOCS.split("```json\n").skip(1).map(|b| b.split("```").next().unwrap_or_default());
    let values =
        |b| serde_json::Deserializer::from_str(b).into_iter().map(move |v| v.unwrap_or_else(|e| panic!("{e} in {b}")));
    blocks.flat_map(values).collect()
}

/// Everything that the example says, the type says too: no field is misspelt.
fn covers(typed: &Value, example: &Value) -> bool {
    match (typed, example) {
        (Value::Object(typed), Value::Object(example)) => {
            example.iter().all(|(k, v)| typed.get(k).is_some_and(|t| covers(t, v)))
        }
        (Value::Array(typed), Value::Array(example)) => {
            typed.len() == example.len() && typed.iter().zip(example).all(|(t, e)| covers(t, e))
        }
        (Value::Number(typed), Value::Number(example)) => {
            (typed.as_f64().unwrap_or(0.0) - example.as_f64().unwrap_or(1.0)).abs() < 1e-6
        }
        _ => typed == example,
    }
}

fn check<T: DeserializeOwned + Serialize>(example: &Value) {
    let read: T = msg::parse(example.clone()).unwrap_or_else(|e| panic!("{}: {example}", e.message));
    let typed = serde_json::to_value(read).expect("JSON");
    assert!(covers(&typed, example), "{example}\nis read as\n{typed}");
}

fn check_request(kind: &str, data: &Value) {
    match kind {
        "hello" => check::<Hello>(data),
        "negotiate" => check::<Negotiate>(data),
        "candidate" => check::<msg::Candidate>(data),
        "view" => check::<View>(data),
        "track" => check::<SetTrack>(data),
        "set" => check::<Set>(data),
        "say" => check::<Say>(data),
        "participants" => check::<msg::ParticipantsAfter>(data),
        "stats" | "leave" => check::<Nothing>(data),
        "moderate" => check::<msg::Moderate>(data),
        "record" => check::<msg::Record>(data),
        other => panic!("there is no request {other}"),
    }
}

fn check_answer(kind: &str, data: &Value) {
    match kind {
        "hello" => check::<Welcome>(data),
        "negotiate" => check::<Negotiated>(data),
        "say" => check::<msg::Said>(data),
        "participants" => check::<msg::ParticipantPage>(data),
        "stats" => check::<Stats>(data),
        "record" => check::<msg::Recording>(data),
        _ => check::<Nothing>(data),
    }
}

fn check_admin(which: &str, data: &Value) {
    match which {
        "rooms" => check::<msg::RoomList>(data),
        "room" => check::<msg::RoomReport>(data),
        "recording" => check::<msg::Recording>(data),
        "decisions" => check::<msg::Decisions>(data),
        other => panic!("operators cannot see {other}"),
    }
}

#[test]
fn every_example_is_a_message() {
    let mut asked: BTreeMap<u64, String> = BTreeMap::new();
    let examples = examples();
    assert!(examples.len() > 50, "{}", examples.len());
    for example in examples {
        if let Some(which) = example.get("admin").and_then(Value::as_str) {
            check_admin(which, &example["data"]);
        } else if example.get("ok").is_some() {
            check::<Answer>(&example);
            let kind = &asked[&example["id"].as_u64().expect("an id")];
            if example["ok"] == true {
                check_answer(kind, &example["data"]);
            }
        } else if let Some(id) = example["id"].as_u64() {
            check::<Request>(&example);
            let kind = example["type"].as_str().expect("a type");
            let data = example.get("data").cloned().unwrap_or(json!({}));
            check_request(kind, &data);
            asked.insert(id, kind.to_owned());
        } else if example.get("seq").is_some() {
            let mut event = example.clone();
            event.as_object_mut().expect("an object").remove("seq");
            check::<Event>(&event);
        } else {
            check::<Heartbeat>(&example);
        }
    }
}

/// All values of `const` and `enum` in a definition: the words that a client may see.
fn words(schema: &Value, into: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            into.extend(object.get("const").and_then(Value::as_str).map(str::to_owned));
            let listed = object.get("enum").and_then(Value::as_array).into_iter().flatten();
            into.extend(listed.filter_map(Value::as_str).map(str::to_owned));
            object.values().for_each(|v| words(v, into));
        }
        Value::Array(array) => array.iter().for_each(|v| words(v, into)),
        _ => {}
    }
}

#[test]
fn every_event_error_and_reason_is_in_the_reference() {
    let schema = msg::schema();
    let defs = &schema["$defs"];
    let mut all = Vec::new();
    for name in [
        "Event",
        "ErrorCode",
        "LeftWhy",
        "TrackStateKind",
        "Connection",
        "ByeAction",
        "Source",
        "Why",
        "QualityWhy",
        "Door",
        "Showing",
        "Keeping",
        "RecordingState",
        "RecordingWhy",
    ] {
        assert!(defs.get(name).is_some(), "{name}");
        words(&defs[name], &mut all);
    }
    assert!(all.len() > 40, "{all:?}");
    for word in all {
        let told = [format!("`{word}`"), format!("\"{word}\""), format!("## {word}"), format!(", {word}")];
        assert!(told.iter().any(|t| DOCS.contains(t)), "{word} is not in docs/API.md");
    }
}
