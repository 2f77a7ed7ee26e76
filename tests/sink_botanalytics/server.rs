//! A server that says exactly what it is told to, to the byte, and keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one connection.
pub(crate) enum Reply {
    /// Reads the request, sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Reads the request, sends these bytes and then says nothing more.
    Hang(Vec<u8>),
    /// Reads the request, then breaks the connection by a reset.
    Reset,
    /// Sends these bytes without waiting for a request, and closes.
    Greeting(Vec<u8>),
    /// Breaks the connection by a reset before the request is read.
    ResetAtOnce,
}

/// A reply with a status line, headers and a body of the right length.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// A reply with JSON.
pub(crate) fn json(status: &str, body: &str) -> Reply {
    reply(status, "Content-Type: application/json\r\n", body)
}

/// Serves one reply after the other, a connection each, and then stops listening.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            // What hangs stays open until the server is dropped.
            let mut held = Vec::new();
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                if matches!(reply, Reply::ResetAtOnce) {
                    stream.set_zero_linger().unwrap();
                    continue;
                }
                if let Reply::Greeting(bytes) = reply {
                    stream.write_all(&bytes).await.unwrap();
                    continue;
                }
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                match reply {
                    Reply::Bytes(bytes) => {
                        // The client may have had enough before everything is written.
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                    Reply::Hang(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        held.push(stream);
                    }
                    Reply::Reset => stream.set_zero_linger().unwrap(),
                    Reply::Greeting(_) | Reply::ResetAtOnce => {}
                }
            }
            if !held.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v2", self.address)
    }

    /// The requests so far, each as head and body.
    pub(crate) fn requests(&self) -> Vec<(String, Vec<u8>)> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|bytes| {
                let end = head_end(bytes).unwrap();
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                (head, bytes[end..].to_vec())
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = head_end(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse::<usize>().unwrap());
            if bytes.len() >= end + length {
                return bytes;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return bytes;
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}
