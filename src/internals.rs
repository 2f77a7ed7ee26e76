//! Doors to the inside, for the judges of the fuzz targets (`fuzz/judges`) and the
//! micro-benchmarks (`more/benches`). Each takes and gives public types and plain numbers. Not part
//! of the API: it may change in any release, and no build has it unless the feature `internals` is
//! on.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::SystemClock;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::flusher::bisect::Plan;
use crate::id::{Seq, SeqRange};
use crate::ledger::{Ledger, Settled};
use crate::log::disk::RealDisk;
use crate::log::frame::{self, Entry, FrameWriter, Kind, Place};
use crate::log::piece::{self, Key, Layout};
use crate::log::recovery::{self, End};
use crate::log::run::Run;
use crate::log::spool::SpoolLog;
use crate::log::{Log as _, Read, chunk, codec, letter};
use crate::settings::Settings;
use crate::sink::Batch;
use crate::sink::format::Format;
use crate::status::Recovery;
use crate::zip::Compressor;

/// Frames as they are written to a file of the journal.
#[derive(Debug)]
pub struct Frames(FrameWriter);

impl Frames {
    /// None yet, of this queue.
    #[must_use]
    pub fn new(queue: Uuid) -> Self {
        Self(FrameWriter::new(queue))
    }

    /// Adds a frame of one append.
    pub fn push(&mut self, first: Seq, events: &[Event]) {
        let place = Place {
            generation: 1,
            buffer_offset: 0,
            synced: 0,
        };
        self.0.events(place, first, events);
    }

    /// The frames so far, as they go to the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Forgets the frames and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What is believed of a file of the journal.
#[derive(Debug)]
pub struct Journal {
    frames: Vec<frame::Frame>,
    /// The generation of its last frame.
    pub generation: u64,
    /// The greatest generation that any of its bytes names.
    pub generation_max: u64,
    /// Whether it was ever written to.
    pub is_used: bool,
    /// Where something is damaged.
    pub damaged: Vec<u32>,
}

/// A frame that is believed.
#[derive(Debug)]
pub struct Frame {
    /// Where it begins in its file, in bytes.
    pub offset: u32,
    /// Where the next may begin.
    pub end: u32,
    /// The use of the file that it is of.
    pub generation: u64,
    /// What follows its head.
    pub body: Bytes,
    /// The numbers of its events, as its head has them.
    pub seqs: Option<SeqRange>,
    /// Its events.
    pub events: Option<Vec<StoredEvent>>,
    /// The frame as it is written now; `None` where the same can be written in many ways.
    pub again: Option<Vec<u8>>,
}

impl Journal {
    /// Scans a file.
    #[must_use]
    pub fn scan(file: &Bytes, queue: Uuid) -> Self {
        let scan = frame::scan(file, queue);
        Self {
            generation: scan.generation(),
            generation_max: scan.generation_max,
            is_used: scan.used,
            damaged: scan.damaged.iter().map(|(at, _)| *at).collect(),
            frames: scan.frames,
        }
    }

    /// Its frames.
    pub fn frames(&self, queue: Uuid) -> impl Iterator<Item = Frame> {
        self.frames.iter().map(move |frame| {
            let entry = frame.entry();
            Frame {
                offset: frame.offset,
                end: frame.end(),
                generation: frame.generation,
                body: frame.body.clone(),
                seqs: frame.range(),
                again: entry.as_ref().and_then(|entry| again(frame, entry, queue)),
                events: match entry {
                    Some(Entry::Events(events)) => Some(events),
                    _ => None,
                },
            }
        })
    }

    /// How many events are in it.
    #[must_use]
    pub fn count(&self) -> usize {
        let counts = self.frames.iter().map(|frame| match frame.entry() {
            Some(Entry::Events(events)) => events.len(),
            _ => 0,
        });
        counts.sum()
    }

    /// What recovery makes of it, beside segments with these events.
    #[must_use]
    pub fn recover(&self, sealed: Option<SeqRange>) -> Recovered {
        let found = recovery::recover(&self.frames, sealed, End::default());
        let mut runs = found.islands;
        runs.push((found.tail_first, found.tail));
        Recovered {
            ledger: found.ledger,
            runs,
            missing: found.missing,
        }
    }
}

fn again(frame: &frame::Frame, entry: &Entry, queue: Uuid) -> Option<Vec<u8>> {
    let place = Place {
        generation: frame.generation,
        buffer_offset: frame.offset,
        synced: frame.synced,
    };
    let mut writer = FrameWriter::new(queue);
    match entry {
        Entry::Events(_) if frame.kind == Kind::Packed => return None,
        Entry::Events(stored) => {
            let events: Vec<Event> = stored.iter().map(|stored| stored.event.clone()).collect();
            writer.events(place, stored.first()?.seq, &events);
        }
        Entry::Checkpoint(ledger) => writer.books(place, Kind::Checkpoint, *ledger),
        Entry::Ack(ledger) => writer.books(place, Kind::Ack, *ledger),
        Entry::Retried(letter) => writer.retried(place, *letter),
        Entry::Letters(note) => writer.letters(place, note),
        Entry::Fates(stated) => writer.fates(place, stated),
    }
    Some(writer.bytes().to_vec())
}

/// What recovery found in a journal.
#[derive(Debug)]
pub struct Recovered {
    /// The books.
    pub ledger: Ledger,
    /// Events that follow each other, each run with the number of its first.
    pub runs: Vec<(Seq, Vec<Event>)>,
    /// Numbers that have no event.
    pub missing: Vec<SeqRange>,
}

/// A run of events, as frames and chunks hold it.
#[must_use]
pub fn encode_run(first: Seq, events: &[Event]) -> Vec<u8> {
    let mut run = Vec::new();
    codec::encode_run(first, events.iter(), &mut run);
    run
}

/// Reads a run again.
#[must_use]
pub fn decode_run(run: Vec<u8>) -> Option<Vec<StoredEvent>> {
    codec::decode_run(&run.into()).ok()
}

/// The bytes as one frame of zstd.
#[must_use]
pub fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    Compressor::new(1).compress(bytes)
}

/// Encodes and compresses a chunk.
#[must_use]
pub fn encode_chunk(events: &[StoredEvent]) -> Option<Vec<u8>> {
    chunk::encode(&Run::of(events)?)
}

/// The numbers that the head of a chunk names.
#[must_use]
pub fn chunk_head(chunk: &[u8]) -> Option<SeqRange> {
    let head = chunk::Head::parse(chunk).ok()?;
    Some(SeqRange {
        first: head.first,
        last: head.last,
    })
}

/// Reads a chunk again.
#[must_use]
pub fn decode_chunk(chunk: &[u8], first: Seq) -> Option<Vec<StoredEvent>> {
    chunk::decode(chunk, first).ok()
}

/// A dead letter behind its version; `copy` says how often such a one was removed.
#[must_use]
pub fn encode_letter(letter: &DeadLetter, copy: u32) -> Option<Vec<u8>> {
    let encoded = letter::encode(letter, copy)?;
    let (version, body) = encoded.split_first()?;
    (*version == letter::VERSION).then(|| body.to_vec())
}

/// Reads a dead letter that stands behind its version.
#[must_use]
pub fn decode_letter(seq: Seq, body: &[u8]) -> Option<DeadLetter> {
    letter::decode(seq, body)
}

/// Whether a person sent this event again.
#[must_use]
pub fn is_sent_again(event: &Event) -> bool {
    event.is_sent_again()
}

/// A value in pieces, as a segment holds it.
pub fn pieces(space: u8, number: u64, value: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    piece::split(Layout::Large, Key::new(space, number), value).map(|(_, piece)| piece)
}

/// Finds the one event of a batch that is refused; gives the number of requests that took.
#[must_use]
pub fn bisect(events: Vec<StoredEvent>, bad: Seq) -> u32 {
    let mut plan = Plan::new(events);
    let mut requests = 0;
    loop {
        plan.open();
        let Some(batch) = plan.send(SystemTime::UNIX_EPOCH) else {
            return requests;
        };
        requests += 1;
        let events = batch.events();
        if !events.iter().any(|stored| stored.seq == bad) {
            plan.delivered();
        } else if events.len() > 1 {
            plan.refused();
        } else {
            plan.take_first();
        }
    }
}

/// The body of a request.
#[must_use]
pub fn body(batch: &Batch) -> Vec<u8> {
    Format::messages().body(batch)
}

/// A spool without its queue.
#[derive(Debug)]
pub struct Spool(SpoolLog);

impl Spool {
    /// Opens a spool in a directory that is made if it is not there.
    ///
    /// # Errors
    /// As [`Queue::open`](crate::Queue::open).
    pub fn open(dir: &Path, settings: Settings) -> Result<(Self, Recovery), Error> {
        let (log, recovery) =
            SpoolLog::open(dir, settings, Arc::new(SystemClock), Arc::new(RealDisk))?;
        Ok((Self(log), recovery))
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.0.position().ledger
    }

    /// The last number that is settled.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.0.position().cursor
    }

    /// Appends an event and syncs it; gives its number.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn append(&mut self, event: &Event) -> Result<Seq, Error> {
        let seq = self.0.stage(std::slice::from_ref(event))?;
        self.0.commit(true)?;
        Ok(seq)
    }

    /// The events from this number on, or the numbers there that have none; neither at the end.
    ///
    /// # Errors
    /// Those of the disk, and damage.
    pub fn read(
        &mut self,
        from: Seq,
        events_max: usize,
        bytes_max: u64,
    ) -> Result<Option<Result<Vec<StoredEvent>, SeqRange>>, Error> {
        Ok(match self.0.read(from, events_max, bytes_max)? {
            Read::Events(events) => Some(Ok(events)),
            Read::Missing(range) => Some(Err(range)),
            Read::End => None,
        })
    }

    /// Books everything through this number, and removes what nothing needs any more.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        self.0.settle(through, how)?;
        while self.0.tidy().unwrap_or(false) {}
        Ok(())
    }

    /// The dead letter of this number.
    ///
    /// # Errors
    /// Those of the disk, and damage.
    pub fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        self.0.letter(seq)
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn close(mut self) -> Result<(), Error> {
        self.0.close()
    }
}
