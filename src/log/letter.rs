//! A dead letter on disk.
//!
//! # Layout, version 1
//!
//! ```text
//! offset bytes
//!      0     1  version of this layout: 1
//!      1     4  length of the head, little-endian
//!      5        the head: `HeadV1` through bincode
//!               the JSON of the event, as it is, to the end: one byte at least
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::codec;
use crate::dead::{Cause, DeadLetter};
use crate::event::Event;
use crate::id::{EventId, Seq};
use crate::millis::unix_ms;
use crate::outcome::Answer;

/// The newest version this build reads, and the one it writes.
pub(crate) const VERSION: u8 = 1;

/// The part of a dead letter that is not the event's JSON, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct HeadV1 {
    /// How many letters of this number were removed before: no two have the same bytes.
    copy: u32,
    id: EventId,
    time_ms: u64,
    cause: Cause,
    answer: Answer,
    attempts: u32,
    first_attempt_ms: u64,
    last_attempt_ms: u64,
}

/// Encodes a letter. `None` only if its head exceeds 64 MiB.
pub(crate) fn encode(letter: &DeadLetter, copy: u32) -> Option<Vec<u8>> {
    let head = codec::encode(&HeadV1 {
        copy,
        id: letter.event.id(),
        time_ms: letter.event.time_ms(),
        cause: letter.cause,
        answer: letter.answer.clone(),
        attempts: letter.attempts,
        first_attempt_ms: unix_ms(letter.first_attempt),
        last_attempt_ms: unix_ms(letter.last_attempt),
    })?;
    let mut value = vec![VERSION];
    value.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&head);
    value.extend_from_slice(letter.event.json_bytes());
    Some(value)
}

/// Decodes what follows the version.
pub(crate) fn decode(seq: Seq, body: &[u8]) -> Option<DeadLetter> {
    let (len, rest) = body.split_at_checked(4)?;
    let len = u32::from_le_bytes(codec::array(len)?);
    let (head, json) = rest.split_at_checked(len as usize)?;
    if json.is_empty() {
        return None;
    }
    let head: HeadV1 = codec::decode(head, "a dead letter").ok()?;
    Some(DeadLetter {
        seq,
        event: Event::from_parts(head.id, head.time_ms, json.to_vec().into()),
        cause: head.cause,
        answer: head.answer,
        attempts: head.attempts,
        first_attempt: from_ms(head.first_attempt_ms)?,
        last_attempt: from_ms(head.last_attempt_ms)?,
    })
}

pub(crate) fn from_ms(ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Vec<u8> {
        let letter = DeadLetter {
            seq: 7,
            event: Event::json("{\"a\":1}").unwrap(),
            cause: Cause::Refused,
            answer: Answer {
                errors: vec!["no".into()],
                ..Answer::default()
            },
            attempts: 1,
            first_attempt: UNIX_EPOCH,
            last_attempt: UNIX_EPOCH,
        };
        let bytes = encode(&letter, 0).unwrap();
        assert_eq!(decode(7, &bytes[1..]), Some(letter));
        bytes
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_made_for_it() {
        let good = letter();
        // The length of the head, that of the id, how many errors there are, and how long one is.
        let errors = 5 + 4 + 24 + 8 + 4 + 2;
        for at in [1, 5 + 4, errors, errors + 8] {
            let mut bad = good.clone();
            let here = if at == 1 { 4 } else { 8 };
            bad[at..at + here].fill(0xFF);
            assert_eq!(decode(7, &bad[1..]), None, "{at}");
            bad[at + here - 1] = 0x0F;
            assert_eq!(decode(7, &bad[1..]), None, "{at}");
        }
    }

    /// Such an event could be put back into the queue, where nothing that is read has no bytes.
    #[test]
    fn a_letter_without_an_event_is_none() {
        let mut bytes = letter();
        bytes.truncate(bytes.len() - "{\"a\":1}".len());
        assert_eq!(decode(7, &bytes[1..]), None);
    }
}
