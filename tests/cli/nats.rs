//! A real server of NATS, alone, for the commands of a fleet.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No server takes longer to be ready, also on a busy machine.
const READY_MAX: Duration = Duration::from_secs(90);

/// Where the program is; none, and a line that says so, where it cannot be had.
#[expect(clippy::print_stdout, reason = "what is skipped has to be seen")]
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats/install");
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

/// A server that ends with this value, and with the test however that ends.
pub(crate) struct Nats {
    /// A shell that kills it once this process is gone.
    shell: Child,
    pid: String,
    port: u16,
    monitor: u16,
    _dir: tempfile::TempDir,
}

impl Nats {
    /// Starts it, with more configuration; none where there is no server to be had.
    pub(crate) fn start(more: &str) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        // Both are free now, and the system gives out others before it gives out these again.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (free(), free());
        let [port, monitor] = [one, two].map(|socket| socket.local_addr().unwrap().port());
        let config = dir.path().join("server.conf");
        let data = dir.path().join("data");
        let text = format!(
            "server_name: one\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{more}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let script = "log=$1; shift; \"$@\" >\"$log\" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(dir.path().join("log"))
            .arg(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        let stdout = shell.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut pid).unwrap();
        let nats = Self {
            shell,
            pid: pid.trim().to_owned(),
            port,
            monitor,
            _dir: dir,
        };
        nats.wait_ready();
        Some(nats)
    }

    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    fn wait_ready(&self) {
        let began = Instant::now();
        while self
            .ask("/healthz")
            .is_none_or(|health| health["status"] != "ok")
        {
            assert!(began.elapsed() < READY_MAX, "the server is not ready");
            std::thread::yield_now();
        }
    }

    /// What the monitoring port says.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
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

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-9", &self.pid]).status();
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
