//! `append` and `import`: lines become events.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use everpost::control::wire::Entry;
use everpost::{Error, Event, Seq, Settings, exit};
use serde::Serialize;

use crate::args::{Append, Cli, Input, Intake};
use crate::environment;
use crate::fault::Fault;
use crate::lines::{self, Line, LinePlace, Lines};
use crate::meter::Meter;
use crate::out::{Out, remark};
use crate::own_export;
use crate::refusal::Refusal;
use crate::signals::Signals;
use crate::target::{Target, in_time};
use crate::text::count;
use crate::validate;

/// Bytes of a line that may come beside the event in it.
const ENVELOPE_BYTES: usize = 64 << 10;

/// How long a queue that is full is left alone before it is asked again.
const FULL_REST: Duration = Duration::from_millis(200);

pub(crate) async fn append(cli: &Cli, append: &Append, out: Out) -> Result<(), Fault> {
    environment::check_words(cli)?;
    let acks = append.ack_from.or(append.ack.then_some(0));
    let mut signals = Signals::catch()?;
    let lines = lines_for(cli, &append.input.files)?;
    invite(&append.input.files, out);
    let opening = async {
        match append.level {
            None => Target::open(cli, true).await,
            // Another owner decides on the level, and cannot be asked for one.
            Some(_) => {
                let opened = Target::open_alone(cli).await;
                opened.map_err(|fault| match fault.code {
                    exit::IN_USE => fault.hint(
                        "leave --level out, or wait for longer: its owner decides on the level",
                    ),
                    _ => fault,
                })
            }
        }
    };
    let target = in_time(opening, &mut signals, exit::UNEXPECTED, None).await?;
    let feed = Feed::new(&target, append.input.intake, Form::Event, acks);
    let feed = feed.by_hand(&append.input.files, out);
    let fed = feed.run(lines, &mut signals).await;
    finish(target, fed, acks.is_none(), out).await
}

pub(crate) async fn import(cli: &Cli, input: &Input, out: Out) -> Result<(), Fault> {
    environment::check_words(cli)?;
    let mut signals = Signals::catch()?;
    let lines = lines_for(cli, &input.files)?;
    invite(&input.files, out);
    let opening = Target::open(cli, true);
    let target = in_time(opening, &mut signals, exit::UNEXPECTED, None).await?;
    let feed = Feed::new(&target, input.intake, Form::Entry, None);
    let feed = feed.by_hand(&input.files, out);
    let fed = feed.run(lines, &mut signals).await;
    finish(target, fed, true, out).await
}

/// As [`open_lines`], for a command that may find an owner with other settings than its own, which
/// need not even be right then.
fn lines_for(cli: &Cli, files: &[PathBuf]) -> Result<Lines, Fault> {
    open_lines(files, &environment::settings(cli).unwrap_or_default())
}

/// The lines of the input. Those that cannot be an event by their length are not kept.
pub(crate) fn open_lines(files: &[PathBuf], settings: &Settings) -> Result<Lines, Fault> {
    // The owner of the spool may allow more than these settings.
    let event_bytes = settings.max_event_bytes.max(1 << 20);
    let max_bytes = usize::try_from(event_bytes).unwrap_or(usize::MAX);
    Lines::open(files, max_bytes.saturating_add(ENVELOPE_BYTES))
}

/// Tells a person that it is their turn.
fn invite(files: &[PathBuf], out: Out) {
    if lines::are_typed(files) && !out.json {
        remark("everpost: reading events from the terminal, one JSON value per line; Ctrl-D ends");
    }
}

/// Closes, says what came of it, and gives the exit code.
async fn finish(
    target: Target<'_>,
    (tally, result): (Tally, Result<(), Fault>),
    say: bool,
    out: Out,
) -> Result<(), Fault> {
    // Closed first: with `written`, this is what makes it durable.
    target.close().await?;
    // What went wrong before anything was done is the only news then.
    let news = result.is_ok() || tally.appended > 0;
    if out.json || (say && news) {
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
    fn note(&mut self, seqs: &[Seq]) {
        self.appended += seqs.len() as u64;
        self.first_seq = self.first_seq.or(seqs.first().copied());
        self.last_seq = seqs.last().copied().or(self.last_seq);
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
    target: &'a Target<'a>,
    intake: Intake,
    form: Form,
    /// Whether nothing was read yet.
    is_first: bool,
    commit_bytes: usize,
    /// The number of the next acknowledgement, if they are wanted.
    acks: Option<u64>,
    /// Whether a full queue is waited for, because the owner delivers and makes room.
    patient: bool,
    ahead: VecDeque<Line>,
    tally: Tally,
    /// Refused lines are told as JSON.
    json: bool,
    /// A person gave this input: shows how it goes, and stops where the input is of another kind.
    meter: Option<Meter>,
    /// JSON spread over lines was met, and the person told what to do.
    hinted: bool,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(
        target: &'a Target<'a>,
        intake: Intake,
        form: Form,
        acks: Option<u64>,
    ) -> Self {
        Self {
            target,
            intake,
            form,
            is_first: true,
            commit_bytes: target.commit_bytes(),
            acks,
            patient: false,
            ahead: VecDeque::new(),
            tally: Tally::default(),
            json: false,
            meter: None,
            hinted: false,
        }
    }

    /// Of a command that ends with its input: shows how it goes if that takes a while, and stops
    /// at once if the first line shows that the input is no list of lines.
    pub(crate) fn by_hand(mut self, files: &[PathBuf], out: Out) -> Self {
        self.json = out.json;
        // Neither a person that types nor lines of acknowledgements go well with a bar.
        let quiet =
            out.json || lines::are_typed(files) || (self.acks.is_some() && out.is_terminal());
        self.meter = Some(Meter::new(quiet));
        self
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
        let has_acks = self.acks.is_some();
        let mut gone = std::pin::pin!(async move {
            match has_acks {
                true => Out { json: false }.gone().await,
                false => std::future::pending().await,
            }
        });
        loop {
            while !self.ahead.is_empty() {
                self.take_batch(signals).await?;
                self.show(lines);
                if self.intake.strict && self.tally.refused > 0 {
                    return Ok(());
                }
                // Input that never pauses must not keep a signal from being seen.
                tokio::select! {
                    biased;
                    () = signals.next(), if !self.tally.interrupted => self.tally.interrupted = true,
                    () = std::future::ready(()) => {}
                }
                // What was read meanwhile goes along with what is left.
                while !self.tally.interrupted
                    && self.ahead.len() < self.intake.batch as usize
                    && let Some(block) = lines.try_next()
                {
                    self.ahead
                        .extend(block.map_err(|source| not_read(&source))?);
                }
            }
            if self.tally.interrupted {
                // The signal may have come while events were being appended.
                lines.stop();
            }
            let block = tokio::select! {
                biased;
                () = signals.next(), if !self.tally.interrupted => {
                    self.tally.interrupted = true;
                    lines.stop();
                    continue;
                }
                () = &mut gone => return Err(self.unheard("")),
                block = lines.next() => block,
            };
            match block {
                Some(Ok(block)) => self.ahead.extend(block),
                Some(Err(source)) => return Err(not_read(&source)),
                None => return Ok(()),
            }
        }
    }

    fn show(&mut self, lines: &Lines) {
        if let Some(meter) = &mut self.meter {
            let (read_bytes, total_bytes) = lines.read_bytes();
            meter.show(
                self.tally.appended,
                self.tally.refused,
                read_bytes,
                total_bytes,
            );
        }
    }

    /// Commits as many of the lines that are here as may go together.
    async fn take_batch(&mut self, signals: &mut Signals) -> Result<(), Fault> {
        let mut events: Vec<(LinePlace, Event)> = Vec::new();
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
            if std::mem::take(&mut self.is_first) && matches!(self.form, Form::Entry) {
                own_export::tell(self.target, line.bytes.as_deref().unwrap_or_default()).await;
            }
            let place = line.place.clone();
            let is_spread = line.bytes.as_deref().is_some_and(is_spread);
            match self.event(line) {
                Ok(event) => {
                    bytes += next_bytes;
                    events.push((place, event));
                }
                Err(reason) => {
                    // What stands before it in the input is appended before it is reported.
                    self.commit(std::mem::take(&mut events), signals).await?;
                    let first = self.tally.appended == 0 && self.tally.refused == 0;
                    if is_spread && first && self.meter.is_some() {
                        self.tally.refused += 1;
                        let text = format!("{place} is refused: {reason}; nothing is appended");
                        return Err(Fault::new(exit::REFUSED, text).hint(SPREAD));
                    }
                    self.refuse(&place, &reason, is_spread);
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
            return Err(TOO_LONG.to_owned());
        };
        let event = match self.form {
            Form::Event => Event::json(bytes),
            Form::Entry => Entry::parse(&bytes).and_then(Entry::into_event),
        };
        let event = event.map_err(reason)?;
        match self.intake.check {
            Some(channel) => validate::check(channel, &event).map(|()| event),
            None => Ok(event),
        }
    }

    fn refuse(&mut self, place: &LinePlace, reason: &str, is_spread: bool) {
        self.tally.refused += 1;
        let hint = (is_spread && !std::mem::replace(&mut self.hinted, is_spread)).then_some(SPREAD);
        Refusal::new(place, reason, hint).tell(self.json);
    }

    async fn commit(
        &mut self,
        events: Vec<(LinePlace, Event)>,
        signals: &mut Signals,
    ) -> Result<(), Fault> {
        let Some((first, _)) = events.first() else {
            return Ok(());
        };
        let first = first.clone();
        let (places, events): (Vec<LinePlace>, Vec<Event>) = events.into_iter().unzip();
        match self.append(&events, &first, signals).await {
            Ok(seqs) => self.acknowledge(&seqs)?,
            Err(fault) if fault.code == exit::REFUSED => {
                // One of them is too large, or all are together: alone, each gets its answer.
                for (place, event) in places.into_iter().zip(events) {
                    match self.append(&[event], &place, signals).await {
                        Ok(seqs) => self.acknowledge(&seqs)?,
                        Err(fault) if fault.code == exit::REFUSED => {
                            self.refuse(&place, &fault.text, false);
                            if self.intake.strict {
                                break;
                            }
                        }
                        Err(fault) => return Err(not_appended(fault, &place)),
                    }
                }
            }
            Err(fault) => return Err(not_appended(fault, &first)),
        }
        Ok(())
    }

    /// Appends; waits for an owner, and for room if this feed is patient, until a signal.
    async fn append(
        &mut self,
        events: &[Event],
        place: &LinePlace,
        signals: &mut Signals,
    ) -> Result<Vec<Seq>, Fault> {
        let mut waits = false;
        loop {
            let appended = {
                let mut appending = pin!(self.target.append(events));
                loop {
                    tokio::select! {
                        biased;
                        appended = &mut appending => break appended,
                        () = signals.next(), if !self.tally.interrupted => {
                            self.tally.interrupted = true;
                            self.target.stop_waiting();
                        }
                    }
                }
            };
            match appended {
                Err(fault) if self.patient && fault.code == exit::FULL => {
                    if self.tally.interrupted {
                        return Err(fault);
                    }
                    // Once: it may be full for as long as an outage lasts.
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!(line = place.number, "the queue is full; the input waits");
                    }
                    tokio::select! {
                        () = signals.next() => self.tally.interrupted = true,
                        () = tokio::time::sleep(FULL_REST) => {}
                    }
                }
                result => return result,
            }
        }
    }

    fn acknowledge(&mut self, seqs: &[Seq]) -> Result<(), Fault> {
        self.tally.note(seqs);
        let Some(next) = self.acks else { return Ok(()) };
        let end = next + seqs.len() as u64;
        let text: String = (next..end).map(|n| format!("ACK {n}\n")).collect();
        self.acks = Some(end);
        let told = Out { json: false }.text(&text);
        told.map_err(|fault| self.unheard(&fault.text))
    }

    /// No acknowledgement can be given any more, so that no more is taken in.
    fn unheard(&self, why: &str) -> Fault {
        let why = match why {
            "" => "the reader of the acknowledgements has gone",
            why => why,
        };
        let appended = count(self.tally.appended, "event");
        let text = format!("{why}; {appended} appended, and no more of the input is taken");
        Fault::new(exit::UNEXPECTED, text).hint("append the rest of the input")
    }
}

/// What is said of a line that cannot be an event by its length.
pub(crate) const TOO_LONG: &str = "it is longer than any event may be";

/// What to do with JSON that is spread over lines.
const SPREAD: &str =
    "one event per line; for JSON that is spread over lines: `jq -c . FILE | everpost append`";

/// Whether this is the first line of a JSON value that goes on in the next one.
fn is_spread(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    matches!(line.first(), Some(b'{' | b'[')) && matches!(line.last(), Some(b'{' | b'[' | b','))
}

/// Why a line is no event. The line that the text names is the only one there is.
pub(crate) fn reason(error: Error) -> String {
    match error {
        Error::InvalidEvent { reason } => reason.replace(" at line 1 column ", " at column "),
        other => other.to_string(),
    }
}

fn not_read(source: &std::io::Error) -> Fault {
    Fault::io("read the input", source).hint("what was read before is appended; append the rest")
}

fn not_appended(mut fault: Fault, place: &LinePlace) -> Fault {
    fault.text = format!("{place} and what follows is not appended: {}", fault.text);
    fault
}
