//! A block: consecutive events of the tail, as they are stored, in one piece of memory.

use bytes::Bytes;

use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use crate::log::codec;
use crate::log::run::Run;

/// Bytes, and places of events, for which an empty block keeps its memory.
const KEPT_BYTES: usize = 64 << 10;
const KEPT_EVENTS: usize = 1024;

/// Events that grow at the end while `B` is a `Vec`, and are shared once it is `Bytes`.
#[derive(Debug)]
pub(super) struct Block<B> {
    first: Seq,
    bytes: B,
    /// Where each event ends.
    ends: Vec<usize>,
}

impl<B: AsRef<[u8]>> Block<B> {
    /// The number behind its last event.
    pub(super) fn next(&self) -> Seq {
        self.first + self.ends.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all its events.
    pub(super) fn len(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Where the event `seq` begins: the first, if it is before that, the end, if it is behind.
    pub(super) fn start_of(&self, seq: Seq) -> usize {
        match usize::try_from(seq.saturating_sub(self.first)) {
            Ok(0) => 0,
            Ok(at) => self.ends.get(at - 1).copied().unwrap_or(self.len()),
            Err(_) => self.len(),
        }
    }

    /// When the event `seq` happened, or the first if that is before it; none if it is behind.
    pub(super) fn time_ms(&self, seq: Seq) -> Option<u64> {
        codec::time_ms(self.bytes.as_ref().get(self.start_of(seq)..)?)
    }

    /// The last event that ends within so many bytes from the beginning of `from`, which is here;
    /// that one, if none does.
    pub(super) fn last_within(&self, from: Seq, bytes: usize) -> Seq {
        let end = self.start_of(from).saturating_add(bytes);
        let before = self.ends.partition_point(|at| *at <= end) as u64;
        from.max((self.first + before).saturating_sub(1))
    }
}

impl Block<Vec<u8>> {
    /// Will take events from `first` on; so many bytes without asking for more memory.
    pub(super) fn new(first: Seq, bytes: usize) -> Self {
        Self {
            first,
            bytes: Vec::with_capacity(bytes),
            ends: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, event: &Event) {
        codec::push_event(&mut self.bytes, event);
        self.ends.push(self.bytes.len());
    }

    /// Forgets its events. The next one will be `first`.
    pub(super) fn clear(&mut self, first: Seq) {
        self.first = first;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.ends.clear();
        self.ends.shrink_to(KEPT_EVENTS);
    }

    /// It takes no more events.
    pub(super) fn close(self) -> Block<Bytes> {
        Block {
            first: self.first,
            bytes: self.bytes.into(),
            ends: self.ends,
        }
    }

    /// Its events from `from` on, which share a copy of their bytes.
    pub(super) fn copied_from(&self, from: Seq) -> impl Iterator<Item = StoredEvent> + use<> {
        let bytes = self.bytes.get(self.start_of(from)..).unwrap_or_default();
        stored(from.max(self.first), Bytes::copy_from_slice(bytes))
    }
}

impl Block<Bytes> {
    /// Its events from `from` on, which share its bytes.
    pub(super) fn shared_from(&self, from: Seq) -> impl Iterator<Item = StoredEvent> + use<> {
        let run = self.run_from(from);
        stored(run.first, run.events)
    }

    /// The same, not divided.
    pub(super) fn run_from(&self, from: Seq) -> Run {
        let first = from.clamp(self.first, self.next());
        Run {
            first,
            count: usize::try_from(self.next() - first).unwrap_or(usize::MAX),
            events: self.bytes.slice(self.start_of(first)..),
        }
    }
}

/// The events in these bytes, the first of which is `first`.
fn stored(first: Seq, bytes: Bytes) -> impl Iterator<Item = StoredEvent> {
    let mut at = 0;
    let events = std::iter::from_fn(move || {
        let (event, end) = codec::event_at(&bytes, at)?;
        at = end;
        Some(event)
    });
    events.enumerate().map(move |(n, event)| StoredEvent {
        seq: first + n as u64,
        event,
    })
}
