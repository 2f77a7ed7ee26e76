//! A real server of NATS, alone, for the commands of a fleet.

#[path = "../nats/server.rs"]
mod server;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use server::Process;

/// A server that ends with this value, and with the test however that ends.
pub(crate) struct Nats {
    process: Option<Process>,
    config: PathBuf,
    port: u16,
    monitor: u16,
    _dir: tempfile::TempDir,
}

impl Nats {
    /// Starts it, with more configuration; none where there is no server to be had.
    pub(crate) fn start(more: &str) -> Option<Self> {
        server::program()?;
        let dir = tempfile::tempdir().unwrap();
        let [port, monitor] = server::free_ports(2).try_into().unwrap();
        let config = dir.path().join("server.conf");
        let data = dir.path().join("data");
        let text = format!(
            "server_name: one\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{more}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut nats = Self {
            process: None,
            config,
            port,
            monitor,
            _dir: dir,
        };
        nats.start_again();
        Some(nats)
    }

    /// Kills it with SIGKILL; its files and its ports stay.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it on what it left.
    pub(crate) fn start_again(&mut self) {
        self.process = Some(Process::start(&self.config));
        server::wait_ready(self.monitor, &self.config);
    }

    /// As `--nats` takes it.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As `--monitor` takes it.
    pub(crate) fn monitor(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// Asks JetStream something, without credentials.
    pub(crate) fn request(&self, subject: &str, body: &Value) -> Value {
        let connect = "{\"verbose\":false}";
        let text = self.say_as(connect, "_INBOX_test.1", subject, &body.to_string());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{subject}: {text}"))
    }

    /// Publishes as this user, with answers to this inbox, and gives the answer or the error of the
    /// server.
    pub(crate) fn say_as(&self, connect: &str, inbox: &str, subject: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let bytes = body.len();
        let request = format!(
            "CONNECT {connect}\r\nSUB {inbox} 1\r\nPUB {subject} {inbox} {bytes}\r\n{body}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "{subject}: the server hung up"
            );
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["-ERR", ..] => return line.trim().to_owned(),
                ["MSG", .., bytes] => {
                    let mut answer = vec![0; bytes.parse().unwrap()];
                    reader.read_exact(&mut answer).unwrap();
                    return String::from_utf8(answer).unwrap();
                }
                ["HMSG", .., headers, bytes] => {
                    let mut answer = vec![0; bytes.parse().unwrap()];
                    reader.read_exact(&mut answer).unwrap();
                    let body = answer.split_off(headers.parse().unwrap());
                    return String::from_utf8(body).unwrap();
                }
                _ => {}
            }
        }
    }

    /// The configuration of a stream.
    pub(crate) fn stream(&self, name: &str) -> Value {
        let subject = format!("$JS.API.STREAM.INFO.{name}");
        self.request(&subject, &serde_json::json!({}))["config"].clone()
    }
}
