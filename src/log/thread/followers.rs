//! What follows the cursor: the callers that wait until their event has left the queue, and the
//! names that the receiver gave to the last requests.
//!
//! A watch of the position would wake each of those callers at every append. Here each is woken
//! once, by the settle that it waits for.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::id::{Seq, SeqRange};

/// Requests whose names are remembered.
const REQUESTS_MAX: usize = 256;

/// Bytes of a name that is remembered. The sinks here cut them much shorter.
const NAME_BYTES_MAX: usize = 1 << 10;

/// Its lock is held for a few steps at a time, in which nothing is waited for.
#[derive(Default)]
pub(crate) struct Followers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cursor: Seq,
    has_ended: bool,
    /// Who waits for which event, told apart by a number.
    waiting: BTreeMap<(Seq, u64), Waker>,
    waited: u64,
    /// What the last requests delivered that were named, in order.
    requests: VecDeque<(SeqRange, String)>,
}

impl Followers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cursor is there, and the position says so.
    pub(super) fn moved(&self, cursor: Seq) {
        let mut state = self.lock();
        state.cursor = cursor;
        let later = match cursor.checked_add(1) {
            Some(next) => state.waiting.split_off(&(next, 0)),
            None => BTreeMap::new(),
        };
        let served = mem::replace(&mut state.waiting, later);
        drop(state);
        served.into_values().for_each(Waker::wake);
    }

    /// The cursor moves no more.
    fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        let left = mem::take(&mut state.waiting);
        drop(state);
        left.into_values().for_each(Waker::wake);
    }

    /// The receiver calls the request that delivered these so. A name that is too long is not
    /// remembered.
    pub(crate) fn name(&self, range: SeqRange, request_id: String) {
        if request_id.len() > NAME_BYTES_MAX {
            return;
        }
        let mut state = self.lock();
        state.requests.push_back((range, request_id));
        if state.requests.len() > REQUESTS_MAX {
            state.requests.pop_front();
        }
    }

    /// The name of the request that delivered this event, and the last one that it delivered; the
    /// last one before the next request with a name if it had none.
    pub(crate) fn request_of(&self, seq: Seq) -> (Option<String>, Seq) {
        let state = self.lock();
        let at = state
            .requests
            .partition_point(|(range, _)| range.last < seq);
        match state.requests.get(at) {
            Some((range, id)) if range.first <= seq => (Some(id.clone()), range.last),
            Some((range, _)) => (None, range.first - 1),
            None => (None, Seq::MAX),
        }
    }

    /// Waits until the cursor has passed this event: `false` if the log ended before.
    pub(crate) fn wait_for(self: &Arc<Self>, seq: Seq) -> Passed {
        let followers = Arc::clone(self);
        let place = None;
        Passed {
            followers,
            seq,
            place,
        }
    }
}

/// See [`Followers::wait_for`].
///
/// # Cancel safety
/// Only waits.
#[must_use = "it waits only if it is awaited"]
pub(crate) struct Passed {
    followers: Arc<Followers>,
    seq: Seq,
    /// Its place among those that wait.
    place: Option<u64>,
}

impl Future for Passed {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let passed = &mut *self;
        let mut state = passed.followers.lock();
        if state.cursor >= passed.seq {
            return Poll::Ready(true);
        }
        if state.has_ended {
            return Poll::Ready(false);
        }
        let place = *passed.place.get_or_insert(state.waited);
        state.waited = state.waited.max(place + 1);
        let waker = context.waker().clone();
        state.waiting.insert((passed.seq, place), waker);
        Poll::Pending
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.followers.lock().waiting.remove(&(self.seq, place));
        }
    }
}

/// Tells the followers that the cursor moves no more, however its log ends.
pub(super) struct Leader(pub(super) Arc<Followers>);

impl Drop for Leader {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicU64);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waiting for events by a watch of the position woke every caller at each append: with ten
    /// thousand of them one append cost ten thousand wake-ups.
    #[test]
    fn a_caller_is_woken_once_and_by_the_settle_it_waits_for() {
        let followers = Arc::new(Followers::default());
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(Arc::clone(&counts));
        let mut context = Context::from_waker(&waker);
        let woken = || counts.0.load(Ordering::Relaxed);
        let mut waits: Vec<_> = (1..=10)
            .map(|seq| Box::pin(followers.wait_for(seq)))
            .collect();
        for wait in &mut waits {
            assert!(wait.as_mut().poll(&mut context).is_pending());
        }
        followers.moved(3);
        assert_eq!(woken(), 3);
        assert_eq!(waits[2].as_mut().poll(&mut context), Poll::Ready(true));
        assert!(waits[3].as_mut().poll(&mut context).is_pending());
        assert_eq!(followers.lock().waiting.len(), 7);
        // What is given up leaves nothing behind.
        waits.truncate(6);
        assert_eq!(followers.lock().waiting.len(), 3);
        drop(Leader(Arc::clone(&followers)));
        assert_eq!(woken(), 6);
        assert_eq!(waits[3].as_mut().poll(&mut context), Poll::Ready(false));
        let passed = pin!(followers.wait_for(3));
        assert_eq!(passed.poll(&mut context), Poll::Ready(true));
    }

    #[test]
    fn the_names_of_the_last_requests_are_remembered() {
        let followers = Followers::default();
        assert_eq!(followers.request_of(7), (None, Seq::MAX));
        for n in 1..=300 {
            let (first, last) = (n * 10, n * 10 + 4);
            followers.name(SeqRange { first, last }, format!("r{n}"));
        }
        // Of a sink that does not cut them.
        let (first, last) = (3_010, 3_011);
        followers.name(SeqRange { first, last }, "x".repeat(1025));
        assert_eq!(followers.request_of(440), (None, 449));
        assert_eq!(followers.request_of(450), (Some("r45".into()), 454));
        assert_eq!(followers.request_of(2_999), (None, 2_999));
        assert_eq!(followers.request_of(3_004), (Some("r300".into()), 3_004));
        assert_eq!(followers.request_of(3_005), (None, Seq::MAX));
    }
}
