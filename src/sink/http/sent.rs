//! How far a request has gone out, so that its answer can be held against that (invariant I15).
//!
//! The body is handed over in pieces, and each piece says when the connection has let go of it: it
//! has then been written. An answer that is read before the last piece has gone speaks of a request
//! that its sender cannot have seen. When it is read is noted at that moment, on the thread of the
//! connection, and not when the task that waits for it comes to look.
//!
//! A piece that was let go is also the sign that the request goes on, by which silence is told from a
//! slow link (see `silence`).
//!
//! The system buffers what is written, megabytes of it on a fast link, so that even a large request
//! could be gone before an answer to its beginning is back. Of a body of more than
//! [`HELD_FROM_BYTES`] the last piece therefore waits until everything else has been written, and a
//! moment longer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::silence::Progress;

/// Small enough that a slow link is seen to take them.
const PIECE_BYTES: usize = 16 * 1024;

/// Bodies of more than this keep their last piece back.
const HELD_FROM_BYTES: usize = 128 * 1024;

/// For so long, once everything before it has been written: more than a server in the same house
/// takes to answer, and little beside the time that so many bytes take on any other way.
const HELD_FOR: Duration = Duration::from_millis(5);

/// What is known of one request on its way. Dropping it breaks off a request that is still being
/// sent.
pub(super) struct Sent(Arc<UploadWay>);

impl Sent {
    /// This body, ready to be sent once, and the knowledge of how far it has come.
    pub(super) fn of(body: Bytes) -> (Self, Pieces) {
        let way = Arc::new(UploadWay {
            state: Mutex::new(State::begin(body.len())),
        });
        let pieces = Pieces {
            is_held: body.len() > HELD_FROM_BYTES,
            rest: body,
            way: Arc::clone(&way),
            held: None,
        };
        (Self(way), pieces)
    }

    /// Whether anything of it was asked for: a connection stands then.
    pub(super) fn has_begun(&self) -> bool {
        self.0.state().has_begun
    }

    /// Whether all of it has been written.
    pub(super) fn is_whole(&self) -> bool {
        self.0.state().is_whole()
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        self.0.state().progress
    }

    /// Waits for the answer; says beside it whether all of the request had been written when the
    /// answer was read. There is none once `due` is over, which is asked for again as the request
    /// goes on.
    ///
    /// # Cancel safety
    /// As that of `answer`.
    pub(super) async fn answered<T>(
        &self,
        answer: impl Future<Output = T>,
        due: impl Fn(&Progress) -> Instant,
    ) -> Option<(T, bool)> {
        let bell = Arc::new(Bell {
            way: Arc::clone(&self.0),
            rung: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut answer = pin!(answer);
        let mut sleep = pin!(sleep_until(due(&self.progress())));
        poll_fn(|cx| {
            let before = bell.listen(cx.waker());
            let polled = answer.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(answer) = polled {
                let was_whole = bell.listen(cx.waker()).or(before);
                let was_whole = was_whole.unwrap_or_else(|| self.is_whole());
                return Poll::Ready(Some((answer, was_whole)));
            }
            let due = {
                let mut state = self.0.state();
                state.waiting = Some(cx.waker().clone());
                due(&state.progress)
            };
            if due != sleep.deadline() {
                sleep.as_mut().reset(due);
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.state();
            state.is_left = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What the request, its pieces and its caller share.
struct UploadWay {
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    has_begun: bool,
    /// The last piece was handed over.
    has_ended: bool,
    /// Pieces that were handed over and are not written.
    under_way: usize,
    /// The caller has gone.
    is_left: bool,
    /// The connection, where it waits to be given the next piece.
    waker: Option<Waker>,
    /// The task that waits for the answer: once the request is out, that has another time limit.
    waiting: Option<Waker>,
}

impl State {
    fn begin(bytes: usize) -> Self {
        Self {
            progress: Progress::begin(bytes, Instant::now()),
            has_begun: false,
            has_ended: false,
            under_way: 0,
            is_left: false,
            waker: None,
            waiting: None,
        }
    }

    fn is_whole(&self) -> bool {
        self.has_ended && self.under_way == 0
    }
}

impl UploadWay {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task that waits for the answer, and notes how far the request was when it was woken
/// last.
struct Bell {
    way: Arc<UploadWay>,
    rung: Mutex<(Option<Waker>, Option<bool>)>,
}

impl Bell {
    /// What was noted since the last call; `waker` is woken from now on.
    fn listen(&self, waker: &Waker) -> Option<bool> {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.0 = Some(waker.clone());
        rung.1.take()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // A connection that is ready wakes it as well, and says nothing of an answer: the request may
        // go out and be answered on another thread before this task comes to look.
        let is_whole = {
            let state = self.way.state();
            state.has_begun.then(|| state.is_whole())
        };
        let waker = {
            let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            rung.1 = is_whole.or(rung.1);
            rung.0.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The body as the HTTP client takes it.
pub(super) struct Pieces {
    rest: Bytes,
    is_held: bool,
    way: Arc<UploadWay>,
    held: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    /// Waits until the last piece may go.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_held {
            return Poll::Ready(());
        }
        let under_way = {
            let mut state = self.way.state();
            state.waker = Some(cx.waker().clone());
            state.under_way
        };
        if under_way > 0 {
            return Poll::Pending;
        }
        let held = self.held.get_or_insert_with(|| Box::pin(sleep(HELD_FOR)));
        held.as_mut().poll(cx)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.way.state().is_left {
            // The connection ends with it.
            let error = io::Error::other("the flusher waits for the answer no more");
            return Poll::Ready(Some(Err(error)));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let is_last = self.rest.len() <= PIECE_BYTES;
        if is_last {
            ready!(self.poll_last(cx));
        }
        let size = PIECE_BYTES.min(self.rest.len());
        let bytes = self.rest.split_to(size);
        let piece = BodyPiece::new(bytes, Arc::clone(&self.way), is_last);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A piece that is being written, until it is dropped.
struct BodyPiece {
    bytes: Bytes,
    way: Arc<UploadWay>,
}

impl BodyPiece {
    fn new(bytes: Bytes, way: Arc<UploadWay>, is_last: bool) -> Self {
        {
            let mut state = way.state();
            state.progress.went_on(Instant::now());
            state.has_begun = true;
            state.has_ended = is_last;
            state.under_way += 1;
        }
        Self { bytes, way }
    }
}

impl AsRef<[u8]> for BodyPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyPiece {
    fn drop(&mut self) {
        let (waker, waiting) = {
            let mut state = self.way.state();
            state.under_way = state.under_way.saturating_sub(1);
            let waiting = if state.is_whole() {
                state.progress.went_out(Instant::now());
                state.waiting.take()
            } else {
                state.progress.went_on(Instant::now());
                None
            };
            (state.waker.take(), waiting)
        };
        for waker in [waker, waiting].into_iter().flatten() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    /// The task was woken when its connection was ready. Before it came to look, the request had gone
    /// out and been answered on another thread; that it had not at that waking was believed, and a
    /// good answer called early, so that its events were sent again.
    #[tokio::test]
    async fn a_waking_before_anything_went_out_says_nothing_of_the_answer() {
        let (sent, mut pieces) = Sent::of(Bytes::from_static(b"{}"));
        let mut is_ready = false;
        let answer = poll_fn(|cx| {
            if !std::mem::replace(&mut is_ready, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // It is written as soon as it is asked for.
            let piece = Pin::new(&mut pieces).poll_frame(cx);
            assert!(matches!(piece, Poll::Ready(Some(Ok(_)))));
            Poll::Ready(())
        });
        let ((), is_after) = sent.answered(answer, |_| far()).await.unwrap();
        assert!(is_after);
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    fn next(pieces: &mut Pieces) -> Option<Bytes> {
        match Pin::new(pieces).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    /// A time limit of the whole request ended an upload that was slow and went on.
    #[tokio::test(start_paused = true)]
    async fn an_upload_that_goes_on_is_waited_for_and_silence_is_not() {
        let limits = Limits {
            request: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            read: Duration::from_secs(3),
            total: None,
        };
        let begin = Instant::now();
        let (sent, mut pieces) = Sent::of(Bytes::from(vec![b'x'; 5 * PIECE_BYTES]));
        let connection = tokio::spawn(async move {
            let mut count = 0;
            while count < 4 {
                // One piece every 20 seconds; the one after the fourth is never taken.
                let piece = next(&mut pieces);
                sleep(Duration::from_secs(20)).await;
                drop(piece);
                count += 1;
            }
            let _stuck = next(&mut pieces);
            std::future::pending::<()>().await;
        });
        let never = std::future::pending::<()>();
        let due = |progress: &Progress| progress.due(limits, None);
        assert!(sent.answered(never, due).await.is_none());
        assert_eq!(begin.elapsed(), Duration::from_secs(4 * 20 + 30));
        connection.abort();
    }

    /// The time limit of the answer is shorter than that of silence, and begins when the request is
    /// out, although nothing wakes the task that waits but that.
    #[tokio::test(start_paused = true)]
    async fn once_the_request_is_out_its_answer_has_a_time_limit_of_its_own() {
        let limits = Limits {
            request: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            read: Duration::from_secs(3),
            total: None,
        };
        let begin = Instant::now();
        let (sent, mut pieces) = Sent::of(Bytes::from_static(b"{}"));
        let connection = tokio::spawn(async move {
            sleep(Duration::from_secs(9)).await;
            drop(next(&mut pieces));
        });
        let never = std::future::pending::<()>();
        let due = |progress: &Progress| progress.due(limits, None);
        assert!(sent.answered(never, due).await.is_none());
        assert_eq!(begin.elapsed(), Duration::from_secs(9 + 3));
        connection.await.unwrap();
    }
}
