//! Which web pages may talk to this server: CORS for HTTP, the `Origin` header for the room socket.
//!
//! Credentials never are cookies, so a foreign page can do no more than a foreign program could: the default is any origin.
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_MATCH, LINK, LOCATION, ORIGIN,
    RETRY_AFTER, WWW_AUTHENTICATE,
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
    /// As a browser writes them: `https://meet.example.org`. This server's own pages may always.
    Only(Vec<HeaderValue>),
}

/// Whether the page that a WebSocket comes from may join. Who sends no `Origin` is no page.
pub fn allowed(origins: &Origins, headers: &HeaderMap) -> bool {
    let (Origins::Only(list), Some(origin)) = (origins, headers.get(ORIGIN)) else { return true };
    list.contains(origin) || is_own(origin, headers.get(HOST))
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
        Origins::Only(list) => AllowOrigin::list(list.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(allow)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, ACCEPT])
        .expose_headers([LOCATION, ETAG, LINK, ACCEPT_PATCH, ACCEPT_POST, WWW_AUTHENTICATE, RETRY_AFTER])
        .max_age(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_and_own_pages_may() {
        let only = Origins::Only(vec![HeaderValue::from_static("https://meet.example.org")]);
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
