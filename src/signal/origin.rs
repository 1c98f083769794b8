//! Which web pages may talk to this server: CORS for HTTP, the `Origin` header for the room socket.
//!
//! Credentials never are cookies, so a foreign page can do no more than a foreign program could: the default is any origin.
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_MATCH,
    IF_RANGE, LINK, LOCATION, ORIGIN, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, Method};
use std::time::Duration;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
pub const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The origins whose pages may use this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    #[default]
    Any,
    /// This server's own pages may always.
    Only(Vec<Origin>),
}

/// One origin as browsers write it: `https://meet.example.org`, with the port where it is not the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an origin such as https://meet.example.org (no path, no slash at the end)")]
pub struct InvalidOrigin;

impl TryFrom<&str> for Origin {
    type Error = InvalidOrigin;
    fn try_from(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, host) = text.split_once("://").ok_or(InvalidOrigin)?;
        let plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@*".contains(&b);
        if !["http", "https"].contains(&scheme) || host.is_empty() || !host.bytes().all(plain) {
            return Err(InvalidOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| InvalidOrigin)
    }
}

/// Whether the page that a WebSocket comes from may join. Who sends no `Origin` is no page.
pub fn allowed(origins: &Origins, headers: &HeaderMap) -> bool {
    let (Origins::Only(list), Some(origin)) = (origins, headers.get(ORIGIN)) else { return true };
    list.iter().any(|o| o.0 == origin) || is_own(origin, headers.get(HOST))
}

/// Whether the page came from this very server: its origin is the host that the request went to.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else { return false };
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Cross-origin requests (Fetch standard, section 3.3), as a WHIP client in a page needs them.
pub fn cors(origins: &Origins) -> CorsLayer {
    let allow = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(list) => AllowOrigin::list(list.iter().map(|o| o.0.clone())),
    };
    CorsLayer::new()
        .allow_origin(allow)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, ACCEPT, RANGE, IF_RANGE])
        .expose_headers([
            LOCATION,
            ETAG,
            LINK,
            ACCEPT_PATCH,
            ACCEPT_POST,
            WWW_AUTHENTICATE,
            RETRY_AFTER,
            CONTENT_RANGE,
            ACCEPT_RANGES,
        ])
        .max_age(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for good in ["https://meet.example.org", "http://localhost:5173", "https://[2001:db8::1]:8443"] {
            assert!(Origin::try_from(good).is_ok(), "{good}");
        }
        for bad in
            ["", "*", "meet.example.org", "https://", "https://a.example/", "https://A.example", "ftp://a.example"]
        {
            assert!(Origin::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listed_and_own_pages_may() {
        let only = Origins::Only(vec![Origin::try_from("https://meet.example.org").unwrap()]);
        let allowed = |origins: &Origins, origin: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("sfu.example.org:8080"))]);
            headers.extend(origin.map(|o| (ORIGIN, HeaderValue::from_static(o))));
            allowed(origins, &headers)
        };
        assert!(allowed(&Origins::Any, Some("https://evil.example")));
        assert!(allowed(&only, None));
        assert!(allowed(&only, Some("https://meet.example.org")));
        assert!(allowed(&only, Some("http://sfu.example.org:8080")));
        for stranger in
            ["https://evil.example", "null", "https://sfu.example.org", "https://meet.example.org.evil.example"]
        {
            assert!(!allowed(&only, Some(stranger)), "{stranger}");
        }
    }
}
