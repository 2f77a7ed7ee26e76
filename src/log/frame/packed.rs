//! Runs of events that are compressed in the journal.
//!
//! ```text
//!  0  u64  first sequence number
//!  8  u32  number of events
//! 12  u32  length of the run before compression: it would have fitted into the file
//! 16       one zstd frame: the run
//! ```
//!
//! Every build reads them. Only the C library is quick enough to write them: without the feature
//! `zstd` runs are written as they are.

use bytes::Bytes;

use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use crate::log::codec::{self, array};
use crate::zip::{Compressor, decompress};

/// Bytes in front of the zstd frame.
const HEAD_BYTES: usize = 16;

/// A level at which 64 chat messages come to two fifths in two thirds of the time of level 1: the
/// events are compressed better when they are sealed.
const LEVEL: i32 = -5;

/// Compresses runs. What that takes of memory is kept from one to the next.
#[derive(Debug)]
pub(super) struct Packer {
    run: Vec<u8>,
    compressor: Compressor,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            run: Vec::new(),
            compressor: Compressor::new(LEVEL),
        }
    }
}

impl Packer {
    /// The body of a frame; `None` if it would not be shorter than the run.
    pub(super) fn pack(&mut self, first: Seq, events: &[Event]) -> Option<Vec<u8>> {
        if !cfg!(feature = "zstd") {
            return None;
        }
        self.run.clear();
        // Not more than was needed once for an unusually long append.
        self.run.shrink_to(256 << 10);
        codec::encode_run(first, events.iter(), &mut self.run);
        let mut body = Vec::with_capacity(HEAD_BYTES + self.run.len() / 2);
        body.extend_from_slice(self.run.get(..12)?);
        body.extend_from_slice(&u32::try_from(self.run.len()).ok()?.to_le_bytes());
        body.extend_from_slice(&self.compressor.compress(&self.run)?);
        (body.len() < self.run.len()).then_some(body)
    }
}

/// The events of a body, which as they are have no more than `run_bytes_max`. `None` if it is not
/// one, or says something else of them than they are.
pub(super) fn unpack(body: &[u8], run_bytes_max: u32) -> Option<Vec<StoredEvent>> {
    let run_bytes = u32::from_le_bytes(array(body.get(12..HEAD_BYTES)?)?);
    let count = u32::from_le_bytes(array(body.get(8..12)?)?);
    if run_bytes > run_bytes_max || u64::from(run_bytes) < codec::least_run_bytes(count) {
        return None;
    }
    let run = decompress(body.get(HEAD_BYTES..)?, run_bytes)?;
    if run.get(..12) != body.get(..12) {
        return None;
    }
    codec::decode_run(&Bytes::from(run)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip::compress_in_rust;

    /// As the C library writes it, from the layout above.
    fn packed(first: Seq, events: &[Event]) -> Vec<u8> {
        let mut run = Vec::new();
        codec::encode_run(first, events.iter(), &mut run);
        let len = u32::try_from(run.len()).unwrap();
        let frame = compress_in_rust(&run).unwrap();
        [&run[..12], &len.to_le_bytes(), &frame].concat()
    }

    fn unpack(body: &[u8]) -> Option<Vec<StoredEvent>> {
        super::unpack(body, 1 << 20)
    }

    fn events(count: usize) -> Vec<Event> {
        let event = |n| Event::json(format!("{{\"text\":\"again and again\",\"n\":{n}}}")).unwrap();
        (0..count).map(event).collect()
    }

    #[test]
    fn every_build_reads_what_is_packed() {
        let events = events(100);
        let read = unpack(&packed(7, &events)).unwrap();
        let seqs = read.iter().map(|stored| stored.seq);
        assert!(seqs.eq(7..=106));
        assert!(read.into_iter().map(|stored| stored.event).eq(events));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn what_is_packed_is_shorter_and_the_same() {
        let mut packer = Packer::default();
        for count in [100, 1000, 100] {
            let events = events(count);
            let body = packer.pack(7, &events).unwrap();
            assert!(body.len() < count * 50, "{count}: {}", body.len());
            let read = unpack(&body).unwrap();
            assert!(read.into_iter().map(|stored| stored.event).eq(events));
        }
        // An id and a few digits: nothing to gain.
        assert_eq!(packer.pack(7, &[Event::json("12345").unwrap()]), None);
    }

    /// 33 KB of a journal became 1 GiB of events, and those 6.9 GiB in memory.
    #[test]
    fn a_body_longer_than_its_file_could_be_is_refused() {
        let body = packed(7, &events(100));
        let run_bytes = u32::from_le_bytes(array(&body[12..16]).unwrap());
        assert!(super::unpack(&body, run_bytes).is_some());
        assert_eq!(super::unpack(&body, run_bytes - 1), None);
    }

    #[test]
    fn i8_a_body_that_lies_is_not_believed() {
        let good = packed(7, &events(100));
        for at in 0..HEAD_BYTES {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(unpack(&bad), None, "byte {at}");
        }
        for cut in [0, 11, 15, 16, 40, good.len() - 1] {
            assert_eq!(unpack(&good[..cut]), None, "cut at {cut}");
        }
    }
}
