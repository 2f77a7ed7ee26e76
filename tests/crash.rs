//! A program that appends and delivers is killed with SIGKILL, again and again, at random moments
//! of its life: while it opens, appends, seals, recycles, sends and settles. Whatever it had been
//! told is safe must arrive at the receiver, in order; and what arrives twice may only be what
//! was in flight when it died.
//!
//! `CRASH_KILLS` sets how many times (40 otherwise), `CRASH_SEED` from which seed. Every hundred
//! kills are a story of their own, with a new spool and the next seed, so that a story is told
//! again with its seed and its number of kills.
//!
//! The killed program is this test binary, started again with an environment that makes
//! `the_program` do its work; in an ordinary run that test does nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::KeySource;
use everpost::sandbox::{Accepted, Sandbox};
use everpost::{Error, Event, EventId, Queue, Settings, inspect};

/// Kills of one spool at the most.
const STORY: u64 = 100;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().unwrap())
}

fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)))
}

/// Message `n`, of a size that varies.
fn event(n: u64) -> Event {
    let pad = "x".repeat(usize::try_from(n * 37 % 900).unwrap());
    let json = format!(
        r#"{{"id":"{}","timestamp":{n},"content":{{"texts":[{{"text":"{n} {pad}"}}]}}}}"#,
        id(n)
    );
    Event::json(json).unwrap().with_id(id(n))
}

/// Limits so small that sealing, rolling and recycling happen all the time.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.journal_bytes = 32 << 10;
    settings.max_event_bytes = 4 << 10;
    settings.tail_bytes = 8 << 10;
    settings.chunk_bytes = 4 << 10;
    settings.segment_bytes = 32 << 10;
    settings.delivery.batch_events = 7;
    settings.delivery.backoff_min = std::time::Duration::from_millis(1);
    settings.delivery.backoff_max = std::time::Duration::from_millis(5);
    settings
}

/// Appends for ever and says so, or, if `CRASH_DRAIN` is set, delivers what waits and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    let Ok(spool) = std::env::var("CRASH_SPOOL") else {
        return;
    };
    let url = std::env::var("CRASH_URL").unwrap();
    let key = std::env::var("CRASH_KEY").unwrap();
    let sink = Botanalytics::builder(KeySource::value(key))
        .base_url(url)
        .build()
        .unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nOPENING").unwrap();
    let queue = Queue::builder(spool)
        .settings(settings())
        .sink(sink)
        .open()
        .await
        .unwrap();
    assert!(
        queue.recovery().missing.is_empty(),
        "{:?}",
        queue.recovery()
    );
    let ledger = queue.status().ledger;
    assert_eq!(ledger.appended, ledger.settled() + ledger.pending());
    if std::env::var("CRASH_DRAIN").is_ok() {
        let drained = queue.watch().wait_for(|status| status.pending == 0).await;
        let ledger = drained.unwrap().ledger;
        queue
            .close(std::time::Duration::from_secs(5))
            .await
            .unwrap();
        writeln!(out, "\nDRAINED {} {}", ledger.appended, ledger.delivered).unwrap();
        return;
    }
    for n in queue.status().last_seq + 1.. {
        let receipt = queue.append(event(n)).await.unwrap();
        assert_eq!(receipt.seq, n);
        writeln!(out, "\nACK {n}").unwrap();
    }
}

struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(spool: &std::path::Path, sandbox: &Sandbox, drain: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "the_program", "--nocapture"])
            .env("CRASH_SPOOL", spool)
            .env("CRASH_URL", sandbox.base_url())
            .env("CRASH_KEY", sandbox.key())
            .stdout(Stdio::piped());
        if drain {
            command.env("CRASH_DRAIN", "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that begins like this; what follows that beginning.
    fn next(&mut self, beginning: &str) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(beginning).map(str::to_owned))
    }
}

/// xorshift64*: the moments of death follow from one printed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n
    }
}

/// Only what was in the batch in flight may come again: the events accepted last, as many as one
/// batch holds. After a restart they may come in other portions than before.
fn check_repeats(accepted: &[Accepted]) {
    let batch = u64::from(settings().delivery.batch_events);
    let mut newest = 0;
    for event in accepted {
        let id: EventId = event.id().unwrap().parse().unwrap();
        let n = u64::try_from(id.as_uuid().as_u128()).unwrap();
        if event.is_repeat() {
            assert!(
                n + batch > newest,
                "{n} came again after {newest}, and was not in flight"
            );
        }
        newest = newest.max(n);
    }
}

/// Every event arrived as it was appended, to the byte.
fn check_bytes(accepted: &[Accepted]) {
    for taken in accepted {
        let id: EventId = taken.id().unwrap().parse().unwrap();
        let n = u64::try_from(id.as_uuid().as_u128()).unwrap();
        let made = event(n);
        assert_eq!(taken.json(), Some(&made.json_bytes()[..]), "{n} is altered");
    }
}

/// What a story counted.
#[derive(Default)]
struct Counts {
    acknowledged: u64,
    duplicates: u64,
}

/// Kills the program so many times on one spool, lets it deliver, and checks what arrived.
async fn story(seed: u64, kills: u64, progress: impl Fn(u64)) -> Counts {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let sandbox = Sandbox::start().await.unwrap();
    let mut acknowledged = 0;
    for round in 0..kills {
        progress(round);
        // Away for a while every third round, so that a backlog builds up and is sealed.
        if round % 3 == 0 {
            sandbox.go_away().await.unwrap();
        } else {
            sandbox.come_back().await.unwrap();
        }
        let mut program = Program::start(&spool, &sandbox, false);
        program.next("OPENING").unwrap();
        // Every fifth round it dies while it opens, after a moment of random length.
        let appends = if round % 5 == 0 { 0 } else { dice.below(80) };
        if appends == 0 {
            (0..dice.below(5_000_000)).for_each(|_| std::hint::spin_loop());
        }
        for _ in 0..appends {
            let n = program.next("ACK ").unwrap();
            acknowledged = n.parse().unwrap();
        }
        program.child.kill().unwrap();
        // What it still said before it died counts too.
        while let Some(n) = program.next("ACK ") {
            acknowledged = n.parse().unwrap_or(acknowledged);
        }
        program.child.wait().unwrap();
        // A kill damages nothing.
        match inspect::verify(&spool) {
            Ok(report) => assert!(report.is_sound() && !report.disturbed, "{report:?}"),
            Err(Error::NoSpool { .. }) => assert_eq!(acknowledged, 0),
            Err(error) => panic!("a look is refused: {error:?}"),
        }
    }
    sandbox.come_back().await.unwrap();
    let mut last = Program::start(&spool, &sandbox, true);
    let books = last.next("DRAINED ").unwrap();
    assert!(last.child.wait().unwrap().success());
    let (appended, delivered) = books.split_once(' ').unwrap();
    assert_eq!(appended, delivered);
    let appended: u64 = appended.parse().unwrap();
    assert!(
        appended >= acknowledged,
        "{acknowledged} were acknowledged, {appended} are there"
    );
    assert!(
        acknowledged > kills,
        "the program got little done: {acknowledged}"
    );
    check_bytes(&sandbox.accepted());
    sandbox
        .check_order((1..=appended).map(|n| id(n).to_string()))
        .unwrap();
    check_repeats(&sandbox.accepted());
    Counts {
        acknowledged,
        duplicates: sandbox.duplicates().len() as u64,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_and_repeat_only_what_was_in_flight() {
    let (kills, seed) = (number("CRASH_KILLS", 40), number("CRASH_SEED", 20_261_123));
    let mut all = Counts::default();
    for (seed, done) in (seed..).zip((0..kills).step_by(usize::try_from(STORY).unwrap())) {
        let more = STORY.min(kills - done);
        println!("\nCRASH_SEED={seed} CRASH_KILLS={more}");
        let progress = |round| {
            if round % 10 == 0 {
                println!("\nPROGRESS {} of {kills} kills", done + round);
            }
        };
        let counts = story(seed, more, progress).await;
        all.acknowledged += counts.acknowledged;
        all.duplicates += counts.duplicates;
    }
    println!(
        "\nPROVED kills={kills} acknowledged={} duplicates={} lost=0 altered=0 reordered=0 panics=0",
        all.acknowledged, all.duplicates
    );
}
