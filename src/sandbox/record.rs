//! What the sandbox saw and took.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::fault::Fault;

/// One acceptance of one event: a batch that is taken twice makes two for each of its events.
#[derive(Clone, PartialEq, Eq)]
pub struct Accepted {
    id: Option<Arc<str>>,
    json: Option<Bytes>,
    request: u64,
    repeat: bool,
}

impl Accepted {
    pub(super) fn new(id: Option<&str>, json: Option<Bytes>, request: u64) -> Self {
        Self {
            id: id.map(Arc::from),
            json,
            request,
            repeat: false,
        }
    }

    /// The id found in the event, if there is one that is a string.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The event as it stood in the request, to the byte. `None` if bodies are not kept.
    #[must_use]
    pub fn json(&self) -> Option<&[u8]> {
        self.json.as_deref()
    }

    /// The number of the request it came in, from 1.
    #[must_use]
    pub fn request(&self) -> u64 {
        self.request
    }

    /// Whether an event of this id was accepted before.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.repeat
    }
}

/// Prints the size, never the content: events are personal data.
impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("id", &self.id)
            .field("bytes", &self.json.as_ref().map(Bytes::len))
            .field("request", &self.request)
            .field("repeat", &self.repeat)
            .finish()
    }
}

/// An event that was accepted more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Duplicate {
    /// Its id.
    pub id: String,
    /// How often it was accepted: 2 or more.
    pub times: u64,
}

/// One request and what was answered.
///
/// It is there from the first byte of the request on; what is not known yet, or never will be
/// because the request broke off, is empty.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// Its number, from 1.
    pub number: u64,
    /// The fault it met; [`Fault::None`] if none.
    pub fault: Fault,
    /// The method.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The headers in order, names in lower case, but for those that carry credentials
    /// (`authorization`, `proxy-authorization`, `cookie`).
    pub headers: Vec<(String, String)>,
    /// Whether it came with a key that was accepted at that time.
    pub authorized: bool,
    /// The size of the body.
    pub body_bytes: u64,
    /// The body to the byte, if bodies are kept and it was within the limit.
    pub body: Option<Bytes>,
    /// How many messages the body holds; 0 if it is not a batch.
    pub events: usize,
    /// How many of them were accepted: all, or none.
    pub accepted: usize,
    /// The status that was answered; `None` if no answer was begun.
    pub status: Option<u16>,
    /// Why it was refused, if it was: more than the answer says where the API is taciturn, such as
    /// what was wrong with the key, or which of many messages it is. Never a value from a message.
    pub reason: Option<String>,
    /// Whether nothing more comes of it: its answer is on the way, or its connection has ended.
    pub ended: bool,
}

impl Exchange {
    fn new(number: u64, fault: Fault) -> Self {
        Self {
            number,
            fault,
            method: String::new(),
            path: String::new(),
            headers: Vec::new(),
            authorized: false,
            body_bytes: 0,
            body: None,
            events: 0,
            accepted: 0,
            status: None,
            reason: None,
            ended: false,
        }
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The `Idempotency-Key` header.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.header("idempotency-key")
    }
}

/// Prints the size of the body, never its content.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("number", &self.number)
            .field("fault", &self.fault)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("authorized", &self.authorized)
            .field("body_bytes", &self.body_bytes)
            .field("events", &self.events)
            .field("accepted", &self.accepted)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// A request that has ended, and what was accepted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The request and what was answered.
    pub exchange: Exchange,
    /// Its events in order; empty if it was refused.
    pub accepted: Vec<Accepted>,
}

/// Counters, for [`Sandbox::wait_for`](super::Sandbox::wait_for).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests of which at least one byte came.
    pub requests: u64,
    /// Requests that were given an answer, or the beginning of one.
    pub answered: u64,
    /// Requests that have ended, answered or not.
    pub ended: u64,
    /// Acceptances of events, repetitions included.
    pub accepted: u64,
    /// Events accepted, each id counted once. An event without an id counts each time.
    pub distinct: u64,
    /// Requests that hang at this moment.
    pub hanging: u64,
    /// Faults of the script that no request has met yet.
    pub script_left: u64,
}

/// Where the acceptances part from what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "events were not accepted as expected. position=`{position}`, expected=`{}`, accepted=`{}`",
    expected.as_deref().unwrap_or("nothing more"),
    accepted.as_deref().unwrap_or("nothing more")
)]
#[non_exhaustive]
pub struct OrderError {
    /// The first position that differs, from 0.
    pub position: usize,
    /// The id that should have been accepted there; `None` past the end of the expectation.
    pub expected: Option<String>,
    /// The id that was; `None` if no further event was accepted.
    pub accepted: Option<String>,
}

/// The books of the sandbox.
#[derive(Debug, Default)]
pub(super) struct Recording {
    accepted: Vec<Accepted>,
    times: HashMap<Arc<str>, u64>,
    exchanges: BTreeMap<u64, Exchange>,
    last_number: u64,
    stats: Stats,
}

impl Recording {
    /// Opens the entry of a new request and gives it its number.
    pub(super) fn begin(&mut self, fault: Fault) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.exchanges.insert(number, Exchange::new(number, fault));
        self.stats.requests += 1;
        number
    }

    /// The entry of a request, unless it was forgotten meanwhile.
    pub(super) fn exchange(&mut self, number: u64) -> Option<&mut Exchange> {
        self.exchanges.get_mut(&number)
    }

    pub(super) fn answer(&mut self, number: u64, status: u16) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.status = Some(status);
            self.stats.answered += 1;
        }
    }

    pub(super) fn refuse(&mut self, number: u64, reason: String) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.reason = Some(reason);
        }
    }

    pub(super) fn end(&mut self, number: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.ended = true;
            self.stats.ended += 1;
        }
    }

    /// Hands out the requests that have ended, with what was accepted of them. Counters stay, and
    /// which ids there were.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        let exchanges = std::mem::take(&mut self.exchanges).into_iter();
        let (ended, open) = exchanges.partition(|(_, exchange): &(_, Exchange)| exchange.ended);
        self.exchanges = open;
        let ended: BTreeMap<u64, Exchange> = ended;
        let mut ended: BTreeMap<u64, Ended> = ended
            .into_iter()
            .map(|(number, exchange)| {
                let accepted = Vec::new();
                (number, Ended { exchange, accepted })
            })
            .collect();
        let all = std::mem::take(&mut self.accepted);
        for event in all {
            match ended.get_mut(&event.request) {
                Some(of) => of.accepted.push(event),
                None => self.accepted.push(event),
            }
        }
        ended.into_values().collect()
    }

    pub(super) fn accept(&mut self, number: u64, events: Vec<Accepted>) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.accepted = events.len();
        }
        for mut event in events {
            self.stats.accepted += 1;
            if let Some(id) = &event.id {
                let times = self.times.entry(id.clone()).or_insert(0);
                *times += 1;
                event.repeat = *times > 1;
            }
            self.stats.distinct += u64::from(!event.repeat);
            self.accepted.push(event);
        }
    }

    pub(super) fn hang(&mut self) {
        self.stats.hanging += 1;
    }

    pub(super) fn end_hang(&mut self) {
        self.stats.hanging = self.stats.hanging.saturating_sub(1);
    }

    /// Forgets what was seen, but not what is going on: numbers and hanging requests go on.
    pub(super) fn forget(&mut self) {
        *self = Self {
            last_number: self.last_number,
            stats: Stats {
                hanging: self.stats.hanging,
                ..Stats::default()
            },
            ..Self::default()
        };
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values()
    }

    /// The ids in the order of their first acceptance.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.accepted
            .iter()
            .filter(|event| !event.repeat)
            .filter_map(Accepted::id)
    }

    pub(super) fn duplicates(&self) -> Vec<Duplicate> {
        self.ids()
            .filter_map(|id| {
                let times = self.times.get(id).copied().filter(|times| *times > 1)?;
                Some(Duplicate {
                    id: id.to_owned(),
                    times,
                })
            })
            .collect()
    }

    pub(super) fn check_order<T: AsRef<str>>(
        &self,
        expected: impl IntoIterator<Item = T>,
    ) -> Result<(), OrderError> {
        let mut expected = expected.into_iter();
        let mut accepted = self.ids();
        for position in 0.. {
            let (want, got) = (expected.next(), accepted.next());
            let want = want.as_ref().map(AsRef::as_ref);
            if want != got {
                return Err(OrderError {
                    position,
                    expected: want.map(str::to_owned),
                    accepted: got.map(str::to_owned),
                });
            }
            if want.is_none() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(batches: &[&[&str]]) -> Recording {
        let mut record = Recording::default();
        for batch in batches {
            let number = record.begin(Fault::None);
            let events = batch.iter();
            let events = events.map(|id| Accepted::new(Some(id), None, number));
            record.accept(number, events.collect());
        }
        record
    }

    #[test]
    fn repetitions_are_counted_and_do_not_disturb_the_order() {
        let record = record(&[&["a", "b"], &["a", "b"], &["c", "a"]]);
        assert_eq!(record.ids().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(record.check_order(["a", "b", "c"]), Ok(()));
        let duplicates: Vec<_> = record
            .duplicates()
            .into_iter()
            .map(|d| (d.id, d.times))
            .collect();
        assert_eq!(duplicates, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
        assert_eq!((record.stats().accepted, record.stats().distinct), (6, 3));
    }

    #[test]
    fn the_first_deviation_from_the_order_is_named() {
        let record = record(&[&["a", "c", "b"]]);
        for (expected, position, want, got) in [
            (&["a", "b", "c"][..], 1, Some("b"), Some("c")),
            (&["a", "c"], 2, None, Some("b")),
            (&["a", "c", "b", "d"], 3, Some("d"), None),
        ] {
            let error = record.check_order(expected).unwrap_err();
            assert_eq!(error.position, position);
            assert_eq!(error.expected.as_deref(), want);
            assert_eq!(error.accepted.as_deref(), got);
        }
        assert_eq!(
            record.check_order(["a", "c"]).unwrap_err().to_string(),
            "events were not accepted as expected. position=`2`, expected=`nothing more`, accepted=`b`"
        );
    }

    #[test]
    fn events_without_an_id_are_each_their_own() {
        let mut record = Recording::default();
        let number = record.begin(Fault::None);
        record.accept(number, vec![Accepted::new(None, None, number); 2]);
        assert_eq!((record.stats().accepted, record.stats().distinct), (2, 2));
        assert_eq!(record.duplicates(), []);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_numbers_go_on() {
        let mut record = record(&[&["a"]]);
        record.hang();
        record.forget();
        record.answer(1, 200);
        assert_eq!(record.exchanges().count(), 0);
        assert_eq!(
            record.stats(),
            Stats {
                hanging: 1,
                ..Stats::default()
            }
        );
        assert_eq!(record.begin(Fault::None), 2);
    }

    #[test]
    fn what_has_ended_is_handed_out_once_and_the_counters_stay() {
        let mut record = record(&[&["a"], &["a", "b"]]);
        record.end(2);
        record.refuse(1, "why".to_owned());
        let ended = record.take_ended();
        let ids = |ended: &Ended| {
            let ids = ended
                .accepted
                .iter()
                .map(|event| event.id().map(str::to_owned));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].exchange.number, 2);
        assert_eq!(ids(&ended[0]), [Some("a".to_owned()), Some("b".to_owned())]);
        assert!(
            ended[0].accepted[0].is_repeat(),
            "also of what was handed out"
        );
        assert_eq!(record.take_ended(), []);
        record.end(1);
        let ended = record.take_ended();
        assert_eq!(ended[0].exchange.reason.as_deref(), Some("why"));
        let stats = record.stats();
        assert_eq!((stats.ended, stats.accepted, stats.distinct), (2, 3, 2));
        assert_eq!(record.exchanges().count() + record.accepted().len(), 0);
    }

    #[test]
    fn debug_never_shows_content() {
        let event = Accepted::new(Some("a"), Some(Bytes::from_static(b"hunter2")), 1);
        let mut exchange = Exchange::new(1, Fault::None);
        exchange.body = Some(Bytes::from_static(b"hunter2"));
        let text = format!("{event:?} {exchange:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
