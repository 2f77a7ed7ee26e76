//! The reference log: everything in memory, nothing durable, no cleverness.
//!
//! It is what the log on disk is compared with, and what the flusher is tested on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fates::{Fates, RANGES_MAX};
use super::{Log, Memo, Position, Read};
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::{Event, Receipt, StoredEvent};
use crate::id::{Seq, SeqRange};
use crate::ledger::{Ledger, Settled};
use crate::settings::{OnFull, Settings};

/// A log in memory. `max_bytes` bounds the JSON of pending events.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    on_full: OnFull,
    max_bytes: u64,
    pending: BTreeMap<Seq, Event>,
    staged: Vec<Event>,
    ledger: Ledger,
    /// How each event left.
    pub(crate) came_to: Vec<Settled>,
    fates: Fates,
    letters: BTreeMap<Seq, DeadLetter>,
    memo: Memo,
    unsynced: bool,
}

impl MemoryLog {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            on_full: settings.on_full,
            max_bytes: settings.max_bytes,
            pending: BTreeMap::new(),
            staged: Vec::new(),
            ledger: Ledger::default(),
            came_to: Vec::new(),
            fates: Fates::default(),
            letters: BTreeMap::new(),
            memo: Memo::default(),
            unsynced: false,
        }
    }

    fn book(&mut self, how: Settled, count: u64) {
        let first = self.ledger.settled() + 1;
        self.ledger.settle(how, count);
        let last = self.ledger.settled();
        let range = SeqRange { first, last };
        self.fates.note(range, Some(how), RANGES_MAX);
        self.came_to.extend((first..=last).map(|_| how));
    }

    fn used_bytes(&self) -> u64 {
        self.pending
            .values()
            .chain(&self.staged)
            .map(|e| e.json_bytes().len() as u64)
            .sum()
    }
}

impl Log for MemoryLog {
    fn take_up(&mut self, events: &mut Vec<Event>) -> Result<Seq, Error> {
        let more: u64 = events.iter().map(|e| e.json_bytes().len() as u64).sum();
        while self.used_bytes() + more > self.max_bytes {
            let oldest = self.ledger.settled() + 1;
            if self.on_full != OnFull::DropOldest || self.pending.remove(&oldest).is_none() {
                let (used, max) = (self.used_bytes(), self.max_bytes);
                return Err(Error::Full {
                    what: "max_bytes is reached",
                    used,
                    max,
                });
            }
            self.book(Settled::Evicted, 1);
        }
        let first = self.ledger.appended + self.staged.len() as u64 + 1;
        self.staged.append(events);
        Ok(first)
    }

    fn commit(&mut self, sync: bool) -> Result<(), Error> {
        for event in self.staged.drain(..) {
            self.ledger.appended += 1;
            self.pending.insert(self.ledger.appended, event);
            self.unsynced = true;
        }
        self.unsynced &= !sync;
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    fn read(&mut self, from: Seq, events_max: usize, bytes_max: u64) -> Result<Read, Error> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for (&seq, event) in self.pending.range(from..).take(events_max.max(1)) {
            bytes += event.json_bytes().len() as u64;
            if bytes > bytes_max && !events.is_empty() {
                break;
            }
            events.push(StoredEvent {
                seq,
                event: event.clone(),
            });
        }
        if events.is_empty() {
            Ok(Read::End)
        } else {
            Ok(Read::Events(events))
        }
    }

    fn settle(&mut self, through: Seq, how: Settled) -> Result<(), Error> {
        let through = through.min(self.ledger.appended);
        let count = through.saturating_sub(self.ledger.settled());
        self.book(how, count);
        self.pending = self.pending.split_off(&(self.ledger.settled() + 1));
        Ok(())
    }

    fn bury(&mut self, letter: &DeadLetter, how: Settled) -> Result<(), Error> {
        if letter.seq <= self.ledger.settled() {
            return Ok(());
        }
        self.letters.insert(letter.seq, letter.clone());
        self.settle(letter.seq, how)
    }

    fn letters(&mut self, after: Seq, max: usize) -> Result<Vec<DeadLetter>, Error> {
        let from = after.saturating_add(1);
        Ok(self
            .letters
            .range(from..)
            .take(max)
            .map(|(_, letter)| letter.clone())
            .collect())
    }

    fn letter(&mut self, seq: Seq) -> Result<Option<DeadLetter>, Error> {
        Ok(self.letters.get(&seq).cloned())
    }

    fn retry(&mut self, seq: Seq) -> Result<Receipt, Error> {
        let letter = self.letter(seq)?.ok_or(Error::NoSuchLetter { seq })?;
        let receipt = Receipt::new(
            self.stage(std::slice::from_ref(&letter.event.sent_again()))?,
            letter.event.id(),
        );
        self.commit(true)?;
        self.letters.remove(&seq);
        Ok(receipt)
    }

    fn discard(&mut self, seq: Seq) -> Result<(), Error> {
        self.letters
            .remove(&seq)
            .map(|_| ())
            .ok_or(Error::NoSuchLetter { seq })
    }

    fn memo(&mut self) -> Result<Memo, Error> {
        Ok(self.memo.clone())
    }

    fn remember(&mut self, memo: &Memo) -> Result<(), Error> {
        self.memo = memo.clone();
        Ok(())
    }

    fn position(&self) -> Position {
        Position {
            cursor: self.ledger.settled(),
            last_seq: self.ledger.appended,
            ledger: self.ledger,
            dead_letters: self.letters.len() as u64,
            letters: crate::ledger::LetterLedger {
                held: self.letters.len() as u64,
                ..Default::default()
            },
            incidents: None,
            disk_bytes: 0,
            oldest_ms: self.pending.values().next().map(Event::time_ms),
            missing: Vec::new(),
            fault: None,
            fates: Arc::new(self.fates.clone()),
        }
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn close(&mut self) -> Result<(), Error> {
        self.commit(true)
    }
}
