//! Bytes on disk: our own versioned envelopes through bincode, events through one door.
//!
//! Everything the spool stores passes here, so that the format has one address (`docs/format.md`)
//! and payload bytes one place to be encrypted or counted. bincode is used with explicit options,
//! since its free functions accept trailing bytes and its defaults have changed between versions
//! (bincode 1.3.3 `src/lib.rs`). An envelope is not self-describing: a field is never added to
//! one, a new version is.

use std::ops::Range;

use bincode::Options;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::{Event, StoredEvent, stamp_ms};
use crate::id::{EventId, Seq};

/// Bytes that an event costs on disk beside its JSON: id, time and length.
pub(crate) const EVENT_OVERHEAD_BYTES: u64 = 16 + 8 + 4;

/// Bytes in front of a run of events: first sequence number and count.
pub(crate) const RUN_OVERHEAD_BYTES: u64 = 8 + 4;

/// Why bytes were not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes do not decode as {0}")]
pub(crate) struct Undecodable(pub(crate) &'static str);

fn options(limit: u64) -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(limit)
        .reject_trailing_bytes()
}

/// Encodes an envelope. `None` only if it exceeds 64 MiB.
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    options(64 << 20).serialize(value).ok()
}

/// Decodes an envelope that must fill `bytes` exactly.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, Undecodable> {
    options(bytes.len() as u64)
        .deserialize(bytes)
        .map_err(|_| Undecodable(what))
}

/// The bytes an event takes inside a run.
pub(crate) fn event_bytes(event: &Event) -> u64 {
    EVENT_OVERHEAD_BYTES + event.json_bytes().len() as u64
}

/// Appends one event to a run that is being built.
///
/// Written by hand, in the layout bincode would give the same fields, because this is the one
/// loop every payload byte passes twice: id (16), time in ms (u64), length (u32), JSON.
pub(crate) fn push_event(out: &mut Vec<u8>, event: &Event) {
    out.extend_from_slice(event.id().as_uuid().as_bytes());
    out.extend_from_slice(&event.stamp().to_le_bytes());
    // An event is bounded by a quarter of a journal file, itself at most 1 GiB.
    let len = u32::try_from(event.json_bytes().len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(event.json_bytes());
}

/// Encodes a run of consecutive events: first sequence number (u64), count (u32), the events.
pub(crate) fn encode_run<'a>(
    first: Seq,
    events: impl ExactSizeIterator<Item = &'a Event> + Clone,
    out: &mut Vec<u8>,
) {
    let bytes: u64 = events.clone().map(event_bytes).sum();
    out.reserve(usize::try_from(bytes + RUN_OVERHEAD_BYTES).unwrap_or(0));
    out.extend_from_slice(&run_head(first, events.len()));
    for event in events {
        push_event(out, event);
    }
}

/// What is in front of a run: first sequence number and count.
pub(crate) fn run_head(first: Seq, count: usize) -> [u8; RUN_OVERHEAD_BYTES as usize] {
    let mut head = [0; RUN_OVERHEAD_BYTES as usize];
    let (number, rest) = head.split_at_mut(8);
    number.copy_from_slice(&first.to_le_bytes());
    rest.copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    head
}

/// The bytes that a run of so many events has at the least: JSON has one byte.
pub(crate) fn least_run_bytes(count: u32) -> u64 {
    RUN_OVERHEAD_BYTES + u64::from(count) * (EVENT_OVERHEAD_BYTES + 1)
}

/// What stands before the JSON of an event: id, time, and the length of the JSON, which is one byte
/// at least.
fn event_head(bytes: &[u8]) -> Option<([u8; 16], u64, usize)> {
    let id = array(bytes.get(..16)?)?;
    let stamp = u64::from_le_bytes(array(bytes.get(16..24)?)?);
    let len = u32::from_le_bytes(array(bytes.get(24..28)?)?);
    (len > 0).then_some((id, stamp, usize::try_from(len).ok()?))
}

/// When the event happened that these bytes begin with.
pub(crate) fn time_ms(bytes: &[u8]) -> Option<u64> {
    event_head(bytes).map(|(_, stamp, _)| stamp_ms(stamp))
}

/// The event that begins at `at`, and where it ends. It shares `bytes`.
pub(crate) fn event_at(bytes: &Bytes, at: usize) -> Option<(Event, usize)> {
    let (id, stamp, len) = event_head(bytes.get(at..)?)?;
    let json = at + EVENT_OVERHEAD_BYTES as usize;
    let end = json.checked_add(len).filter(|end| *end <= bytes.len())?;
    // Only the JSON of an event becomes a handle on the buffer: each one is counted.
    let json = bytes.slice(json..end);
    let id = EventId::from_uuid(Uuid::from_bytes(id));
    Some((Event::from_parts(id, stamp, json), end))
}

/// Whether these bytes are so many events and nothing else.
pub(crate) fn are_events(bytes: &[u8], count: usize) -> bool {
    fn after_event(bytes: &[u8]) -> Option<&[u8]> {
        let (_, _, len) = event_head(bytes)?;
        bytes.get(EVENT_OVERHEAD_BYTES as usize..)?.get(len..)
    }
    let rest = (0..count).try_fold(bytes, |rest, _| after_event(rest));
    rest.is_some_and(<[u8]>::is_empty)
}

/// Decodes a run that must fill `bytes` exactly. The events share `bytes`.
pub(crate) fn decode_run(bytes: &Bytes) -> Result<Vec<StoredEvent>, Undecodable> {
    let bad = || Undecodable("a run of events");
    let field = |range: Range<usize>| bytes.get(range).unwrap_or_default();
    let first = u64::from_le_bytes(array(field(0..8)).ok_or_else(bad)?);
    let count = u32::from_le_bytes(array(field(8..12)).ok_or_else(bad)?);
    // The count is not trusted for the allocation.
    if least_run_bytes(count) > bytes.len() as u64
        || first == 0
        || first.checked_add(u64::from(count)).is_none()
    {
        return Err(bad());
    }
    let mut events = Vec::with_capacity(count as usize);
    let mut at = RUN_OVERHEAD_BYTES as usize;
    for seq in first..first + u64::from(count) {
        let (event, end) = event_at(bytes, at).ok_or_else(bad)?;
        at = end;
        events.push(StoredEvent { seq, event });
    }
    if at == bytes.len() {
        Ok(events)
    } else {
        Err(bad())
    }
}

/// The first `N` bytes as an array; `None` if there are not exactly that many.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// What the flusher wants to find again after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memo {
    /// Why it is paused, and since when (ms since 1970).
    pub(crate) paused: Option<PausedMemo>,
    /// Not before when (ms since 1970) the receiver wants to hear from us again.
    pub(crate) not_before_ms: Option<u64>,
    /// The most events in one request that the receiver was found to take.
    pub(crate) batch_events: Option<u32>,
}

/// The part of the memo that explains a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PausedMemo {
    pub(crate) reason: crate::outcome::PauseReason,
    pub(crate) answer: crate::outcome::Answer,
    pub(crate) since_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: Seq, count: usize) -> Vec<u8> {
        let events: Vec<Event> = (0..count)
            .map(|i| Event::json(format!("{{\"n\":{i}}}")).unwrap())
            .collect();
        let mut out = Vec::new();
        encode_run(first, events.iter(), &mut out);
        out
    }

    #[test]
    fn a_run_round_trips_and_fills_its_bytes() {
        let bytes = Bytes::from(run(7, 3));
        let events = decode_run(&bytes).unwrap();
        assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(&events[2].event.json_bytes()[..], b"{\"n\":2}");
    }

    #[test]
    fn no_shortened_or_lengthened_run_is_believed() {
        let bytes = run(1, 3);
        for cut in 0..bytes.len() {
            assert!(
                decode_run(&Bytes::copy_from_slice(&bytes[..cut])).is_err(),
                "cut at {cut}"
            );
        }
        let mut long = bytes;
        long.push(0);
        assert!(decode_run(&Bytes::from(long)).is_err());
    }

    #[test]
    fn a_count_or_number_out_of_range_is_refused_without_allocating() {
        let mut bytes = run(1, 1);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode_run(&Bytes::from(bytes)).is_err());
        let mut bytes = run(1, 1);
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_run(&Bytes::from(bytes)).is_err());
    }

    /// 28 bytes on disk became 120 in memory, and what was read could not be written again.
    #[test]
    fn an_event_of_no_bytes_is_no_event() {
        let mut bytes = run(1, 1);
        bytes.truncate(RUN_OVERHEAD_BYTES as usize + 24);
        bytes.extend_from_slice(&[0; 4]);
        assert!(!are_events(&bytes[12..], 1));
        assert!(decode_run(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn envelopes_refuse_trailing_bytes() {
        let mut bytes = encode(&Memo::default()).unwrap();
        assert_eq!(decode::<Memo>(&bytes, "memo").unwrap(), Memo::default());
        bytes.push(0);
        assert!(decode::<Memo>(&bytes, "memo").is_err());
    }
}
