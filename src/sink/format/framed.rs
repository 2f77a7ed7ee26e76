//! Forms that take events as they are, with something before, between and behind them.

use std::borrow::Cow;

use super::quoted;
use crate::sink::Batch;

type Bytes = Cow<'static, [u8]>;

/// What stands around the events of a batch. The events were checked to be one JSON value each when
/// they were made, so they are placed without being parsed again, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) head: Bytes,
    pub(crate) item_head: Bytes,
    pub(crate) item_tail: Bytes,
    pub(crate) between: Bytes,
    pub(crate) tail: Bytes,
    /// An event must not have a line break in it.
    pub(crate) is_in_lines: bool,
}

impl Pieces {
    pub(super) fn array() -> Self {
        Self {
            head: b"[".into(),
            between: b",".into(),
            tail: b"]".into(),
            ..Self::default()
        }
    }

    pub(super) fn lines() -> Self {
        Self {
            item_tail: b"\n".into(),
            is_in_lines: true,
            ..Self::default()
        }
    }

    pub(super) fn wrapped(list: &str, item: Option<&str>) -> Self {
        let named = |name: &str, end: &[u8]| {
            let mut bytes = b"{".to_vec();
            quoted(name, &mut bytes);
            bytes.extend_from_slice(end);
            Bytes::from(bytes)
        };
        let (item_head, item_tail) = match item {
            Some(item) => (named(item, b":"), b"}".into()),
            None => (Bytes::default(), Bytes::default()),
        };
        Self {
            head: named(list, b":["),
            item_head,
            item_tail,
            between: b",".into(),
            tail: b"]}".into(),
            is_in_lines: false,
        }
    }

    pub(crate) fn body(&self, batch: &Batch) -> Vec<u8> {
        let events = batch.events();
        let around = self.item_head.len() + self.item_tail.len();
        let items: usize = events
            .iter()
            .map(|stored| around + stored.event.json_bytes().len())
            .sum();
        let between = events.len().saturating_sub(1) * self.between.len();
        let mut body = Vec::with_capacity(self.head.len() + items + between + self.tail.len());
        body.extend_from_slice(&self.head);
        for (index, stored) in events.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(&self.between);
            }
            body.extend_from_slice(&self.item_head);
            let json = stored.event.json_bytes();
            if self.is_in_lines {
                // In JSON text a line break stands only between the parts: within a string it is
                // escaped (RFC 8259 section 7).
                let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
                body.extend(json.iter().map(|b| if is_break(*b) { b' ' } else { *b }));
            } else {
                body.extend_from_slice(json);
            }
            body.extend_from_slice(&self.item_tail);
        }
        body.extend_from_slice(&self.tail);
        body
    }
}
