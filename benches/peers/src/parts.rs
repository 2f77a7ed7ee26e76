//! What everpost does for each event that a peer does not, each part measured by itself.

use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use everpost::Event;

/// Bytes of a run that is compressed at once, as in a chunk.
const RUN_BYTES: usize = 256 << 10;

/// How often everything is done to be measured.
const TIMES: usize = 20;

/// Microseconds of one processor for each event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// To check that it is JSON, and to give it an id and the time.
    pub(crate) check_us: f64,
    /// To compress it together with others, as it is sealed.
    pub(crate) pack_us: f64,
    /// To uncompress it again.
    pub(crate) unpack_us: f64,
}

impl Parts {
    /// Measures them on these events.
    pub(crate) fn measure(pool: &[Bytes]) -> Result<Self> {
        let events = (TIMES * pool.len()) as f64;
        let each_us = |began: Instant| 1e6 * began.elapsed().as_secs_f64() / events;
        let began = Instant::now();
        for json in std::iter::repeat_n(pool, TIMES).flatten() {
            Event::json(json.clone())?;
        }
        let check_us = each_us(began);
        let whole = with_ids(pool);
        let mut packer = zstd::bulk::Compressor::new(1)?;
        let began = Instant::now();
        let mut packed = Vec::new();
        for _ in 0..TIMES {
            let runs = whole.chunks(RUN_BYTES).map(|run| packer.compress(run));
            packed = runs.collect::<Result<_, _>>()?;
        }
        let pack_us = each_us(began);
        let mut unpacker = zstd::bulk::Decompressor::new()?;
        let began = Instant::now();
        for frame in std::iter::repeat_n(&packed, TIMES).flatten() {
            unpacker.decompress(frame, RUN_BYTES)?;
        }
        Ok(Self {
            check_us,
            pack_us,
            unpack_us: each_us(began),
        })
    }
}

/// The events behind each other, each after an id as everpost makes them.
pub(crate) fn with_ids(pool: &[Bytes]) -> Vec<u8> {
    let mut whole = Vec::new();
    for event in pool {
        // The id begins with the time, which hardly changes.
        whole.extend_from_slice(b"\x01\x9a\x00\x00\x00\x00");
        whole.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(10));
        whole.extend_from_slice(event);
    }
    whole
}
