//! Names that people and their tokens give: bounded, and without characters that would forge a log line or a URL.
use std::fmt;
use std::sync::Arc;

/// A room's name: 1 to 64 letters (of any script), digits and `-`, `_`, `.`, not beginning with a dot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RoomName(Arc<str>);

/// The longest name of a room or a person, in characters.
pub const MAX_CHARS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a room's name is 1 to 64 letters, digits, '-', '_' and '.', and does not begin with a dot")]
pub struct InvalidRoomName;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 64 characters, and none of them a control character")]
pub struct InvalidPersonName;

impl RoomName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for RoomName {
    type Error = InvalidRoomName;
    fn try_from(s: &str) -> Result<Self, InvalidRoomName> {
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=MAX_CHARS).contains(&s.chars().take(MAX_CHARS + 1).count());
        if fits && !s.starts_with('.') && s.chars().all(allowed) { Ok(Self(s.into())) } else { Err(InvalidRoomName) }
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's name as shown to others: white space around it is cut off.
pub fn person_name(s: &str) -> Result<String, InvalidPersonName> {
    let name = s.trim();
    let fits = (1..=MAX_CHARS).contains(&name.chars().take(MAX_CHARS + 1).count());
    if fits && !name.chars().any(|c| c.is_control() || is_bidi_control(c)) {
        Ok(name.into())
    } else {
        Err(InvalidPersonName)
    }
}

/// Marks that turn the direction of text around: with them a name could garble the line that it stands in (UAX #9).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names() {
        for good in ["a", "stand-up", "v1.2_b", "besprechung-größe", "会議室", &"x".repeat(64)] {
            assert!(RoomName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".git", "a b", "a/b", "a\nb", "a?b", "a%20b", "\u{202e}a", &"x".repeat(65)] {
            assert!(RoomName::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn person_names() {
        assert_eq!(person_name("  Ada Lovelace "), Ok("Ada Lovelace".into()));
        for bad in ["", "   ", "a\u{0}b", "a\nb", "\u{202e}evil", &"x".repeat(65)] {
            assert!(person_name(bad).is_err(), "{bad:?}");
        }
    }
}
