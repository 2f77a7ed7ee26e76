//! Processes of their own: the receiver, servers, and whatever is looked at from outside.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{cluster, receiver, watched};

/// The argument that makes this program a child.
const MARK: &str = "--child";

/// What a child does: its name and its arguments.
pub(crate) struct Role {
    name: String,
    args: Vec<String>,
}

/// The role of this process, if it is a child.
pub(crate) fn role() -> Option<Result<Role>> {
    let mut args = std::env::args().skip(1);
    if args.next()? != MARK {
        return None;
    }
    let name = args.next().context("a child without a role");
    Some(name.map(|name| Role {
        name,
        args: args.collect(),
    }))
}

/// Does what the role says until the parent closes the standard input.
pub(crate) fn run(role: Role) -> Result<()> {
    match (role.name.as_str(), role.args.as_slice()) {
        ("nats", [program, config]) => cluster::serve(program, config),
        ("receive", [delay_us]) => receiver::serve(delay_us.parse()?),
        ("empty", [base_url]) => watched::empty(base_url),
        ("hold", [spool]) => watched::hold(Path::new(spool), None),
        ("hold", [spool, base_url]) => watched::hold(Path::new(spool), Some(base_url)),
        ("settle", [spool, base_url, events]) => {
            watched::settle(Path::new(spool), base_url, events.parse()?)
        }
        (name, _) => bail!("no such role. name=`{name}`"),
    }
}

/// Tells the parent one line.
pub(crate) fn tell(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A child that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts this program in a role.
    pub(crate) fn start(role: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(MARK).arg(role).args(args);
        Self::spawn(command)
    }

    /// Starts this program in a role, under another program that takes it as its last arguments.
    pub(crate) fn start_under(program: &[&str], role: &str, args: &[&str]) -> Result<Self> {
        let (first, rest) = program.split_first().context("no program")?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .arg(std::env::current_exe()?)
            .arg(MARK)
            .arg(role)
            .args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("a child could not be started")?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the child has no output")?;
        Ok(Self {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line it tells.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the child ended early");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Closes its standard input and waits until it has ended.
    pub(crate) fn end(mut self) -> Result<()> {
        self.input = None;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the child failed. status=`{status}`");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
