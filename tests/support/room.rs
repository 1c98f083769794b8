//! A client of the room's socket. What it hears waits until a test asks for it.
use super::server::within;
use exedra::server::RunningServer;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

pub struct Room {
    requests: mpsc::UnboundedSender<Value>,
    heard: mpsc::UnboundedReceiver<Value>,
    /// Heard, and not asked for yet.
    backlog: Vec<Value>,
    next_id: u64,
    /// The answer to `hello`.
    pub welcome: Value,
}

impl Room {
    pub async fn join(server: &RunningServer, room: &str, name: &str) -> Self {
        let url = format!("ws://{}/v1/room", server.http_addr);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let (mut write, mut read) = socket.split();
        let (requests, mut to_send) = mpsc::unbounded_channel::<Value>();
        let (hear, heard) = mpsc::unbounded_channel();
        let pongs = requests.clone();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = read.next().await {
                let Message::Text(text) = frame else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                let _ = match message["type"].as_str() {
                    Some("ping") => pongs.send(json!({"type": "pong", "t": message["t"]})).is_ok(),
                    _ => hear.send(message).is_ok(),
                };
            }
        });
        tokio::spawn(async move {
            while let Some(request) = to_send.recv().await {
                if write.send(Message::text(request.to_string())).await.is_err() {
                    return;
                }
            }
        });
        let mut client = Self { requests, heard, backlog: Vec::new(), next_id: 0, welcome: Value::Null };
        client.welcome = client.ask("hello", json!({"room": room, "name": name})).await;
        client
    }

    /// What the answer to a request that must succeed carries.
    pub async fn ask(&mut self, kind: &str, data: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.requests.send(json!({"id": id, "type": kind, "data": data})).unwrap();
        let answer = self.until(kind, |m| m["id"] == id).await;
        assert_eq!(answer["ok"], true, "{kind}: {answer}");
        answer["data"].clone()
    }

    /// The first event of this kind that fits and was not taken yet.
    pub async fn event(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.until(kind, |m| m["type"] == kind && fits(&m["data"])).await["data"].clone()
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(at);
        }
        let name = self.welcome["participant"].as_str().unwrap_or("?").to_owned();
        within(&format!("{what} for {name}"), async {
            loop {
                let message = self.heard.recv().await.unwrap_or_else(|| panic!("{what}: the socket is closed"));
                if wanted(&message) {
                    return message;
                }
                self.backlog.push(message);
            }
        })
        .await
    }
}
