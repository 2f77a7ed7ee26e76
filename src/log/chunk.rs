//! A chunk: a run of consecutive events, compressed together.
//!
//! # Layout, version 1
//!
//! ```text
//! offset bytes
//!      0     1  version of this layout: 1
//!      1     1  codec of the body: 0 as it is, 1 one zstd frame
//!      2     8  first sequence number, little-endian
//!     10     4  number of events, little-endian
//!     14     4  length of the run before compression, little-endian
//!     18     4  CRC32C of the run before compression, little-endian
//!     22        body: the run, as `codec::encode_run` writes it, compressed
//! ```
//!
//! The body is a standard zstd frame in every build, written by the C library with the feature
//! `zstd` and by a pure-Rust encoder without it. Nothing of a chunk is believed before length,
//! checksum, first number and count all agree.

use std::cell::RefCell;

use bytes::Bytes;

use super::codec;
use super::run::Run;
use crate::event::StoredEvent;
use crate::id::Seq;
use crate::zip::{Compressor, decompress};

/// The newest layout this build reads, and the one it writes.
pub(crate) const VERSION: u8 = 1;
const HEADER_BYTES: usize = 22;

/// The quickest level of zstd that takes chat messages to a quarter.
const LEVEL: i32 = 1;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Bytes of a run at the most; a longer one is not believed. Settings keep a chunk of several
/// events far below this, at 4 MiB.
const RUN_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a run of one event at the most: settings keep it within a quarter of a journal file,
/// which has 1 GiB at the most.
const ONE_EVENT_BYTES_MAX: u64 =
    (256 << 20) + codec::EVENT_OVERHEAD_BYTES + codec::RUN_OVERHEAD_BYTES;

/// Why a chunk was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is damaged; what does not agree.
    Damaged(&'static str),
    /// It was written by a newer version.
    Future(u8),
}

/// What the first bytes of a chunk say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    codec: u8,
    /// The first sequence number.
    pub(crate) first: Seq,
    /// The last one.
    pub(crate) last: Seq,
    run_bytes: u32,
    run_crc: u32,
}

impl Head {
    /// Reads the head from the front of a chunk.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        match bytes.first() {
            Some(&VERSION) => Self::parse_fields(bytes).ok_or(Fault::Damaged("its head")),
            Some(&version) if version > VERSION => Err(Fault::Future(version)),
            _ => Err(Fault::Damaged("its version")),
        }
    }

    fn parse_fields(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| {
            let field = bytes.get(at..at + 4)?;
            codec::array(field).map(u32::from_le_bytes)
        };
        let first = u64::from_le_bytes(codec::array(bytes.get(2..10)?)?);
        let more = u32_at(10)?.checked_sub(1)?;
        let head = Self {
            codec: *bytes.get(1)?,
            first,
            last: first.checked_add(u64::from(more))?,
            run_bytes: u32_at(14)?,
            run_crc: u32_at(18)?,
        };
        let is_in_bounds = can_be_run(more.checked_add(1)?, head.run_bytes);
        // One number has to be left for the event behind the last.
        let is_numbered = head.first > 0 && head.last < Seq::MAX;
        (is_numbered && is_in_bounds && head.codec <= ZSTD).then_some(head)
    }
}

/// Whether so many events can be a run of so many bytes, and that a chunk.
fn can_be_run(count: u32, bytes: u32) -> bool {
    let max = match count {
        1 => ONE_EVENT_BYTES_MAX,
        _ => RUN_BYTES_MAX,
    };
    (codec::least_run_bytes(count)..=max).contains(&u64::from(bytes))
}

/// Encodes a run. `None` if it is not the events that it says it is, or if together they exceed 16 MiB
/// and are not one.
pub(crate) fn encode(run: &Run) -> Option<Vec<u8>> {
    let count = u32::try_from(run.count).ok()?;
    let events = run.encode()?;
    let run_bytes = u32::try_from(events.len()).ok();
    let run_bytes = run_bytes.filter(|bytes| can_be_run(count, *bytes))?;
    let frame = compress(&events).filter(|frame| frame.len() < events.len());
    let (codec, body) = match &frame {
        Some(frame) => (ZSTD, frame.as_slice()),
        None => (PLAIN, events.as_slice()),
    };
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&[VERSION, codec]);
    out.extend_from_slice(&run.first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&run_bytes.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&events).to_le_bytes());
    out.extend_from_slice(body);
    Some(out)
}

/// Decodes a chunk that begins with `first`. The events share one buffer.
pub(crate) fn decode(bytes: &[u8], first: Seq) -> Result<Vec<StoredEvent>, Fault> {
    let head = Head::parse(bytes)?;
    if head.first != first {
        return Err(Fault::Damaged("its first sequence number"));
    }
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let run = match head.codec {
        PLAIN => body.to_vec(),
        _ => decompress(body, head.run_bytes).ok_or(Fault::Damaged("its zstd frame"))?,
    };
    if run.len() != head.run_bytes as usize || crc32c::crc32c(&run) != head.run_crc {
        return Err(Fault::Damaged("the checksum of its events"));
    }
    let events = codec::decode_run(&Bytes::from(run)).map_err(|e| Fault::Damaged(e.0))?;
    match (events.first(), events.last()) {
        (Some(a), Some(b)) if a.seq == head.first && b.seq == head.last => Ok(events),
        _ => Err(Fault::Damaged("the range of its events")),
    }
}

/// As one zstd frame.
fn compress(run: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        /// Made once for each thread that seals, since it takes memory that is worth keeping.
        static COMPRESSOR: RefCell<Compressor> = const { RefCell::new(Compressor::new(LEVEL)) };
    }
    COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::id::EventId;
    use crate::zip::{compress_in_rust, decompress_in_rust};
    use uuid::Uuid;

    fn events(first: Seq, bodies: &[Vec<u8>]) -> Vec<StoredEvent> {
        (first..)
            .zip(bodies)
            .map(|(seq, body)| StoredEvent {
                seq,
                event: Event::from_parts(
                    EventId::from_uuid(Uuid::from_u128(u128::from(seq))),
                    seq,
                    body.clone().into(),
                ),
            })
            .collect()
    }

    fn encode(events: &[StoredEvent]) -> Option<Vec<u8>> {
        super::encode(&Run::of(events)?)
    }

    /// Bytes that do not compress, from a fixed seed.
    fn noise(len: usize) -> Vec<u8> {
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 32) as u8
            })
            .collect()
    }

    fn samples() -> Vec<Vec<u8>> {
        let text = br#"{"message":{"type":"text","text":"hello there"}}"#.to_vec();
        let mut samples = vec![
            b"2".to_vec(),
            b"1".to_vec(),
            vec![0; 300_000],
            noise(300_000),
        ];
        samples.push([noise(70_000), vec![7; 70_000], text.repeat(3000)].concat());
        samples.push(text);
        samples
    }

    #[test]
    fn chunks_round_trip_compressed_or_not() {
        for body in samples() {
            for count in [1, 2, 7] {
                let events = events(41, &vec![body.clone(); count]);
                let bytes = encode(&events).unwrap();
                assert_eq!(decode(&bytes, 41).unwrap(), events);
                let head = Head::parse(&bytes[..HEADER_BYTES]).unwrap();
                assert_eq!((head.first, head.last), (41, 40 + count as u64));
            }
        }
    }

    #[test]
    fn what_does_not_compress_is_stored_as_it_is() {
        let bytes = encode(&events(1, &[noise(10_000)])).unwrap();
        assert_eq!(bytes[1], PLAIN);
        assert!(bytes.len() < 10_100);
    }

    #[test]
    fn both_codecs_read_what_either_writes() {
        for body in samples() {
            let len = u32::try_from(body.len()).unwrap();
            let here = compress(&body).unwrap();
            let rust = compress_in_rust(&body).unwrap();
            for frame in [here, rust] {
                assert_eq!(decompress(&frame, len).unwrap(), body);
                assert_eq!(decompress_in_rust(&frame, len).unwrap(), body);
            }
        }
    }

    #[test]
    fn events_that_do_not_follow_each_other_are_not_encoded() {
        let mut wrong = events(5, &[vec![1], vec![2]]);
        wrong[1].seq = 7;
        assert_eq!(encode(&wrong), None);
        assert_eq!(encode(&[]), None);
        assert_eq!(encode(&events(0, &[vec![1]])), None);
    }

    #[test]
    fn i8_no_altered_chunk_is_believed() {
        let original = events(9, &vec![b"{\"text\":\"abcabcabcabc\"}".to_vec(); 20]);
        let bytes = encode(&original).unwrap();
        assert_eq!(bytes[1], ZSTD);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A bit of the frame that means nothing may change; the events may not.
            if let Ok(read) = decode(&bad, 9) {
                assert_eq!(read, original, "bit {bit}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 9).is_err(), "cut at {cut}");
        }
        assert!(decode(&bytes, 8).is_err());
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_refused_early() {
        let bomb = compress(&vec![0; 50_000_000]).unwrap();
        for said in [1000, 49_999_999, 50_000_001] {
            assert_eq!(decompress(&bomb, said), None);
            assert_eq!(decompress_in_rust(&bomb, said), None);
        }
        assert_eq!(decompress(&bomb, 50_000_000).unwrap(), [0; 50_000_000]);
        // A frame that fails leaves nothing behind for the next.
        let honest = compress(b"after it, after it, after it").unwrap();
        assert_eq!(
            decompress(&honest, 28).unwrap(),
            b"after it, after it, after it"
        );
        assert_eq!(decompress(&honest, 27), None);
        assert_eq!(decompress(&honest, 29), None);
    }

    /// A file of 90 bytes with a chunk that ends with the greatest number there is was read again
    /// and again for ever, since no number is behind that one.
    #[test]
    fn a_head_that_claims_what_cannot_be_is_refused_before_anything_is_made_for_it() {
        let good = encode(&events(3, &[b"1".to_vec(), b"22".to_vec()])).unwrap();
        let claims = |first: u64, count: u32, run_bytes: u32| {
            let mut bytes = good.clone();
            bytes[2..10].copy_from_slice(&first.to_le_bytes());
            bytes[10..14].copy_from_slice(&count.to_le_bytes());
            bytes[14..18].copy_from_slice(&run_bytes.to_le_bytes());
            Head::parse(&bytes)
        };
        let (several, one) = (16 << 20, (256 << 20) + 40);
        for (first, count, run_bytes) in [
            (u64::MAX - 2, 2, 71),
            (1, 2, several),
            (1, 1, one),
            (1, 2, 12 + 2 * 29),
        ] {
            assert!(claims(first, count, run_bytes).is_ok(), "{count}");
        }
        for (first, count, run_bytes) in [
            (u64::MAX, 1, 71),
            (u64::MAX - 1, 2, 71),
            (u64::MAX, 2, 71),
            (0, 2, 71),
            (1, 0, 71),
            (1, 2, several + 1),
            (1, 1, one + 1),
            (1, 2, 12 + 2 * 29 - 1),
            (1, u32::MAX, several),
        ] {
            let refused = Err(Fault::Damaged("its head"));
            assert_eq!(claims(first, count, run_bytes), refused, "{count}");
        }
    }

    #[test]
    fn what_would_not_be_believed_is_not_written() {
        let half = vec![7; 8 << 20];
        assert_eq!(encode(&events(1, &[half.clone(), half])), None);
        let long = events(1, &[vec![7; 17 << 20]]);
        assert_eq!(decode(&encode(&long).unwrap(), 1).unwrap(), long);
    }

    #[test]
    fn version_1_is_fixed_to_the_byte_and_a_newer_one_is_named() {
        // Written down by hand from the layouts of the chunk and of the run in it.
        let golden = [
            "0100030000000000000002000000470000000d766ca6",
            "030000000000000002000000",
            "0000000000000000000000000000000303000000000000000100000031",
            "000000000000000000000000000000040400000000000000020000003232",
        ];
        let golden = golden.concat();
        let mut bytes: Vec<u8> = (0..golden.len() / 2)
            .map(|i| u8::from_str_radix(&golden[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let events = events(3, &[b"1".to_vec(), b"22".to_vec()]);
        assert_eq!(decode(&bytes, 3).unwrap(), events);
        // What is written now differs at most in being compressed.
        let written = encode(&events).unwrap();
        assert_eq!(written[0], bytes[0]);
        assert_eq!(written[2..HEADER_BYTES], bytes[2..HEADER_BYTES]);
        bytes[0] = 2;
        assert_eq!(decode(&bytes, 3), Err(Fault::Future(2)));
    }
}
