//! What every log must do: one suite, run on the log in memory and on the log on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::disk::RealDisk;
use super::memory::MemoryLog;
use super::spool::SpoolLog;
use super::{Log, Memo, Read};
use crate::clock::SystemClock;
use crate::dead::{Cause, DeadLetter};
use crate::error::Error;
use crate::event::Event;
use crate::id::{EventId, Seq};
use crate::ledger::Settled;
use crate::outcome::Answer;
use crate::settings::{OnFull, Settings};

/// Limits so small that sealing, rolling and recycling happen all the time.
pub(super) fn tight() -> Settings {
    Settings {
        journal_bytes: 16 << 10,
        max_event_bytes: 4 << 10,
        tail_bytes: 4 << 10,
        chunk_bytes: 4 << 10,
        segment_bytes: 64 << 10,
        ..Settings::default()
    }
}

pub(super) fn open(dir: &Path, settings: Settings) -> SpoolLog {
    let (log, recovery) =
        SpoolLog::open(dir, settings, Arc::new(SystemClock), Arc::new(RealDisk)).unwrap();
    assert!(
        recovery.missing.is_empty() && recovery.notes.is_empty(),
        "{recovery:?}"
    );
    log
}

/// Runs a test on both logs.
fn on_both(settings: Settings, test: impl Fn(&mut dyn Log)) {
    test(&mut MemoryLog::new(&settings));
    let dir = tempfile::tempdir().unwrap();
    test(&mut open(dir.path(), settings));
}

/// An event whose content names it, is a little longer than `bytes` and hardly compresses. Its
/// id and time follow from its number, so that the same number is the same event.
pub(super) fn event(n: u64, bytes: usize) -> Event {
    let mut state = n | 1 << 40;
    let pad: String = (0..bytes)
        .map(|_| {
            // xorshift64: every number has its own, repeatable noise.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'0' + (state % 75) as u8)
                .to_string()
                .replace('\\', "/")
        })
        .collect();
    let json = format!("{{\"n\":{n},\"pad\":\"{pad}\"}}");
    let id = EventId::from_uuid(uuid::Uuid::from_u128(u128::from(n)));
    Event::json(json)
        .unwrap()
        .with_id(id)
        .with_time(SystemTime::UNIX_EPOCH)
}

pub(super) fn append(log: &mut dyn Log, range: std::ops::RangeInclusive<u64>, bytes: usize) {
    for n in range {
        assert_eq!(log.stage(&[event(n, bytes)]).unwrap(), n);
        log.commit(true).unwrap();
        while log.tidy().unwrap() {}
    }
}

pub(super) fn read_all(log: &mut dyn Log) -> Vec<(Seq, Event)> {
    let mut from = log.position().cursor + 1;
    let mut all = Vec::new();
    loop {
        match log.read(from, 7, u64::MAX).unwrap() {
            Read::Events(events) => {
                assert_eq!(events.first().unwrap().seq, from);
                from += events.len() as u64;
                all.extend(events.into_iter().map(|stored| (stored.seq, stored.event)));
            }
            Read::End => return all,
            Read::Missing(range) => panic!("{range:?} is missing"),
        }
    }
}

pub(super) fn letter(seq: Seq, event: Event) -> DeadLetter {
    let now = SystemTime::UNIX_EPOCH;
    DeadLetter {
        seq,
        event,
        cause: Cause::Refused,
        answer: Answer::from_status(400),
        attempts: 3,
        first_attempt: now,
        last_attempt: now,
    }
}

#[test]
fn events_are_read_as_they_were_appended_and_numbered_from_one() {
    on_both(tight(), |log| {
        assert_eq!(log.read(1, 10, 1000).unwrap(), Read::End);
        let mut expected = Vec::new();
        for n in 1..=60 {
            let event = event(n, (n as usize * 37) % 3000);
            log.stage(std::slice::from_ref(&event)).unwrap();
            log.commit(true).unwrap();
            expected.push((n, event));
            log.tidy().unwrap();
        }
        assert_eq!(read_all(log), expected);
    });
}

#[test]
fn nothing_staged_is_visible_before_the_commit() {
    on_both(tight(), |log| {
        log.stage(&[event(1, 10), event(2, 10)]).unwrap();
        assert_eq!(log.position().last_seq, 0);
        assert_eq!(log.read(1, 10, 1000).unwrap(), Read::End);
        log.commit(false).unwrap();
        assert_eq!(log.position().last_seq, 2);
        assert!(log.is_unsynced());
        log.commit(true).unwrap();
        assert!(!log.is_unsynced());
    });
}

#[test]
fn a_read_is_bounded_by_events_and_bytes_but_never_empty() {
    on_both(tight(), |log| {
        append(log, 1..=40, 500);
        let count = |read| match read {
            Read::Events(events) => events.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count(log.read(1, 3, u64::MAX).unwrap()), 3);
        assert_eq!(count(log.read(1, 0, u64::MAX).unwrap()), 1);
        assert_eq!(count(log.read(2, 40, 1).unwrap()), 1);
        assert_eq!(count(log.read(1, 40, 1100).unwrap()), 2);
    });
}

#[test]
fn i6_i7_the_cursor_moves_forward_only_and_the_books_balance() {
    on_both(tight(), |log| {
        append(log, 1..=30, 300);
        for (through, how, cursor) in [
            (5, Settled::Delivered, 5),
            (3, Settled::Lost, 5),
            (7, Settled::Expired, 7),
            (29, Settled::Delivered, 29),
            (99, Settled::Lost, 30),
        ] {
            log.settle(through, how).unwrap();
            let position = log.position();
            assert_eq!(position.cursor, cursor);
            let ledger = position.ledger;
            assert_eq!(ledger.appended, ledger.settled() + ledger.pending());
            while log.tidy().unwrap() {}
            assert_eq!(read_all(log).len() as u64, 30 - cursor);
        }
        let ledger = log.position().ledger;
        assert_eq!((ledger.delivered, ledger.expired, ledger.lost), (27, 2, 1));
    });
}

#[test]
fn i5_a_buried_event_is_a_dead_letter_and_behind_the_cursor() {
    on_both(tight(), |log| {
        append(log, 1..=3, 10);
        log.bury(&letter(1, event(1, 10)), Settled::Dead).unwrap();
        log.bury(&letter(2, event(2, 10)), Settled::Expired)
            .unwrap();
        log.bury(&letter(1, event(1, 10)), Settled::Dead).unwrap();
        let position = log.position();
        assert_eq!((position.cursor, position.dead_letters), (2, 2));
        assert_eq!((position.ledger.dead, position.ledger.expired), (1, 1));
        let letters = log.letters(0, 10).unwrap();
        assert_eq!(letters, [letter(1, event(1, 10)), letter(2, event(2, 10))]);
        assert_eq!(log.letters(1, 10).unwrap().len(), 1);
        assert_eq!(log.letters(0, 1).unwrap().len(), 1);
        assert!(log.letter(3).unwrap().is_none());
    });
}

#[test]
fn a_retried_letter_is_appended_anew_under_its_id() {
    on_both(tight(), |log| {
        append(log, 1..=2, 10);
        let event = event(1, 10);
        log.bury(&letter(1, event.clone()), Settled::Dead).unwrap();
        let receipt = log.retry(1).unwrap();
        assert_eq!((receipt.seq, receipt.id), (3, event.id()));
        assert!(log.letter(1).unwrap().is_none());
        assert_eq!(read_all(log).last().unwrap(), &(3, event));
        assert!(matches!(log.retry(1), Err(Error::NoSuchLetter { seq: 1 })));
        assert_eq!(log.position().ledger.appended, 3);
    });
}

#[test]
fn a_discarded_letter_is_gone_and_the_books_stay() {
    on_both(tight(), |log| {
        append(log, 1..=1, 10);
        log.bury(&letter(1, event(1, 10)), Settled::Dead).unwrap();
        log.discard(1).unwrap();
        assert!(matches!(
            log.discard(1),
            Err(Error::NoSuchLetter { seq: 1 })
        ));
        let position = log.position();
        assert_eq!((position.dead_letters, position.ledger.dead), (0, 1));
    });
}

#[test]
fn what_the_flusher_asks_to_remember_is_remembered() {
    on_both(tight(), |log| {
        assert_eq!(log.memo().unwrap(), Memo::default());
        let memo = Memo {
            not_before_ms: Some(7),
            batch_events: Some(9),
            ..Memo::default()
        };
        log.remember(&memo).unwrap();
        assert_eq!(log.memo().unwrap(), memo);
    });
}

#[test]
fn a_full_log_refuses_and_takes_again_after_delivery() {
    let settings = tight();
    let settings = Settings {
        max_bytes: settings.floor_bytes(),
        ..settings
    };
    on_both(settings, |log| {
        let mut n = 0;
        let refused = loop {
            n += 1;
            match log.stage(&[event(n, 3000)]) {
                Ok(first) => assert_eq!(first, n),
                Err(error) => break error,
            }
            log.commit(false).unwrap();
            log.tidy().unwrap();
        };
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        assert_eq!(read_all(log).len() as u64, n - 1);
        log.settle(n - 1, Settled::Delivered).unwrap();
        while log.tidy().unwrap() {}
        assert_eq!(log.stage(&[event(n, 3000)]).unwrap(), n);
        log.commit(true).unwrap();
        assert_eq!(read_all(log).len(), 1);
    });
}

#[test]
fn an_empty_log_takes_the_largest_append_at_the_least_bound() {
    let mut settings = tight();
    settings.journal_bytes = 4 << 20;
    settings.max_event_bytes = 1 << 20;
    settings.max_bytes = settings.floor_bytes();
    settings.check().unwrap();
    on_both(settings, |log| {
        let largest = [event(1, 1_000_000), event(2, 1_000_000)];
        assert_eq!(log.stage(&largest).unwrap(), 1);
        log.commit(true).unwrap();
        assert_eq!(read_all(log).len(), 2);
    });
}

#[test]
fn dropping_the_oldest_makes_room_and_is_booked() {
    let settings = tight();
    let max_bytes = settings.floor_bytes();
    on_both(
        Settings {
            max_bytes,
            on_full: OnFull::DropOldest,
            ..settings
        },
        |log| {
            append(log, 1..=4000, 3000);
            let ledger = log.position().ledger;
            assert!(ledger.evicted > 0);
            assert_eq!(ledger.appended, ledger.evicted + ledger.pending());
            let kept = read_all(log);
            assert_eq!(kept.len() as u64, ledger.pending());
            assert_eq!(kept.last().unwrap().0, 4000);
            assert!(log.position().disk_bytes <= max_bytes);
        },
    );
}

/// A power cut in the middle of deleting a drained segment leaves a directory with a part of its
/// files. Everything in it was settled, so it must not be in the way of opening.
#[test]
fn i4_a_segment_that_was_half_deleted_is_no_obstacle() {
    for keep in ["", "conf", "db", "blobs"] {
        for behind in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path(), tight());
            append(&mut log, 1..=40, 500);
            let segments = dir.path().join("segments");
            let name = std::fs::read_dir(&segments)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .file_name();
            log.settle(40, Settled::Delivered).unwrap();
            while log.tidy().unwrap() {}
            if behind {
                append(&mut log, 41..=90, 500);
            }
            log.close().unwrap();
            drop(log);
            let half = segments.join(name);
            std::fs::create_dir_all(&half).unwrap();
            match keep {
                "" => {}
                "blobs" => std::fs::create_dir(half.join(keep)).unwrap(),
                file => std::fs::write(half.join(file), "half of it").unwrap(),
            }
            let clock = Arc::new(SystemClock);
            let (mut log, recovery) =
                SpoolLog::open(dir.path(), tight(), clock, Arc::new(RealDisk)).unwrap();
            assert!(recovery.missing.is_empty(), "{keep} {behind}: {recovery:?}");
            assert_eq!(
                read_all(&mut log).len(),
                if behind { 50 } else { 0 },
                "{keep}"
            );
            log.stage(&[event(99, 10)]).unwrap();
            log.commit(true).unwrap();
            while log.tidy().unwrap() {}
            assert!(!half.exists(), "{keep} {behind}");
        }
    }
}
