//! The pieces that the micro-benchmarks measure.

use std::time::SystemTime;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{Event, StoredEvent};
use crate::flusher::bisect::Plan;
use crate::id::Seq;
use crate::log::chunk;
use crate::log::frame::{self, Entry, FrameWriter, Place};
use crate::log::run::Run;
use crate::sink::botanalytics::request;
use crate::sink::classify::Rule;
use crate::sink::{Batch, Classifier};

const QUEUE: Uuid = Uuid::from_u128(7);

/// The journal's frames.
#[derive(Debug)]
pub struct Frames(FrameWriter);

impl Default for Frames {
    fn default() -> Self {
        Self(FrameWriter::new(QUEUE))
    }
}

impl Frames {
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

    /// Reads a file of frames; gives the number of events in it.
    #[must_use]
    pub fn count(file: &Bytes) -> usize {
        let frames = frame::scan(file, QUEUE).frames;
        let events = frames.iter().map(|frame| match frame.entry() {
            Some(Entry::Events(events)) => events.len(),
            _ => 0,
        });
        events.sum()
    }
}

/// Encodes and compresses a chunk.
#[must_use]
pub fn seal(events: &[StoredEvent]) -> Option<Vec<u8>> {
    chunk::encode(&Run::of(events)?)
}

/// Reads a chunk again; gives the number of events in it.
#[must_use]
pub fn open(chunk: &[u8], first: Seq) -> usize {
    chunk::decode(chunk, first).map_or(0, |events| events.len())
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

/// What a status means by default.
#[must_use]
pub fn classify(classifier: &Classifier, status: u16) -> Rule {
    classifier.rule(status)
}

/// The body of a request.
#[must_use]
pub fn body(batch: &Batch) -> Vec<u8> {
    request::body(batch)
}
