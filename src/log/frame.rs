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

mod packed;
mod source;

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{self, array};
use super::fates::Stated;
use crate::event::{Event, StoredEvent};
use crate::id::Seq;
use crate::id::SeqRange;
use crate::ledger::{Ledger, LetterLedger};
use packed::Packer;
pub(crate) use source::{Source, Window};

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
    /// As `Events`, compressed.
    Packed = 5,
    /// The books of dead letters, and the letter that left them.
    Letters = 6,
    /// How events left that were not delivered, up to the cursor of the books before.
    Fates = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{Ack, Checkpoint, Events, Fates, Letters, Packed, Retried};
        let kinds = [Checkpoint, Events, Ack, Retried, Packed, Letters, Fates];
        kinds.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Whether it holds events, after their first number and their count.
    pub(crate) fn has_events(self) -> bool {
        matches!(self, Self::Events | Self::Packed)
    }
}

/// The body of `Checkpoint` and `Ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
}

/// The body of `Letters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LetterNote {
    /// `held` is not among them: that is counted.
    pub(crate) retried: u64,
    pub(crate) discarded: u64,
    pub(crate) lost: u64,
    pub(crate) earlier: u64,
    pub(crate) returned: u64,
    /// The letter that left with this note, by the number where its event stood. If it was retried,
    /// the Events frame just before has its event.
    pub(crate) gone: Option<Gone>,
}

impl LetterNote {
    /// The books of dead letters with those that are held.
    pub(crate) fn ledger(self, held: u64) -> LetterLedger {
        LetterLedger {
            held,
            retried: self.retried,
            discarded: self.discarded,
            lost: self.lost,
            earlier: self.earlier,
            returned: self.returned,
        }
    }
}

/// How a letter left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Gone {
    Retried(Seq),
    Discarded(Seq),
}

/// A frame that checks.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) generation: u64,
    pub(crate) offset: u32,
    pub(crate) synced: u32,
    /// All of it, or of a run of events only what stands in front of them, if they were left in
    /// the file.
    pub(crate) body: Bytes,
    /// Bytes of the body in the file.
    len: u32,
    /// Bytes that its events can have had at the most before they were compressed.
    run_bytes_max: u32,
    /// The number of its file, for a reader that has several.
    pub(crate) file: u32,
}

impl Frame {
    /// Where the next frame starts.
    pub(crate) fn end(&self) -> u32 {
        self.offset
            .saturating_add(u32::try_from(padded(self.len as usize)).unwrap_or(u32::MAX))
    }

    /// Whether its events were left in the file, so that it cannot be understood.
    pub(crate) fn is_cut(&self) -> bool {
        self.body.len() < self.len as usize
    }

    /// Reads its events if they were left in the file. `None` if they are not there any more.
    pub(crate) fn read_whole(
        &mut self,
        file: &mut Window<'_>,
        queue: Uuid,
    ) -> io::Result<Option<()>> {
        let again = frame_at(file, self.offset as usize, queue)?;
        let again = again.filter(|frame| {
            (frame.kind, frame.generation, frame.len) == (self.kind, self.generation, self.len)
        });
        Ok(again.map(|frame| self.body = frame.body))
    }
}

/// The body of a frame, understood.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Checkpoint(Ledger),
    Events(Vec<StoredEvent>),
    Ack(Ledger),
    Retried(Seq),
    Letters(LetterNote),
    Fates(Stated),
}

impl Frame {
    /// The numbers of its events, if it says that it holds some. Takes no event apart.
    pub(crate) fn range(&self) -> Option<SeqRange> {
        if !self.kind.has_events() {
            return None;
        }
        let (first, rest) = self.body.split_first_chunk()?;
        let (first, count) = (u64::from_le_bytes(*first), rest.first_chunk()?);
        let last = first
            .checked_add(u32::from_le_bytes(*count).into())?
            .checked_sub(1)?;
        (0 < first && first <= last).then_some(SeqRange { first, last })
    }

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
            Kind::Packed => packed::unpack(&self.body, self.run_bytes_max).map(Entry::Events),
            Kind::Retried => array(&self.body)
                .map(u64::from_le_bytes)
                .map(Entry::Retried),
            Kind::Letters => codec::decode(&self.body, "books of dead letters")
                .ok()
                .map(Entry::Letters),
            Kind::Fates => codec::decode(&self.body, "fates")
                .ok()
                .filter(Stated::is_sound)
                .map(Entry::Fates),
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
    packer: Packer,
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
            packer: Packer::default(),
        }
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

    /// As [`events`](Self::events), but compressed if that makes it shorter.
    pub(crate) fn packed(&mut self, place: Place, first: Seq, events: &[Event]) {
        match self.packer.pack(first, events) {
            Some(body) => self.frame(place, Kind::Packed, |out| out.extend_from_slice(&body)),
            None => self.events(place, first, events),
        }
    }

    pub(crate) fn books(&mut self, place: Place, kind: Kind, ledger: Ledger) {
        // Six numbers: far below the limit of an envelope.
        let body = codec::encode(&Books { ledger }).unwrap_or_default();
        self.frame(place, kind, |out| out.extend_from_slice(&body));
    }

    /// As format 1 noted a retry.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn retried(&mut self, place: Place, letter: Seq) {
        self.frame(place, Kind::Retried, |out| {
            out.extend_from_slice(&letter.to_le_bytes())
        });
    }

    pub(crate) fn letters(&mut self, place: Place, note: &LetterNote) {
        // A few numbers: far below the limit of an envelope.
        let body = codec::encode(note).unwrap_or_default();
        self.frame(place, Kind::Letters, |out| out.extend_from_slice(&body));
    }

    pub(crate) fn fates(&mut self, place: Place, stated: &Stated) {
        // As many ranges as are remembered: far below the limit of an envelope.
        let body = codec::encode(stated).unwrap_or_default();
        self.frame(place, Kind::Fates, |out| out.extend_from_slice(&body));
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
    /// Offsets at which something that had been synced does not check any more, each with the
    /// generation of what follows.
    pub(crate) damaged: Vec<(u32, u64)>,
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

/// Finds the frames of a file that is in memory that are to be believed.
pub(crate) fn scan(file: &Bytes, queue: Uuid) -> Scan {
    // What is in memory can always be read.
    scan_source(&mut file.clone(), queue).unwrap_or_default()
}

/// Finds the frames of a file that are to be believed.
pub(crate) fn scan_source(file: &mut impl Source, queue: Uuid) -> io::Result<Scan> {
    let (valid, used) = valid_frames(file, queue)?;
    let mut scan = Scan {
        generation_max: valid.iter().map(|f| f.generation).max().unwrap_or(0),
        used,
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
            scan.damaged.push((end, frame.generation));
        }
        generation = frame.generation;
        end = frame.end();
        scan.frames.push(frame.clone());
    }
    Ok(scan)
}

/// All frames that check, wherever they are, none inside another; and whether there is anything
/// but zeroes.
fn valid_frames(file: &mut impl Source, queue: Uuid) -> io::Result<(Vec<Frame>, bool)> {
    let mut frames = Vec::new();
    let mut used = false;
    let mut at = 0;
    while let Some(header) = file.get(at, HEADER_BYTES)? {
        // This comparison alone passes over nearly every wrong place, so a scan is quick.
        let offset = header.get(16..20).and_then(array).map(u32::from_le_bytes);
        used = used || header.iter().any(|byte| *byte != 0);
        if offset == u32::try_from(at).ok()
            && let Some(frame) = frame_at(file, at, queue)?
        {
            at = frame.end() as usize;
            frames.push(frame);
        } else if at.is_multiple_of(BLOCK_BYTES) && is_zero_block(file, at)? {
            // Nor does a frame begin so near the end of them that its kind would be among them.
            at += BLOCK_BYTES - HEADER_BYTES;
        } else {
            at += 8;
        }
    }
    let rest = file.get(at, file.len().saturating_sub(at))?;
    let rest = rest.unwrap_or_default();
    Ok((frames, used || rest.iter().any(|byte| *byte != 0)))
}

/// As much of a file as is passed over at once if it holds nothing.
const BLOCK_BYTES: usize = 4096;

/// What is held against zeroes at once: a part of a block, since it is a part of the program too.
static ZEROES: [u8; 512] = [0; 512];

fn is_zero_block(file: &mut impl Source, at: usize) -> io::Result<bool> {
    let block = file.get(at, BLOCK_BYTES)?;
    Ok(block.is_some_and(|block| block.chunks(ZEROES.len()).all(|part| part == ZEROES)))
}

fn frame_at(file: &mut impl Source, at: usize, queue: Uuid) -> io::Result<Option<Frame>> {
    let header: Option<[u8; HEADER_BYTES]> = file.get(at, HEADER_BYTES)?.and_then(array);
    let Some((mut frame, crc)) = header.as_ref().and_then(|header| parse_header(header, at)) else {
        return Ok(None);
    };
    frame.run_bytes_max = run_bytes_max(file.len(), at);
    let len = frame.len as usize;
    let checked = file.get(at + 4, HEADER_BYTES - 4 + len)?;
    if checked.is_none_or(|checked| checksum(queue, checked) != crc) {
        return Ok(None);
    }
    frame.body = file.body(frame.kind, at + HEADER_BYTES, len)?;
    Ok(Some(frame))
}

/// A run is compressed only where it would have had room as it is. The file may have been cut short
/// since: then it was as long as journal files usually are.
fn run_bytes_max(file_bytes: usize, at: usize) -> u32 {
    let room = file_bytes.saturating_sub(at).max(USUAL_FILE_BYTES);
    u32::try_from(room).unwrap_or(u32::MAX)
}

/// Bytes of a journal file, if no setting says otherwise.
const USUAL_FILE_BYTES: usize = 4 << 20;

/// The frame without its body, and its checksum.
fn parse_header(header: &[u8; HEADER_BYTES], at: usize) -> Option<(Frame, u32)> {
    let u32_at = |at: usize| array(header.get(at..at + 4)?).map(u32::from_le_bytes);
    let offset = u32_at(16)?;
    if usize::try_from(offset).ok()? != at || *header.get(25)? != VERSION {
        return None;
    }
    let frame = Frame {
        kind: Kind::from_byte(*header.get(24)?)?,
        generation: u64::from_le_bytes(array(header.get(8..16)?)?),
        offset,
        synced: u32_at(20)?,
        body: Bytes::new(),
        len: u32_at(4)?,
        run_bytes_max: 0,
        file: 0,
    };
    Some((frame, u32_at(0)?))
}

#[cfg(test)]
mod tests;
