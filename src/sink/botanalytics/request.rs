//! The body of a request: the events as they are, in the documented wrapper.

use super::super::Batch;

const HEAD: &[u8] = br#"{"messages":["#;
const ITEM_HEAD: &[u8] = br#"{"message":"#;
const ITEM_TAIL: &[u8] = b"}";
const TAIL: &[u8] = b"]}";

/// `{"messages":[{"message":<event>},...]}`. The events were checked to be one JSON value each
/// when they were made, so they are placed without being parsed again, in one allocation.
pub(crate) fn body(batch: &Batch) -> Vec<u8> {
    let events = batch.events();
    let items: usize = events
        .iter()
        .map(|stored| ITEM_HEAD.len() + stored.event.json_bytes().len() + ITEM_TAIL.len())
        .sum();
    let commas = events.len().saturating_sub(1);
    let mut body = Vec::with_capacity(HEAD.len() + items + commas + TAIL.len());
    body.extend_from_slice(HEAD);
    for (index, stored) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(ITEM_HEAD);
        body.extend_from_slice(stored.event.json_bytes());
        body.extend_from_slice(ITEM_TAIL);
    }
    body.extend_from_slice(TAIL);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, StoredEvent};

    fn batch(texts: &[&'static str]) -> Batch {
        let events = (1..)
            .zip(texts)
            .map(|(seq, text)| StoredEvent {
                seq,
                event: Event::json(*text).unwrap(),
            })
            .collect();
        Batch::new(events).unwrap()
    }

    #[test]
    fn events_are_placed_to_the_byte_in_one_allocation() {
        let cases: [(&[&'static str], &str); 3] = [
            (&["1"], r#"{"messages":[{"message":1}]}"#),
            (
                &[r#" {"b":1.00,"a":"\u00e9"} "#, "{}"],
                r#"{"messages":[{"message": {"b":1.00,"a":"\u00e9"} },{"message":{}}]}"#,
            ),
            (
                &["1", "2", "3"],
                r#"{"messages":[{"message":1},{"message":2},{"message":3}]}"#,
            ),
        ];
        for (texts, expected) in cases {
            let body = body(&batch(texts));
            assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
            assert_eq!(body.capacity(), body.len(), "exact, and never grown");
        }
    }
}
