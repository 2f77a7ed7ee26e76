//! Runs the suites: each part in a process of its own with a log of its own, several at a time.
//!
//! Where that is allowed, a part lives in mount and process namespaces of its own. Its first
//! process ends when the process that started it is gone, and the system ends all others with it and takes
//! away their mounts.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use everpost::clock::{Clock, SystemClock};

use super::suites::{How, Run, SUITES, Suite};
use super::{Failure, Plan, Report, root};
use crate::power::run_program;

/// How long a part may take: more is a hang, and a hang is a fault.
const QUICK_PATIENCE: Duration = Duration::from_secs(900);
const LONG_PATIENCE: Duration = Duration::from_secs(5_400);

/// Faults of one process that are told.
const FAULTS_MAX: usize = 5;

/// A process of a suite that is to run.
struct Part {
    suite: usize,
    name: String,
    command: Command,
    /// How to run it again by hand.
    replay: String,
}

/// One that runs.
struct Running {
    part: Part,
    child: Child,
    log: PathBuf,
    reader: File,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
    progress: String,
    passed: u64,
    has_counted: bool,
    /// The last seed it named: that of what failed, if anything did.
    seed: String,
    /// What it said of a fault.
    faults: Vec<String>,
    began: Duration,
}

/// Runs the suites and gives a report of each, in order.
pub(super) fn run(suites: &[&Suite], plan: &Plan) -> Result<Vec<Report>, Failure> {
    let dir = root().join("target/prove");
    drop(fs::remove_dir_all(&dir));
    for sub in ["memory", "disk"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let mut reports = vec![Report::default(); suites.len()];
    let mut waiting = parts(suites, plan, &mut reports)?;
    let workers = std::thread::available_parallelism()?.get();
    let began = SystemClock.monotonic();
    let patience = if plan.long {
        LONG_PATIENCE
    } else {
        QUICK_PATIENCE
    };
    let mut running: Vec<Running> = Vec::new();
    let mut shown = began;
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < workers
            && let Some(part) = waiting.pop_front()
        {
            running.push(start(part, &dir)?);
        }
        let mut still = Vec::new();
        for mut one in running {
            let ended = one.child.try_wait()?;
            let report = reports.get_mut(one.part.suite).ok_or("no such suite")?;
            one.read(report)?;
            match ended {
                Some(status) => one.end(status, report),
                None if SystemClock.monotonic() > one.began + patience => {
                    drop(one.child.stdin.take());
                    one.child.kill()?;
                    report.fail(format!("no end within {patience:?}"));
                    let status = one.child.wait()?;
                    one.end(status, report);
                }
                None => still.push(one),
            }
        }
        running = still;
        let rest = if std::io::stderr().is_terminal() {
            1
        } else {
            15
        };
        if SystemClock.monotonic() >= shown + Duration::from_secs(rest) {
            shown = SystemClock.monotonic();
            show(&running, waiting.len(), shown.saturating_sub(began));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    for report in &mut reports {
        if report.is_whole() && report.skipped.is_empty() && !report.has_counted() {
            report.fail("nothing was counted".into());
        }
    }
    drop(fs::remove_dir_all(dir.join("disk")));
    Ok(reports)
}

fn show(running: &[Running], waiting: usize, took: Duration) {
    let each = running.iter().map(|one| match one.progress.as_str() {
        "" => one.part.name.clone(),
        progress => format!("{}: {progress}", one.part.name),
    });
    let each: Vec<String> = each.collect();
    let line = format!(
        "{} s; {}; {waiting} parts wait",
        took.as_secs(),
        each.join("; ")
    );
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
        drop(std::io::stderr().flush());
    } else {
        eprintln!("{line}");
    }
}

/// Builds what is needed and gives the processes to run.
fn parts(
    suites: &[&Suite],
    plan: &Plan,
    reports: &mut [Report],
) -> Result<VecDeque<Part>, Failure> {
    let runs = suites.iter().map(|suite| match suite.how {
        How::Tests(runs) => runs(plan),
        How::Function(..) => Vec::new(),
    });
    let runs: Vec<Vec<Run>> = runs.collect();
    let mut targets: Vec<&str> = runs.iter().flatten().map(|run| run.target).collect();
    targets.sort_unstable();
    targets.dedup();
    let programs = build(&targets)?;
    let spaced = can_space();
    if !spaced {
        eprintln!("no namespaces here: an interrupt may leave something running");
    }
    let mut parts = VecDeque::new();
    for (number, (suite, runs)) in suites.iter().zip(runs).enumerate() {
        let part = |name: String, command, replay| Part {
            suite: number,
            name,
            command,
            replay,
        };
        if let How::Function(missing, _) = suite.how {
            if let Some(why) = missing() {
                if let Some(report) = reports.get_mut(number) {
                    report.skip(why);
                }
                continue;
            }
            let mut command = inside(spaced)?;
            command.args(["prove-suite", suite.name, &serde_json::to_string(plan)?]);
            let length = if plan.long { "--long" } else { "--quick" };
            let (name, seed) = (suite.name, plan.seed);
            let replay = format!("cargo xtask prove {length} --suite {name} --seed {seed}");
            parts.push_back(part(name.to_owned(), command, replay));
        }
        let many = runs.len() > 1;
        for (n, run) in (1..).zip(runs) {
            let found = programs.iter().find(|(target, _)| target == run.target);
            let (_, program) = found.ok_or_else(|| format!("no tests `{}`", run.target))?;
            let name = match many {
                true => format!("{}-{n}", suite.name),
                false => suite.name.to_owned(),
            };
            parts.push_back(part(name, of_tests(&run, program, spaced)?, replay(&run)));
        }
    }
    Ok(parts)
}

/// This program in namespaces of its own, if that is allowed.
fn inside(spaced: bool) -> Result<Command, Failure> {
    let this = std::env::current_exe()?;
    if !spaced {
        return Ok(Command::new(this));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private", "--"]).arg(this);
    Ok(command)
}

fn can_space() -> bool {
    let args = ["--mount", "--pid", "--fork", "--mount-proc", "true"];
    run_program("unshare", &args).is_ok()
}

fn of_tests(run: &Run, program: &Path, spaced: bool) -> Result<Command, Failure> {
    let mut command = inside(spaced)?;
    let memory = root().join("target/prove/memory");
    let scratch = match run.in_memory && spaced {
        true => memory,
        false => root().join("target/prove/disk"),
    };
    let mount = if run.in_memory && spaced {
        "memory"
    } else {
        "disk"
    };
    command.args(["prove-watch", mount]).arg(program);
    command.args(["--nocapture", run.filter]);
    command.env("TMPDIR", scratch).current_dir(root());
    // What a person has set by hand is for runs by hand.
    for name in ["TRACED_ALL", "TRACED_PART", "TRACED_ONLY"] {
        command.env_remove(name);
    }
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn replay(run: &Run) -> String {
    let env: String = run.env.iter().map(|(k, v)| format!("{k}={v} ")).collect();
    let target = match run.target {
        "lib" => "--lib".to_owned(),
        test => format!("--test {test}"),
    };
    let text = format!("{env}cargo test {target} -- --nocapture {}", run.filter);
    text.trim_end().to_owned()
}

/// Builds the tests as `cargo test` does, and gives where each program is.
fn build(targets: &[&str]) -> Result<Vec<(String, PathBuf)>, Failure> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "--no-run", "--quiet"]);
    command.arg("--message-format=json-render-diagnostics");
    for target in targets {
        match *target {
            "lib" => command.arg("--lib"),
            test => command.args(["--test", test]),
        };
    }
    eprintln!("building the tests");
    let built = command
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err("the tests do not build".into());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if let Some(program) = value["executable"].as_str()
            && value["profile"]["test"] == true
        {
            let is_lib = value["target"]["kind"][0] == "lib";
            let name = value["target"]["name"].as_str().unwrap_or_default();
            let name = if is_lib { "lib" } else { name };
            programs.push((name.to_owned(), program.into()));
        }
    }
    Ok(programs)
}

fn start(mut part: Part, dir: &Path) -> Result<Running, Failure> {
    let log = dir.join(format!("{}.log", part.name));
    let out = File::create(&log)?;
    part.command.stdin(Stdio::piped());
    part.command.stdout(out.try_clone()?).stderr(out);
    let child = part.command.spawn()?;
    Ok(Running {
        part,
        child,
        reader: File::open(&log)?,
        log,
        rest: Vec::new(),
        progress: String::new(),
        passed: 0,
        has_counted: false,
        seed: String::new(),
        faults: Vec::new(),
        began: SystemClock.monotonic(),
    })
}

impl Running {
    /// Reads what is new in the log.
    fn read(&mut self, report: &mut Report) -> Result<(), Failure> {
        self.reader.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let rest = self.rest.split_off(end.map_or(0, |end| end + 1));
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in String::from_utf8_lossy(&lines).lines() {
            self.line(line, report);
        }
        Ok(())
    }

    fn line(&mut self, line: &str, report: &mut Report) {
        // The harness writes the name of a test before what the test writes.
        let after = |word: &str| line.find(word).map(|at| &line[at + word.len()..]);
        if let Some(text) = after("PROVED ") {
            self.has_counted = true;
            report.count_all(text);
        } else if let Some(text) = after("PROGRESS ") {
            text.clone_into(&mut self.progress);
        } else if let Some(text) = after("SKIPPED ") {
            report.skip(text.to_owned());
        } else if let Some(text) = line.strip_prefix("REPORT ") {
            match serde_json::from_str(text) {
                Ok(told) => {
                    self.has_counted = true;
                    *report = told;
                }
                Err(error) => report.fail(format!("unreadable report: {error}")),
            }
        } else if let Some(text) = after("test result: ok. ") {
            let passed = text.split_whitespace().next();
            self.passed += passed.and_then(|n| n.parse().ok()).unwrap_or(0);
        } else if line.contains("_SEED=") || line.starts_with("TRACED_ONLY=") {
            line.clone_into(&mut self.seed);
        } else if line.contains("panicked at ") || line.starts_with("BROKEN ") {
            self.faults.push(line.to_owned());
        }
    }

    fn end(mut self, status: ExitStatus, report: &mut Report) {
        if let Err(error) = self.read(report) {
            report.fail(error.to_string());
        }
        let took = SystemClock.monotonic().saturating_sub(self.began);
        report.took_s += took.as_secs();
        if !self.has_counted && self.passed > 0 {
            report.count("tests", self.passed);
        }
        if !status.success() {
            // A panic that a test expects is no fault.
            let faults = self.faults.into_iter().take(FAULTS_MAX);
            faults.for_each(|fault| report.fail(fault));
            let seed = match self.seed.as_str() {
                "" => String::new(),
                seed => format!("; the last part was {seed}"),
            };
            report.fail(format!(
                "{}: ended with {status}{seed}; what it said: {}; all of it again: {}",
                self.part.name,
                self.log.display(),
                self.part.replay
            ));
        }
    }
}

/// The inner commands: what the processes of this module are started with.
pub(crate) fn inner(command: &str, args: &[String]) -> Option<Result<(), Failure>> {
    Some(match (command, args) {
        ("prove-suite", [name, plan]) => suite(name, plan),
        ("prove-watch", [place, program, args @ ..]) => watch(place, program, args),
        _ => return None,
    })
}

/// Ends this process once the process that started it is gone, however that ended.
fn end_with_parent() {
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(1);
    });
}

fn suite(name: &str, plan: &str) -> Result<(), Failure> {
    end_with_parent();
    let plan: Plan = serde_json::from_str(plan)?;
    let suite = SUITES.iter().find(|suite| suite.name == name);
    let Some(How::Function(_, run)) = suite.map(|suite| &suite.how) else {
        return Err(format!("no suite `{name}`").into());
    };
    println!("REPORT {}", serde_json::to_string(&run(&plan)?)?);
    Ok(())
}

fn watch(place: &str, program: &str, args: &[String]) -> Result<(), Failure> {
    end_with_parent();
    if place == "memory" {
        let dir = std::env::var("TMPDIR")?;
        run_program("mount", &["-t", "tmpfs", "-o", "size=4g", "tmpfs", &dir])?;
    }
    let args = args.iter().filter(|arg| !arg.is_empty());
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status()?;
    match (status.success(), status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => Err(format!("the tests ended by signal {signal}").into()),
        (false, None) => Err(format!("the tests ended with {status}").into()),
    }
}
