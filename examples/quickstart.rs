//! The whole story in one run: an API that is away, a bot that is killed while it appends, its
//! restart, the API's uneasy return, the backlog draining, one bad message explained, and the
//! books at the end. Needs no key, no network and no other terminal:
//!
//! ```text
//! cargo run -p everpost --example quickstart
//! ```
//!
//! The bot is this same program, started again as a child process, so that it can be killed for
//! real. `QUICKSTART_KILL_AFTER=417` chooses the acknowledgement after which that happens. The two
//! speak in lines: one that begins with a capital letter is meant for the parent alone.

#![expect(clippy::print_stderr, reason = "an example speaks to its reader")]

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::botanalytics::Botanalytics;
use everpost::botanalytics::KeySource;
use everpost::botanalytics::message::{Message, Sender};
use everpost::sandbox::{Fault, Reply, Sandbox};
use everpost::{Delivery, Event, EventId, FlusherState, Queue, Settings, Status};

const MESSAGES: u64 = 1_000;
/// The message that the API will refuse: a text without its text.
const BAD: u64 = 617;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("bot") => run(bot(&args.collect::<Vec<_>>())),
        _ => run(supervise()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // As with `| head`: the reader has seen enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(story: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(story)
}

/// Plays the world around the bot: the API, the power switch, and the auditor.
async fn supervise() -> Outcome<()> {
    let mut screen = Screen::new();
    let home = tempfile::tempdir()?;
    let spool = home.path().join("spool");
    let sandbox = Sandbox::start().await?;
    sandbox.go_away().await?;
    screen.say(&format!(
        "the API at {} is away: connections are refused",
        sandbox.base_url()
    ))?;

    let kill_after = kill_after();
    screen.say(&format!(
        "a bot begins a conversation of {MESSAGES} messages"
    ))?;
    let mut first = Bot::start(&spool, &sandbox)?;
    let acknowledged = first.read_until(&mut screen, |line| line == format!("ACK {kill_after}"))?;
    first.kill()?;
    screen.say(&format!(
        "SIGKILL: the bot is dead, after {acknowledged} messages were acknowledged"
    ))?;

    let mut second = Bot::start(&spool, &sandbox)?;
    second.read_until(&mut screen, |line| line == "APPENDED")?;

    sandbox.script([
        Fault::status(503),
        Fault::status(503),
        Fault::Answer(Reply::status(429).retry_after(Duration::from_secs(1))),
        Fault::None,
        Fault::status(500),
    ]);
    sandbox.come_back().await?;
    screen.say("the API is back, with two 503s, a 429 that asks for 1 s, and a 500 to come")?;
    second.read_until(&mut screen, |line| line == "CLOSED")?;
    second.wait()?;
    audit(&sandbox, &mut screen)?;
    sandbox.stop().await;
    Ok(())
}

/// What the API saw, compared with what must be.
fn audit(sandbox: &Sandbox, screen: &mut Screen) -> Outcome<()> {
    let expected = (1..=MESSAGES)
        .filter(|n| *n != BAD)
        .map(|n| id(n).to_string());
    let order = sandbox.check_order(expected);
    let duplicates = sandbox.duplicates().len();
    let in_order = if order.is_ok() { "yes" } else { "NO" };
    screen.line(&format!(
        "\n  the API accepted     {:>6}  different messages\n  in append order      {in_order:>6}\n  \
         seen more than once  {duplicates:>6}  (only an answer that was lost makes any)\n  \
         requests             {:>6}",
        sandbox.stats().distinct,
        sandbox.stats().requests
    ))?;
    order?;
    if duplicates > 0 {
        return Err("there are duplicates, although no answer was lost".into());
    }
    screen.line(
        "\nEvery message arrived once and in order; the bad one is set aside and explained.\n\
         Next: `cargo run -p everpost --example chat_bot`, a bot to copy from; or the command, from the shell: \
         `cargo run --features cli -- --help`.",
    )?;
    Ok(())
}

/// The bot: appends what is not appended yet, then lets the flusher drain.
async fn bot(args: &[String]) -> Outcome<()> {
    let [spool, base_url, key] = args else {
        return Err("usage: bot SPOOL URL KEY".into());
    };
    let sink = Botanalytics::builder(KeySource::value(key.clone()))
        .base_url(base_url)
        .build()?;
    let settings = Settings {
        delivery: Delivery {
            // An impatient demonstration: the defaults wait up to a minute between attempts.
            backoff_max: Duration::from_secs(1),
            batch_events: 100,
            ..Delivery::default()
        },
        ..Settings::default()
    };
    let queue = Queue::builder(spool)
        .settings(settings)
        .sink(sink)
        .open()
        .await?;

    let found = queue.status();
    if found.last_seq > 0 {
        tell(&format!(
            "* the bot is back: {} messages are in its spool, opened in {:?}; it goes on with {}",
            found.last_seq,
            queue.recovery().took,
            found.last_seq + 1
        ))?;
    }
    for n in found.last_seq + 1..=MESSAGES {
        let receipt = queue.append(message(n)?).await?;
        tell(&format!("ACK {}", receipt.seq))?;
    }
    let status = queue.status();
    tell(&format!(
        "* all {MESSAGES} messages are on disk; {}",
        explain(&status)
    ))?;
    tell("APPENDED")?;

    drain(&queue).await?;
    let letters = queue.dead_letters().list(..).take(10).await?;
    for letter in &letters {
        tell(&format!(
            "* dead letter: message {} was refused with {} after {} attempts: {}",
            letter.seq,
            letter.answer.status.unwrap_or(0),
            letter.attempts,
            letter.answer.errors.join(" ")
        ))?;
    }
    let closed = queue.close(Duration::from_secs(5)).await?;
    let books = closed.status.ledger;
    tell(&format!("\n  appended  {:>6}", books.appended))?;
    tell(&format!("  delivered {:>6}", books.delivered))?;
    tell(&format!("  dead      {:>6}", books.dead))?;
    tell(&format!("  pending   {:>6}", books.pending()))?;
    let right = books.appended == MESSAGES
        && (books.delivered, books.dead) == (MESSAGES - 1, 1)
        && letters.iter().map(|letter| letter.seq).eq([BAD]);
    if !right {
        return Err(format!("the books are not as they must be: {books:?}").into());
    }
    tell("CLOSED")?;
    Ok(())
}

/// Prints a progress line whenever something changes, until nothing waits any more.
async fn drain(queue: &Queue) -> Outcome<()> {
    let mut watch = queue.watch();
    let mut last_shown = String::new();
    let mut told = Ok(());
    let drained = watch.wait_for(|status| {
        let settled = status.ledger.settled();
        let bar = "#".repeat(usize::try_from(settled * 30 / MESSAGES).unwrap_or(0));
        let line = format!("  [{bar:<30}] {settled:>4}/{MESSAGES}  {}", explain(status));
        if line != last_shown {
            told = tell(&format!("PROGRESS {line}"));
            last_shown = line;
        }
        told.is_err() || status.pending == 0
    });
    let drained = tokio::time::timeout(Duration::from_secs(30), drained).await;
    told?;
    match drained {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("the queue ended before it was drained".into()),
        Err(_) => Err("the queue was not drained within 30 s".into()),
    }
}

fn explain(status: &Status) -> String {
    let pending = status.pending;
    match &status.flusher {
        FlusherState::BackingOff {
            attempt,
            last_error,
            ..
        } => {
            let why = match last_error.status {
                Some(status) => format!("the API said {status}"),
                None => last_error.detail.clone().unwrap_or_default(),
            };
            format!("{pending} wait; attempt {attempt} failed ({why})")
        }
        FlusherState::Sending => format!("{pending} wait; sending"),
        _ => format!("{pending} wait"),
    }
}

/// Message `n` of the conversation: user and bot take turns.
fn message(n: u64) -> Outcome<Event> {
    let event = if n == BAD {
        // Not made by the builder, which would not let it pass.
        Event::json(format!(
            r#"{{"id":"{}","message":{{"timestamp":1764000000000,"content":{{"texts":[{{"tex":"typo"}}]}}}}}}"#,
            id(n)
        ))?
    } else {
        let (sender, text) = match n % 4 {
            1 => (Sender::user("u-17"), format!("Where is my order {n}?")),
            2 => (
                Sender::virtual_agent("bot"),
                format!("Order {n} left our warehouse this morning."),
            ),
            3 => (
                Sender::user("u-17"),
                "Can it come tomorrow evening instead?".to_owned(),
            ),
            _ => (
                Sender::virtual_agent("bot"),
                "Done: tomorrow between 18:00 and 20:00.".to_owned(),
            ),
        };
        let message = Message::text(text)
            .id(id(n).to_string())
            .thread("t-7")
            .sender(sender);
        message.into_event()?
    };
    Ok(event.with_id(id(n)))
}

/// An id that follows from the number, so that the restarted bot gives the same ones.
fn id(n: u64) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(
        0x0198_0000_0000_7000_8000_0000_0000_0000 | u128::from(n),
    ))
}

/// After which acknowledgement the bot dies: chosen by the caller, or by the clock.
fn kill_after() -> u64 {
    let chosen = std::env::var("QUICKSTART_KILL_AFTER")
        .ok()
        .and_then(|text| text.parse().ok());
    chosen.unwrap_or_else(|| {
        #[expect(clippy::disallowed_methods, reason = "any number will do")]
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        100 + u64::from(now.subsec_micros()) % 800
    })
}

/// A line that stays in a buffer when the process is killed was never said.
fn tell(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Standard output as the reader sees it: on a terminal, progress is one line, drawn again.
struct Screen {
    is_terminal: bool,
    /// The cursor stands at the end of a progress line.
    is_in_progress: bool,
}

impl Screen {
    fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_terminal: io::stdout().is_terminal() && !is_dumb,
            is_in_progress: false,
        }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.line(&format!("* {line}"))
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if std::mem::take(&mut self.is_in_progress) {
            tell("")?;
        }
        tell(line)
    }

    fn progress(&mut self, line: &str) -> io::Result<()> {
        if !self.is_terminal {
            return tell(line);
        }
        self.is_in_progress = true;
        let mut out = io::stdout().lock();
        // Back to the first column and clear; what is too long for the line is cut, not wrapped.
        write!(out, "\r\x1b[2K\x1b[?7l{line}\x1b[?7h")?;
        out.flush()
    }
}

/// The child process.
struct Bot {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Bot {
    fn drop(&mut self) {
        // A story that ends early takes its bot with it.
        let _ = self.kill();
    }
}

impl Bot {
    fn start(spool: &Path, sandbox: &Sandbox) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bot")
            .arg(spool)
            .args([sandbox.base_url(), sandbox.key()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the bot has no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Passes on what the bot says until it says what is waited for; gives the number of
    /// acknowledgements it has read.
    fn read_until(&mut self, screen: &mut Screen, wanted: impl Fn(&str) -> bool) -> Outcome<u64> {
        let mut acknowledged = 0;
        for line in self.lines.by_ref() {
            let line = line?;
            if let Some(n) = line.strip_prefix("ACK ") {
                acknowledged = n.parse()?;
            } else if let Some(progress) = line.strip_prefix("PROGRESS ") {
                screen.progress(progress)?;
            } else if !line.starts_with(|c: char| c.is_ascii_uppercase()) {
                screen.line(&line)?;
            }
            if wanted(&line) {
                return Ok(acknowledged);
            }
        }
        Err("the bot ended too early".into())
    }

    fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn wait(&mut self) -> Outcome<()> {
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the bot ended with {status}").into())
        }
    }
}
