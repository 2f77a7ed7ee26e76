//! The ways in which the sandbox misbehaves.

use std::time::Duration;

use super::reply::Reply;

/// One way to misbehave, for one request.
///
/// Give a row of them to [`Sandbox::script`](super::Sandbox::script), where each is used up by
/// one request, or one to [`Sandbox::always`](super::Sandbox::always). What matters most about
/// each is whether the batch is **taken** (checked, and recorded as accepted if it is good) before
/// the client is let down: a fault that takes the batch makes duplicates once the client sends it
/// again, and a fault that does not take it makes a loss if the client believes it was taken.
///
/// Faults that touch the connection end it, so the next request needs a new one. The connection
/// stays open only after [`None`](Fault::None), [`Answer`](Fault::Answer),
/// [`AcceptThenAnswer`](Fault::AcceptThenAnswer), [`Delay`](Fault::Delay) and a released
/// [`Hang`](Fault::Hang).
///
/// Each has a text form, shown by its `Display` and read by its `FromStr`; see
/// [`parse_script`](super::parse_script).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// No fault: the request is answered by the contract. Keeps a place in a script. Text: `ok`.
    None,

    /// Answers with this instead. **Not taken**, whatever the status: an API that answers 503, a
    /// limit that answers 429, a proxy that answers 407, a redirect, a captive portal. Text:
    /// `503`, `429 retry-after=2`, `302 location=/elsewhere`, `captive-portal`.
    Answer(Reply),

    /// Takes the batch, then answers with this: a gateway that gives up (504) on an API that was
    /// only slow. **Taken.** Text: `accept 504`.
    AcceptThenAnswer(Reply),

    /// Reads the request and keeps silent, until [`Sandbox::release`](super::Sandbox::release)
    /// answers it as if it had just arrived, or the client goes away. **Not taken** before that.
    /// Text: `hang`.
    Hang,

    /// Resets the connection (RST) at the first byte of the request, unread. On a connection that
    /// was kept open from an earlier request, this is what a client sees whose peer restarted
    /// meanwhile. **Not taken.** Text: `reset-before`.
    ResetBefore,

    /// Resets the connection once at least so many bytes of the request have come, headers
    /// included; after the last byte if the request is shorter. **Not taken.** Text:
    /// `reset-at 100`.
    ResetAt(u64),

    /// Reads the whole request, then resets the connection. To the client this looks the same as
    /// [`AcceptThenReset`](Fault::AcceptThenReset). **Not taken.** Text: `reset-after`.
    ResetAfter,

    /// Takes the batch, then resets the connection before the answer: the one that makes
    /// duplicates. **Taken.** Text: `accept-reset`.
    AcceptThenReset,

    /// Reads the whole request, then closes the connection in good order (FIN) with no answer.
    /// **Not taken.** Text: `close`.
    Close,

    /// Takes the batch at once and answers only after this time: past the client's time limit, it
    /// makes duplicates. **Taken.** Text: `delay 2s`.
    Delay(Duration),

    /// Takes the batch and sends the answer byte by byte with this pause between two bytes: it
    /// never looks idle, and is only ended by a limit on the whole. **Taken.** Text: `drip 50ms`.
    Drip(Duration),

    /// Takes the batch and sends the head and half of the body of the answer, then closes the
    /// connection: the status is known, the body is not whole. **Taken.** Text: `truncate`.
    Truncate,

    /// Takes the batch and answers with a body of this many bytes that is not JSON before its
    /// end, if it ever ends: against clients that read answers without a bound. `u64::MAX` is
    /// without end. **Taken.** Text: `flood 1000000`.
    Flood(u64),

    /// Reads the request and answers with bytes that are not HTTP. **Not taken.** Text:
    /// `garbage`.
    Garbage,

    /// Reads the request, drops it and every other connection, and refuses new connections for
    /// this long; then listens again, on the same port. **Not taken.** Text: `refuse 5s`. For an
    /// outage that ends when the test says so, see
    /// [`Sandbox::go_away`](super::Sandbox::go_away).
    Refuse(Duration),
}

impl Fault {
    /// An answer with this status and the documented body: short for
    /// `Fault::Answer(Reply::status(status))`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(Reply::status(status))
    }

    /// After how many bytes of the request the connection is reset, if it is.
    pub(super) fn reset_at(&self) -> Option<u64> {
        match self {
            Self::ResetBefore => Some(0),
            Self::ResetAt(bytes) => Some(*bytes),
            _ => None,
        }
    }
}

impl From<Reply> for Fault {
    fn from(reply: Reply) -> Self {
        Self::Answer(reply)
    }
}
