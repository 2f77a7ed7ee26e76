//! Tests of one segment, on real files.

use super::*;
use crate::event::Event;
use crate::id::EventId;
use std::fs;
use uuid::Uuid;

const QUEUE: Uuid = Uuid::from_u128(7);
const LAYOUT: Layout = Layout::Large;

fn events(first: Seq, count: u64, bytes: usize) -> Vec<StoredEvent> {
    (first..first + count)
        .map(|seq| {
            let id = EventId::from_uuid(Uuid::from_u128(u128::from(seq)));
            let mut x = seq * 2 + 1;
            let body: Vec<u8> = (0..bytes)
                .map(|_| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    x ^= x << 17;
                    (x >> 32) as u8
                })
                .collect();
            let event = Event::from_parts(id, seq, body.into());
            StoredEvent { seq, event }
        })
        .collect()
}

fn chunk(first: Seq, count: u64) -> Encoded {
    Encoded::of_run(&Run::of(&events(first, count, 500)).unwrap()).unwrap()
}

/// Ten chunks of ten events from 101 on, synced.
fn filled(dir: &Path) -> Segment {
    let mut segment = Segment::create(dir, LAYOUT, 101, QUEUE).unwrap();
    for n in 0..10 {
        segment.append(chunk(101 + n * 10, 10)).unwrap();
    }
    segment.sync().unwrap();
    segment
}

fn missing(first: Seq, last: Seq) -> Found {
    Found::Missing(SeqRange { first, last })
}

#[test]
fn every_event_is_found_in_its_chunk_before_and_after_a_reopen() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("s");
    let mut segment = filled(&dir);
    // What sled writes is read while it is written, too.
    segment.append(chunk(201, 3)).unwrap();
    for reopen in 0..2 {
        for seq in 101..=200 {
            let first = (seq - 1) / 10 * 10 + 1;
            let found = segment.read(seq, None).unwrap();
            assert_eq!(found, Found::Chunk(events(first, 10, 500)), "{seq}");
        }
        let found = segment.read(203, None).unwrap();
        assert_eq!(found, Found::Chunk(events(201, 3, 500)));
        assert_eq!(segment.read(204, None).unwrap(), Found::Behind);
        assert_eq!(segment.last_seq(), 203);
        if reopen == 0 {
            assert!(segment.append(chunk(205, 1)).is_err(), "it does not follow");
            segment.sync().unwrap();
        }
        drop(segment);
        segment = Segment::open_to_read(&dir, 101, QUEUE).unwrap();
    }
    assert!(segment.is_whole() && !segment.is_writable());
    assert!(segment.append(chunk(204, 1)).is_err(), "it is only read");
}

#[test]
fn the_chunks_of_a_segment_are_carried_into_another_as_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| temp.path().join(name));
    drop(filled(&old));
    let old = Segment::open_to_read(&old, 101, QUEUE).unwrap();
    let mut segment = Segment::create(&new, LAYOUT, 101, QUEUE).unwrap();
    old.carry_into(&mut segment).unwrap();
    assert_eq!((segment.last_seq(), segment.synced_through()), (200, 200));
    segment.append(chunk(201, 5)).unwrap();
    segment.sync().unwrap();
    drop(segment);
    let mut segment = Segment::open_to_read(&new, 101, QUEUE).unwrap();
    for (first, count) in (101..=191)
        .step_by(10)
        .map(|first| (first, 10))
        .chain([(201, 5)])
    {
        let found = segment.read(first, None).unwrap();
        assert_eq!(found, Found::Chunk(events(first, count, 500)));
    }
    assert!(segment.is_whole());
}

#[test]
fn a_chunk_that_was_cut_off_ends_the_segment_without_being_damage() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("s");
    let mut segment = filled(&dir);
    let store = segment.store.as_mut().unwrap();
    // All pieces of an eleventh chunk but the last.
    store.put_part(Key::new(SPACE, 10), &chunk(201, 20).bytes, 1);
    drop(segment);
    let mut segment = Segment::open_to_read(&dir, 101, QUEUE).unwrap();
    assert!(!segment.is_whole(), "not complete");
    assert_eq!(segment.last_seq(), 200);
    let found = segment.read(200, None).unwrap();
    assert_eq!(found, Found::Chunk(events(191, 10, 500)));
    assert!(!segment.is_damaged(200));
    assert!(segment.append(chunk(201, 1)).is_err());
}

#[test]
fn i8_damage_is_read_around_and_its_range_is_exact() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("s");
    drop(filled(&dir));
    // Every copy of a piece of chunk 4 (141 to 150) is spoilt.
    let (_, piece) = crate::log::piece::split(LAYOUT, Key::new(SPACE, 4), &chunk(141, 10).bytes)
        .next()
        .unwrap();
    let mut bytes = fs::read(dir.join("db")).unwrap();
    let places: Vec<usize> = (0..bytes.len() - piece.len())
        .filter(|at| bytes[*at] == piece[0] && bytes[*at..].starts_with(&piece))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 500] ^= 1;
    }
    fs::write(dir.join("db"), bytes).unwrap();
    let mut segment = Segment::open_to_read(&dir, 101, QUEUE).unwrap();
    assert!(segment.is_altered() && !segment.is_whole());
    assert_eq!(
        segment.holes(),
        [SeqRange {
            first: 141,
            last: 150
        }]
    );
    assert_eq!(
        segment.read(140, None).unwrap(),
        Found::Chunk(events(131, 10, 500))
    );
    assert_eq!(segment.read(141, None).unwrap(), missing(141, 150));
    assert_eq!(segment.read(145, None).unwrap(), missing(145, 150));
    assert_eq!(
        segment.read(151, None).unwrap(),
        Found::Chunk(events(151, 10, 500))
    );
    assert!(segment.is_damaged(200) && segment.last_seq() == 200);
}

#[test]
fn where_the_next_segment_begins_this_one_ends() {
    let temp = tempfile::tempdir().unwrap();
    let mut segment = filled(&temp.path().join("s"));
    assert_eq!(
        segment.read(191, Some(195)).unwrap(),
        Found::Chunk(events(191, 5, 500))
    );
    assert_eq!(segment.read(201, Some(300)).unwrap(), missing(201, 300));
}

#[test]
fn what_was_not_synced_can_be_taken_elsewhere() {
    let temp = tempfile::tempdir().unwrap();
    let mut segment = filled(&temp.path().join("s"));
    segment.append(chunk(201, 2)).unwrap();
    segment.append(chunk(203, 2)).unwrap();
    let taken = segment.take_unsynced();
    let ranges: Vec<_> = taken
        .iter()
        .map(|c| (c.range.first, c.range.last))
        .collect();
    assert_eq!(ranges, [(201, 202), (203, 204)]);
    assert_eq!(taken[1].events().unwrap(), events(203, 2, 500));
    assert_eq!((segment.last_seq(), segment.synced_through()), (200, 200));
    assert_eq!(segment.read(201, None).unwrap(), Found::Behind);
}

#[test]
fn a_chunk_of_a_newer_version_stops_the_opening_and_nothing_is_touched() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("s");
    let mut store = Store::create(&dir, LAYOUT).unwrap();
    let mut newer = chunk(1, 1);
    newer.bytes[0] = 2;
    store.put(Key::new(SPACE, 0), &newer.bytes).unwrap();
    store.sync().unwrap();
    drop(store);
    let before = fs::read(dir.join("db")).unwrap();
    let error = Segment::open_to_read(&dir, 1, QUEUE).unwrap_err();
    assert!(
        matches!(error, Error::FutureFormat { found: 2, .. }),
        "{error}"
    );
    assert_eq!(fs::read(dir.join("db")).unwrap(), before);
}
