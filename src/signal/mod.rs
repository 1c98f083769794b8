//! Signalling over HTTP: the room socket, WHIP and WHEP, the pages, and what operators look at.
//!
//! `socket`, `whip` and `admin` are the doors; each checks who comes (`auth`) and hands letters to a room (`hub`). `driver` is the
//! task around one room.
mod addresses;
mod admin;
mod assets;
pub mod auth;
mod clock;
pub mod close;
mod driver;
pub mod frame;
pub mod hub;
mod listener;
pub mod metrics;
pub mod names;
pub mod origin;
pub mod outbox;
pub mod problem;
mod recordings;
mod socket;
#[cfg(test)]
mod tests;
mod whip;
pub mod ws;

pub use clock::wall_ms;
pub use socket::SUBPROTOCOL;

use crate::metrics::ShardMetrics;
use crate::room::api::HttpKind;
use addresses::Addresses;
use admin::Guesses;
use auth::{Access, Secret};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use hub::Hub;
use metrics::SignalMetrics;
use origin::{ACCEPT_POST, Origins};
use outbox::OutboxLimits;
use problem::Problem;
use recordings::Kept;
use std::any::Any;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

/// What signalling is set up with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub access: Access,
    /// Whoever has it may look at everything. None: nobody may.
    pub admin: Option<Secret>,
    pub cors: Origins,
    pub ice_servers: Vec<IceServer>,
    pub limits: Limits,
}

/// Bounds of signalling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame that a client may send, in bytes.
    pub frame_bytes: usize,
    /// The longest SDP taken over WHIP and WHEP, in bytes.
    pub sdp_bytes: usize,
    /// Open WebSockets.
    pub sockets: usize,
    /// Of those, from one address.
    pub sockets_per_address: usize,
    /// TCP connections, those of WebSockets not counted once they are upgraded.
    pub connections: usize,
    /// What may wait for one WebSocket.
    pub outbox: OutboxLimits,
}

/// A STUN or TURN server that clients are told of.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl IceServer {
    /// As values of `Link` (RFC 9725 section 4.6).
    fn links(&self) -> impl Iterator<Item = String> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut parameters = String::from("rel=\"ice-server\"");
        if let (Some(username), Some(credential)) = (&self.username, &self.credential) {
            let (username, credential) = (quoted(username), quoted(credential));
            parameters +=
                &format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"");
        }
        self.urls.iter().map(move |url| format!("<{url}>; {parameters}"))
    }
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).field("username", &self.username).finish_non_exhaustive()
    }
}

/// What all handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Signal {
    settings: Arc<Settings>,
    hub: Hub,
    addresses: Arc<Addresses>,
    guesses: Arc<Guesses>,
    recordings: Option<Arc<Kept>>,
    shards: Arc<[Arc<ShardMetrics>]>,
}

impl Signal {
    /// `shards`: the counters of the media shards, for `/metrics`.
    pub fn new(settings: Settings, hub: Hub, shards: Vec<Arc<ShardMetrics>>) -> Self {
        let addresses = Arc::new(Addresses::new(settings.limits.sockets_per_address));
        let recordings = hub.recordings().root().map(|root| Arc::new(Kept::new(root.to_owned())));
        Self {
            settings: Arc::new(settings),
            hub,
            addresses,
            guesses: Arc::default(),
            recordings,
            shards: shards.into(),
        }
    }

    /// Serves HTTP until `stop` becomes true.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let connections = self.settings.limits.connections;
        listener::serve(listener, self.router(), connections, stop).await;
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn access(&self) -> &Access {
        &self.settings.access
    }

    fn metrics(&self) -> &Arc<SignalMetrics> {
        self.hub.metrics()
    }

    fn router(self) -> Router {
        Router::new()
            .route("/v1/room", get(socket::upgrade))
            .merge(whip::routes(HttpKind::Whip))
            .merge(whip::routes(HttpKind::Whep))
            .merge(admin::routes())
            .merge(recordings::routes())
            .route("/v1/schema.json", get(schema))
            .route("/v1/{*rest}", any(unknown))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(prometheus))
            .route("/", get(assets::index))
            .route("/r/{room}", get(assets::index))
            .route("/recordings", get(assets::recordings))
            .fallback(assets::file)
            .method_not_allowed_fallback(wrong_method)
            .layer(map_response(problem::unify))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(origin::cors(&self.settings.cors))
            .layer(from_fn(announce))
            .layer(from_fn(assets::secure))
            .layer(from_fn_with_state(self.clone(), count))
            .with_state(self)
    }
}

/// The process runs and answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 503 as soon as the server drains: nobody new is to be sent here.
async fn readyz(State(signal): State<Signal>) -> Response {
    if signal.hub.is_draining() {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is draining").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn prometheus(State(signal): State<Signal>) -> Response {
    let (rooms, participants) = signal.hub.population();
    let shards: Vec<&ShardMetrics> = signal.shards.iter().map(AsRef::as_ref).collect();
    let text = metrics::render(signal.metrics(), signal.hub.recordings().metrics(), &shards, rooms, participants);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The room API's messages as JSON Schema.
async fn schema() -> Response {
    Json(crate::room::messages::schema()).into_response()
}

async fn unknown(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("the API has no {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} is not something to do with {}", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked: {}", driver::panic_text(&*panic));
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong with this request").into_response()
}

/// The CORS layer answers every OPTIONS itself: this adds what WHIP wants said there (RFC 9725 section 4.2).
async fn announce(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let endpoint = request.method() == Method::OPTIONS
        && (path.starts_with("/v1/whip/") || path.starts_with("/v1/whep/"))
        && !path.contains("/resource/");
    let mut response = next.run(request).await;
    if endpoint {
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static("application/sdp"));
    }
    response
}

async fn count(State(signal): State<Signal>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    signal.metrics().responded(response.status().as_u16());
    response
}
