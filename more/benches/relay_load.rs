//! What a relay answers under the load of 64 clients, beside two limits in the same rounds: a handler
//! that only answers, and a queue that 64 tasks append to without HTTP.
//!
//! `cargo bench -p everpost-more --bench relay_load`, with `-- ROUNDS SECONDS DIR` for other numbers
//! and another disk. Server and clients are two processes on the same machine and share its cores.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use everpost::relay::{Channel, Relay, Rules, Tokens};
use everpost::{Durability, Event, Queue, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

const CLIENTS: usize = 64;
const KEY: &str = "e30.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c2ln";
const MESSAGE: &str = r#"{"timestamp":1764000000000,"thread":"t","content":{"texts":[{"text":"what is the weather like in Istanbul tomorrow?"}]}}"#;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match args.as_slice() {
        ["serve-relay", dir] => runtime.block_on(serve_relay(Path::new(dir))),
        ["serve-bare"] => runtime.block_on(serve_bare()),
        ["append", dir, seconds] => {
            let time = Duration::from_secs(seconds.parse().unwrap());
            runtime.block_on(append(Path::new(dir), time));
        }
        [] => compare(&runtime, 5, 3, &std::env::temp_dir()),
        [rounds, seconds, dir] => {
            let (rounds, seconds) = (rounds.parse().unwrap(), seconds.parse().unwrap());
            compare(&runtime, rounds, seconds, Path::new(dir));
        }
        _ => panic!("cargo bench -p everpost-more --bench relay_load -- [ROUNDS SECONDS DIR]"),
    }
}

async fn open(dir: &Path) -> Queue {
    let settings = Settings {
        durability: Durability::Synced,
        max_bytes: 8 << 30,
        ..Settings::default()
    };
    Queue::builder(dir).settings(settings).open().await.unwrap()
}

async fn serve_relay(dir: &Path) {
    let queue = open(&dir.join("universal")).await;
    let relay = Relay::builder(Tokens::open(dir).unwrap())
        .rules(Rules::new().any_key())
        .channel(Channel::new("universal", queue))
        .build();
    let port = relay
        .serve(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    println!("{}", port.address());
    std::future::pending().await
}

async fn serve_bare() {
    let answer = || async { r#"{"request_id":"019ac1d0-91d9-7d36-8a3a-5e8d1c1ad9b2"}"# };
    let post = axum::routing::post(move |_: axum::body::Bytes| answer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, axum::Router::new().route("/v2/messages", post))
        .await
        .unwrap();
}

/// What 64 tasks commit, with the grouping that the queue gives them.
async fn append(dir: &Path, time: Duration) {
    let queue = open(&dir.join("queue")).await;
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while Instant::now() < end {
                    queue
                        .append_all([Event::json(MESSAGE).unwrap()])
                        .await
                        .unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    println!("{done}");
}

/// A child of this program.
struct Served(Child, SocketAddr);

impl Served {
    fn start(args: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        Self(child, line.trim().parse().unwrap())
    }

    /// Its memory at the most, in KiB.
    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one load came to.
#[derive(Clone, Copy)]
struct Load {
    per_second: f64,
    p99: Duration,
}

async fn load(to: SocketAddr, keep: bool, time: Duration) -> Load {
    let body = format!(r#"{{"messages":[{{"message":{MESSAGE}}}]}}"#);
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!(
        "POST /v2/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: {connection}\r\n\
         authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    let end = began + time;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(to, keep, request.clone(), end)))
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    let per_second = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    Load { per_second, p99 }
}

async fn client(to: SocketAddr, keep: bool, request: String, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut kept: Option<TcpStream> = None;
    let mut buffer = vec![0; 4096];
    while Instant::now() < end {
        let began = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect(to).await.unwrap(),
        };
        stream.set_nodelay(true).unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut filled = 0;
        // The body of every good answer ends so.
        while !buffer[..filled].ends_with(b"\"}") {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "closed before the answer was whole");
            filled += read;
        }
        assert!(
            buffer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&buffer)
        );
        times.push(began.elapsed());
        if keep {
            kept = Some(stream);
        }
    }
    times
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Hundredths of seconds that the machine below took away, of all processors.
fn stolen() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let of_all = stat.lines().next().unwrap_or_default();
    of_all
        .split_whitespace()
        .nth(8)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

fn compare(runtime: &tokio::runtime::Runtime, rounds: usize, seconds: u64, on: &Path) {
    let dir: PathBuf = tempfile::tempdir_in(on).unwrap().keep();
    let time = Duration::from_secs(seconds);
    let stolen_before = stolen();
    let [mut kept, mut fresh, mut bare_kept, mut bare_fresh] = [(); 4].map(|()| Vec::new());
    let mut queue = Vec::new();
    let mut memory_kib = 0;
    for round in 0..rounds {
        let own = dir.join(round.to_string());
        std::fs::create_dir(&own).unwrap();
        let own = own.to_str().unwrap();
        let relay = Served::start(&["serve-relay", own]);
        kept.push(runtime.block_on(load(relay.1, true, time)));
        fresh.push(runtime.block_on(load(relay.1, false, time)));
        memory_kib = memory_kib.max(relay.memory_kib());
        drop(relay);
        let bare = Served::start(&["serve-bare"]);
        bare_kept.push(runtime.block_on(load(bare.1, true, time)));
        bare_fresh.push(runtime.block_on(load(bare.1, false, time)));
        drop(bare);
        let program = std::env::current_exe().unwrap();
        let appended = Command::new(program)
            .args(["append", own, &seconds.to_string()])
            .output();
        let appended = String::from_utf8(appended.unwrap().stdout).unwrap();
        queue.push(appended.trim().parse::<f64>().unwrap() / time.as_secs_f64());
        println!(
            "round {}: {:.0} {:.0}",
            round + 1,
            kept[round].per_second,
            queue[round]
        );
    }
    let rate = |loads: &[Load]| median(loads.iter().map(|load| load.per_second).collect());
    let p99 = |loads: &[Load]| {
        median(
            loads
                .iter()
                .map(|load| load.p99.as_secs_f64() * 1e3)
                .collect(),
        )
    };
    let ratio = |one: &[Load], other: &[Load]| {
        let pairs = one.iter().zip(other);
        median(
            pairs
                .map(|(one, other)| one.per_second / other.per_second)
                .collect(),
        )
    };
    println!("\n{CLIENTS} clients, {rounds} rounds of {seconds} s, medians\n");
    println!("| | requests a second | p99, ms |\n|---|---|---|");
    for (name, loads) in [
        ("relay, connections kept", &kept),
        ("relay, a connection a request", &fresh),
        ("a handler that only answers, kept", &bare_kept),
        (
            "a handler that only answers, a connection a request",
            &bare_fresh,
        ),
    ] {
        println!("| {name} | {:.0} | {:.1} |", rate(loads), p99(loads));
    }
    println!(
        "| the queue without HTTP | {:.0} | |\n",
        median(queue.clone())
    );
    let beside_queue = kept
        .iter()
        .zip(&queue)
        .map(|(load, queue)| load.per_second / queue);
    println!("beside the queue: {:.2}", median(beside_queue.collect()));
    println!(
        "beside the handler: {:.2} kept, {:.2} not",
        ratio(&kept, &bare_kept),
        ratio(&fresh, &bare_fresh)
    );
    println!(
        "memory of the relay at the most: {:.1} MiB",
        memory_kib as f64 / 1024.0
    );
    println!(
        "stolen: {} ms of processor time",
        (stolen() - stolen_before) * 10
    );
    let _ = std::fs::remove_dir_all(dir);
}
