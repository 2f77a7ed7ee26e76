//! What the tests share: a directory that others may pass through, and the command in it.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user and a group that nothing belongs to.
pub(crate) const STRANGER: u32 = 54_321;

/// A directory for a spool.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect(self, code: u8) -> Self {
        assert_eq!(self.code, Some(i32::from(code)), "{self:?}");
        self
    }

    /// It says this on standard error.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in {self:?}");
        self
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// The command, with the spool in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everpost"));
        command.args(args);
        self.dress(&mut command);
        command
    }

    /// A line of the shell, in which `everpost` is the command.
    pub(crate) fn shell(&self, line: &str) -> Ended {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &line.replace("everpost", env!("CARGO_BIN_EXE_everpost")),
        ]);
        self.dress(&mut command);
        run(&mut command)
    }

    fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("EVERPOST_SPOOL", self.spool())
            .env("EVERPOST_WAIT", "0")
            .env("EVERPOST_LOG", "off");
    }

    /// Appends one event with the command.
    pub(crate) fn append(&self) -> Ended {
        run(&mut self.command(&["append"]))
    }

    /// How many events are pending, as the command says.
    pub(crate) fn pending(&self) -> usize {
        let peek = run(&mut self.command(&["peek", "--json"])).expect(0);
        peek.out.lines().count()
    }
}

/// Runs a command to its end, with one event on its standard input.
pub(crate) fn run(command: &mut Command) -> Ended {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses does not read it.
    let _ = child.stdin.take().unwrap().write_all(b"{\"n\":1}\n");
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Whether this is root, and the command can be run by others.
pub(crate) fn is_root() -> bool {
    use std::os::unix::process::CommandExt as _;
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everpost"));
        command.arg("--version").uid(STRANGER).gid(STRANGER);
        if command.output().is_ok_and(|run| run.status.success()) {
            return true;
        }
    }
    println!("skipped: this needs root, and a command that others may run");
    false
}

/// Waits until the service says so here. Where the process was stopped and continued, a call with
/// a time limit ends with `EINTR` even without a handler (`signal(7)`), and is made again.
pub(crate) fn until_ready(notify: &UnixDatagram) -> io::Result<()> {
    let mut heard = [0; 256];
    loop {
        match notify.recv(&mut heard) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(bytes) if heard[..bytes].starts_with(b"READY=1") => return Ok(()),
            Ok(_) => {}
        }
    }
}
