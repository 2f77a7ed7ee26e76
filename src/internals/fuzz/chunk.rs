//! The decoder of chunks.

use crate::event::{Event, StoredEvent};
use crate::log::chunk::{Head, decode, encode};
use crate::log::codec::encode_run;
use crate::log::run::Run;

/// Bytes in front of the body of a chunk.
const HEADER_BYTES: usize = 22;

/// A chunk: decoded as it is, and once more with what follows its head taken for a plain run with
/// a right checksum, since no chance finds that.
pub fn chunk(bytes: &[u8]) {
    check(bytes);
    if let Some(bytes) = as_plain(bytes) {
        check(&bytes);
    }
}

fn as_plain(bytes: &[u8]) -> Option<Vec<u8>> {
    let run = bytes.get(HEADER_BYTES..)?;
    let mut plain = vec![1, 0];
    plain.extend_from_slice(run.get(..12)?);
    plain.extend_from_slice(&u32::try_from(run.len()).ok()?.to_le_bytes());
    plain.extend_from_slice(&crc32c::crc32c(run).to_le_bytes());
    plain.extend_from_slice(run);
    Some(plain)
}

fn check(bytes: &[u8]) {
    let Ok(head) = Head::parse(bytes) else {
        assert!(decode(bytes, 1).is_err(), "believed without a head");
        return;
    };
    let Ok(events) = decode(bytes, head.first) else {
        return;
    };
    let seqs = events.iter().map(|stored| stored.seq);
    assert!(seqs.eq(head.first..=head.last), "{head:?}");
    assert!(decode(bytes, head.first + 1).is_err(), "{head:?}");
    check_run(bytes, &events);
    // What is believed is written again, perhaps compressed in another way, and read as the same.
    let Some(again) = Run::of(&events).and_then(|run| encode(&run)) else {
        panic!("what was decoded cannot be encoded");
    };
    assert!(decode(&again, head.first).is_ok_and(|read| read == events));
}

/// The events are those whose length and checksum the head states.
fn check_run(bytes: &[u8], events: &[StoredEvent]) {
    let mut run = Vec::new();
    let of_run: Vec<&Event> = events.iter().map(|stored| &stored.event).collect();
    let first = events.first().map_or(0, |stored| stored.seq);
    encode_run(first, of_run.into_iter(), &mut run);
    let len = u32::try_from(run.len()).unwrap_or(0);
    assert_eq!(bytes[14..18], len.to_le_bytes());
    assert_eq!(bytes[18..22], crc32c::crc32c(&run).to_le_bytes());
}
