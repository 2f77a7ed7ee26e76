//! Where `relay` listens: Unix sockets, sockets that are passed, TLS; and how it leaves.

mod passed;
mod tls;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everpost::exit;
use everpost::sandbox::Sandbox;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;
use tokio::time::Instant;

use crate::relay::{headers, key_of, wrapped};
use crate::set_up::{Ended, PATIENT, Place, Running};

/// A relay with a sandbox behind it, and where it says that it listens.
pub(crate) struct Open {
    pub(crate) running: Running,
    pub(crate) at: Vec<String>,
}

impl Open {
    /// Of so many ports.
    pub(crate) fn of(mut running: Running, ports: usize) -> Self {
        let line = |_| {
            let line = running.read_until(|line| line.starts_with("listening on "));
            line.trim().trim_start_matches("listening on ").to_owned()
        };
        let at = (0..ports).map(line).collect();
        Self { running, at }
    }

    pub(crate) fn start(place: &Place, ports: usize, args: &[&str]) -> Self {
        let dir = place.path("relay");
        let common = ["relay", "--dir", dir.to_str().unwrap(), "--sandbox"];
        Self::of(place.start(&[&common[..], args].concat()), ports)
    }

    /// The address of a TCP port.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        let url = &self.at[number];
        let address = url
            .trim_start_matches("http://")
            .trim_start_matches("https://");
        address.trim_end_matches("/v2").parse().unwrap()
    }

    pub(crate) fn stop(self) -> Ended {
        self.running.signal("-TERM");
        self.running.end()
    }
}

/// What a relay answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    stream
}

pub(crate) fn post(key: &str, body: &str) -> String {
    let (headers, length) = (headers(key), body.len());
    format!("POST /v2/messages HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// Reads one answer, and nothing of the next; none if the connection ends or breaks before it is there.
pub(crate) fn read_answer(stream: impl Read) -> Option<Answer> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// One request, and its answer.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &str) -> Option<Answer> {
    stream.write_all(request.as_bytes()).ok()?;
    read_answer(stream)
}

/// How many events the relay of this place has ever taken in, once it has ended.
pub(crate) fn taken(place: &Place) -> Value {
    let spool = place.path("relay/universal");
    let status = place.run(&["--spool", spool.to_str().unwrap(), "status", "--json"]);
    status.json()["last_seq"].clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_unix_socket_is_for_its_user_or_a_group_and_is_removed_at_the_end() {
    let place = Place::new();
    let own_group = fs::metadata(place.dir.path()).unwrap().gid().to_string();
    let (private, shared) = (place.path("private.sock"), place.path("run/shared.sock"));
    let unix = |path: &Path| format!("unix:{}", path.display());
    let relay = Open::start(&place, 1, &["--listen", &unix(&private)]);
    assert_eq!(relay.at, [unix(&private)]);
    assert_eq!(mode(&private), 0o600);
    let key = key_of("universal");
    // No page of a browser comes here, whatever host it names.
    let request = post(&key, &wrapped(&["a"])).replace("127.0.0.1", "everpost");
    let answer = exchange(UnixStream::connect(&private).unwrap(), &request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    relay.stop().expect(exit::DONE);
    assert!(!private.exists());

    let args = ["--listen", &unix(&shared), "--socket-group", &own_group];
    let relay = Open::start(&place, 1, &args);
    assert_eq!(mode(&shared), 0o660);
    assert_eq!(mode(shared.parent().unwrap()), 0o750);
    assert_eq!(fs::metadata(&shared).unwrap().gid().to_string(), own_group);
    relay.stop().expect(exit::DONE);
    let relay = Open::start(&place, 1, &[&args[..], &["--socket-mode", "0666"]].concat());
    assert_eq!(mode(&shared), 0o666);
    relay.stop().expect(exit::DONE);
    assert!(!shared.exists());
    assert_eq!(taken(&place), 1);
}

#[test]
fn a_socket_that_is_served_and_a_file_that_is_none_are_left_alone_and_a_stale_one_is_replaced() {
    let place = Place::new();
    let path = place.path("relay.sock");
    let unix = format!("unix:{}", path.display());
    let refused = |place: &Place| {
        let dir = place.path("other");
        let args = [
            "relay",
            "--dir",
            dir.to_str().unwrap(),
            "--sandbox",
            "--listen",
            &unix,
        ];
        place.run(&args).expect(exit::USAGE).err
    };
    let mut first = Open::start(&place, 1, &["--listen", &unix]);
    let said = refused(&place);
    assert!(
        said.contains("another process serves it") && said.contains("another path, unix:"),
        "{said}"
    );
    first.running.child.kill().unwrap();
    first.running.end();
    assert!(path.exists(), "a killed process removes nothing");
    let second = Open::start(&place, 1, &["--listen", &unix]);
    let answer = exchange(
        UnixStream::connect(&path).unwrap(),
        &post(&key_of("universal"), &wrapped(&["a"])),
    );
    assert_eq!(answer.unwrap().status, 200);
    // One whose name has been taken by another file leaves that one alone.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    second.stop().expect(exit::DONE);
    let said = refused(&place);
    assert!(
        said.contains("no socket has its name") && said.contains("remove the file"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // Others could put a socket of theirs into such a directory.
    fs::remove_file(&path).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = refused(&place);
    assert!(said.contains("others may write to it"), "{said}");
    assert!(!place.path("other").exists(), "nothing half made");
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_again_and_nothing_of_it_is_taken() {
    let place = Place::new();
    let config = place.path("relay.toml");
    fs::write(&config, "rate = 1000\n[channels.universal]\n").unwrap();
    let config = config.to_str().unwrap();
    // What is typed wins.
    let args = ["--listen", "127.0.0.1:0", "--config", config, "--rate", "1"];
    let relay = Open::start(&place, 1, &args);
    let address = relay.address(0);
    let began = Instant::now();
    let ask = |key: &str, id| exchange(connect(address), &post(key, &wrapped(&[id]))).unwrap();
    let (one, other) = (
        key_of("universal"),
        key_of("universal").replace("e30", "e31"),
    );
    let answers: Vec<Answer> = (0..40).map(|_| ask(&one, "a")).collect();
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|one| one.status == 200);
    let most = 2 + began.elapsed().as_secs() + 1;
    assert!(
        good.len() >= 2 && good.len() as u64 <= most,
        "{}",
        good.len()
    );
    for answer in &bad {
        assert_eq!(answer.status, 429);
        let wait = answer.head.split("retry-after: ").nth(1).unwrap();
        let wait: u64 = wait.lines().next().unwrap().parse().unwrap();
        assert!((1..=29).contains(&wait), "{answer:?}");
        let error = answer.body["errors"][0].as_str().unwrap();
        assert!(error.contains("more requests than it may"), "{error}");
    }
    // The same key in other words is the same client, and another key is another one.
    let shouted = post(&one, &wrapped(&["b"])).replace("Bearer", "BEARER");
    let again = exchange(connect(address), &shouted).unwrap();
    let is_late = began.elapsed() > Duration::from_secs(3);
    assert!(again.status == 429 || is_late, "{again:?}");
    assert_eq!(ask(&other, "c").status, 200);
    let all = good.len() + 1 + usize::from(again.status == 200);
    relay.stop().expect(exit::DONE);
    assert_eq!(taken(&place), all);
}

/// A queue that takes nothing in keeps no process up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_held_are_told_at_once_that_the_relay_closes() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.settings(
        "max_bytes = \"1 MiB\"\njournal_bytes = \"64 KiB\"\nsegment_bytes = \"64 KiB\"\n\
         tail_bytes = \"16 KiB\"\nchunk_bytes = \"8 KiB\"\nmax_event_bytes = \"16 KiB\"\n",
    );
    let dir = place.path("relay");
    let start = |hold: &str| {
        let common = [
            "relay",
            "--dir",
            dir.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ];
        let args = [&common[..], &["--hold", hold, "--deadline", "1s"]].concat();
        Open::of(place.start(&args), 1)
    };
    let key = sandbox.key().to_owned();
    let mut letters = crate::relay::fastrand_like(11);
    let mut request = || {
        let text: String = (0..8_000).map(|_| letters()).collect();
        post(
            &key,
            &format!(r#"{{"messages":[{{"message":{{"id":"a","timestamp":1,"x":"{text}"}}}}]}}"#),
        )
    };
    let relay = start("0s");
    while exchange(connect(relay.address(0)), &request())
        .unwrap()
        .status
        == 200
    {}
    relay.stop().expect(exit::PENDING);

    let relay = start("50s");
    let held: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(relay.address(0));
            stream.write_all(request().as_bytes()).unwrap();
            stream
        })
        .collect();
    // It sends the first half of its body, and no more.
    let mut half = connect(relay.address(0));
    half.write_all(&request().as_bytes()[..4_000]).unwrap();
    let silent = connect(relay.address(0));
    let nowhere = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(
        exchange(connect(relay.address(0)), nowhere).unwrap().status,
        404
    );
    let since = Instant::now();
    relay.running.signal("-TERM");
    for stream in held {
        let answer = read_answer(stream).unwrap();
        assert_eq!(answer.status, 503);
        assert!(
            answer.body["errors"][0]
                .as_str()
                .unwrap()
                .contains("closing"),
            "{answer:?}"
        );
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(read_answer(half).unwrap().status, 503);
    assert!(read_answer(silent).is_none());
    relay.running.end().expect(exit::PENDING);
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}
