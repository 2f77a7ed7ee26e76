//! The decoder of chunks.

use everpost::internals::{chunk_head, decode_chunk, encode_chunk, encode_run};
use everpost::{Event, StoredEvent};

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
    let Some(head) = chunk_head(bytes) else {
        assert!(decode_chunk(bytes, 1).is_none(), "believed without a head");
        return;
    };
    let Some(events) = decode_chunk(bytes, head.first) else {
        return;
    };
    let seqs = events.iter().map(|stored| stored.seq);
    assert!(seqs.eq(head.first..=head.last), "{head:?}");
    assert!(decode_chunk(bytes, head.first + 1).is_none(), "{head:?}");
    check_run(bytes, &events);
    // What is believed is written again, perhaps compressed in another way, and read as the same.
    let Some(again) = encode_chunk(&events) else {
        panic!("what was decoded cannot be encoded");
    };
    assert!(decode_chunk(&again, head.first).is_some_and(|read| read == events));
}

/// The events are those whose length and checksum the head states.
fn check_run(bytes: &[u8], events: &[StoredEvent]) {
    let of_run: Vec<Event> = events.iter().map(|stored| stored.event.clone()).collect();
    let first = events.first().map_or(0, |stored| stored.seq);
    let run = encode_run(first, &of_run);
    let len = u32::try_from(run.len()).unwrap_or(0);
    assert_eq!(bytes[14..18], len.to_le_bytes());
    assert_eq!(bytes[18..22], crc32c::crc32c(&run).to_le_bytes());
}
