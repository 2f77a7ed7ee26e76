//! A program that does everything a queue does, run under strace with a fault at one system call,
//! and what must hold when its spool is opened again without faults.
//!
//! The program is the test binary itself, started again with an environment that makes
//! `the_program` do its work.
//!
//! The tries are divided into series, each with a seed of its own. `TRACED_SEED` chooses the seed
//! and so the places, `TRACED_ALL=1` tries every place, `TRACED_PART=0/2` only every second series,
//! so that several processes share the work, and `TRACED_ONLY` only those series whose name holds
//! that text: so a failing one is run again.

#[path = "noise.rs"]
mod noise;
#[path = "tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everpost::{
    Answer, Error, Event, EventId, Outcome, Queue, Request, Seq, Settings, Sink, StoredEvent,
    Verdict,
};

use noise::numbers;
use tree::copy;

const SPOOL: &str = "TRACED_SPOOL";
const LIFE: &str = "TRACED_LIFE";

/// A life of the program: it makes the spool, or goes on with what the first life left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    First,
    Second,
}

pub(crate) const LIVES: [Life; 2] = [Life::First, Life::Second];

/// How long the program may take, and a check: more is a hang.
const PATIENT: Duration = Duration::from_secs(100);

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)))
}

/// Event `n`, of a size that varies, and hardly compresses.
fn event(n: u64) -> Event {
    let noise: String = numbers(n | 1 << 40)
        .take((30 + n * 37 % 150) as usize)
        .map(|word| format!("{:04x}", word & 0xffff))
        .collect();
    let json = format!("{{\"n\":{n},\"text\":\"{noise}\"}}");
    Event::json(json).unwrap().with_id(id(n))
}

/// The number of an event, which must be what it was made as.
fn number(event: &Event) -> u64 {
    let n = u64::try_from(event.id().as_uuid().as_u128()).unwrap();
    assert_eq!(
        event.json_bytes(),
        self::event(n).json_bytes(),
        "event {n} was altered"
    );
    n
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 16 << 10;
    settings.max_event_bytes = 2 << 10;
    settings.tail_bytes = 4 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 4 << 10;
    settings.delivery.batch_events = 5;
    settings.delivery.backoff_min = Duration::from_millis(1);
    settings.delivery.backoff_max = Duration::from_millis(2);
    settings
}

/// Refuses two events, takes the others while it is there, and says what it took.
#[derive(Clone)]
struct Scripted {
    here: Arc<AtomicBool>,
}

const REFUSED: [u64; 2] = [6, 30];

impl Sink for Scripted {
    async fn deliver(&self, request: Request) -> Outcome {
        let mut numbers = request.events().iter().map(|stored| number(&stored.event));
        let verdict = if !self.here.load(Ordering::SeqCst) {
            Verdict::Retry { not_before: None }
        } else if numbers.any(|n| REFUSED.contains(&n)) {
            Verdict::Poison
        } else {
            let took = request
                .events()
                .iter()
                .map(|s| format!("TOOK {}\n", number(&s.event)));
            say(&took.collect::<String>());
            Verdict::Delivered
        };
        Outcome::new(verdict, Answer::from_status(400))
    }
}

/// One write for all of it, so that a kill leaves whole lines.
fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{text}").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Waits until the queue is as wanted, but not long: the disk may have failed for good.
async fn soon(queue: &Queue, wanted: impl FnMut(&everpost::Status) -> bool) {
    let mut watch = queue.watch();
    let wait = watch.wait_for(wanted);
    let _ = tokio::time::timeout(Duration::from_millis(300), wait).await;
}

/// What the traced program does, if this is it: opens, lets a backlog grow so that sealing and
/// rolling happen, delivers some of it and buries some, retries and discards, and closes.
pub(crate) async fn program() {
    let Ok(spool) = std::env::var(SPOOL) else {
        return;
    };
    let (from, to) = match std::env::var(LIFE).as_deref() {
        Ok("First") => (1, 60),
        _ => (61, 90),
    };
    if let Err(error) = live(&spool, from, to).await {
        // Which kinds may come is checked outside.
        say(&format!("FAILED {error:?}\n").replace("FAILED Panicked", "PANICKED"));
    }
    say("ENDED\n");
}

async fn live(spool: &str, from: u64, to: u64) -> Result<(), Error> {
    let here = Arc::new(AtomicBool::new(false));
    let sink = Scripted {
        here: Arc::clone(&here),
    };
    let builder = Queue::builder(spool).settings(settings()).sink(sink);
    let queue = builder.open().await?;
    for n in from..=to {
        match queue.append(event(n)).await.map_err(Error::from) {
            Ok(_) => say(&format!("ACK {n}\n")),
            Err(error @ Error::Panicked { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    here.store(true, Ordering::SeqCst);
    let half = queue.status().pending / 2;
    // The disk refuses now and then; what counts is what the books say in the end.
    let _ = queue.wake().await;
    soon(&queue, |status| status.pending <= half).await;
    let _ = queue.pause().await;
    // A small batch: all three ends of a letter.
    let letters = queue
        .dead_letters()
        .list(..)
        .take(10)
        .await
        .unwrap_or_default();
    for letter in letters {
        let n = number(&letter.event);
        say(&format!("ASKED {n}\n"));
        if n == REFUSED[0] {
            if queue.dead_letters().retry(letter.seq).await.is_ok() {
                say(&format!("RETRIED {n}\n"));
            }
        } else {
            let _ = queue.dead_letters().discard(letter.seq).await;
        }
    }
    queue.close(Duration::ZERO).await?;
    say("CLOSED\n");
    Ok(())
}

/// What the program said before it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    acknowledged: Vec<u64>,
    took: Vec<u64>,
    /// Letters it discarded or retried, or was about to.
    asked: BTreeSet<u64>,
    pub(crate) ended: bool,
}

/// Whether strace is there and may trace.
pub(crate) fn can_trace() -> bool {
    let run = Command::new("strace").args(["-f", "true"]).output();
    let can = run.is_ok_and(|run| run.status.success());
    if !can {
        println!("\nSKIPPED strace is not here, or may not trace");
    }
    can
}

/// A place for spools, and what the first life leaves if nothing happens to it.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    first: Said,
}

impl Said {
    /// How many events it was told are safe.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Self {
            dir,
            first: Said::default(),
        };
        let (first, _) = bench.run(Life::First, "rename", "error=EIO:when=1000");
        assert!(first.ended && first.acknowledged.len() == 60, "{first:?}");
        std::fs::rename(bench.spool(), bench.dir.path().join("first")).unwrap();
        bench.first = first;
        bench
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// One run of the program with `inject`; what it said, and whether the fault came.
    pub(crate) fn run(&self, life: Life, call: &str, inject: &str) -> (Said, bool) {
        let before = match life {
            Life::First => Said::default(),
            Life::Second => {
                copy(&self.dir.path().join("first"), &self.spool());
                self.first.clone()
            }
        };
        let trace = self.dir.path().join("trace");
        traced(&self.spool(), &trace, life, call, inject, before)
    }

    /// Makes room for the next run.
    pub(crate) fn clear(&self) {
        std::fs::remove_dir_all(self.spool()).unwrap();
    }
}

fn traced(
    spool: &Path,
    trace: &Path,
    life: Life,
    call: &str,
    inject: &str,
    mut said: Said,
) -> (Said, bool) {
    said.ended = false;
    let mut command = Command::new("timeout");
    // In the foreground, so that an interrupt from the keyboard reaches the program, too.
    command
        .args(["--foreground", "--signal=KILL"])
        .arg(PATIENT.as_secs().to_string())
        .args(["strace", "-f", "-qq"]);
    if inject.starts_with("error") {
        // The quicker way of tracing does not deliver signals (strace 6.1).
        command.arg("--seccomp-bpf");
    }
    let child = command
        .arg("-o")
        .arg(trace)
        .args([
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:{inject}"),
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_program", "--nocapture", "--test-threads=1"])
        .env(SPOOL, spool)
        .env(LIFE, format!("{life:?}"))
        .env("RUST_BACKTRACE", "0")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert_ne!(
        child.status.code(),
        Some(137),
        "{life:?} {call} {inject}: the program hangs"
    );
    let text = String::from_utf8_lossy(&child.stdout);
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ACK" => said.acknowledged.push(rest.parse().unwrap()),
            "TOOK" => said.took.push(rest.parse().unwrap()),
            "ASKED" => _ = said.asked.insert(rest.parse().unwrap()),
            "ENDED" => said.ended = true,
            "PANICKED" => panic!("{life:?} {call} {inject}: {line}"),
            "FAILED" => assert!(
                rest.starts_with("Storage")
                    || rest.starts_with("Full")
                    || rest.starts_with("Closed"),
                "{life:?} {call} {inject}: {line}"
            ),
            _ => {}
        }
    }
    let trace = std::fs::read_to_string(trace).unwrap_or_default();
    (
        said,
        trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL +++"),
    )
}

/// Takes everything.
#[derive(Clone, Default)]
struct Taker(Arc<std::sync::Mutex<Vec<StoredEvent>>>);

impl Sink for Taker {
    async fn deliver(&self, request: Request) -> Outcome {
        self.0.lock().unwrap().extend_from_slice(request.events());
        Outcome::new(Verdict::Delivered, Answer::from_status(200))
    }
}

/// Opens the spool without faults: everything acknowledged is there or was taken, in order and
/// unaltered, nothing is missing, and the books balance.
///
/// `in_flight` bounds how many events may come again: a kill repeats one batch at the most, a
/// failing disk whatever it did not let be settled.
///
/// Gives how many events came again.
pub(crate) async fn check(case: &str, spool: &Path, said: &Said, in_flight: Option<usize>) -> u64 {
    // Nothing was damaged, so a look raises no alarm, and an opening puts nothing on record.
    match everpost::inspect::verify(spool) {
        Ok(report) => assert!(report.is_sound() && !report.disturbed, "{case}: {report:?}"),
        Err(Error::NoSpool { .. }) => assert!(said.acknowledged.is_empty(), "{case}: {said:?}"),
        Err(error) => panic!("{case}: a look is refused: {error:?}"),
    }
    let taker = Taker::default();
    let builder = Queue::builder(spool)
        .settings(settings())
        .sink(taker.clone());
    let queue = tokio::time::timeout(PATIENT, builder.open()).await;
    let queue = queue
        .unwrap_or_else(|_| panic!("{case}: opening hangs"))
        .unwrap_or_else(|error| panic!("{case}: it does not open: {error:?}"));
    let recovery = queue.recovery();
    assert!(
        recovery.missing.is_empty() && recovery.incidents.is_empty(),
        "{case}: {recovery:?}"
    );
    queue.resume().await.unwrap();
    let mut watch = queue.watch();
    let drained = tokio::time::timeout(PATIENT, watch.wait_for(|status| status.pending == 0)).await;
    let status = drained.unwrap_or_else(|_| panic!("{case}: not drained: {:?}", queue.status()));
    let ledger = status.unwrap().ledger;
    assert_eq!(
        ledger.appended,
        ledger.delivered + ledger.dead,
        "{case}: {ledger:?}"
    );
    let letters = queue.dead_letters().list(..).take(100).await.unwrap();
    let letters: BTreeMap<u64, Seq> = letters.iter().map(|l| (number(&l.event), l.seq)).collect();
    queue.close(Duration::ZERO).await.unwrap();

    let taken: Vec<u64> = taker
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|s| number(&s.event))
        .collect();
    // An event that was a letter and was appended again stands at another place.
    let in_order: Vec<u64> = taken
        .iter()
        .copied()
        .filter(|n| !REFUSED.contains(n))
        .collect();
    assert!(
        in_order.is_sorted_by(|a, b| a < b),
        "{case}: out of order: {in_order:?}"
    );
    let there: BTreeSet<u64> = taken
        .iter()
        .chain(&said.took)
        .chain(letters.keys())
        .copied()
        .collect();
    for n in &said.acknowledged {
        // A letter that was discarded is gone by the caller's word.
        let discarded = *n == REFUSED[1] && said.asked.contains(n);
        assert!(
            there.contains(n) || discarded,
            "{case}: {n} is lost: {said:?} {taken:?} {letters:?}"
        );
    }
    let again: Vec<&u64> = taken.iter().filter(|n| said.took.contains(n)).collect();
    if let Some(most) = in_flight {
        let last = &said.took[said.took.len().saturating_sub(most)..];
        assert!(
            again.iter().all(|n| last.contains(n)),
            "{case}: repeated {again:?}: {said:?}"
        );
    }
    again.len() as u64
}

/// xorshift64*: which places are tried follows from the name of the series and one printed seed.
pub(crate) struct Dice(u64);

impl Dice {
    fn of(series: &str) -> Self {
        let text = std::env::var("TRACED_SEED").ok();
        let mut state: u64 = text.map_or(20_261_123, |seed| seed.parse().unwrap());
        for byte in series.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            state ^= state >> 29;
        }
        Self(state | 1)
    }

    /// From 1 to `most`.
    pub(crate) fn step(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        1 + (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % most
    }

    /// How far it is to the next place, at most so far; 1 if every place is tried.
    pub(crate) fn next(&mut self, apart: u64) -> u64 {
        if is_all() { 1 } else { self.step(apart) }
    }
}

fn is_all() -> bool {
    std::env::var("TRACED_ALL").is_ok()
}

/// The series of this process, each with its dice. Says which comes next.
pub(crate) fn series<T>(
    all: Vec<T>,
    name: impl Fn(&T) -> String,
) -> impl Iterator<Item = (T, Dice)> {
    let part = std::env::var("TRACED_PART").unwrap_or_else(|_| "0/1".into());
    let (mine, of) = part.split_once('/').unwrap();
    let (mine, of): (usize, usize) = (mine.parse().unwrap(), of.parse().unwrap());
    let only = std::env::var("TRACED_ONLY").unwrap_or_default();
    let mine: Vec<(String, T)> = all
        .into_iter()
        .skip(mine)
        .step_by(of)
        .map(|series| (name(&series), series))
        .filter(|(name, _)| name.contains(&only))
        .collect();
    let count = mine.len();
    (0..).zip(mine).map(move |(n, (name, series))| {
        println!("\nPROGRESS {n} of {count} series");
        println!("TRACED_ONLY='{name}'");
        let dice = Dice::of(&name);
        (series, dice)
    })
}

/// Whether this process does all the work at least once, so that it must have seen everything.
pub(crate) fn is_whole() -> bool {
    ["TRACED_PART", "TRACED_ONLY"]
        .map(std::env::var)
        .iter()
        .all(Result::is_err)
}
