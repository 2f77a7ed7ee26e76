//! The frames of the journal: how they are written, and which bytes are believed.
//!
//! A frame starts at a multiple of 8 bytes and is padded with zeroes to the next one:
//!
//! ```text
//!  0  u32  CRC32C of the queue id (16 bytes) followed by bytes 4.. of the frame, padding excluded
//!  4  u32  length of the body in bytes
//!  8  u64  generation
//! 16  u32  offset of this frame in its file
//! 20  u32  synced: every byte of this use of the file below this offset was fdatasynced before
//!          this frame was written
//! 24  u8   kind
//! 25  u8   version, 1
//! 26  u8   zero, 6 times
//! 32       body
//! ```
//!
//! All numbers are little-endian. The queue id in the checksum keeps frames of another spool
//! from being believed, the offset those of another place, the generation those of an earlier
//! use of the file: it grows whenever a file is begun anew and whenever the spool is opened, and
//! never falls within what is valid.
//!
//! `synced` tells a torn end from damage. Where a frame does not check and a valid one of the
//! same or a later generation follows, the follower says whether the bad place had been synced
//! before: if so, something acknowledged was damaged (I8); if not, both belong to what was never
//! synced, a power cut kept the later and lost the earlier, and everything from the bad place on
//! is dropped.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{self, array};
use crate::event::{Event, Seq, StoredEvent};
use crate::ledger::Ledger;

/// Bytes in front of a body.
pub(crate) const HEADER_BYTES: usize = 32;

const VERSION: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The books; the first frame of each use of a file and of each opening.
    Checkpoint = 1,
    /// A run of events, appended as one.
    Events = 2,
    /// The books after the cursor moved.
    Ack = 3,
    /// The dead letter whose event was appended again just before.
    Retried = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Checkpoint, Self::Events, Self::Ack, Self::Retried]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The body of `Checkpoint` and `Ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
}

/// A frame that checks.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) generation: u64,
    pub(crate) offset: u32,
    pub(crate) synced: u32,
    pub(crate) body: Bytes,
}

impl Frame {
    /// Where the next frame starts.
    pub(crate) fn end(&self) -> u32 {
        self.offset
            .saturating_add(u32::try_from(padded(self.body.len())).unwrap_or(u32::MAX))
    }
}

/// The body of a frame, understood.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Checkpoint(Ledger),
    Events(Vec<StoredEvent>),
    Ack(Ledger),
    Retried(Seq),
}

impl Frame {
    /// Understands the body. `None` if the checksum is right and the content is not: that is a
    /// fault of the writer or a forgery, and counts as damage.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let books = || {
            let ledger = codec::decode::<Books>(&self.body, "books").ok()?.ledger;
            // No log ever wrote others, and the numbers that follow from these do not overflow.
            let can_be = ledger.settled() <= ledger.appended && ledger.appended < Seq::MAX;
            can_be.then_some(ledger)
        };
        match self.kind {
            Kind::Checkpoint => books().map(Entry::Checkpoint),
            Kind::Ack => books().map(Entry::Ack),
            Kind::Events => codec::decode_run(&self.body).ok().map(Entry::Events),
            Kind::Retried => array(&self.body)
                .map(u64::from_le_bytes)
                .map(Entry::Retried),
        }
    }
}

/// The bytes a frame with such a body takes in the file.
pub(crate) fn padded(body: usize) -> usize {
    (HEADER_BYTES + body).next_multiple_of(8)
}

/// The bytes a frame of these events takes in the file.
pub(crate) fn events_bytes(events: &[Event]) -> u64 {
    let body: u64 = events.iter().map(codec::event_bytes).sum();
    (HEADER_BYTES as u64 + codec::RUN_OVERHEAD_BYTES + body).next_multiple_of(8)
}

/// Writes frames one after the other into a buffer that goes to the file in one piece.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    queue: Uuid,
    buffer: Vec<u8>,
}

/// Where a frame will stand and what it says of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) generation: u64,
    /// Where the buffer will be written.
    pub(crate) buffer_offset: u32,
    pub(crate) synced: u32,
}

impl FrameWriter {
    pub(crate) fn new(queue: Uuid) -> Self {
        Self {
            queue,
            buffer: Vec::new(),
        }
    }

    /// Another writer for the same queue.
    pub(crate) fn empty(&self) -> Self {
        Self::new(self.queue)
    }

    /// The frames written since the last `clear`.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets the frames, and the memory of an unusually large run.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
    }

    pub(crate) fn events(&mut self, place: Place, first: Seq, events: &[Event]) {
        self.frame(place, Kind::Events, |out| {
            codec::encode_run(first, events.iter(), out)
        });
    }

    pub(crate) fn books(&mut self, place: Place, kind: Kind, ledger: Ledger) {
        // Six numbers: far below the limit of an envelope.
        let body = codec::encode(&Books { ledger }).unwrap_or_default();
        self.frame(place, kind, |out| out.extend_from_slice(&body));
    }

    pub(crate) fn retried(&mut self, place: Place, letter: Seq) {
        self.frame(place, Kind::Retried, |out| {
            out.extend_from_slice(&letter.to_le_bytes())
        });
    }

    fn frame(&mut self, place: Place, kind: Kind, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        let offset = place.buffer_offset + u32::try_from(start).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer
            .extend_from_slice(&place.generation.to_le_bytes());
        self.buffer.extend_from_slice(&offset.to_le_bytes());
        self.buffer.extend_from_slice(&place.synced.to_le_bytes());
        self.buffer
            .extend_from_slice(&[kind as u8, VERSION, 0, 0, 0, 0, 0, 0]);
        body(&mut self.buffer);
        let len = self.buffer.len() - start - HEADER_BYTES;
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        self.patch(start + 4, len);
        let crc = checksum(self.queue, self.buffer.get(start + 4..).unwrap_or_default());
        self.patch(start, crc.to_le_bytes());
        self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        if let Some(place) = self.buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&bytes);
        }
    }
}

fn checksum(queue: Uuid, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(queue.as_bytes()), bytes)
}

/// What one journal file holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The frames to believe, in order of place and generation.
    pub(crate) frames: Vec<Frame>,
    /// The highest generation of any frame that checks, believed or not.
    pub(crate) generation_max: u64,
    /// Offsets at which something that had been synced does not check any more.
    pub(crate) damaged: Vec<u32>,
    /// Whether anything but zeroes is in the file.
    pub(crate) used: bool,
}

impl Scan {
    /// Where the next frame may be written.
    pub(crate) fn end(&self) -> u32 {
        self.frames.last().map_or(0, Frame::end)
    }

    /// The generation of the last frame; 0 if there is none.
    pub(crate) fn generation(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.generation)
    }
}

/// Finds the frames of a file that are to be believed.
pub(crate) fn scan(file: &Bytes, queue: Uuid) -> Scan {
    let valid = valid_frames(file, queue);
    let mut scan = Scan {
        generation_max: valid.iter().map(|f| f.generation).max().unwrap_or(0),
        used: file.iter().any(|&byte| byte != 0),
        ..Scan::default()
    };
    let mut end = 0;
    let mut generation = 0;
    for (index, frame) in valid.iter().enumerate() {
        // An earlier use of the file: stale, and everything it held is settled or sealed (I3).
        if frame.generation < generation {
            continue;
        }
        // A generation begins with the books, so a frame of a new one that is something else has
        // lost the beginning of its run.
        let begins = matches!(frame.kind, Kind::Checkpoint | Kind::Ack) || end == 0;
        let follows = frame.offset == end && (frame.generation == generation || begins);
        if !follows {
            // What is before this frame does not check. Only a frame of the same use of the file
            // can say that it had been synced once.
            let is_witness = |f: &Frame| f.generation >= frame.generation && f.synced > end;
            if !valid.iter().skip(index).any(is_witness) {
                break;
            }
            scan.damaged.push(end);
        }
        generation = frame.generation;
        end = frame.end();
        scan.frames.push(frame.clone());
    }
    scan
}

/// All frames that check, wherever they are, none inside another.
fn valid_frames(file: &Bytes, queue: Uuid) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at + HEADER_BYTES <= file.len() {
        match frame_at(file, at, queue) {
            Some(frame) => {
                at = frame.end() as usize;
                frames.push(frame);
            }
            None => at += 8,
        }
    }
    frames
}

fn frame_at(file: &Bytes, at: usize, queue: Uuid) -> Option<Frame> {
    let header = file.get(at..at + HEADER_BYTES)?;
    let offset = u32::from_le_bytes(array(header.get(16..20)?)?);
    // This comparison alone passes over nearly every wrong place, so a scan is quick.
    if usize::try_from(offset).ok()? != at {
        return None;
    }
    let kind = Kind::from_byte(*header.get(24)?)?;
    if *header.get(25)? != VERSION {
        return None;
    }
    let len = usize::try_from(u32::from_le_bytes(array(header.get(4..8)?)?)).ok()?;
    let body_at = at + HEADER_BYTES;
    let end = body_at.checked_add(len)?;
    let checked = file.get(at + 4..end)?;
    if checksum(queue, checked) != u32::from_le_bytes(array(header.get(..4)?)?) {
        return None;
    }
    Some(Frame {
        kind,
        generation: u64::from_le_bytes(array(header.get(8..16)?)?),
        offset,
        synced: u32::from_le_bytes(array(header.get(20..24)?)?),
        body: file.slice(body_at..end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Uuid = Uuid::from_u128(7);

    fn event(n: u64) -> Event {
        Event::json(n.to_string()).unwrap()
    }

    /// A file of one generation with frames of one event each; each frame says that everything
    /// before `synced(n)` had been synced.
    fn file(frames: u64, generation: u64, synced: impl Fn(u32) -> u32) -> (Vec<u8>, Vec<u32>) {
        let mut writer = FrameWriter::new(QUEUE);
        let mut starts = Vec::new();
        for n in 1..=frames {
            let at = u32::try_from(writer.bytes().len()).unwrap();
            starts.push(at);
            let place = Place {
                generation,
                buffer_offset: 0,
                synced: synced(at),
            };
            writer.events(place, n, &[event(n)]);
        }
        let mut bytes = writer.bytes().to_vec();
        bytes.resize(4096, 0);
        (bytes, starts)
    }

    fn seqs(bytes: Vec<u8>) -> (Vec<Seq>, usize) {
        let scan = scan(&Bytes::from(bytes), QUEUE);
        let seqs = scan
            .frames
            .iter()
            .flat_map(|frame| match frame.entry().unwrap() {
                Entry::Events(events) => events.iter().map(|e| e.seq).collect::<Vec<_>>(),
                _ => vec![],
            })
            .collect();
        (seqs, scan.damaged.len())
    }

    #[test]
    fn frames_come_back_in_order() {
        assert_eq!(seqs(file(5, 1, |at| at).0), (vec![1, 2, 3, 4, 5], 0));
    }

    #[test]
    fn i8_damage_to_a_synced_frame_is_reported_and_later_frames_are_kept() {
        let (mut bytes, starts) = file(5, 1, |at| at);
        bytes[starts[2] as usize + 40] ^= 1;
        assert_eq!(seqs(bytes), (vec![1, 2, 4, 5], 1));
    }

    #[test]
    fn a_torn_end_is_dropped_even_if_a_later_part_of_it_survived() {
        let (mut bytes, starts) = file(5, 1, |_| 0);
        bytes[starts[2] as usize + 40] ^= 1;
        assert_eq!(seqs(bytes), (vec![1, 2], 0));
    }

    #[test]
    fn frames_of_an_earlier_generation_are_stale() {
        let (mut bytes, starts) = file(5, 1, |at| at);
        let mut writer = FrameWriter::new(QUEUE);
        let place = Place {
            generation: 2,
            buffer_offset: 0,
            synced: 0,
        };
        writer.events(place, 9, &[event(9)]);
        bytes[..writer.bytes().len()].copy_from_slice(writer.bytes());
        assert_eq!(
            writer.bytes().len(),
            starts[1] as usize,
            "the next stale frame fits exactly"
        );
        assert_eq!(seqs(bytes), (vec![9], 0));
    }

    #[test]
    fn frames_of_another_queue_or_another_place_are_not_believed() {
        let (bytes, _) = file(2, 1, |at| at);
        let other = scan(&Bytes::from(bytes.clone()), Uuid::from_u128(8));
        assert!(other.frames.is_empty() && other.used);
        let mut moved = vec![0; 8];
        moved.extend_from_slice(&bytes);
        assert!(scan(&Bytes::from(moved), QUEUE).frames.is_empty());
    }

    #[test]
    fn no_single_flipped_bit_yields_a_wrong_event() {
        let (bytes, _) = file(3, 1, |at| at);
        for bit in 0..200 * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            for frame in scan(&Bytes::from(copy), QUEUE).frames {
                let Some(Entry::Events(events)) = frame.entry() else {
                    panic!("bit {bit}")
                };
                assert_eq!(
                    &events[0].event.json_bytes()[..],
                    events[0].seq.to_string().as_bytes()
                );
            }
        }
    }

    #[test]
    fn a_frame_is_what_the_format_says_to_the_byte() {
        let mut writer = FrameWriter::new(QUEUE);
        let place = Place {
            generation: 0x0102,
            buffer_offset: 64,
            synced: 32,
        };
        writer.retried(place, 5);
        let golden =
            "64ca2f24080000000201000000000000400000002000000004010000000000000500000000000000";
        let hex: String = writer.bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
    }

    /// The first block of the first commit to a file is torn, a later frame of it survives. It was
    /// believed, and the events before it, which nobody had been told were safe, were reported as
    /// lost.
    #[test]
    fn a_torn_first_commit_of_a_file_is_not_damage() {
        let mut writer = FrameWriter::new(QUEUE);
        let place = Place {
            generation: 2,
            buffer_offset: 0,
            synced: 0,
        };
        writer.books(
            place,
            Kind::Checkpoint,
            Ledger {
                appended: 99,
                ..Ledger::default()
            },
        );
        for n in 100..104 {
            writer.events(
                place,
                n,
                &[Event::json(format!("\"{}\"", "x".repeat(3000))).unwrap()],
            );
        }
        let mut over_zeroes = writer.bytes().to_vec();
        over_zeroes[..4096].fill(0);
        let found = scan(&Bytes::from(over_zeroes), QUEUE);
        assert!(
            found.frames.is_empty() && found.damaged.is_empty(),
            "{found:?}"
        );

        let (mut over_earlier_use, _) = file(60, 1, |at| at);
        over_earlier_use.resize(writer.bytes().len(), 0);
        over_earlier_use[4096..].copy_from_slice(&writer.bytes()[4096..]);
        let found = scan(&Bytes::from(over_earlier_use), QUEUE);
        assert!(
            found.frames.iter().all(|frame| frame.generation == 1),
            "{found:?}"
        );
    }
}
