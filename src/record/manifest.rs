//! What a session's folder says of itself: `session.json`, and the lines of `events.jsonl`. [`schema`] is their JSON Schema.
//!
//! Times within the session are milliseconds since it began; `…AtMs` are milliseconds since the Unix epoch.
use super::depacketize::Size;
use crate::rtp::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the manifest that is written.
pub const VERSION: u32 = 1;

/// `session.json`. It is there from the start of a recording on, and is replaced as a whole when something of it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// 1. A reader should refuse what it does not know.
    pub version: u32,
    /// The recording's id, which is also the name of its folder.
    pub id: String,
    /// As its owner named it: for people, never for paths.
    pub room: String,
    pub started_at_ms: u64,
    /// Absent while it runs, and after a crash until it was healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    pub state: State,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// How a composite is to be arranged, if somebody said so at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    pub participants: Vec<Participant>,
    pub files: Vec<File>,
}

/// How a composite arranges pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Layout {
    /// All alike.
    #[default]
    Grid,
    /// The shared screen is large, else who speaks.
    Speaker,
}

/// Whether a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Its files grow; or, when it says why it `ended`, they are being closed and hashed.
    Recording,
    /// Its files are closed, and do not change any more.
    Complete,
    /// The server did not close it; a later start did.
    Healed,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// Somebody stopped it.
    Stopped,
    /// The last participant left, or the room was closed.
    RoomEnded,
    /// The server was shut down.
    Shutdown,
    /// The disk was full, or below the floor of free space.
    DiskFull,
    /// The disk refused to write.
    DiskError,
    /// The server died. What was written until then is there.
    Crash,
}

/// Somebody who was in the room while it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// As the room API writes it.
    pub id: String,
    /// As the participant named itself: for people, never for paths.
    pub name: String,
    /// Milliseconds since the session began; 0 for whoever was there before.
    pub joined_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// A file of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// In the session's folder.
    pub name: String,
    /// A participant's id.
    pub participant: String,
    pub content: Content,
    /// 1; more where a track changed its codec, and a new file had to be begun.
    pub part: u32,
    /// The file's zero, in milliseconds since the session began.
    pub start_ms: u64,
    /// Milliseconds. 0 while it grows.
    pub duration_ms: u64,
    pub tracks: Vec<Track>,
    pub gaps: Vec<Gap>,
    /// Further gaps that are not listed, because there are too many.
    #[serde(default)]
    pub more_gaps: u64,
    /// Absent where there are not both sound and picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub av_offset: Option<AvOffset>,
    /// Bytes. 0 while it grows.
    pub size: u64,
    /// Of the whole file, in lower-case hexadecimal. Absent while it grows, and until it was read once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// Camera and microphone.
    Camera,
    /// A screen, and its sound.
    Screen,
    /// A track of another source, alone.
    Other,
    /// All together, made afterwards.
    Composite,
}

/// A track of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// As the room API writes it.
    pub id: String,
    pub kind: Kind,
    /// `VP8`, `VP9`, `AV1`, `H264` or `opus`.
    pub codec: String,
    /// Of the first and the last frame, in milliseconds since the session began.
    pub first_ms: u64,
    pub last_ms: u64,
    pub frames: u64,
    pub keyframes: u64,
    /// Packets that never came.
    pub lost_packets: u64,
    /// The size of the pictures from this time on, at each change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeChange>,
}

/// From here on pictures have this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SizeChange {
    /// Milliseconds since the session began.
    pub at_ms: u64,
    #[serde(flatten)]
    pub size: Size,
}

/// A stretch in which a track is not there. Sound is silent in it; the picture stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    pub kind: Kind,
    /// Milliseconds since the session began: from the last frame before it to the first one after it.
    pub from_ms: u64,
    pub to_ms: u64,
    pub cause: GapCause,
    /// Packets that never came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub packets: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GapCause {
    Muted,
    /// Packets were lost on the way. Of a picture everything up to the next keyframe is missing.
    Loss,
    /// The participant was away, or had stopped to publish.
    PublisherGone,
    /// The disk could not follow.
    Disk,
}

/// How far sound and picture are from where their clocks say, against each other. Positive: the sound is late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvOffset {
    /// Milliseconds.
    pub mean_ms: f64,
    /// Of the greatest of all, without its sign.
    pub max_ms: f64,
    /// It was measured so many times, about once a second.
    pub samples: u64,
}

/// A line of `events.jsonl`: what the room told its participants, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// Milliseconds since the session began.
    pub t_ms: u64,
    /// An event of the room API, for instance `participant.joined` or `message`.
    #[serde(rename = "type")]
    pub kind: String,
    pub data: serde_json::Value,
}

/// The JSON Schema (draft 2020-12) of both, each under `$defs`.
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let root = generator.subschema_for::<Session>();
    generator.subschema_for::<EventLine>();
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Exedra recording, version 1",
        "allOf": [root],
        "$defs": generator.take_definitions(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DOCS: &str = include_str!("../../docs/RECORDING.md");

    fn example() -> Value {
        let block = DOCS.split("```json\n").nth(1).and_then(|b| b.split("```").next()).expect("an example");
        serde_json::from_str(block).expect("JSON")
    }

    #[test]
    fn the_example_in_the_docs_is_a_manifest_and_names_every_field() {
        let session: Session = serde_json::from_value(example()).expect("a session");
        assert_eq!(serde_json::to_value(&session).unwrap(), example(), "what is in the example is in the type");
        let schema = schema();
        let defs = schema["$defs"].as_object().expect("definitions");
        let mut named = 0;
        for (name, def) in defs {
            let words = def["properties"].as_object().into_iter().flat_map(|p| p.keys().cloned());
            let choices = def["oneOf"].as_array().into_iter().flatten().filter_map(|c| c["const"].as_str());
            for word in words.chain(choices.map(str::to_owned)) {
                let told = [format!("\"{word}\""), format!("`{word}`")];
                assert!(told.iter().any(|t| DOCS.contains(t)), "{name}.{word} is not in docs/RECORDING.md");
                named += 1;
            }
        }
        assert!(named > 50, "{named}");
    }

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let published: Value = serde_json::from_str(include_str!("../../docs/recording.schema.json")).expect("JSON");
        let own = schema();
        assert!(
            published == own,
            "docs/recording.schema.json is to hold\n{}",
            serde_json::to_string_pretty(&own).unwrap()
        );
    }

    #[test]
    fn lines_of_events_are_flat() {
        let line = EventLine { t_ms: 1_500, kind: "message".into(), data: json!({"text": "hello"}) };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"tMs":1500,"type":"message","data":{"text":"hello"}}"#);
        assert_eq!(serde_json::from_str::<EventLine>(&text).unwrap(), line);
    }
}
