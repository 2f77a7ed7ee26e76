//! What may come of a damaged spool, and what may not.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpost::{
    Answer, Error, Incident, IncidentKind, Ledger, Outcome, Queue, Recovery, Request, Seq,
    SeqRange, Sink, StoredEvent, Verdict,
};

use crate::harm::{Harm, Kind};
use crate::look::{Looked, check_opened, check_record};
use crate::spool::{Base, EVENTS, REFUSED, contents, event, settings};

const PATIENT: Duration = Duration::from_secs(20);

/// How a trial ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Everything was delivered, nothing was remarked.
    Whole,
    /// Everything was delivered, and what was odd was said.
    Mended,
    /// Something was lost, and the exact range was said.
    Reported,
    /// Opening was refused with a clear error, and nothing was touched.
    Refused,
    /// The end of the journal is gone after a kill: that it is was said, but nothing is left that
    /// knows how far it went.
    Remarked,
    /// The very last commits before a kill: a torn end and damage look the same.
    Undecidable,
}

pub(crate) const ENDS: [End; 6] = [
    End::Whole,
    End::Mended,
    End::Reported,
    End::Refused,
    End::Remarked,
    End::Undecidable,
];

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::oracle::Broken(format!($($text)*)));
        }
    };
}
pub(crate) use ensure;

/// What was wrong.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is logged, for the ranges that are reported there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Gathers the lines of all threads from here on.
    pub(crate) fn of_this_process() -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .init();
        lines
    }

    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The ranges the cursor passed as lost, as the log lines say.
fn lost_ranges(lines: &str) -> Vec<SeqRange> {
    let number = |line: &str, name: &str| -> Seq {
        let (_, after) = line.split_once(name).unwrap();
        after.split_whitespace().next().unwrap().parse().unwrap()
    };
    let lost = lines
        .lines()
        .filter(|line| line.contains("events were lost to damage on disk"));
    lost.map(|line| SeqRange {
        first: number(line, "first="),
        last: number(line, "last="),
    })
    .collect()
}

/// Takes everything, and keeps it.
#[derive(Clone, Debug, Default)]
struct Taker(Arc<Mutex<Vec<StoredEvent>>>);

impl Sink for Taker {
    async fn deliver(&self, request: Request) -> Outcome {
        self.0.lock().unwrap().extend_from_slice(request.events());
        Outcome::new(Verdict::Delivered, Answer::from_status(200))
    }
}

pub(crate) fn check_events(base: &Base, events: &[StoredEvent], what: &str) -> Result<(), Broken> {
    let mut before = 0;
    for stored in events {
        let seq = stored.seq;
        ensure!(seq > before, "{what}: {seq} comes after {before}");
        ensure!(seq <= EVENTS, "{what}: {seq} was never appended");
        ensure!(
            stored.event == event(base.spool, seq),
            "{what}: {seq} is not what was appended"
        );
        before = seq;
    }
    Ok(())
}

fn check_books(ledger: Ledger) -> Result<(), Broken> {
    let settled = ledger.delivered + ledger.dead + ledger.expired + ledger.evicted + ledger.lost;
    ensure!(
        settled + ledger.pending() == ledger.appended,
        "the books do not balance: {ledger:?}"
    );
    Ok(())
}

pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Broken> {
    let ended = tokio::time::timeout(PATIENT, work).await;
    ended.map_err(|_| Broken(format!("{what} hangs")))
}

/// Looks at the damaged spool, opens it, takes everything out of it, and opens it again; and looks
/// in between.
pub(crate) async fn judge(
    base: &Base,
    harm: &Harm,
    spool: &Path,
    lines: &Lines,
) -> Result<End, Broken> {
    let before = contents(spool);
    lines.take();
    let looked = Looked::at(base, spool)?;
    let builder = Queue::builder(spool).settings(settings());
    let queue = match in_time("opening", builder.open())
        .await?
        .map_err(Error::from)
    {
        Ok(queue) => queue,
        Err(error @ (Error::Damaged { .. } | Error::FutureFormat { .. })) => {
            ensure!(
                looked.is_refused_like(&error),
                "refused ({error}), and a look says {looked:?}"
            );
            let mut after = contents(spool);
            // Each opening writes its pid, and the ballast holds no data.
            for name in ["lock", "ballast"] {
                after.remove(Path::new(name));
            }
            for (file, bytes) in &before {
                let same = after.get(file).is_none_or(|now| now == bytes);
                let there = after.contains_key(file)
                    || ["lock", "ballast"].iter().any(|n| file == Path::new(n));
                ensure!(
                    same && there,
                    "refused ({error}), but {} was touched",
                    file.display()
                );
            }
            return Ok(End::Refused);
        }
        Err(error) => return Err(Broken(format!("refused with {error:?}"))),
    };
    let recovery = queue.recovery().clone();
    check_books(queue.status().ledger)?;
    let seen = in_time("peeking", queue.events(..).take(10_000)).await?;
    let seen = seen.map_err(|error| Broken(format!("peeking: {error}")))?;
    check_events(base, &seen, "peek")?;
    let letters_whole = check_letters(base, &queue, &recovery).await?;
    check_opened(&looked, &queue, &seen).await?;
    ensure!(
        queue.close(Duration::ZERO).await.is_ok(),
        "it does not close"
    );
    Looked::at(base, spool)?.check_again(&looked)?;

    let taker = Taker::default();
    let builder = Queue::builder(spool)
        .settings(settings())
        .sink(taker.clone());
    let queue = in_time("opening again", builder.open()).await?;
    let queue = queue.map_err(|error| Broken(format!("it opened, and then not again: {error}")))?;
    // A damaged state may not take the end of the pause; delivery goes on all the same.
    let _ = queue.resume().await;
    let mut watch = queue.watch();
    let drained = in_time("draining", watch.wait_for(|status| status.pending == 0)).await;
    let drained = drained.map_err(|_| Broken(format!("not drained: {:?}", queue.status())))?;
    let status = drained.ok_or_else(|| Broken(format!("it ended: {:?}", queue.status())))?;
    // The line about a loss follows the booking of it; after the close all lines are there.
    let closed = queue.close(Duration::from_secs(5)).await;
    ensure!(closed.is_ok(), "closing: {closed:?}");
    let said = lines.take();
    check_books(status.ledger)?;
    let taken = std::mem::take(&mut *taker.0.lock().unwrap());
    check_events(base, &taken, "delivery")?;
    // What a stranger's segment hid, the journal may still have at the next opening.
    let there = seen.iter().all(|stored| taken.contains(stored));
    ensure!(there, "what was seen was not delivered");
    let end = account(base, harm, &recovery, &status.ledger, &taken, &said)?;

    let queue = in_time(
        "opening at last",
        Queue::builder(spool).settings(settings()).open(),
    )
    .await?;
    let queue = queue.map_err(|error| Broken(format!("at last it does not open: {error}")))?;
    ensure!(
        queue.status().ledger == status.ledger,
        "the books changed: {:?} {:?}",
        status.ledger,
        queue.status().ledger
    );
    ensure!(
        queue.recovery().missing.is_empty() && queue.recovery().incidents.is_empty(),
        "there is still something missing: {:?}",
        queue.recovery()
    );
    check_record(&queue, &recovery, &lost_ranges(&said)).await?;
    queue
        .close(Duration::ZERO)
        .await
        .map_err(|error| Broken(format!("closing at last: {error}")))?;
    let last = Looked::at(base, spool)?;
    ensure!(last.is_sound(), "there is no end of it: {last:?}");
    looked.check_quarantine(&before, spool)?;
    let remarked = !recovery.notes.is_empty() || !recovery.incidents.is_empty();
    Ok(match end {
        End::Whole if remarked || !letters_whole => End::Mended,
        end => end,
    })
}

/// Each letter is as it was, or cannot be read and says so, or its absence is remarked.
async fn check_letters(base: &Base, queue: &Queue, recovery: &Recovery) -> Result<bool, Broken> {
    let mut whole = true;
    for seq in REFUSED {
        match queue.dead_letters().show(seq).await {
            Ok(letter) => {
                let right = letter.seq == seq && letter.event == event(base.spool, seq);
                ensure!(right, "letter {seq} is not what was buried");
            }
            Err(Error::Damaged { .. }) => whole = false,
            Err(Error::NoSuchLetter { .. }) => {
                whole = false;
                let is_said = |i: &Incident| i.kind == IncidentKind::LettersMissing;
                ensure!(
                    recovery.incidents.iter().any(is_said),
                    "letter {seq} is silently gone: {recovery:?}"
                );
            }
            Err(error) => return Err(Broken(format!("letter {seq}: {error}"))),
        }
    }
    let listed = queue.dead_letters().list(..).take(100).await;
    if let Ok(letters) = listed {
        for letter in letters {
            ensure!(
                REFUSED.contains(&letter.seq),
                "letter {} was never buried",
                letter.seq
            );
        }
    }
    Ok(whole)
}

/// Every event is accounted for: delivered before or now, or lost and said to be.
fn account(
    base: &Base,
    harm: &Harm,
    recovery: &Recovery,
    ledger: &Ledger,
    taken: &[StoredEvent],
    lines: &str,
) -> Result<End, Broken> {
    let ranges = lost_ranges(lines);
    let mut lost: Vec<Seq> = ranges
        .iter()
        .flat_map(|range| range.first..=range.last)
        .collect();
    lost.sort_unstable();
    let before = recovery
        .incidents
        .iter()
        .find(|i| i.what.contains("the books are gone"));
    let unbooked = before.map_or(0, |_| ledger.lost - lost.len() as u64);
    ensure!(
        lost.len() as u64 + unbooked == ledger.lost,
        "lost {} but said {ranges:?}",
        ledger.lost
    );
    let cursor = base.ledger.settled();
    let unsaid: Vec<Seq> = (cursor + 1..=EVENTS)
        .filter(|seq| {
            taken
                .binary_search_by_key(seq, |stored| stored.seq)
                .is_err()
        })
        .filter(|seq| *seq > unbooked && lost.binary_search(seq).is_err())
        .collect();
    if unsaid.is_empty() {
        return Ok(if lost.is_empty() && unbooked == 0 {
            End::Whole
        } else {
            End::Reported
        });
    }
    // After a kill nothing outside the journal knows for certain how far it went; after a close the
    // witness does, unless the same harm took that too.
    let suffix = (unsaid[0]..=EVENTS).eq(unsaid.iter().copied());
    let at = [&harm.file, &harm.with];
    let is_alone = !base.closed || at.iter().any(|file| **file == Path::new("witness"));
    if is_alone && suffix && at.iter().any(|file| file.starts_with("journal")) {
        let is_said = |i: &Incident| i.place.starts_with("journal");
        if recovery.incidents.iter().any(is_said) {
            return Ok(End::Remarked);
        }
        // One page holds several commits.
        if harm.kind == Kind::ZeroedPage || unsaid == [EVENTS] {
            return Ok(End::Undecidable);
        }
    }
    Err(Broken(format!(
        "silently gone: {unsaid:?}; {recovery:?}; {ledger:?}"
    )))
}
