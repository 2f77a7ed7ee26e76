//! What went wrong once.

use crate::ledger::Settled;
use crate::log::contract::{event, letter, open, tight};
use crate::log::tail::Tail;
use crate::log::{Log, Read};

/// At level `Written` an event could be refused and buried before its own fdatasync. A power cut
/// then left the letter, which is durable at once, without the event: at the next opening the
/// letter stood above the cursor, at a number that was given again to another event, and at the
/// opening after that it was removed, because an event was found there. Found by the power cuts of
/// `cargo xtask prove`, workload `written, bury`.
#[test]
fn i5_an_event_is_durable_before_its_letter_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    log.stage(&[event(1, 10)]).unwrap();
    log.commit(false).unwrap();
    assert!(log.is_unsynced());
    log.bury(&letter(1, event(1, 10)), Settled::Dead).unwrap();
    assert!(!log.is_unsynced());
}

/// At level `Written` a chunk was sealed and synced while the events before it waited for their own
/// fdatasync. A power cut then kept the chunk and lost what came before it, which was reported as
/// damaged. Found by the power cuts of `cargo xtask prove`.
#[test]
fn i2_what_comes_before_a_chunk_is_durable_before_the_chunk_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    for n in 1..=12 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(false).unwrap();
    }
    assert!(log.is_unsynced());
    log.tidy().unwrap();
    assert!(log.shelf.synced_through() > 0, "nothing was sealed");
    assert!(!log.is_unsynced());
}

/// A power cut takes back a cursor that is not durable: were its events deleted by then, they
/// would be missing.
#[test]
fn i4_a_segment_goes_only_after_the_cursor_behind_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    for n in 1..=40 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(true).unwrap();
        while log.tidy().unwrap() {}
    }
    let last = log.shelf.first_segment_last().unwrap();
    log.settle(last, Settled::Delivered).unwrap();
    assert!(log.journal.is_unsynced(), "settling alone needs no sync");
    log.tidy().unwrap();
    let left = log.shelf.first_segment_last();
    assert!(left.is_none_or(|left| left > last), "nothing was deleted");
    assert!(!log.journal.is_unsynced());
}

#[test]
fn when_the_numbers_are_used_up_appends_are_refused_and_nothing_wraps() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    let given = u64::MAX - 3;
    log.ledger.appended = given;
    log.ledger.delivered = given;
    log.tail = Tail::new(given + 1);
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), tight());
    assert_eq!(log.stage(&[event(1, 10)]).unwrap(), given + 1);
    log.commit(true).unwrap();
    for events in [
        &[event(2, 10), event(3, 10), event(4, 10)][..],
        &[event(5, 10), event(6, 10)],
    ] {
        let error = log.stage(events).unwrap_err();
        assert!(error.to_string().contains("used up"), "{error}");
    }
    assert_eq!(log.stage(&[event(7, 10)]).unwrap(), given + 2);
    log.commit(true).unwrap();
    assert!(log.stage(&[event(8, 10)]).is_err());
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), tight());
    assert_eq!(log.position().last_seq, u64::MAX - 1);
    let Read::Events(events) = log.read(0, 9, u64::MAX).unwrap() else {
        panic!("the events are gone");
    };
    assert_eq!(events.len(), 2);
    log.settle(u64::MAX, Settled::Delivered).unwrap();
    assert_eq!(log.read(0, 9, u64::MAX).unwrap(), Read::End);
}
