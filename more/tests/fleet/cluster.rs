//! Real servers: as many nodes as a test wants, killed, frozen and started again by name, and a proxy
//! whose connections can be cut.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No server takes longer to be ready, nor a cluster to choose a leader, also on a busy machine.
const READY_MAX: Duration = Duration::from_secs(90);

/// The program, installed once; `None`, and a line that says so, where it cannot be had.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nats/install");
        let output = Command::new(install).output().unwrap();
        if output.status.success() {
            let path = String::from_utf8(output.stdout).unwrap();
            Some(PathBuf::from(path.trim_end()))
        } else {
            println!("SKIPPED nats-server cannot be had; set NATS_SERVER to its path");
            None
        }
    });
    found.as_deref()
}

/// How the servers are set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    /// What stands in each configuration beside addresses and storage: accounts, TLS, limits.
    pub(crate) config: String,
}

impl Default for Setup {
    /// Three nodes without authentication.
    fn default() -> Self {
        Self {
            nodes: 3,
            config: String::new(),
        }
    }
}

/// Servers that end with this value, and with the test however that ends.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    _dir: TempDir,
}

/// One server: its files and ports stay when its process does not.
pub(crate) struct Node {
    name: String,
    port: u16,
    monitor: u16,
    config: PathBuf,
    process: Option<Process>,
}

/// A server under a shell that kills it once this process is gone, by whatever signal.
struct Process {
    shell: Child,
    pid: u32,
}

impl Process {
    fn start(config: &Path) -> Self {
        let log = config.with_extension("log");
        let mut shell = Command::new("sh")
            .args([
                "-c",
                "log=$1; shift; \"$@\" >>\"$log\" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null",
                "sh",
            ])
            .arg(log)
            .arg(program().unwrap())
            .arg("-c")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = shell.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        Self { shell, pid }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.pid.to_string()])
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "kill {name} {}", self.pid);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-9", &self.pid.to_string()])
            .stderr(Stdio::null())
            .status();
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Node {
    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on what it left.
    pub(crate) fn start(&mut self) {
        if self.process.is_none() {
            self.process = Some(Process::start(&self.config));
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Stops it with SIGSTOP: it is there and says nothing.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().unwrap().signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.process.as_ref().unwrap().signal("-CONT");
    }

    /// Where clients connect to: `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What its monitoring port says; `None` if it says nothing within two seconds.
    pub(crate) fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Cluster {
    /// Starts the servers and waits until they are ready. `None` where there is no server to be had.
    pub(crate) fn start(setup: &Setup) -> Option<Self> {
        program()?;
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(setup.nodes * 3);
        let routes: Vec<String> = (0..setup.nodes)
            .map(|n| format!("nats-route://127.0.0.1:{}", ports[n * 3 + 2]))
            .collect();
        let node = |n: usize| {
            let [port, monitor, route] = [0, 1, 2].map(|i| ports[n * 3 + i]);
            let home = dir.path().join(format!("n{n}"));
            std::fs::create_dir(&home).unwrap();
            let cluster = if setup.nodes == 1 {
                String::new()
            } else {
                let routes = routes.join(", ");
                format!(
                    "cluster {{ name: trial, listen: \"127.0.0.1:{route}\", routes: [{routes}] }}\n"
                )
            };
            let text = format!(
                "server_name: n{n}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n{cluster}\
                 jetstream {{ store_dir: \"{}\", sync_interval: always, limits {{ batch {{ \
                 max_inflight_per_stream: 500, max_inflight_total: 5000 }} }} }}\n{}\n",
                home.join("data").display(),
                setup.config
            );
            let config = home.join("server.conf");
            std::fs::write(&config, text).unwrap();
            Node {
                name: format!("n{n}"),
                port,
                monitor,
                config,
                process: None,
            }
        };
        let mut nodes: Vec<Node> = (0..setup.nodes).map(node).collect();
        for node in &mut nodes {
            node.start();
        }
        let cluster = Self { nodes, _dir: dir };
        cluster.wait_ready();
        Some(cluster)
    }

    /// Waits until each node that runs says that it is well.
    pub(crate) fn wait_ready(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let what = || format!("{} is not ready: {}", node.name, tail(&node.config));
            wait_until(what, || {
                let health = node.ask("/healthz")?;
                (health["status"] == "ok").then_some(())
            });
        }
    }

    /// Where clients connect to, one after the other: `nats://a,b,c`.
    pub(crate) fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Node::address).collect();
        format!("nats://{}", addresses.join(","))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&mut self, n: usize) -> &mut Node {
        &mut self.nodes[n]
    }

    /// Which node leads this stream now, as one that runs says.
    pub(crate) fn leader(&self, stream: &str) -> Option<usize> {
        self.nodes
            .iter()
            .filter(|n| n.is_running())
            .find_map(|node| {
                let found = node.ask("/jsz?accounts=true&streams=true")?;
                let accounts = found["account_details"].as_array()?.clone();
                let streams = accounts.iter().flat_map(|account| {
                    account["stream_detail"]
                        .as_array()
                        .cloned()
                        .unwrap_or_default()
                });
                let leader = streams
                    .filter(|detail| detail["name"] == stream)
                    .find_map(|detail| detail["cluster"]["leader"].as_str().map(str::to_owned))?;
                let place = self.nodes.iter().position(|node| node.name == leader)?;
                self.nodes[place].is_running().then_some(place)
            })
    }

    /// Waits until a node that runs leads this stream.
    pub(crate) fn wait_leader(&self, stream: &str) -> usize {
        let what = || format!("no node leads {stream}");
        wait_until(what, || self.leader(stream))
    }
}

/// The state of a server is to be had by asking alone.
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn wait_until<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < READY_MAX, "{}", what());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn tail(config: &Path) -> String {
    let log = std::fs::read_to_string(config.with_extension("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Ports below those that the system gives to connections, so that none is taken while its server is
/// dead. Each process begins elsewhere: not by
/// its number, which is the same in two namespaces.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap();
    let mut port =
        next.unwrap_or_else(|| 10_000 + (RandomState::new().hash_one(0) % 200) as u16 * 100);
    let mut free = Vec::new();
    while free.len() < count {
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            free.push(port);
        }
        port = if port >= 32_000 { 10_000 } else { port + 1 };
    }
    *next = Some(port);
    free
}

/// Passes bytes on to a server until its connections are cut.
pub(crate) struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A proxy in front of `127.0.0.1:port`.
    pub(crate) fn new(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let (kept, server) = (Arc::clone(&open), server.to_owned());
        // It ends with the process: its listener has no other end.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(upstream)) = (client, TcpStream::connect(&server)) else {
                    continue;
                };
                let mut open = kept.lock().unwrap();
                open.push(client.try_clone().unwrap());
                open.push(upstream.try_clone().unwrap());
                drop(open);
                pass(client.try_clone().unwrap(), upstream.try_clone().unwrap());
                pass(upstream, client);
            }
        });
        Self { port, open }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Cuts every connection; new ones are let through.
    pub(crate) fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_another_leader_when_one_dies_or_freezes_and_connections_are_cut() {
    use async_nats::jetstream;

    let Some(mut cluster) = Cluster::start(&Setup::default()) else {
        return;
    };
    assert_eq!(cluster.len(), 3);
    let url = cluster.url();
    let servers = url.trim_start_matches("nats://").split(',');
    let servers: Vec<_> = servers.map(|one| one.parse().unwrap()).collect();
    let client = async_nats::connect::<Vec<async_nats::ServerAddr>>(servers).await;
    let client = client.unwrap();
    let config = jetstream::stream::Config {
        name: "TRIAL".to_owned(),
        num_replicas: 3,
        ..jetstream::stream::Config::default()
    };
    jetstream::new(client).create_stream(config).await.unwrap();
    let first = cluster.wait_leader("TRIAL");
    cluster.node(first).kill();
    let second = cluster.wait_leader("TRIAL");
    assert_ne!(first, second);
    cluster.node(first).start();
    cluster.wait_ready();
    cluster.node(first).freeze();
    assert!(
        cluster.node(first).ask("/healthz").is_none(),
        "it is frozen"
    );
    cluster.node(first).thaw();
    cluster.wait_ready();

    let proxy = Proxy::new(&cluster.node(first).address());
    let mut through = BufReader::new(TcpStream::connect(proxy.address()).unwrap());
    let mut line = String::new();
    through.read_line(&mut line).unwrap();
    assert!(line.starts_with("INFO "), "{line}");
    proxy.cut();
    // It may have said more before; then it is over.
    while through.read_line(&mut line).is_ok_and(|read| read > 0) {}
}
