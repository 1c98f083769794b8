//! The pages and the client SDK, embedded in the binary (a debug build reads them from `web/` each time).
use super::problem::Problem;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::fmt::Write;

#[derive(RustEmbed)]
#[folder = "web/"]
#[allow_missing = true]
struct Web;

const INDEX: &str = "index.html";
const RECORDINGS: &str = "recordings/index.html";

/// `/` and `/r/{room}`: the page. What it shows, it finds in its own address.
pub(super) async fn index(request: Request) -> Response {
    serve(INDEX, &request)
}

/// `/recordings`: the page that lists and plays them.
pub(super) async fn recordings(request: Request) -> Response {
    serve(RECORDINGS, &request)
}

/// Any other file under `web/`.
pub(super) async fn file(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_found(request.uri()).into_response();
    }
    let path = request.uri().path().trim_start_matches('/').to_owned();
    serve(&path, &request)
}

fn serve(path: &str, request: &Request) -> Response {
    // Embedded names are plain; a debug build must not be led out of the folder, or to a hidden file.
    let plain = !path.split('/').any(|part| part.is_empty() || part.starts_with('.')) && !path.contains(['%', '\\']);
    let Some(file) = Web::get(path).filter(|_| plain) else { return not_found(request.uri()).into_response() };
    let etag = etag(&file);
    let headers = [(ETAG, etag.clone()), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if request.headers().get_all(IF_NONE_MATCH).iter().any(|v| v == etag || v == "*") {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let mime =
        HeaderValue::from_str(&mime(path, &file)).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    (headers, [(CONTENT_TYPE, mime)], Body::from(file.data.into_owned())).into_response()
}

fn not_found(uri: &Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

fn mime(path: &str, file: &EmbeddedFile) -> String {
    let kind = match path.rsplit_once('.') {
        // Browsers take a module only under a JavaScript type.
        Some((_, "js" | "mjs")) => "text/javascript",
        Some((_, "webmanifest")) => "application/manifest+json",
        _ => file.metadata.mimetype(),
    };
    if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

fn etag(file: &EmbeddedFile) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let hex = hash.iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a page may do: run our own modules, talk to this server, show media; nothing from elsewhere, and no inline code.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; media-src 'self' blob: mediastream:; worker-src 'self' blob:; \
    manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("permissions-policy", "camera=(self), microphone=(self), display-capture=(self), geolocation=()"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Adds the security headers to every answer that does not bring a stricter policy of its own.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY_HEADERS {
        let header = response.headers_mut().entry(HeaderName::from_static(name));
        header.or_insert(HeaderValue::from_static(value));
    }
    response
}
