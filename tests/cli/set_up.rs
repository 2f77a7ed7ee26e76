//! What the tests share: the command in an empty directory, and a service that says when it is
//! ready.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use everpost::sandbox::Sandbox;
use serde_json::Value;

/// How long a service may take to say something.
pub(crate) const PATIENT: Duration = Duration::from_secs(60);

/// A directory with a spool in it, and the environment of the command.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The one object on standard output.
    pub(crate) fn json(&self) -> Value {
        let mut objects = self.lines();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.remove(0)
    }

    /// The objects on standard output, one for each line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
        self.out.lines().map(parse).collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, code: u8) -> Self {
        assert_eq!(self.code, i32::from(code), "{self:?}");
        self
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    /// A place whose API is this sandbox.
    pub(crate) fn with(sandbox: &Sandbox) -> Self {
        let mut place = Self::new();
        place
            .env
            .push(("BA_BASE_URL", sandbox.base_url().to_owned()));
        place.env.push(("BA_API_KEY", sandbox.key().to_owned()));
        place
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// A path beside the spool.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a command says that makes the spool.
    pub(crate) fn made(&self) -> String {
        format!("everpost: made a new spool at {}\n", self.spool().display())
    }

    /// Sets a variable for every command.
    pub(crate) fn set_env(&mut self, name: &'static str, value: &str) {
        self.env.push((name, value.to_owned()));
    }

    /// Writes a settings file that every command then uses.
    pub(crate) fn settings(&mut self, text: &str) {
        let path = self.dir.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        self.env
            .push(("EVERPOST_SETTINGS", path.to_str().unwrap().to_owned()));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // What a script starts in the background ignores SIGINT, and so would the command.
        let mut command = Command::new("/usr/bin/env");
        command
            .args([
                "--default-signal=HUP,INT,QUIT",
                env!("CARGO_BIN_EXE_everpost"),
            ])
            .args(args)
            .env_clear()
            .env("EVERPOST_SPOOL", self.spool())
            .env("EVERPOST_LOG", "off")
            .env("EVERPOST_ETC", self.path("etc"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).spawn().unwrap())
    }

    /// Runs a command to its end, with this on its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Ended {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A command that stops at a bad line does not read the rest.
            let _ = stdin.write_all(input.as_bytes());
        });
        let ended = ended(child);
        writer.join().unwrap();
        ended
    }

    /// Appends so many messages, numbered from `first`.
    pub(crate) fn append(&self, first: u64, count: u64) {
        let lines: String = (first..first + count).map(message).collect();
        self.feed(&["append", "--batch", "256"], &lines).expect(0);
    }

    /// Starts a command to be talked to.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args).stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Starts `run` and waits until it says that it is ready.
    pub(crate) fn serve(&self, args: &[&str]) -> Service {
        self.serve_with(args, |command| command.stdin(Stdio::piped()))
    }

    /// As [`serve`](Self::serve), with a command that was changed before it starts.
    pub(crate) fn serve_with(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Service {
        self.serve_command(&["run"], args, change)
    }

    /// As [`serve_with`](Self::serve_with), another command than `run`.
    pub(crate) fn serve_command(
        &self,
        words: &[&str],
        args: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Service {
        let path = self.dir.path().join("notify");
        // Of a service before this one.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENT)).unwrap();
        let mut command = self.command(words);
        command.args(args).env("NOTIFY_SOCKET", &path);
        let running = Running::of(change(&mut command).spawn().unwrap());
        let service = Service { running, socket };
        service.hear("READY=1");
        service
    }
}

/// Message `n`, as a line.
pub(crate) fn message(n: u64) -> String {
    format!(
        "{{\"id\":\"{n}\",\"timestamp\":{n},\"content\":{{\"texts\":[{{\"text\":\"hi\"}}]}}}}\n"
    )
}

/// Message `n`, which the sandbox refuses: a text without its text.
pub(crate) fn bad_message(n: u64) -> String {
    format!("{{\"id\":\"{n}\",\"timestamp\":{n},\"content\":{{\"texts\":[{{\"tex\":\"hi\"}}]}}}}\n")
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A command under way.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: BufReader<ChildStdout>,
    /// What was read by `try_read_line`.
    heard: String,
}

impl Running {
    pub(crate) fn of(mut child: Child) -> Self {
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout,
            heard: String::new(),
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Reads lines up to the first that is wanted.
    pub(crate) fn read_until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it ended");
            if wanted(line.trim_end()) {
                return line;
            }
        }
    }

    /// Reads the next line, if it has not ended before that.
    pub(crate) fn try_read_line(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        self.heard.push_str(&line);
    }

    /// As [`end`](Self::end); gives also how many lines said `ACK`, with those read before.
    pub(crate) fn end_with_acks(mut self) -> (Ended, u64) {
        let heard = std::mem::take(&mut self.heard);
        let ended = self.end();
        let lines = heard.lines().chain(ended.out.lines());
        let acks = lines.filter(|line| line.starts_with("ACK ")).count();
        (ended, acks as u64)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end; gives what else it printed.
    pub(crate) fn end(mut self) -> Ended {
        let mut out = String::new();
        self.stdout.read_to_string(&mut out).unwrap();
        let mut err = String::new();
        // A test that follows it has it.
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut err).unwrap();
        }
        drop(self.stdin.take());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ended { code, out, err }
    }
}

/// `everpost run`.
pub(crate) struct Service {
    pub(crate) running: Running,
    socket: UnixDatagram,
}

impl Service {
    /// Waits for a word to systemd.
    pub(crate) fn hear(&self, wanted: &str) {
        assert_eq!(self.heard(), wanted);
    }

    /// The next word to systemd.
    pub(crate) fn heard(&self) -> String {
        self.next_word().unwrap()
    }

    /// A word to systemd that is there within this time.
    pub(crate) fn heard_within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let heard = self.next_word();
        self.socket.set_read_timeout(Some(PATIENT)).unwrap();
        heard.ok()
    }

    /// Where the process was stopped and continued, a call with a time limit ends with `EINTR` even
    /// without a handler (`signal(7)`), and is made again.
    fn next_word(&self) -> std::io::Result<String> {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                heard => {
                    let heard = &buffer[..heard?];
                    return Ok(std::str::from_utf8(heard).unwrap().to_owned());
                }
            }
        }
    }

    /// Ends it as systemd would.
    pub(crate) fn stop(self) -> Ended {
        self.running.signal("-TERM");
        self.hear("STOPPING=1");
        self.running.end()
    }
}
