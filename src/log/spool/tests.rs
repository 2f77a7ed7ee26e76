//! What went wrong once.

use crate::ledger::Settled;
use crate::log::Log;
use crate::log::contract::{event, letter, open, tight};

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
