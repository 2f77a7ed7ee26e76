//! A client that hides nothing: bytes in, bytes out, and the connection's end as it was.

use std::io;

use everpost::sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN.
    Closed,
    /// RST.
    Reset,
}

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.body).expect(&self.body);
        serde_json::from_value(body["errors"].clone()).expect(&self.body)
    }
}

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(sandbox: &Sandbox) -> Self {
        Self(TcpStream::connect(sandbox.address()).await.unwrap())
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next byte.
    pub(crate) async fn read_byte(&mut self) -> u8 {
        self.0.read_u8().await.unwrap()
    }

    /// Everything up to the end of the connection, and how it ended.
    pub(crate) async fn read_to_end(&mut self) -> (String, End) {
        let mut bytes = Vec::new();
        let end = match self.0.read_to_end(&mut bytes).await {
            Ok(_) => End::Closed,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("{error}"),
        };
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }

    /// One answer; the connection stays usable.
    pub(crate) async fn read_response(&mut self) -> Response {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.read_byte().await);
        }
        let head = String::from_utf8(head).unwrap();
        let mut response = Response {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        };
        let size = response.header("content-length").unwrap_or("0");
        let mut body = vec![0; size.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.write(request).await;
        self.read_response().await
    }
}

/// The text of a request that the sandbox accepts, if the body is good.
pub(crate) fn post(sandbox: &Sandbox, body: &str) -> String {
    post_with(sandbox.key(), "application/json", body)
}

pub(crate) fn post_with(key: &str, content_type: &str, body: &str) -> String {
    format!(
        "POST /v2/messages HTTP/1.1\r\nhost: sandbox\r\nauthorization: Bearer {key}\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A good batch with these ids.
pub(crate) fn batch(ids: &[&str]) -> String {
    let messages: Vec<Value> = ids
        .iter()
        .map(|id| json!({"message": {"id": id, "timestamp": 1}}))
        .collect();
    json!({ "messages": messages }).to_string()
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(sandbox: &Sandbox, body: &str) -> Response {
    let mut client = Client::connect(sandbox).await;
    client.ask(post(sandbox, body)).await
}

/// What others use. It needs to be told whose cryptography it would use, which these tests never do.
pub(crate) fn usual_client() -> reqwest::Client {
    // Another test may have said it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
