//! Identities that cross module borders. All are made by the server, are never reused within a process, and are cheap to copy.
use std::fmt;
use std::sync::Arc;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = ();
            /// The inverse of `Display`: the prefix, then a decimal number.
            fn from_str(s: &str) -> Result<Self, ()> {
                let digits = s.strip_prefix($prefix).ok_or(())?;
                // One spelling for each id: no sign, no leading zero.
                if digits.len() > 1 && digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(());
                }
                digits.parse().map(Self).map_err(|_| ())
            }
        }
    };
}

number_id!(/// A room. Written `r7`.
    RoomId, "r");
number_id!(/// A participant: the signalling identity. Written `p7`; this is what the room API shows.
    ParticipantId, "p");
number_id!(/// A peer: one transport association (ICE + DTLS + SRTP). A participant has at most two. Written `c7`.
    PeerId, "c");
number_id!(/// A published track. Written `t7`; this is what the room API shows.
    TrackId, "t");
number_id!(/// A recording of a room, while it runs. What is kept of it has a name of its own. Written `k7`.
    RecordingId, "k");

/// One thread of the media engine, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! label_id {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Arc<str>);
        impl $name {
            /// The longest label taken from a peer, in bytes.
            pub const MAX: usize = $max;
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<&str> for $name {
            type Error = InvalidLabel;
            fn try_from(s: &str) -> Result<Self, InvalidLabel> {
                let printable = s.bytes().all(|b| b.is_ascii_graphic());
                if s.is_empty() || s.len() > Self::MAX || !printable {
                    return Err(InvalidLabel);
                }
                Ok(Self(s.into()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label_id!(/// A media identification tag: names an m-line (RFC 8843 section 15). 1 to 32 printable ASCII bytes.
    Mid, 32);
label_id!(/// A restriction identifier: names a simulcast encoding (RFC 8851). 1 to 32 printable ASCII bytes.
    Rid, 32);

/// A `mid` or `rid` that is empty, too long, or not printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 32 printable ASCII characters")]
pub struct InvalidLabel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_written_and_nothing_else_does() {
        assert_eq!("p17".parse(), Ok(ParticipantId(17)));
        assert_eq!(ParticipantId(17).to_string(), "p17");
        for bad in ["", "p", "t17", "p+17", "p017", "p-1", "p17 ", "p99999999999999999999"] {
            assert_eq!(bad.parse::<ParticipantId>(), Err(()), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        assert!(Mid::try_from("0").is_ok());
        assert!(Mid::try_from("").is_err());
        assert!(Mid::try_from("a b").is_err());
        assert!(Mid::try_from("x".repeat(33).as_str()).is_err());
    }
}
