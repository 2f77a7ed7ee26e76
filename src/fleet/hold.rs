//! The hold of a worker on a partition: the one place that writes its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::connect::fleet;
use super::lease::Lease;
use super::record::Record;
use super::wire::{Put, Wire};
use crate::clock::Clock;
use crate::error::Error;
use crate::id::Seq;
use crate::millis::unix_ms;
use crate::nats::Names;

/// How long one change is tried, with reading the record in between.
const CHANGE_MAX: Duration = Duration::from_secs(6);
/// Between two tries, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(25);
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// Who holds, what, and by what.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) wire: Wire,
    pub(super) names: Arc<Names>,
    pub(super) partition: u16,
    pub(super) me: Arc<str>,
    pub(super) lease: Lease,
    pub(super) clock: Arc<dyn Clock>,
}

/// A partition that this worker holds, until another one is found to hold it. Cloning is cheap.
///
/// Each write of the record names the one that it replaces, so that of two workers that believe they hold
/// a partition only one is written. After a write that was not answered, the record is read before the
/// next: if it is still ours, what it says goes, and if it is not, the hold is lost for good.
#[derive(Clone)]
pub(super) struct Hold(Arc<Inner>);

struct Inner {
    claim: Claim,
    state: Mutex<State>,
    /// When the last write that was taken began.
    renewed: watch::Sender<Instant>,
    lost: watch::Sender<bool>,
    is_given_up: AtomicBool,
}

/// The record as it is, if that is certain.
struct State {
    record: Record,
    /// Its place in the stream of cursors.
    place: u64,
    /// Whether no write is under way that may still be taken.
    is_certain: bool,
}

impl Hold {
    /// Takes a partition whose record is this one at this place; none and 0 if it has none. `None` if
    /// another worker was faster.
    ///
    /// # Errors
    /// What the servers say. The partition may have been taken: its record then names this worker, which
    /// does not renew it, so that it is abandoned in time.
    pub(super) async fn take(
        claim: Claim,
        seen: Option<(Record, u64)>,
    ) -> Result<Option<Self>, Error> {
        let (mut record, place) = seen.unwrap_or_default();
        let now_ms = unix_ms(claim.clock.wall());
        claim.me.as_ref().clone_into(&mut record.owner);
        record.epoch = record.epoch.saturating_add(1);
        (record.since_ms, record.at_ms) = (now_ms, now_ms);
        let begun = Instant::now();
        match claim.write(&record, place).await? {
            Put::Guarded => Ok(None),
            Put::Stored(place) => Ok(Some(Self(Arc::new(Inner {
                claim,
                state: Mutex::new(State {
                    record,
                    place,
                    is_certain: true,
                }),
                renewed: watch::channel(begun).0,
                lost: watch::channel(false).0,
                is_given_up: AtomicBool::new(false),
            })))),
        }
    }

    /// What is held.
    pub(super) fn claim(&self) -> &Claim {
        &self.0.claim
    }

    /// Changes the record by `apply`, which says `false` if there is nothing to change, and gives the
    /// record as it is then.
    ///
    /// # Errors
    /// [`Error::Closed`] once the hold is lost. Any other: it may be changed or not; the next call finds
    /// out before it changes anything.
    ///
    /// # Cancel safety
    /// As after an error.
    pub(super) async fn change(
        &self,
        apply: impl Fn(&mut Record) -> bool + Send,
    ) -> Result<Record, Error> {
        let mut state = self.0.state.lock().await;
        let until = Instant::now() + CHANGE_MAX;
        let mut again = AGAIN_MIN;
        loop {
            let error = match self.try_change(&mut state, &apply).await {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => fleet("the record of a partition is written to by others all the time"),
                Err(error) => error,
            };
            if matches!(error, Error::Closed) || Instant::now() >= until {
                return Err(error);
            }
            sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// One try; `None` if the record is to be read again.
    async fn try_change(
        &self,
        state: &mut State,
        apply: &(impl Fn(&mut Record) -> bool + Send),
    ) -> Result<Option<Record>, Error> {
        self.ensure_held()?;
        if !state.is_certain {
            self.find(state).await?;
        }
        let mut next = state.record.clone();
        if !apply(&mut next) {
            return Ok(Some(next));
        }
        let claim = &self.0.claim;
        next.at_ms = unix_ms(claim.clock.wall());
        let begun = Instant::now();
        // From here on, also if this is never polled again.
        state.is_certain = false;
        match claim.write(&next, state.place).await? {
            Put::Guarded => Ok(None),
            Put::Stored(place) => {
                *state = State {
                    record: next.clone(),
                    place,
                    is_certain: true,
                };
                self.0.renewed.send_replace(begun);
                Ok(Some(next))
            }
        }
    }

    /// Reads the record, and goes on from what it says if it is still ours.
    async fn find(&self, state: &mut State) -> Result<(), Error> {
        let claim = &self.0.claim;
        let Some((record, place)) = claim.read().await? else {
            self.lose();
            return Err(Error::Closed);
        };
        if place < state.place {
            // An old leader that does not know yet that it is none.
            return Err(fleet("a server is behind"));
        }
        if record.owner != *claim.me || record.epoch != state.record.epoch {
            self.lose();
            return Err(Error::Closed);
        }
        *state = State {
            record,
            place,
            is_certain: true,
        };
        Ok(())
    }

    /// Writes the record anew, so that it does not count as abandoned.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        self.change(|_| true).await.map(drop)
    }

    /// How long it is until the record is to be written again, if nothing else writes it.
    pub(super) fn due_in(&self) -> Duration {
        let every = self.0.claim.lease.renew_every();
        every.saturating_sub(self.0.renewed.borrow().elapsed())
    }

    /// Notes that the events up to this number are under way, so that a worker that takes over sends the
    /// same batch again, and makes sure that its delivery may begin.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(super) async fn begin(&self, through: Seq) -> Result<(), Error> {
        let noted = self.change(|record| {
            let is_new = record.under_way != through;
            record.under_way = through;
            is_new
        });
        noted.await?;
        self.ensure().await
    }

    /// Makes sure that a delivery may begin: renews first if the last write is too long ago.
    ///
    /// # Errors
    /// As [`change`](Self::change): no delivery may begin.
    pub(super) async fn ensure(&self) -> Result<(), Error> {
        self.ensure_held()?;
        if self.is_fresh() {
            return Ok(());
        }
        self.renew().await?;
        if self.is_fresh() {
            return Ok(());
        }
        let lease = self.0.claim.lease.abandoned_after();
        let said = format!("the servers take longer to write than a lease of {lease:?} allows");
        Err(fleet(said))
    }

    fn is_fresh(&self) -> bool {
        self.0.renewed.borrow().elapsed() <= self.0.claim.lease.good_for()
    }

    /// The record, if it is known for certain.
    pub(super) async fn record(&self) -> Result<Record, Error> {
        self.change(|_| false).await
    }

    /// Gives the partition up, so that another worker takes it at once. Nothing is written afterwards.
    pub(super) async fn give_up(&self) -> Result<(), Error> {
        if self.0.is_given_up.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let given = self.change(|record| {
            record.owner.clear();
            true
        });
        let given = given.await;
        self.lose();
        match given {
            Ok(_) | Err(Error::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Resolves once the hold is lost.
    pub(super) async fn lost(&self) {
        let mut lost = self.0.lost.subscribe();
        // The sender lives as long as this does.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.0.lost.borrow()
    }

    /// # Errors
    /// [`Error::Closed`] once the hold is lost.
    pub(super) fn ensure_held(&self) -> Result<(), Error> {
        if self.is_lost() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn lose(&self) {
        self.0.lost.send_replace(true);
    }
}

impl Claim {
    /// The record as the leader has it.
    pub(super) async fn read(&self) -> Result<Option<(Record, u64)>, Error> {
        let subject = self.names.cursor_subject(self.partition);
        let found = self
            .wire
            .last(&self.names.cursor_stream(), &subject)
            .await?;
        let read = |(place, bytes): (u64, Vec<u8>)| {
            Record::read(self.partition, &bytes).map(|record| (record, place))
        };
        found.map(read).transpose()
    }

    async fn write(&self, record: &Record, place: u64) -> Result<Put, Error> {
        let (stream, subject) = (
            self.names.cursor_stream(),
            self.names.cursor_subject(self.partition),
        );
        let bytes = record.bytes().into();
        self.wire
            .put(&stream, subject, place, HeaderMap::new(), bytes)
            .await
    }
}
