//! The scan of a journal file, and what recovery makes of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use everpost::internals::{Frame, Journal, compress};
use everpost::{Event, Seq, SeqRange};
use uuid::Uuid;

/// Bytes in front of the body of a frame (`docs/format.md`).
const HEADER_BYTES: usize = 32;

/// The kinds of a frame with a run of events as it is, and compressed.
const EVENTS: u8 = 2;
const PACKED: u8 = 5;

/// The id of a queue, 16 bytes, and then a file of its journal.
///
/// The file is scanned as it is, once more with right checksums, since no chance finds those, and
/// then with its runs of events compressed, since no chance finds a zstd frame either.
pub fn journal(bytes: &[u8]) {
    let Some((id, file)) = bytes.split_at_checked(16) else {
        return;
    };
    let queue = Uuid::from_slice(id).unwrap_or_default();
    check(&Bytes::copy_from_slice(file), queue);
    let mended = with_checksums(file, queue);
    check(&mended, queue);
    check(&with_checksums(&packed(&mended), queue), queue);
}

/// The file with each run of events compressed, whatever it holds. It says its length right, unless
/// its last byte is odd.
fn packed(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = file;
    while let Some((head, behind)) = rest.split_at_checked(HEADER_BYTES) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(run) = behind
            .get(..len)
            .filter(|_| (1..=KINDS).contains(&head[24]))
        else {
            out.extend_from_slice(&rest[..8]);
            rest = &rest[8..];
            continue;
        };
        let frame = compress(run).filter(|_| head[24] == EVENTS);
        match frame.zip(run.get(..12)) {
            Some((frame, numbers)) => {
                let lie = u32::from(run.last().is_some_and(|byte| byte % 2 == 1));
                let said = u32::try_from(len).unwrap_or(0).wrapping_add(lie);
                let body = [numbers, &said.to_le_bytes(), &frame].concat();
                let body_bytes = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
                out.extend_from_slice(&[&head[..4], &body_bytes, &head[8..24]].concat());
                out.push(PACKED);
                out.extend_from_slice(&head[25..]);
                out.extend_from_slice(&body);
            }
            None => out.extend_from_slice(&rest[..HEADER_BYTES + len]),
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let end = (HEADER_BYTES + len).next_multiple_of(8);
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}

/// Kinds of frames there are.
const KINDS: u8 = 7;

/// The file with place, version and checksum put right wherever a frame could stand.
pub(super) fn with_checksums(file: &[u8], queue: Uuid) -> Bytes {
    let mut file = file.to_vec();
    let mut at = 0;
    while let Some(rest) = file.get_mut(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let len = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let end = HEADER_BYTES.saturating_add(len);
        if !(1..=KINDS).contains(&rest[24]) || end > rest.len() {
            at += 8;
            continue;
        }
        rest[16..20].copy_from_slice(&u32::try_from(at).unwrap_or(0).to_le_bytes());
        rest[25] = 1;
        let crc = checksum(queue, &rest[4..end]);
        rest[..4].copy_from_slice(&crc.to_le_bytes());
        at += end.next_multiple_of(8);
    }
    file.into()
}

fn checksum(queue: Uuid, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(queue.as_bytes()), bytes)
}

fn check(file: &Bytes, queue: Uuid) {
    let journal = Journal::scan(file, queue);
    let frames: Vec<Frame> = journal.frames(queue).collect();
    let (mut end, mut generation) = (0, 0);
    for frame in &frames {
        assert!(frame.offset >= end, "a frame stands inside another");
        assert!(frame.generation >= generation, "an earlier use is believed");
        check_frame(frame, file, queue);
        (end, generation) = (frame.end, frame.generation);
    }
    assert_eq!(generation, journal.generation);
    assert!(generation <= journal.generation_max);
    assert!(journal.is_used || frames.is_empty());
    let len = file.len() as u64;
    assert!(journal.damaged.iter().all(|at| u64::from(*at) <= len));
    check_recovered(&journal, &frames, None);
    let sealed = SeqRange { first: 2, last: 9 };
    check_recovered(&journal, &frames, Some(sealed));
}

/// What is believed checks, and is written again as the same bytes.
fn check_frame(frame: &Frame, file: &[u8], queue: Uuid) {
    let at = frame.offset as usize;
    let body_at = at + HEADER_BYTES;
    let end = body_at + frame.body.len();
    assert!(end <= file.len(), "a frame reaches beyond the file");
    assert_eq!(frame.body, file[body_at..end]);
    let crc = checksum(queue, &file[at + 4..end]);
    assert_eq!(
        file[at..at + 4],
        crc.to_le_bytes(),
        "a frame does not check"
    );
    if let Some(events) = &frame.events {
        let seqs = events.first().zip(events.last());
        let seqs = seqs.map(|(first, last)| (first.seq, last.seq));
        assert_eq!(seqs, frame.seqs.map(|range| (range.first, range.last)));
    }
    let Some(again) = &frame.again else {
        return;
    };
    // Six bytes of the header mean nothing, and so the checksum may differ.
    let header = file.get(at + 4..at + 26).unwrap_or_default();
    assert_eq!(&again[4..26], header);
    assert_eq!(again[HEADER_BYTES..][..frame.body.len()], frame.body);
}

/// Every number above the cursor is in one place or said to be missing, and every event given is
/// one that a frame has.
fn check_recovered(journal: &Journal, frames: &[Frame], sealed: Option<SeqRange>) {
    let recovered = journal.recover(sealed);
    let ledger = recovered.ledger;
    let cursor = ledger.settled();
    assert_eq!(
        u128::from(ledger.appended),
        u128::from(cursor) + u128::from(ledger.pending()),
        "the books do not balance: {ledger:?}"
    );
    let written: BTreeSet<_> = frames
        .iter()
        .filter_map(|frame| frame.events.as_ref())
        .flatten()
        .map(|stored| (stored.seq, name(&stored.event)))
        .collect();
    let mut ranges = recovered.missing;
    for (first, run) in recovered.runs {
        for (event, seq) in run.iter().zip(first..) {
            assert!(
                written.contains(&(seq, name(event))),
                "{seq} was never written"
            );
        }
        let last = first + run.len() as u64 - 1;
        ranges.push(SeqRange { first, last });
    }
    ranges.extend(sealed);
    // Above the cursor, in order, without those that are empty.
    for range in &mut ranges {
        range.first = range.first.max(cursor + 1);
    }
    ranges.retain(|range| range.first <= range.last);
    ranges.sort();
    let mut next: Seq = cursor + 1;
    for range in ranges {
        assert_eq!(range.first, next, "{range:?} of {ledger:?}");
        next = range.last + 1;
    }
    assert_eq!(next, ledger.appended + 1, "{ledger:?}");
}

fn name(event: &Event) -> (Uuid, u64, Bytes) {
    (
        *event.id().as_uuid(),
        event.time_ms(),
        event.json_bytes().clone(),
    )
}
