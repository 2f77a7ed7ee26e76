//! A partition of a stream as a source of the flusher.
//!
//! Events are read by number from whichever server answers: one that is behind gives fewer, never others.
//! The cursor is in the partition's record, which only [`Hold`] writes. So the order of the steps is that
//! of a log: an event is delivered, or is a dead letter that is stored, before the cursor passes it.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::api::{Entry, Page};
use super::connect::fleet;
use super::hold::Hold;
use super::letter;
use super::places::Places;
use super::record::Record;
use super::removal;
use super::wire::Wanted;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::StoredEvent;
use crate::flusher::source::{Found, Leaving, Source, Told};
use crate::flusher::step::{At, Reading};
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::{Memo, Position, Read};
use crate::nats::Envelope;
use crate::observe::{self, Place};

/// What a message costs on the way beside its JSON: its subject and its headers.
const MESSAGE_BYTES: u64 = 512;

/// Reaches a partition that this worker holds. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Partition(Arc<Inner>);

struct Inner {
    hold: Hold,
    subject: String,
    again: String,
    place: Place,
    places: Mutex<Places>,
    position: watch::Sender<Position>,
    /// The last event of the batch that was under way when the hold began; 0 if none was.
    under_way: Seq,
    /// No more is read: it is to be given up.
    is_leaving: AtomicBool,
}

impl Partition {
    /// The partition of this hold.
    ///
    /// # Errors
    /// What the servers say; [`Error::Fleet`] if the stream is not the one that the record speaks of.
    pub(super) async fn open(hold: Hold) -> Result<Self, Error> {
        let record = hold.record().await?;
        let claim = hold.claim().clone();
        let info = claim.wire.info(claim.names.stream()).await?;
        if info.state.last_seq < record.seq {
            return Err(fleet(format!(
                "partition {} is delivered up to place {} and the stream {} ends at {}: it was made anew or restored \
                 from an older copy. Delete the records of the stream {} to begin at its beginning",
                claim.partition,
                record.seq,
                claim.names.stream(),
                info.state.last_seq,
                claim.names.cursor_stream()
            )));
        }
        let by_workers = removal::through(&claim.wire, &claim.names).await?;
        if info.state.first_seq > record.seq.max(by_workers).saturating_add(1) {
            observe::removed_before_delivery(claim.partition, record.seq, info.state.first_seq);
        }
        let place = format!("{}.{}", claim.names.stream(), claim.partition);
        let mut again = claim.names.again_subject(claim.partition, 0);
        again.pop();
        Ok(Self(Arc::new(Inner {
            subject: claim.names.partition_subject(claim.partition),
            again,
            place: Place::new(Path::new(&place)),
            places: Mutex::new(Places::new(record.settled(), record.seq)),
            position: watch::channel(position(&record, record.settled())).0,
            under_way: record.under_way,
            is_leaving: AtomicBool::new(false),
            hold,
        })))
    }

    /// Has the flusher read no more, so that it comes to its end after what it has.
    pub(super) fn leave(&self) {
        self.0.is_leaving.store(true, Ordering::Release);
    }

    /// Looks for events until the hold is lost, while all that are known have left.
    pub(super) async fn watch(self) {
        let hints = super::hints::Hints::new(self.0.hold.claim().wire.clone(), &self.0.subject);
        let mut position = self.0.position.subscribe();
        let is_dry = |position: &Position| position.cursor >= position.last_seq;
        let watching = async {
            // The sender lives as long as this does.
            while position.wait_for(is_dry).await.is_ok() {
                hints.begin().await;
                loop {
                    // What the servers refuse now is asked again with the next hint or the next second.
                    if matches!(self.look().await, Ok(true)) {
                        break;
                    }
                    hints.next().await;
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = self.0.hold.lost() => {}
        }
    }

    /// Whether there is more than was known.
    async fn look(&self) -> Result<bool, Error> {
        let (from, after) = {
            let places = self.places();
            let from = places.last();
            (from, places.place(from))
        };
        let Some(after) = after else {
            return Ok(false);
        };
        let page = self.fetch(after, 1, 1).await?;
        let there = page.entries.len() as u64 + page.behind;
        if there == 0 {
            return Ok(false);
        }
        self.places().found(from + 1, &[], there);
        self.publish();
        Ok(true)
    }

    async fn fetch(&self, after: u64, max: usize, bytes_max: u64) -> Result<Page, Error> {
        let claim = self.0.hold.claim();
        let wanted = Wanted::From {
            seq: after.saturating_add(1),
            subject: &self.0.subject,
            max,
            bytes_max,
        };
        let page = claim.wire.fetch(claim.names.stream(), &wanted).await?;
        match page.entries.first() {
            Some(first) if first.seq <= after => Err(fleet("a server gave what was not asked for")),
            _ => Ok(page),
        }
    }

    /// What is fetched for a reading; it goes on by itself.
    fn begin(
        &self,
        reading: Reading,
    ) -> impl Future<Output = Told<Found>> + Send + 'static + use<> {
        let this = self.clone();
        let (after, room) = {
            let places = this.places();
            (
                places.place(reading.from.saturating_sub(1)),
                places.room(reading.from),
            )
        };
        let task = AbortOnDrop(tokio::spawn({
            let this = this.clone();
            async move {
                let after = after.ok_or_else(|| unknown(reading.from))?;
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                let again = this.again(reading.from).unwrap_or(usize::MAX);
                let events_max = reading.events_max.min(room).min(again).max(1);
                let extra = MESSAGE_BYTES.saturating_mul(events_max as u64);
                let page = this.fetch(after, events_max, reading.bytes_max.saturating_add(extra));
                Ok::<_, Error>((after, page.await?))
            }
        }));
        async move {
            if this.0.is_leaving.load(Ordering::Acquire) {
                return Ok((Found::Read(Read::End), this.at()));
            }
            this.0.hold.ensure_held()?;
            // In a statement of its own, so that the lock is free again when it is asked for below.
            let missing = this.places().missing(reading.from);
            if let Some(range) = missing {
                return Ok((Found::Read(Read::Missing(range)), this.at()));
            }
            let (after, page) = task.join().await?;
            let found = this.take(reading, after, page).await?;
            Ok((found, this.at()))
        }
    }

    /// What is made of a page.
    async fn take(&self, reading: Reading, after: u64, page: Page) -> Result<Found, Error> {
        let from = reading.from;
        let there = page.entries.len() as u64 + page.behind;
        let short = self.places().short(from, there);
        if short > 0 && self.were_removed(after).await? {
            self.places().removed(from, short);
            let missing = self.places().missing(from);
            return Ok(Found::Read(missing.map_or(Read::End, Read::Missing)));
        }
        if page.entries.is_empty() {
            return if short > 0 {
                Err(fleet("a server is behind what another one told"))
            } else {
                Ok(Found::Read(Read::End))
            };
        }
        let is_short = self.again(from).is_some_and(|again| there < again as u64);
        if is_short && self.is_behind(after, &page).await? {
            return Err(fleet("a server is behind what was sent before"));
        }
        let (events, unfit) = self.events(reading, &page);
        let count = events.len().max(usize::from(unfit.is_some()));
        let behind = there - count as u64;
        let seqs: Vec<u64> = page
            .entries
            .iter()
            .take(count)
            .map(|entry| entry.seq)
            .collect();
        if !self.places().found(from, &seqs, behind) {
            return Err(unknown(from));
        }
        if !events.is_empty() {
            self.places().give(from, events.len() as u64);
        }
        self.publish();
        Ok(match unfit {
            Some(letter) => Found::Unfit(letter),
            None => Found::Read(Read::Events(events)),
        })
    }

    /// The events of a page up to the first that is none, or the letter of that if it is the first.
    fn events(&self, reading: Reading, page: &Page) -> (Vec<StoredEvent>, Option<Box<DeadLetter>>) {
        let mut events = Vec::new();
        let mut bytes = 0_u64;
        for (seq, entry) in (reading.from..).zip(&page.entries) {
            bytes = bytes.saturating_add(entry.payload.len() as u64);
            if !events.is_empty() && bytes > reading.bytes_max {
                break;
            }
            match self.event(seq, entry) {
                Ok(event) => events.push(event),
                Err(reason) if events.is_empty() => {
                    let stream = self.0.hold.claim().names.stream();
                    return (
                        events,
                        Some(Box::new(letter::unfit(stream, seq, entry, reason))),
                    );
                }
                Err(_) => break,
            }
        }
        (events, None)
    }

    fn event(&self, seq: Seq, entry: &Entry) -> Result<StoredEvent, &'static str> {
        let read = Envelope::read(|name| entry.header(name), entry.payload.clone())?;
        let event = if entry.subject.starts_with(&self.0.again) {
            // A person's word counts more than a limit on its age.
            read.event.sent_again()
        } else {
            read.event
        };
        Ok(StoredEvent { seq, event })
    }

    /// How many events from this number on are of the batch that was under way when the hold began, which
    /// is sent again as it was.
    fn again(&self, from: Seq) -> Option<usize> {
        let left = self.0.under_way.saturating_add(1).checked_sub(from);
        usize::try_from(left?).ok().filter(|left| *left > 0)
    }

    /// Whether the leader has events behind those of this page, of all that stand behind this place.
    async fn is_behind(&self, after: u64, page: &Page) -> Result<bool, Error> {
        let claim = self.0.hold.claim();
        let last = claim.wire.last(claim.names.stream(), &self.0.subject);
        let seen = page.entries.last().map_or(after, |entry| entry.seq);
        Ok(last.await?.is_some_and(|(last, _)| last > seen))
    }

    /// Whether events behind this place were removed, not by workers.
    async fn were_removed(&self, after: u64) -> Result<bool, Error> {
        let claim = self.0.hold.claim();
        let info = claim.wire.info(claim.names.stream()).await?;
        let by_workers = removal::through(&claim.wire, &claim.names).await?;
        let were = info.state.first_seq > after.max(by_workers).saturating_add(1);
        if were {
            observe::removed_before_delivery(claim.partition, after, info.state.first_seq);
        }
        Ok(were)
    }

    fn settled(&self, record: &Record) -> Told<()> {
        self.places().settle(record.settled());
        self.0.position.send_modify(|old| {
            let last = old.last_seq.max(record.settled());
            *old = position(record, last);
        });
        Ok(((), self.at()))
    }

    fn publish(&self) {
        let last = self.places().last();
        self.0.position.send_if_modified(|position| {
            let is_new = last > position.last_seq;
            if is_new {
                position.last_seq = last;
                position.ledger.appended = last;
            }
            is_new
        });
    }

    fn at(&self) -> At {
        let places = self.places();
        (places.settled(), places.last())
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing that can panic is done under this lock.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Partition {
    fn recall(&self) -> impl Future<Output = Told<Memo>> + Send + 'static {
        let this = self.clone();
        async move {
            let record = this.0.hold.record().await?;
            Ok((record.memo.unwrap_or_default(), this.at()))
        }
    }

    fn read(&self, reading: Reading) -> impl Future<Output = Told<Found>> + Send + 'static {
        self.begin(reading)
    }

    fn settle(
        &self,
        leaving: Leaving,
        then: Option<Reading>,
    ) -> (
        impl Future<Output = Told<()>> + Send + 'static,
        Option<impl Future<Output = Told<Found>> + Send + 'static>,
    ) {
        let this = self.clone();
        let settled = async move {
            let Leaving { range, how, .. } = leaving;
            let place = this.places().place(range.last);
            let place = place.ok_or_else(|| unknown(range.last))?;
            // What is sent next is known already, as a rule, and need not be noted by itself.
            let next = this.places().given(range.last.saturating_add(1));
            let record = this.0.hold.change(|record| {
                let is_new = record.settle(range.last, place, how);
                if is_new && next > record.settled() {
                    record.under_way = next;
                }
                is_new
            });
            this.settled(&record.await?)
        };
        (settled, then.map(|reading| self.begin(reading)))
    }

    fn bury(
        &self,
        letter: Box<DeadLetter>,
        how: Settled,
    ) -> impl Future<Output = Told<()>> + Send + 'static {
        let this = self.clone();
        async move {
            let place = this.places().place(letter.seq);
            let place = place.ok_or_else(|| unknown(letter.seq))?;
            this.0.hold.ensure().await?;
            letter::put(this.0.hold.claim(), place, &letter).await?;
            let record = this
                .0
                .hold
                .change(|record| record.settle(letter.seq, place, how));
            this.settled(&record.await?)
        }
    }

    fn remember(&self, memo: Memo) -> impl Future<Output = Told<()>> + Send + 'static {
        let this = self.clone();
        async move {
            let memo = (memo != Memo::default()).then_some(memo);
            let changed = this.0.hold.change(|record| {
                let is_new = record.memo != memo;
                record.memo.clone_from(&memo);
                is_new
            });
            changed.await?;
            Ok(((), this.at()))
        }
    }

    fn changes(&self) -> watch::Receiver<Position> {
        self.0.position.subscribe()
    }

    async fn answers(&self) -> Result<(), Error> {
        self.0.hold.ensure_held()
    }

    fn place(&self) -> &Place {
        &self.0.place
    }
}

fn position(record: &Record, last_seq: Seq) -> Position {
    Position {
        cursor: record.settled(),
        last_seq,
        ledger: record.ledger(last_seq),
        ..Position::default()
    }
}

fn unknown(seq: Seq) -> Error {
    Error::Internal {
        what: format!("event {seq} of a partition was never read"),
    }
}

/// A task that ends with what waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<Result<T, Error>> {
    async fn join(mut self) -> Result<T, Error> {
        match (&mut self.0).await {
            Ok(result) => result,
            // Its runtime ends, and this with it.
            Err(_) => Err(Error::Closed),
        }
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
