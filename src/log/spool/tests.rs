//! What went wrong once, and what is done on the shelf's thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::clock::SystemClock;
#[cfg(unix)]
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::{Ledger, Settled};
#[cfg(unix)]
use crate::log::Memo;
use crate::log::contract::{append, event, letter, open, read_all, tight};
use crate::log::disk::RealDisk;
use crate::log::fates::Fates;
use crate::log::segment::Encoded;
use crate::log::spool::SpoolLog;
use crate::log::spool::progress::Progress;
use crate::log::tail::Tail;
use crate::log::{Log, Read};
use crate::observe::Place;

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
    assert!(log.shelf.seen().synced_through > 0, "nothing was sealed");
    assert!(!log.is_unsynced());
}

/// The flusher does not read while delivery is paused, and the status has to say how old the oldest event is.
#[test]
fn the_age_of_the_oldest_event_is_known_after_it_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    let oldest = event(1, 500);
    let time_ms = oldest.time_ms();
    log.stage(&[oldest]).unwrap();
    log.commit(true).unwrap();
    assert_eq!(log.position().oldest_ms, Some(time_ms));
    append(&mut log, 2..=40, 500);
    while log.tidy().unwrap() {}
    assert!(log.tail.first() > 1, "nothing was sealed");
    assert_eq!(log.position().oldest_ms, Some(time_ms));
    log.settle(40, Settled::Delivered).unwrap();
    assert_eq!(log.position().oldest_ms, None);
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
    let last = log.shelf.seen().first_segment_last.unwrap();
    log.settle(last, Settled::Delivered).unwrap();
    assert!(log.journal.is_unsynced(), "settling alone needs no sync");
    log.tidy().unwrap();
    let left = log.shelf.seen().first_segment_last;
    assert!(left.is_none_or(|left| left > last), "nothing was deleted");
    assert!(!log.journal.is_unsynced());
}

#[test]
fn i5_the_cursor_does_not_pass_an_event_whose_letter_the_disk_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=2, 100);
    log.letters.fail_for_test();
    log.bury(&letter(1, event(1, 100)), Settled::Dead)
        .unwrap_err();
    assert_eq!(log.position().cursor, 0);
    assert_eq!(read_all(&mut log).len(), 2);
}

/// A disk that refused to take a letter away left it there after the journal file with the note had
/// been used again: the next opening said that a letter was there again, and the caller of the retry
/// had an error for an event that was in the queue. Found by `cargo xtask prove --long`.
#[test]
fn a_letter_that_the_disk_refuses_to_take_away_has_left_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=2, 100);
    for seq in 1..=2 {
        let bury = log.bury(&letter(seq, event(seq, 100)), Settled::Dead);
        bury.unwrap();
    }
    // What was read can be read again, although the file is out of reach.
    assert!(log.letter(1).unwrap().is_some());
    log.letters.fail_for_test();
    assert_eq!(log.retry(1).unwrap().seq, 3);
    assert!(log.position().fault.is_some());
    assert!(!log.letters.has(1) && log.letters.has(2));
    // More than the three journal files hold: the one with the note is used again.
    for n in 4..=200 {
        append(&mut log, n..=n, 500);
        log.settle(n - 1, Settled::Delivered).unwrap();
    }
    assert!(log.letters.is_leaving());
    let letters = dir.path().join("letters");
    std::fs::remove_file(&letters).unwrap();
    std::fs::rename(dir.path().join("away"), &letters).unwrap();
    // As after a kill.
    drop(log);
    let mut log = open(dir.path(), tight());
    let books = log.position().letters;
    assert_eq!((books.held, books.retried, books.returned), (1, 1, 0));
    assert!(!log.letters.has(1) && log.letters.has(2));
    log.discard(2).unwrap();
    drop(log);
    let log = open(dir.path(), tight());
    assert_eq!(log.position().letters.buried(), 2);
    assert!(log.position().incidents.is_none());
}

/// Until the disk takes letters again no other leaves, and then the one goes that left meanwhile.
#[test]
fn a_letter_that_is_due_to_leave_goes_when_the_disk_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=2, 100);
    for seq in 1..=2 {
        let bury = log.bury(&letter(seq, event(seq, 100)), Settled::Dead);
        bury.unwrap();
    }
    log.letters.fail_for_test();
    log.discard(1).unwrap();
    log.discard(2).unwrap_err();
    log.retry(2).unwrap_err();
    let books = log.position().letters;
    assert_eq!((books.held, books.discarded, books.retried), (1, 1, 0));
    let letters = dir.path().join("letters");
    std::fs::remove_file(&letters).unwrap();
    std::fs::rename(dir.path().join("away"), &letters).unwrap();
    while log.tidy().unwrap() {}
    assert!(!log.letters.is_leaving());
    assert_eq!(log.position().fault, None);
}

/// A segment that one opening had named as altered was deleted in a later process, which settled its
/// events from memory and never read it: its original should have gone to quarantine. Found by
/// `cargo xtask prove --long`.
#[test]
fn i13_a_segment_on_record_as_damaged_is_kept_by_a_process_that_never_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=40, 500);
    log.close().unwrap();
    drop(log);
    let segment = std::fs::read_dir(dir.path().join("segments")).unwrap();
    let segment = segment.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut altered = std::fs::read(segment.join("db")).unwrap();
    altered.extend([7; 99]);
    std::fs::write(segment.join("db"), &altered).unwrap();

    let mut log = open(dir.path(), tight());
    let incidents = log.incidents();
    let name = segment.strip_prefix(dir.path()).unwrap();
    assert_eq!(std::path::Path::new(&incidents[0].place), name);
    // Another segment begins, and that one is among the older ones from here on.
    append(&mut log, 41..=80, 500);
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), tight());
    log.settle(80, Settled::Delivered).unwrap();
    log.close().unwrap();
    drop(log);
    assert!(!segment.exists());
    let kept = dir.path().join("quarantine").join(format!(
        "{}-1",
        segment.file_name().unwrap().to_str().unwrap()
    ));
    assert!(std::fs::read(kept.join("db")).unwrap() == altered);
}

/// A process that dies between burying and settling leaves the letter and the event. The event is
/// sent again, so the letter goes; otherwise a later refusal would find it there.
#[test]
fn a_letter_whose_event_is_still_pending_goes_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=2, 100);
    log.letters
        .put(&letter(1, event(1, 100)), &log.dir)
        .unwrap();
    drop(log);
    let mut log = open(dir.path(), tight());
    assert_eq!(log.position().dead_letters, 0);
    assert_eq!(read_all(&mut log).len(), 2);
}

#[test]
fn i8_after_an_orderly_close_a_journal_that_lost_everything_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    append(&mut log, 1..=3, 100);
    log.close().unwrap();
    drop(log);
    for entry in std::fs::read_dir(dir.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|name| name == "journal") {
            let len = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0; usize::try_from(len).unwrap()]).unwrap();
        }
    }
    let log = open_damaged(dir.path());
    assert_eq!(log.position().missing, [SeqRange { first: 1, last: 3 }]);
}

/// As `open`, for a spool that is not whole.
fn open_damaged(dir: &std::path::Path) -> SpoolLog {
    let (clock, disk) = (Arc::new(SystemClock), Arc::new(RealDisk));
    SpoolLog::open(dir, tight(), clock, disk).unwrap().0
}

#[test]
fn when_the_numbers_are_used_up_appends_are_refused_and_nothing_wraps() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    let given = u64::MAX - 3;
    let ledger = Ledger {
        appended: given,
        delivered: given,
        ..Ledger::default()
    };
    log.progress = Progress::new(ledger, Vec::new(), Fates::default(), 1);
    log.tail = Tail::new(given + 1, 1 << 10);
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

/// A chunk that was put on the shelf and could not be synced stood in the way of every later
/// attempt: its events could not be put there twice, and nothing was sealed any more.
#[test]
fn what_an_attempt_left_on_the_shelf_is_not_in_the_way_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    for n in 1..=12 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(true).unwrap();
    }
    let left = Encoded::of_run(&log.tail.oldest(1)[0]).unwrap();
    let last = left.range.last;
    log.shelf.run(move |shelf| shelf.put(left)).unwrap();
    assert!(log.seal_oldest().unwrap());
    assert!(log.tail.first() > last);
    assert_eq!(read_all(&mut log).len(), 12);
}

/// A log whose shelf is on its own thread, held up there until the gate is opened; and its nudges.
fn held_up(dir: &std::path::Path) -> (SpoolLog, Sender<()>, Receiver<()>) {
    let mut log = open(dir, tight());
    let (nudge, nudges) = channel();
    let nudge = move || {
        let _ = nudge.send(());
    };
    log.work_apart(Place::new(dir), Arc::new(nudge)).unwrap();
    let (open_gate, gate) = channel();
    log.shelf.order(move |_| {
        let _ = gate.recv();
    });
    (log, open_gate, nudges)
}

#[test]
fn a_commit_does_not_wait_for_the_shelf_and_i2_the_tail_keeps_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, open_gate, nudges) = held_up(dir.path());
    // Beyond the bound of the tail: sealing begins, and cannot go on.
    append(&mut log, 1..=12, 500);
    assert!(log.sealer.is_under_way());
    assert_eq!((log.tail.first(), log.recyclable()), (1, 0));
    assert_eq!(read_all(&mut log).len(), 12);
    drop(open_gate);
    while log.sealer.is_under_way() {
        nudges.recv().unwrap();
        log.tidy().unwrap();
    }
    assert!(log.tail.first() > 1);
    assert_eq!(log.recyclable(), log.tail.first() - 1);
    assert_eq!(read_all(&mut log).len(), 12);
}

#[test]
fn a_tail_of_twice_its_bound_waits_for_the_shelf() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, open_gate, _nudges) = held_up(dir.path());
    append(&mut log, 1..=12, 500);
    assert!(log.sealer.is_under_way() && log.tail.first() == 1);
    for n in 13..=20 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(true).unwrap();
    }
    assert!(log.tail.bytes() > 2 * tight().tail_bytes);
    // Whenever the other thread comes to it: one step of tidying is enough.
    let opener = std::thread::spawn(move || drop(open_gate));
    log.tidy().unwrap();
    assert!(log.tail.first() > 1);
    opener.join().unwrap();
}

#[test]
fn what_the_tail_gathered_while_the_shelf_was_busy_is_sealed_together() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, open_gate, nudges) = held_up(dir.path());
    append(&mut log, 1..=12, 500);
    for n in 13..=40 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(true).unwrap();
    }
    let under_way = log.sealer.last_under_way().unwrap();
    drop(open_gate);
    while log.tail.first() <= under_way {
        nudges.recv().unwrap();
        log.tidy().unwrap();
    }
    // Three chunks of 4 KiB hold 21 events.
    let together = log.sealer.last_under_way().unwrap() - under_way;
    assert!(together >= 21, "{together}");
    log.finish_sealing(true).unwrap();
    let seqs: Vec<_> = read_all(&mut log).into_iter().map(|(seq, _)| seq).collect();
    assert!(seqs.into_iter().eq(1..=40));
}

#[test]
fn i3_a_journal_that_is_full_waits_for_the_shelf_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, open_gate, _nudges) = held_up(dir.path());
    append(&mut log, 1..=12, 500);
    assert!(log.sealer.is_under_way());
    for n in 13..=60 {
        log.stage(&[event(n, 500)]).unwrap();
        log.commit(true).unwrap();
    }
    assert_eq!(log.recyclable(), 0);
    drop(open_gate);
    // More than the three journal files hold.
    append(&mut log, 61..=300, 500);
    assert!(log.recyclable() > 60);
    drop(log);
    let mut log = open(dir.path(), tight());
    let seqs: Vec<_> = read_all(&mut log).into_iter().map(|(seq, _)| seq).collect();
    assert!(seqs.into_iter().eq(1..=300));
}

#[test]
fn i4_a_settled_segment_stays_while_a_read_that_was_asked_for_earlier_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, open_gate, nudges) = held_up(dir.path());
    append(&mut log, 1..=12, 500);
    drop(open_gate);
    while log.sealer.is_under_way() {
        nudges.recv().unwrap();
        log.tidy().unwrap();
    }
    let (open_gate, gate) = channel::<()>();
    log.shelf.order(move |_| {
        let _ = gate.recv();
    });
    let (reply, answer) = channel::<Result<crate::log::Read, crate::Error>>();
    log.read_later(1, 1, 0, Box::new(move |read| drop(reply.send(read))));
    log.settle(12, Settled::Delivered).unwrap();
    log.tidy().unwrap();
    assert!(log.removals.is_under_way());
    drop(open_gate);
    match answer.recv().unwrap().unwrap() {
        crate::log::Read::Events(events) => assert_eq!(events[0].event, event(1, 500)),
        other => panic!("{other:?}"),
    }
    log.finish_removing(true).unwrap();
    assert_eq!(log.shelf.seen().first_segment_last, None);
}

/// Bytes of the frames in the journal that hold events.
fn bytes_of_runs(log: &SpoolLog) -> u64 {
    let seen = crate::log::journal::look(log.dir.path(), log.dir.queue(), false).unwrap();
    let runs = seen.frames.iter().filter(|frame| frame.range().is_some());
    runs.map(|frame| u64::from(frame.end() - frame.offset))
        .sum()
}

#[test]
fn a_long_append_is_compressed_where_the_disk_is_waited_for_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = crate::Settings::default();
    let mut log = open(dir.path(), settings.clone());
    let long: Vec<_> = (1..=100)
        .map(|n| {
            crate::Event::json(format!(
                "{{\"n\":{n},\"text\":\"{}\"}}",
                "hello ".repeat(50)
            ))
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let plain = crate::log::frame::events_bytes(&long);
    log.stage(&long).unwrap();
    log.commit(false).unwrap();
    assert_eq!(bytes_of_runs(&log), plain);
    log.stage(&long).unwrap();
    log.commit(true).unwrap();
    let packed = bytes_of_runs(&log) - plain;
    if cfg!(feature = "zstd") {
        assert!(packed < plain / 2, "{packed} for {plain}");
    } else {
        assert_eq!(packed, plain);
    }
    // As after a kill: nothing was closed.
    drop(log);
    let mut log = open(dir.path(), settings);
    let expected = (1..).zip(long.iter().chain(&long).cloned());
    assert!(read_all(&mut log).into_iter().eq(expected.take(200)));
}

#[test]
fn appends_of_one_commit_share_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), tight());
    for n in 1..=3 {
        assert_eq!(log.stage(&[event(n, 100)]).unwrap(), n);
    }
    log.commit(true).unwrap();
    let events: Vec<_> = (1..=3).map(|n| event(n, 100)).collect();
    assert_eq!(
        bytes_of_runs(&log),
        crate::log::frame::events_bytes(&events)
    );
}

/// The owner of a directory that had been moved away went on settling, sealing and removing by the
/// path, where another owner had made a new spool meanwhile.
#[cfg(unix)]
#[test]
fn i14_nothing_is_done_in_a_directory_that_took_the_place_of_the_spool() {
    type Work = fn(&mut SpoolLog) -> Result<(), Error>;
    let works: [(&str, Work); 11] = [
        ("commit", |log| append_one(log, true)),
        ("settle", |log| {
            log.settle(log.cursor() + 1, Settled::Delivered)
        }),
        ("bury", |log| {
            let next = log.cursor() + 1;
            log.bury(&letter(next, event(next, 500)), Settled::Dead)
        }),
        ("seal", |log| log.seal_if_long().map(drop)),
        ("remove", |log| {
            log.remove_settled()
                .and_then(|()| log.finish_removing(true))
        }),
        ("retry", |log| log.retry(1).map(drop)),
        ("discard", |log| log.discard(1)),
        ("remember", |log| log.remember(&Memo::default())),
        ("tidy", |log| log.tidy().map(drop)),
        ("close", |log| log.close()),
        // At `Written`: acknowledged until the next sync is due, and not after it.
        ("sync", |log| {
            append_one(log, false).unwrap();
            log.commit(true)
        }),
    ];
    for (name, work) in works {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("spool");
        let mut log = open(&dir, tight());
        append(&mut log, 1..=40, 500);
        log.bury(&letter(1, event(1, 500)), Settled::Dead).unwrap();
        // So many that there is something to seal and to remove.
        let oldest = log.shelf.seen().first_segment_last.unwrap();
        log.settle(oldest, Settled::Delivered).unwrap();
        for n in 41..=60 {
            log.stage(&[event(n, 500)]).unwrap();
            log.commit(true).unwrap();
        }
        std::fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let done = work(&mut log);
        assert!(
            matches!(done, Err(Error::NotOwner { .. })),
            "{name}: {done:?}"
        );
        assert_eq!(log.cursor(), oldest, "{name}");
        assert!(append_one(&mut log, true).is_err(), "{name}");
        drop(log);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{name}");
    }
}

#[cfg(unix)]
fn append_one(log: &mut SpoolLog, sync: bool) -> Result<(), Error> {
    log.stage(&[event(61, 10)])?;
    log.commit(sync)
}
