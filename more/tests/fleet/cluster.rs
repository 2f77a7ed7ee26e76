//! Real servers: as many nodes as a test wants, killed, frozen and started again by name, and a proxy
//! whose connections can be cut.

#[path = "../../../tests/nats/server.rs"]
mod server;

use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use server::{Process, free_ports, wait_until};

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
        assert!(self.process.as_ref().unwrap().signal("-STOP"));
    }

    pub(crate) fn thaw(&self) {
        assert!(self.process.as_ref().unwrap().signal("-CONT"));
    }

    /// Where clients connect to: `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What its monitoring port says; `None` if it says nothing within two seconds.
    pub(crate) fn ask(&self, path: &str) -> Option<Value> {
        server::ask(self.monitor, path)
    }
}

impl Cluster {
    /// Starts the servers and waits until they are ready. `None` where there is no server to be had.
    pub(crate) fn start(setup: &Setup) -> Option<Self> {
        server::program()?;
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
            server::wait_ready(node.monitor, &node.config);
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
