//! Log lines: one function for each fact, with its level.
//!
//! WARN: odd, but nothing is lost. ERROR: something was lost, set aside, or a person must act.
//! INFO: it is well again. DEBUG: each attempt. Never a key, never the content of an event.

#[cfg(all(feature = "fleet", feature = "relay"))]
pub(crate) mod books;
#[cfg(any(feature = "control", feature = "relay"))]
mod doors;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "control")]
mod meter;
#[cfg(any(feature = "control", feature = "metrics"))]
pub(crate) mod numbers;
mod place;
#[cfg(feature = "metrics")]
pub(crate) mod recorder;
#[cfg(feature = "relay")]
mod relay;
#[cfg(all(feature = "control", feature = "fleet"))]
pub(crate) mod worker;

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::id::Seq;
use crate::id::SeqRange;
use crate::incident::Finding;
use crate::outcome::{Answer, PauseReason, Verdict};
use crate::sink::Batch;

#[cfg(any(feature = "control", feature = "relay"))]
pub(crate) use doors::*;
#[cfg(feature = "fleet")]
pub(crate) use fleet::*;
#[cfg(feature = "control")]
pub(crate) use meter::{Meter, Times};
pub(crate) use place::Place;
#[cfg(feature = "relay")]
pub(crate) use relay::*;

/// Whether this build counts anything: for the page of the control socket, or for the recorder of
/// the program.
const COUNTS: bool = cfg!(any(feature = "control", feature = "metrics"));

/// Number: a commit of appends, done by `work`, and how long it took.
pub(crate) fn commit<T>(clock: &dyn Clock, work: impl FnOnce() -> T) -> T {
    if !COUNTS {
        return work();
    }
    let began = clock.monotonic();
    let done = work();
    let took = clock.monotonic().saturating_sub(began);
    #[cfg(feature = "control")]
    Place::count(|meter| meter.commits.add(took));
    #[cfg(feature = "metrics")]
    recorder::commit_took(took);
    let _ = took;
    done
}

/// Number: a request, from its beginning to the end of its answer, and how long it took. One
/// that is dropped under way does not count.
pub(crate) async fn request<T>(clock: &dyn Clock, work: impl Future<Output = T>) -> T {
    if !COUNTS {
        return work.await;
    }
    let began = clock.monotonic();
    let done = work.await;
    let took = clock.monotonic().saturating_sub(began);
    #[cfg(feature = "control")]
    Place::count(|meter| meter.requests.add(took));
    #[cfg(feature = "metrics")]
    recorder::request_took(took);
    let _ = took;
    done
}

/// Number: so many events were offered and not acknowledged. The caller is told why.
pub(crate) fn refused(place: &Place, events: usize) {
    #[cfg(feature = "control")]
    place
        .meter()
        .refused
        .add(u64::try_from(events).unwrap_or(u64::MAX));
    #[cfg(feature = "metrics")]
    recorder::events_refused(place, events);
    let _ = (place, events);
}

/// DEBUG: a request goes out.
pub(crate) fn sending(batch: &Batch) {
    let (first, last) = bounds(batch);
    tracing::debug!(
        first,
        last,
        events = batch.events().len(),
        "sending a batch"
    );
}

/// DEBUG: an answer that is not a delivery. Number: the batch will be sent again.
pub(crate) fn not_taken(verdict: Verdict, answer: &Answer) {
    if let Verdict::Retry { .. } | Verdict::Stalled = verdict {
        #[cfg(feature = "control")]
        Place::count(|meter| meter.retried.add(1));
        #[cfg(feature = "metrics")]
        recorder::batch_retried();
    }
    tracing::debug!(
        ?verdict,
        status = answer.status,
        request_id = answer.request_id,
        errors = ?answer.errors,
        detail = answer.detail,
        "a batch was not taken"
    );
}

/// DEBUG: a batch was delivered. WARN if the receiver had something to say about it.
pub(crate) fn delivered(events: usize, answer: &Answer) {
    let (status, request_id) = (answer.status, answer.request_id.as_deref());
    if answer.warnings.is_empty() {
        tracing::debug!(events, status, request_id, "a batch was delivered");
    } else {
        tracing::warn!(events, status, request_id, warnings = ?answer.warnings,
            "a batch was delivered, with warnings");
    }
}

/// WARN: delivery fails and will be tried again and again.
pub(crate) fn backing_off(wait: Duration, answer: &Answer) {
    tracing::warn!(
        ?wait,
        status = answer.status,
        errors = ?answer.errors,
        detail = answer.detail,
        "delivery fails; backing off, everything is kept"
    );
}

/// INFO: the receiver answers again.
pub(crate) fn backing_off_ended(attempts: u32) {
    tracing::info!(attempts, "delivery works again");
}

/// DEBUG: the receiver is asked too much, and requests are spaced out.
pub(crate) fn eased(gap: Duration) {
    tracing::debug!(
        ?gap,
        "the receiver asks for less; spacing requests out until it takes them"
    );
}

/// DEBUG: requests follow each other at once again, or at the set rate.
pub(crate) fn eased_no_more() {
    tracing::debug!("requests are no longer spaced out");
}

/// WARN: events of the program's log are not kept. Said at the 1st, 2nd, 4th, 8th and so on.
#[cfg(feature = "layer")]
pub(crate) fn layer_refused(place: &Place, refused: u64, error: &Error) {
    tracing::warn!(spool = &*place.name(), refused, %error, hint = error.hint(), "the layer refused an event");
}

/// WARN: requests were too large and are made smaller.
pub(crate) fn divided(batch_events: usize) {
    tracing::warn!(
        batch_events,
        "a batch is too large; sending fewer events at once"
    );
}

/// WARN: requests do not get through in time and are made smaller.
pub(crate) fn slowed(batch_events: usize) {
    tracing::warn!(
        batch_events,
        "batches do not get through in time; sending fewer events at once"
    );
}

/// ERROR: delivery waits for a person. INFO if one has asked for it.
pub(crate) fn paused(reason: PauseReason, answer: &Answer) {
    if reason == PauseReason::Requested {
        tracing::info!("delivery is paused on request, until it is resumed");
    } else {
        tracing::error!(
            ?reason,
            status = answer.status,
            errors = ?answer.errors,
            detail = answer.detail,
            "delivery is paused; everything is kept, a person must act"
        );
    }
}

/// INFO: a pause has ended.
pub(crate) fn resumed(reason: PauseReason) {
    tracing::info!(?reason, "delivery goes on after a pause");
}

/// ERROR: an event was set aside.
pub(crate) fn buried(letter: &DeadLetter) {
    let cause: Cause = letter.cause;
    tracing::error!(
        seq = letter.seq,
        id = %letter.event.id(),
        ?cause,
        attempts = letter.attempts,
        status = letter.answer.status,
        errors = ?letter.answer.errors,
        detail = letter.answer.detail,
        "an event was set aside as a dead letter"
    );
}

/// ERROR: the cursor passed events that damage made unreadable.
pub(crate) fn lost(first: Seq, last: Seq) {
    tracing::error!(first, last, "events were lost to damage on disk");
}

/// WARN: the disk refused the flusher.
pub(crate) fn flusher_storage_fault(error: &Error, wait: Duration) {
    tracing::warn!(%error, ?wait, source = error_source(error),
        "the flusher cannot use the log; trying again, nothing is sent twice for it");
}

/// INFO: the disk works for the flusher again.
pub(crate) fn flusher_storage_works() {
    tracing::info!("the flusher can use the log again");
}

/// WARN: the flusher's state would not survive a restart. Delivery goes on without.
pub(crate) fn memo_not_kept(error: &Error) {
    tracing::warn!(%error, source = error_source(error),
        "the state of the flusher cannot be remembered for a restart; trying again");
}

/// ERROR: the flusher or the sink panicked.
pub(crate) fn flusher_panicked(message: &str) {
    tracing::error!(
        message,
        "the flusher ended by a panic; pending events are kept on disk"
    );
}

fn bounds(batch: &Batch) -> (Option<Seq>, Option<Seq>) {
    let events = batch.events();
    (events.first().map(|e| e.seq), events.last().map(|e| e.seq))
}

fn error_source(error: &Error) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

/// ERROR: something is wrong with the spool, and is put on record.
pub(crate) fn incident(finding: &Finding) {
    tracing::error!(
        kind = ?finding.kind,
        place = finding.place,
        what = finding.what,
        "the spool is damaged; see `everpost incidents`"
    );
}

/// Old events made room for new ones.
pub(crate) fn evicted(range: SeqRange) {
    tracing::error!(
        first = range.first,
        last = range.last,
        count = range.count(),
        "events were dropped to make room"
    );
}

/// The disk refused something, for the first time since it last worked.
pub(crate) fn storage_fault(error: &Error) {
    let source = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(%error, source, hint = error.hint(), "the disk refused");
}

/// WARN: the journal's end could not be noted beside it. Everything is safe without.
pub(crate) fn end_not_witnessed(error: &Error) {
    tracing::warn!(%error, "the end of the journal has no second witness");
}

/// WARN: a journal file that was replaced stays, to be removed at the next opening.
pub(crate) fn failed_file_left(path: &Path, error: &io::Error) {
    tracing::warn!(%error, path = %path.display(), "failed to remove a journal file that had failed");
}

/// ERROR: the log panicked.
pub(crate) fn log_panicked(message: &str) {
    tracing::error!(
        message,
        "the log ended by a panic; what was acknowledged is on disk"
    );
}

/// DEBUG: a small segment stays as it is, and the next one begins behind it.
pub(crate) fn not_carried_on(first: Seq, error: &Error) {
    tracing::debug!(%error, first, "a small segment is not carried on");
}

/// WARN: an older volume of dead letters stays. What it says, a newer one says as well.
pub(crate) fn letters_left(path: &Path, error: &Error) {
    tracing::warn!(%error, path = %path.display(), "a volume of dead letters is left over");
}

/// DEBUG: a store was closed without a sum of its bytes.
pub(crate) fn no_sum(path: &Path, error: &io::Error) {
    tracing::debug!(%error, path = %path.display(), "a closed store has no sum");
}

/// ERROR: whether this process still owns the spool cannot be told.
pub(crate) fn owner_in_doubt(error: &Error) {
    tracing::error!(%error, "the system does not say whether the spool is still there");
}
