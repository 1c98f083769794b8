//! Who may come in: JSON Web Tokens signed with HS256 (RFC 7519), or anybody where rooms are open.
use super::names::{RoomName, person_name};
use super::problem::Problem;
use crate::room::api::{Claims, Grants};
use crate::room::messages::{ApiError, ErrorCode};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far the clock of whoever signs may run ahead of ours before `nbf` counts, in seconds.
const NOT_BEFORE_LEEWAY_S: u64 = 30;

/// The key that tokens are signed with. It never shows itself in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A token can be taken home and its key guessed offline, as fast as hardware allows: 16 bytes (128 bits, when
    /// random) are out of reach, a word or a name is not. RFC 7518 section 3.2 wishes for 32.
    pub const MIN_BYTES: usize = 16;

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is it: compared in a time that does not depend on where the difference is.
    pub fn is(&self, given: &str) -> bool {
        let difference = self.bytes().iter().zip(given.as_bytes()).fold(0, |d, (a, b)| d | (a ^ b));
        self.bytes().len() == given.len() && std::hint::black_box(difference) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret of at least 16 bytes is needed, because whoever holds a token can try out short secrets on it at \
     leisure. `openssl rand -base64 32` makes a good one"
)]
pub struct SecretTooShort;

impl TryFrom<&str> for Secret {
    type Error = SecretTooShort;
    fn try_from(s: &str) -> Result<Self, SecretTooShort> {
        if s.len() < Self::MIN_BYTES { Err(SecretTooShort) } else { Ok(Self(s.into())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The rule of the door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub secret: Option<Secret>,
    /// Without a token anybody may come in.
    pub open: bool,
    /// What they may do who come in without one.
    pub guests: Grants,
}

/// Somebody let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub room: RoomName,
    pub claims: Claims,
}

/// What a visitor says of itself. Everything in it is a wish, the token apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visitor<'a> {
    pub token: Option<&'a str>,
    pub room: Option<&'a str>,
    pub name: Option<&'a str>,
}

/// The claims of a token. Unknown claims are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    pub room: String,
    /// Stable identity. A second session with the same one replaces the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// What the bearer may do: `publish`, `subscribe`, `say`, `moderate`, `record`. Absent: the first three.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grants: Option<Vec<String>>,
    /// Unix seconds after which the token is of no use.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: u64,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional_numeric_date")]
    pub nbf: Option<u64>,
}

impl Access {
    /// Lets a visitor in, or says why not. `wall_ms`: Unix milliseconds.
    pub fn admit(&self, visitor: Visitor<'_>, wall_ms: u64) -> Result<Admitted, ApiError> {
        match (visitor.token, &self.secret) {
            (Some(token), Some(secret)) => admit_bearer(&verify(secret, token, wall_ms)?, visitor),
            (None, Some(_)) if !self.open => Err(unauthorized("a token is needed here")),
            (_, None) if !self.open => Err(unauthorized("this server is not set up to let anybody in")),
            _ => admit_guest(visitor, self.guests),
        }
    }
}

fn admit_guest(visitor: Visitor<'_>, grants: Grants) -> Result<Admitted, ApiError> {
    let room = visitor.room.ok_or_else(|| bad_request("`room` is missing"))?;
    let name = visitor.name.ok_or_else(|| bad_request("`name` is missing"))?;
    Ok(Admitted {
        room: RoomName::try_from(room).map_err(|e| bad_request(e.to_string()))?,
        claims: Claims {
            identity: None,
            name: person_name(name).map_err(|e| bad_request(e.to_string()))?,
            grants,
            expires_ms: None,
        },
    })
}

fn admit_bearer(token: &TokenClaims, visitor: Visitor<'_>) -> Result<Admitted, ApiError> {
    if visitor.room.is_some_and(|r| r != token.room) {
        return Err(error(ErrorCode::Forbidden, "the token is for another room"));
    }
    let room = RoomName::try_from(token.room.as_str()).map_err(|e| unauthorized(format!("the token's `room`: {e}")))?;
    let name = token.name.as_deref().or(visitor.name).or(token.sub.as_deref()).unwrap_or("Guest");
    let name = person_name(name).map_err(|e| bad_request(e.to_string()))?;
    if let Some(sub) = &token.sub {
        person_name(sub).map_err(|_| unauthorized("the token's `sub` is not 1 to 64 printable characters"))?;
    }
    Ok(Admitted {
        room,
        claims: Claims {
            identity: token.sub.clone(),
            name,
            grants: token.grants.as_deref().map_or_else(Grants::default, grants_of),
            expires_ms: Some(token.exp.saturating_mul(1000)),
        },
    })
}

/// Reads a token. The algorithm is ours to choose, never the token's (RFC 8725 section 3.1).
fn verify(secret: &Secret, token: &str, wall_ms: u64) -> Result<TokenClaims, ApiError> {
    let mut rules = Validation::new(Algorithm::HS256);
    // Times are checked below, against the clock that the caller gives, and in words that help.
    rules.validate_exp = false;
    rules.required_spec_claims.clear();
    rules.validate_aud = false;
    let key = DecodingKey::from_secret(secret.bytes());
    let claims =
        jsonwebtoken::decode::<TokenClaims>(token, &key, &rules).map_err(|e| unauthorized(explain(&e)))?.claims;

    let now = wall_ms / 1000;
    if claims.exp <= now {
        return Err(unauthorized(format!("the token expired {} ago", span(now - claims.exp))));
    }
    match claims.nbf {
        Some(nbf) if nbf > now + NOT_BEFORE_LEEWAY_S => {
            Err(unauthorized(format!("the token is not valid yet, but in {}", span(nbf - now))))
        }
        _ => Ok(claims),
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|v| v.split_once(' ')).filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    match token {
        Some((_, token)) => Ok(Some(token.trim())),
        None => Err(Problem::unauthorized("Authorization has to be `Bearer` and a token", true)),
    }
}

/// Whether it has the form of a token for a room, whoever signed it.
pub(super) fn is_token(text: &str) -> bool {
    jsonwebtoken::decode_header(text).is_ok()
}

/// Signs a token.
pub fn sign(secret: &Secret, claims: &TokenClaims) -> Result<String, String> {
    let key = EncodingKey::from_secret(secret.bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(|e| e.to_string())
}

/// The grants that a token may name, in the order of [`Grants`].
pub const GRANT_NAMES: [&str; 5] = ["publish", "subscribe", "say", "moderate", "record"];

/// A name that is not known grants nothing.
pub fn grants_of(names: &[String]) -> Grants {
    let has = |name: &str| names.iter().any(|n| n == name);
    Grants {
        publish: has("publish"),
        subscribe: has("subscribe"),
        say: has("say"),
        moderate: has("moderate"),
        record: has("record"),
    }
}

fn explain(e: &jsonwebtoken::errors::Error) -> String {
    match e.kind() {
        ErrorKind::InvalidSignature => "the token is signed with another secret".into(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is not signed with HS256, the one algorithm taken here".into()
        }
        ErrorKind::Json(e) => format!("the token's claims: {e}"),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no `{claim}`"),
        _ => "this is not a JSON Web Token".into(),
    }
}

/// Seconds in words: `35 s`, `4 min`, `3 h`, `12 days`.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A NumericDate may have a fraction (RFC 7519 section 2).
fn numeric_date<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(d)?;
    if seconds.is_finite() && seconds >= 0.0 {
        Ok(seconds as u64)
    } else {
        Err(serde::de::Error::custom("a time is a number of seconds since 1970"))
    }
}

fn optional_numeric_date<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    numeric_date(d).map(Some)
}

fn error(code: ErrorCode, message: impl Into<String>) -> ApiError {
    ApiError { code, message: message.into(), retryable: false, retry_after_ms: 0 }
}

fn unauthorized(message: impl Into<String>) -> ApiError {
    error(ErrorCode::Unauthorized, message)
}

fn bad_request(message: impl Into<String>) -> ApiError {
    error(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const NOW: u64 = NOW_MS / 1000;

    fn secret() -> Secret {
        Secret::try_from("0123456789abcdef").unwrap()
    }

    fn claims() -> TokenClaims {
        TokenClaims {
            room: "stand-up".into(),
            sub: Some("ada".into()),
            name: None,
            grants: None,
            exp: NOW + 60,
            nbf: None,
        }
    }

    fn admit(access: &Access, token: &str) -> Result<Admitted, ApiError> {
        access.admit(Visitor { token: Some(token), ..Visitor::default() }, NOW_MS)
    }

    fn closed() -> Access {
        Access { secret: Some(secret()), ..Access::default() }
    }

    #[test]
    fn a_good_token_lets_its_bearer_in() {
        let token = sign(&secret(), &TokenClaims { grants: Some(vec!["subscribe".into(), "fly".into()]), ..claims() });
        let let_in = admit(&closed(), &token.unwrap()).unwrap();
        assert_eq!(let_in.room.as_str(), "stand-up");
        assert_eq!(let_in.claims.identity.as_deref(), Some("ada"));
        assert_eq!(let_in.claims.name, "ada");
        let only = Grants { publish: false, subscribe: true, say: false, moderate: false, record: false };
        assert_eq!(let_in.claims.grants, only);
        assert_eq!(let_in.claims.expires_ms, Some((NOW + 60) * 1000));
    }

    #[test]
    fn times_are_told_in_words() {
        let words = |c: TokenClaims| admit(&closed(), &sign(&secret(), &c).unwrap()).unwrap_err().message;
        assert_eq!(words(TokenClaims { exp: NOW - 35, ..claims() }), "the token expired 35 s ago");
        assert_eq!(words(TokenClaims { exp: NOW - 7200, ..claims() }), "the token expired 2 h ago");
        assert_eq!(words(TokenClaims { nbf: Some(NOW + 90), ..claims() }), "the token is not valid yet, but in 90 s");
        let slightly_early = TokenClaims { nbf: Some(NOW + 20), ..claims() };
        assert!(admit(&closed(), &sign(&secret(), &slightly_early).unwrap()).is_ok());
    }

    #[test]
    fn forgeries_are_refused() {
        let other = Secret::try_from("another secret, quite another").unwrap();
        let unauthorized = |token: &str| {
            let e = admit(&closed(), token).unwrap_err();
            assert_eq!(e.code, ErrorCode::Unauthorized, "{token}");
            e.message
        };
        assert_eq!(unauthorized(&sign(&other, &claims()).unwrap()), "the token is signed with another secret");
        // alg none, with an empty signature; then HS512 under the right key.
        let none = "eyJhbGciOiJub25lIn0.eyJyb29tIjoiYSIsImV4cCI6MTkwMDAwMDAwMH0.";
        unauthorized(none);
        let key = EncodingKey::from_secret(secret().bytes());
        let hs512 = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims(), &key).unwrap();
        assert!(unauthorized(&hs512).contains("HS256"));
        // No expiry.
        let forever = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &serde_json::json!({"room": "a"}), &key);
        assert!(unauthorized(&forever.unwrap()).contains("`exp`"));
        for garbage in ["", ".", "..", "a.b.c", "eyJ", "\u{1F600}"] {
            unauthorized(garbage);
        }
    }

    #[test]
    fn a_token_opens_one_room_only() {
        let token = sign(&secret(), &claims()).unwrap();
        let visitor = Visitor { token: Some(&token), room: Some("other"), name: None };
        assert_eq!(closed().admit(visitor, NOW_MS).unwrap_err().code, ErrorCode::Forbidden);
    }

    #[test]
    fn guests_come_in_only_where_it_is_open() {
        let guest = Visitor { token: None, room: Some("a"), name: Some("Bo") };
        assert_eq!(closed().admit(guest, NOW_MS).unwrap_err().code, ErrorCode::Unauthorized);
        assert_eq!(Access::default().admit(guest, NOW_MS).unwrap_err().code, ErrorCode::Unauthorized);
        let open = Access { open: true, ..Access::default() };
        assert_eq!(open.admit(guest, NOW_MS).unwrap().claims.grants, Grants::default());
        let nameless = Visitor { name: None, ..guest };
        assert_eq!(open.admit(nameless, NOW_MS).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn a_secret_hides_itself_and_is_not_short() {
        assert!(Secret::try_from("fifteen bytes !").is_err());
        assert!(!format!("{:?}", closed()).contains("0123456789"));
    }
}
