//! `append` and `import`: lines become events.

use std::collections::VecDeque;
use std::time::Duration;

use everpost::control::wire::Entry;
use everpost::{Error, Event, Receipt, Seq, Settings, exit};
use serde::Serialize;

use crate::args::{Append, Cli, Input, Intake};
use crate::environment;
use crate::fault::Fault;
use crate::lines::{Line, Lines};
use crate::out::{Out, remark};
use crate::signals::Signals;
use crate::target::{Target, in_time};
use crate::text::count;

/// Bytes of a line that may come beside the event in it.
const ENVELOPE_BYTES: usize = 64 << 10;

/// How long a queue that is full is left alone before it is asked again.
const FULL_REST: Duration = Duration::from_millis(200);

pub(crate) async fn append(cli: &Cli, append: &Append, out: Out) -> Result<(), Fault> {
    let settings = environment::settings(cli)?;
    let acks = append.ack_from.or(append.ack.then_some(0));
    let mut signals = Signals::catch()?;
    let lines = open_lines(append.file.as_deref(), &settings)?;
    let opening = Target::open(cli, settings.clone(), true);
    let target = in_time(opening, &mut signals, exit::UNEXPECTED, None).await?;
    if target.is_live() && append.level.is_some() {
        return Err(
            Fault::usage("the spool is in use, and its owner decides on the level")
                .hint("leave --level out, or stop the owner first"),
        );
    }
    let feed = Feed::new(&target, &settings, append.intake, Form::Event, acks);
    let fed = feed.run(lines, &mut signals).await;
    finish(target, fed, acks.is_none(), out).await
}

pub(crate) async fn import(cli: &Cli, input: &Input, out: Out) -> Result<(), Fault> {
    let settings = environment::settings(cli)?;
    let mut signals = Signals::catch()?;
    let lines = open_lines(input.file.as_deref(), &settings)?;
    let opening = Target::open(cli, settings.clone(), true);
    let target = in_time(opening, &mut signals, exit::UNEXPECTED, None).await?;
    let feed = Feed::new(&target, &settings, input.intake, Form::Entry, None);
    let fed = feed.run(lines, &mut signals).await;
    finish(target, fed, true, out).await
}

/// The lines of the input. Those that cannot be an event by their length are not kept.
pub(crate) fn open_lines(
    file: Option<&std::path::Path>,
    settings: &Settings,
) -> Result<Lines, Fault> {
    // The owner of the spool may allow more than these settings.
    let event_bytes = settings.max_event_bytes.max(1 << 20);
    let max_bytes = usize::try_from(event_bytes).unwrap_or(usize::MAX);
    Lines::open(file, max_bytes.saturating_add(ENVELOPE_BYTES))
}

/// Closes, says what came of it, and gives the exit code.
async fn finish(
    target: Target,
    (tally, result): (Tally, Result<(), Fault>),
    say: bool,
    out: Out,
) -> Result<(), Fault> {
    // Closed first: with `written`, this is what makes it durable.
    target.close().await?;
    if say || out.json {
        out.show(&tally, || tally.for_people())?;
    }
    result?;
    tally.verdict()
}

/// What a line of the input is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// An event.
    Event,
    /// An event with its id and time around it, as `export` writes it.
    Entry,
}

/// What became of the input.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Events that were appended and are durable.
    pub(crate) appended: u64,
    /// Lines that were refused.
    pub(crate) refused: u64,
    /// The sequence numbers of the first and the last of them.
    pub(crate) first_seq: Option<Seq>,
    pub(crate) last_seq: Option<Seq>,
    /// Whether a signal ended the input before its end.
    pub(crate) interrupted: bool,
}

impl Tally {
    fn note(&mut self, receipts: &[Receipt]) {
        self.appended += receipts.len() as u64;
        let seqs = || receipts.iter().map(|receipt| receipt.seq);
        self.first_seq = self.first_seq.or(seqs().next());
        self.last_seq = seqs().next_back().or(self.last_seq);
    }

    fn for_people(&self) -> String {
        let mut text = format!("appended {}", count(self.appended, "event"));
        if let (Some(first), Some(last)) = (self.first_seq, self.last_seq) {
            text.push_str(&format!(", seq {first} to {last}"));
        }
        if self.refused > 0 {
            text.push_str(&format!("; refused {}", count(self.refused, "line")));
        }
        text + "\n"
    }

    pub(crate) fn verdict(&self) -> Result<(), Fault> {
        match self.refused {
            0 => Ok(()),
            // Each of them was named when it was met.
            _ => Err(Fault::silent(exit::REFUSED)),
        }
    }
}

/// Takes lines to a queue, in order.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    target: &'a Target,
    intake: Intake,
    form: Form,
    commit_bytes: usize,
    /// The number of the next acknowledgement, if they are wanted.
    acks: Option<u64>,
    /// Whether a full queue is waited for, because somebody makes room.
    patient: bool,
    ahead: VecDeque<Line>,
    tally: Tally,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(
        target: &'a Target,
        settings: &Settings,
        intake: Intake,
        form: Form,
        acks: Option<u64>,
    ) -> Self {
        Self {
            target,
            intake,
            form,
            commit_bytes: target.commit_bytes(settings),
            acks,
            patient: false,
            ahead: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// Waits for room when the queue is full.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Takes all lines in, or, after a signal, all that were read. The tally is right whatever
    /// the result.
    pub(crate) async fn run(
        mut self,
        mut lines: Lines,
        signals: &mut Signals,
    ) -> (Tally, Result<(), Fault>) {
        let result = self.take_all(&mut lines, signals).await;
        let partial = lines.partial();
        if self.tally.interrupted && partial > 0 {
            remark(&format!(
                "everpost: the input was cut off in the midst of a line, which is not appended. \
                 bytes=`{partial}`"
            ));
        }
        (self.tally, result)
    }

    async fn take_all(&mut self, lines: &mut Lines, signals: &mut Signals) -> Result<(), Fault> {
        loop {
            while !self.ahead.is_empty() {
                self.take_batch(signals).await?;
                if self.intake.strict && self.tally.refused > 0 {
                    return Ok(());
                }
            }
            let block = tokio::select! {
                biased;
                () = signals.next(), if !self.tally.interrupted => {
                    self.tally.interrupted = true;
                    lines.stop();
                    continue;
                }
                block = lines.next() => block,
            };
            match block {
                Some(Ok(block)) => self.ahead.extend(block),
                Some(Err(source)) => return Err(Fault::io("read the input", &source)),
                None => return Ok(()),
            }
        }
    }

    /// Commits as many of the lines that are here as may go together.
    async fn take_batch(&mut self, signals: &mut Signals) -> Result<(), Fault> {
        let mut events: Vec<(u64, Event)> = Vec::new();
        let mut bytes = 0;
        while events.len() < self.intake.batch as usize {
            let next_bytes = self
                .ahead
                .front()
                .map(|line| 64 + line.bytes.as_ref().map_or(0, Vec::len));
            let Some(next_bytes) = next_bytes else { break };
            if !events.is_empty() && bytes + next_bytes > self.commit_bytes {
                break;
            }
            let Some(line) = self.ahead.pop_front() else {
                break;
            };
            let number = line.number;
            match self.event(line) {
                Ok(event) => {
                    bytes += next_bytes;
                    events.push((number, event));
                }
                Err(reason) => {
                    // What stands before it in the input is appended before it is reported.
                    self.commit(std::mem::take(&mut events), signals).await?;
                    self.refuse(number, &reason);
                    if self.intake.strict {
                        return Ok(());
                    }
                    bytes = 0;
                }
            }
        }
        self.commit(events, signals).await
    }

    fn event(&self, line: Line) -> Result<Event, String> {
        let Some(bytes) = line.bytes else {
            return Err("it is longer than any event may be".to_owned());
        };
        let event = match self.form {
            Form::Event => Event::json(bytes),
            Form::Entry => Entry::parse(&bytes).and_then(Entry::into_event),
        };
        event.map_err(|error| match error {
            Error::InvalidEvent { reason } => reason,
            other => other.to_string(),
        })
    }

    fn refuse(&mut self, number: u64, reason: &str) {
        self.tally.refused += 1;
        remark(&format!("everpost: line {number} is refused: {reason}"));
    }

    async fn commit(
        &mut self,
        events: Vec<(u64, Event)>,
        signals: &mut Signals,
    ) -> Result<(), Fault> {
        let Some((first, _)) = events.first() else {
            return Ok(());
        };
        let first = *first;
        let (numbers, events): (Vec<u64>, Vec<Event>) = events.into_iter().unzip();
        match self.append(&events, first, signals).await {
            Ok(receipts) => self.acknowledge(&receipts),
            Err(fault) if fault.code == exit::REFUSED => {
                // One of them is too large, or all are together: alone, each gets its answer.
                for (number, event) in numbers.into_iter().zip(events) {
                    match self.append(&[event], number, signals).await {
                        Ok(receipts) => self.acknowledge(&receipts),
                        Err(fault) if fault.code == exit::REFUSED => {
                            self.refuse(number, &fault.text);
                            if self.intake.strict {
                                break;
                            }
                        }
                        Err(fault) => return Err(not_appended(fault, number)),
                    }
                }
            }
            Err(fault) => return Err(not_appended(fault, first)),
        }
        Ok(())
    }

    /// Appends; waits for room if this feed is patient, until a signal.
    async fn append(
        &mut self,
        events: &[Event],
        number: u64,
        signals: &mut Signals,
    ) -> Result<Vec<Receipt>, Fault> {
        loop {
            match self.target.append(events).await {
                Err(fault) if self.patient && fault.code == exit::FULL => {
                    if self.tally.interrupted {
                        return Err(fault);
                    }
                    tracing::warn!(line = number, "the queue is full; the input waits");
                    tokio::select! {
                        () = signals.next() => self.tally.interrupted = true,
                        () = tokio::time::sleep(FULL_REST) => {}
                    }
                }
                result => return result,
            }
        }
    }

    fn acknowledge(&mut self, receipts: &[Receipt]) {
        self.tally.note(receipts);
        let Some(next) = self.acks else { return };
        let end = next + receipts.len() as u64;
        let text: String = (next..end).map(|n| format!("ACK {n}\n")).collect();
        // Nobody may be reading; the events are taken in all the same.
        self.acks = Out { json: false }.text(&text).is_ok().then_some(end);
    }
}

fn not_appended(mut fault: Fault, number: u64) -> Fault {
    fault.text = format!(
        "line {number} and what follows is not appended: {}",
        fault.text
    );
    fault
}
