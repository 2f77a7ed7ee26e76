//! Three servers of NATS on this machine, which sync before they acknowledge.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use everpost::fleet::setup::Setup;
use everpost::fleet::{Access, Client};
use everpost::nats::Names;

use crate::child::Running;
use crate::client;

const SERVERS: usize = 3;

/// No cluster takes longer to choose its leaders.
const READY_MAX: Duration = Duration::from_secs(60);

/// The servers. They end with this.
#[derive(Debug)]
pub(crate) struct Cluster {
    servers: Vec<Running>,
    url: String,
    monitors: Vec<String>,
}

/// Runs a server until the parent closes the standard input, or is gone.
pub(crate) fn serve(program: &str, config: &str) -> Result<()> {
    let mut server = Command::new(program)
        .args(["-c", config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(Path::new(config).with_extension("log"))?)
        .spawn()
        .context("the server could not be started")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(client::parent_is_gone());
    // An error means that it has ended already.
    let _ = server.kill();
    server.wait()?;
    Ok(())
}

/// The program, which the project's own script fetches where it is not there.
fn program() -> Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/nats/install");
    let output = Command::new(script).output().context("no script")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no nats-server: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A child that is killed cannot end its server.
        for server in self.servers.drain(..) {
            let _ = server.end();
        }
    }
}

impl Cluster {
    /// Starts the servers, whose files go into `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let program = program()?;
        // All are held until each is known, so that none is given twice.
        let listeners = (0..3 * SERVERS)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<Result<Vec<u16>>>()?;
        drop(listeners);
        let (clients, rest) = ports.split_at(SERVERS);
        let (monitors, routes) = rest.split_at(SERVERS);
        let routed: Vec<String> = routes
            .iter()
            .map(|port| format!("nats-route://127.0.0.1:{port}"))
            .collect();
        let routed = routed.join(", ");
        let mut servers = Vec::new();
        for (n, ((port, monitor), route)) in clients.iter().zip(monitors).zip(routes).enumerate() {
            let data = dir.join(format!("n{n}"));
            let config = dir.join(format!("n{n}.conf"));
            let text = format!(
                "server_name: n{n}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
                 cluster {{ name: peers, listen: \"127.0.0.1:{route}\", routes: [{routed}] }}\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
                data.display()
            );
            std::fs::write(&config, text)?;
            let config = config.to_str().context("a path that is not UTF-8")?;
            servers.push(Running::start("nats", &[&program, config])?);
        }
        let address = |port: &u16| format!("127.0.0.1:{port}");
        Ok(Self {
            servers,
            url: format!(
                "nats://{}",
                clients.iter().map(address).collect::<Vec<_>>().join(",")
            ),
            monitors: monitors.iter().map(address).collect(),
        })
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same for the library.
    pub(crate) fn access(&self) -> Result<Access> {
        Ok(Access::new(&self.url)?.patience(READY_MAX))
    }

    /// A connection, and the streams of these names, made as `everpost fleet setup` makes them.
    pub(crate) async fn streams(&self, names: &Names) -> Result<Client> {
        let setup = self
            .monitors
            .iter()
            .fold(Setup::new(names.clone()), |setup, monitor| {
                setup.monitor(format!("http://{monitor}"))
            });
        let began = Instant::now();
        loop {
            // The servers may not listen yet, not have found each other, or have no leader.
            let why = match self.try_streams(&setup).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            if began.elapsed() > READY_MAX {
                bail!("the streams could not be made: {why:#}");
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn try_streams(&self, setup: &Setup) -> Result<Client> {
        let client = self.access()?.connect().await?;
        let report = setup.make(&client).await?;
        let refusing: Vec<&str> = report
            .refusing()
            .map(|finding| finding.found.as_str())
            .collect();
        ensure!(refusing.is_empty(), refusing.join("; "));
        Ok(client)
    }
}
