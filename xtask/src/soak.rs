//! `cargo xtask soak`: millions of events through a small queue, in a program that is killed again
//! and again, to a receiver that checks every one; and whether memory, disk, descriptors, threads
//! and the time to open stay flat.

mod plot;
mod program;
mod receiver;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;

use crate::prove::{Failure, Progress, Report};
use receiver::Receiver;

const USAGE: &str = "cargo xtask soak [--events N] [--kills N] [--seed N] [--write]

  --events  how many to append and deliver; 10,000,000 if not given
  --kills   how often the program is killed on the way; 500 if not given
  --seed    fixes the content, the moments and the receiver's moods; 1 if not given
  --write   writes docs/soak.csv and docs/soak.svg";

const KEY_CLAIMS: &str = r#"{"channel":"soak"}"#;

/// One life of the program, as it was just before its end.
#[derive(Clone, Debug, Default)]
struct Life {
    acknowledged: u64,
    delivered: u64,
    open_ms: f64,
    rss_kib: u64,
    disk_kib: u64,
    descriptors: u64,
    threads: u64,
    /// Files that sled would have put large values into.
    blobs: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soak {
    pub(crate) events: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) write: bool,
}

/// The command.
pub(crate) fn soak(args: &[String]) -> ExitCode {
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match suite(asked) {
        Ok(report) => {
            println!("{}", report.table());
            ExitCode::from(u8::from(!report.is_whole()))
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Soak, Failure> {
    let mut soak = Soak {
        events: 10_000_000,
        kills: 500,
        seed: 1,
        write: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--events" => soak.events = value()?.parse()?,
            "--kills" => soak.kills = value()?.parse()?,
            "--seed" => soak.seed = value()?.parse()?,
            "--write" => soak.write = true,
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    Ok(soak)
}

/// The program that is killed: what this one starts itself as.
pub(crate) fn inner(command: &str, args: &[String]) -> Option<Result<(), Failure>> {
    let ("soak-program", [spool, url, key, last]) = (command, args) else {
        return None;
    };
    let last = last.parse().map_err(Failure::from);
    Some(last.and_then(|last| program::run(spool, url, key, last)))
}

/// The whole of it.
pub(crate) fn suite(asked: Soak) -> Result<Report, Failure> {
    let dir = tempfile::tempdir_in(target_dir()?)?;
    let spool = dir.path().join("spool");
    let receiver = Receiver::start(asked.seed)?;
    let mut rng = fastrand::Rng::with_seed(asked.seed);
    let mean = asked.events / (asked.kills + 1);
    let mut progress = Progress::new("soak, lives", usize::try_from(asked.kills)? + 1);
    let mut lives = Vec::new();
    loop {
        let mut running = Running::start(&spool, &receiver, asked.events)?;
        let enough = match lives.len() as u64 {
            done if done < asked.kills => Some(rng.u64(1..2 * mean.max(1))),
            _ => None,
        };
        let ended = running.live(&receiver, enough)?;
        lives.push(running.look(&spool, &receiver)?);
        progress.step();
        let (fault, last) = receiver.taken(|taken| (taken.fault.take(), taken.last));
        if let Some(fault) = fault {
            return Err(format!("life {}: {fault}", lives.len()).into());
        }
        if ended {
            running.end()?;
            if last != asked.events {
                return Err(format!("{last} of {} events arrived", asked.events).into());
            }
            break;
        }
        running.kill()?;
    }
    progress.end();
    report(asked, &lives, &receiver)
}

fn target_dir() -> Result<PathBuf, Failure> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A life that goes on.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    open_ms: f64,
}

impl Running {
    fn start(spool: &Path, receiver: &Receiver, last: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("soak-program")
            .arg(spool)
            .arg(format!("http://{}", receiver.address))
            .arg(key())
            .arg(last.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let first = lines.next().ok_or("the program did not open the spool")??;
        let micros = first.strip_prefix("OPENED ").ok_or("no time of opening")?;
        let open_ms = micros.parse::<f64>()? / 1_000.0;
        Ok(Self {
            child,
            lines,
            open_ms,
        })
    }

    /// Lets it live until so many events were acknowledged, or to its end. True at the end.
    fn live(&mut self, receiver: &Receiver, enough: Option<u64>) -> Result<bool, Failure> {
        let before = receiver.acknowledged.load(Ordering::Relaxed);
        loop {
            let line = self.lines.next().ok_or("the program ended by itself")??;
            if line.starts_with("DRAINED ") {
                return Ok(true);
            }
            let last: u64 = line.strip_prefix("ACK ").ok_or("no number")?.parse()?;
            receiver.acknowledged.store(last, Ordering::Relaxed);
            if enough.is_some_and(|enough| last >= before + enough) {
                return Ok(false);
            }
        }
    }

    fn look(&self, spool: &Path, receiver: &Receiver) -> Result<Life, Failure> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status"))?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let (disk_kib, blobs) = disk(spool)?;
        Ok(Life {
            acknowledged: receiver.acknowledged.load(Ordering::Relaxed),
            delivered: receiver.taken(|taken| taken.last),
            open_ms: self.open_ms,
            rss_kib: field("VmRSS:").ok_or("no VmRSS")?,
            disk_kib,
            descriptors: fs::read_dir(proc.join("fd"))?.count() as u64,
            threads: field("Threads:").ok_or("no Threads")?,
            blobs,
        })
    }

    fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("the program ended with {status}").into()),
        }
    }
}

/// KiB that the files take, and how many of them are in a directory `blobs`. A file may go while
/// it is looked at.
fn disk(dir: &Path) -> Result<(u64, u64), Failure> {
    use std::os::unix::fs::MetadataExt;
    let (mut kib, mut blobs) = (0, 0);
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok((0, 0));
    };
    for entry in entries.map_while(Result::ok) {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_dir() {
            let (more, more_blobs) = disk(&entry.path())?;
            kib += more;
            blobs += more_blobs;
        } else {
            kib += meta.blocks() / 2;
            blobs += u64::from(dir.ends_with("blobs"));
        }
    }
    Ok((kib, blobs))
}

/// A key of the documented form that opens nothing.
fn key() -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as base64;
    let head = base64.encode(r#"{"alg":"none"}"#);
    format!(
        "{head}.{}.{}",
        base64.encode(KEY_CLAIMS),
        base64.encode("soak")
    )
}

/// With fewer lives, growth is not told from chance.
const LIVES_MIN: usize = 100;

/// A column of the table: what it is called, its unit, its value, and what it may grow by between
/// the first and the last quarter beside a quarter of itself.
type Column = (&'static str, &'static str, fn(&Life) -> f64, f64);

const COLUMNS: [Column; 5] = [
    (
        "resident memory",
        "MiB",
        |life| life.rss_kib as f64 / 1024.0,
        2.0,
    ),
    ("disk", "MiB", |life| life.disk_kib as f64 / 1024.0, 2.0),
    ("descriptors", "", |life| life.descriptors as f64, 4.0),
    ("threads", "", |life| life.threads as f64, 1.0),
    // It shares the processor with whatever else runs.
    ("opening", "ms", |life| life.open_ms, 50.0),
];

fn report(asked: Soak, lives: &[Life], receiver: &Receiver) -> Result<Report, Failure> {
    let mut report = Report::new(
        "Soak",
        &["", "median, first quarter", "median, last quarter", "most"],
    );
    // The last life idles: it is no like for the others.
    let lives = lives.split_last().map_or(lives, |(_, rest)| rest);
    let quarter = lives.len().div_ceil(4).max(1);
    for (name, unit, value, slack) in COLUMNS {
        let (first, last) = (lives.get(..quarter), lives.get(lives.len() - quarter..));
        let (first, last) = (median(first, value), median(last, value));
        let most = lives.iter().map(value).fold(0.0, f64::max);
        if lives.len() >= LIVES_MIN && last > first * 1.25 + slack {
            report.fail(format!("{name} grew from {first:.1} to {last:.1} {unit}"));
        }
        let show = |value: f64| format!("{value:.1} {unit}").trim_end().to_owned();
        report.row([name.to_owned(), show(first), show(last), show(most)]);
    }
    let max_kib = program::settings().max_bytes / 1024;
    if let Some(life) = lives.iter().find(|life| life.disk_kib > max_kib) {
        report.fail(format!("{} KiB on disk, {max_kib} allowed", life.disk_kib));
    }
    if lives.iter().any(|life| life.blobs > 0) {
        report.fail("sled made a blob".to_owned());
    }
    report.note(receiver.taken(|taken| {
        format!(
            "{} events appended, delivered in order and checked to the byte; {} kills; {} requests, \
             {} refused in outages, {} taken and then hung up on; {} events came twice, each in the \
             batch that was under way.",
            asked.events,
            asked.kills,
            taken.requests,
            taken.outages,
            taken.hung_up,
            taken.again
        )
    }));
    report.count("kills", asked.kills);
    report.count("acknowledged", asked.events);
    for name in ["lost", "altered", "reordered"] {
        report.count(name, 0);
    }
    if asked.write {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        fs::write(docs.join("soak.csv"), csv(lives))?;
        fs::write(docs.join("soak.svg"), plot::svg(lives, &COLUMNS))?;
    }
    Ok(report)
}

fn median(lives: Option<&[Life]>, value: fn(&Life) -> f64) -> f64 {
    let mut values: Vec<f64> = lives.unwrap_or_default().iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn csv(lives: &[Life]) -> String {
    let mut text =
        "life,acknowledged,delivered,open_ms,rss_kib,disk_kib,descriptors,threads,blobs\n"
            .to_owned();
    for (number, life) in (1..).zip(lives) {
        text += &format!(
            "{number},{},{},{:.1},{},{},{},{},{}\n",
            life.acknowledged,
            life.delivered,
            life.open_ms,
            life.rss_kib,
            life.disk_kib,
            life.descriptors,
            life.threads,
            life.blobs
        );
    }
    text
}
