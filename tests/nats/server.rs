//! The process of a server of NATS, for tests that need real ones.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No server takes longer to be ready, nor a cluster to choose a leader, also on a busy machine.
const READY_MAX: Duration = Duration::from_secs(90);

/// The program, installed once; `None`, and a line that says so, where it cannot be had.
#[expect(clippy::print_stdout, reason = "what is skipped has to be seen")]
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let roots = [Some(package), package.parent()];
        let scripts = roots
            .into_iter()
            .flatten()
            .map(|root| root.join("tests/nats/install"));
        let install = scripts.into_iter().find(|script| script.exists());
        let output = Command::new(install.unwrap()).output().unwrap();
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

/// A server under a shell that kills it once this process is gone, by whatever signal. It ends with this value.
pub(crate) struct Process {
    shell: Child,
    pid: String,
}

impl Process {
    /// Starts a server with this configuration; beside it is its log.
    pub(crate) fn start(config: &Path) -> Self {
        let script = "log=$1; shift; \"$@\" >>\"$log\" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(config.with_extension("log"))
            .arg(program().unwrap())
            .arg("-c")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        let stdout = shell.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut pid).unwrap();
        let pid = pid.trim().to_owned();
        Self { shell, pid }
    }

    /// Sends it a signal, such as `-STOP`; says whether it was there to get it.
    pub(crate) fn signal(&self, name: &str) -> bool {
        let kill = Command::new("kill")
            .args([name, &self.pid])
            .stderr(Stdio::null())
            .status();
        kill.is_ok_and(|status| status.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("-9");
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// What the monitoring port of a server says; `None` if it says nothing within two seconds.
pub(crate) fn ask(monitor: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", monitor)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Waits until a server says that it is well.
pub(crate) fn wait_ready(monitor: u16, config: &Path) {
    let what = || format!("{} is not ready: {}", config.display(), tail(config));
    wait_until(what, || {
        let health = ask(monitor, "/healthz")?;
        (health["status"] == "ok").then_some(())
    });
}

/// The state of a server is to be had by asking alone.
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
pub(crate) fn wait_until<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
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
/// dead. Each process begins elsewhere: not by its number, which is the same in two namespaces.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
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
