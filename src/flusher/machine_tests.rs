//! Every path of the machine, without a runtime; pauses are in `pause_tests.rs`.

mod ending;

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use super::script::*;
use super::step::{Input, Reading};
use crate::dead::Cause;
use crate::error::Error;
use crate::id::SeqRange;
use crate::ledger::Settled;
use crate::log::{Log, Memo};
use crate::outcome::{PauseReason, Verdict};
use crate::settings::Delivery;
use crate::status::FlusherState;

use Next::{End, Send, Wait};

#[test]
fn an_empty_queue_asks_once_and_rests() {
    let mut rig = rig(0);
    assert_eq!(rig.start(), Wait(None));
    assert_eq!(rig.machine.state(), FlusherState::Idle);
    assert!(rig.machine.is_dry());
    assert_eq!(rig.step(Input::Tick), Wait(None));
    rig.log.stage(&events(2)).unwrap();
    rig.log.commit(true).unwrap();
    assert_eq!(rig.step(Input::Tick), Send(vec![1, 2]));
    assert_eq!(rig.machine.state(), FlusherState::Sending);
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert_eq!(rig.log.position().ledger.delivered, 2);
    assert_eq!(
        rig.memo_writes(),
        0,
        "an untroubled queue remembers nothing"
    );
}

#[test]
fn batches_follow_each_other_and_each_is_settled_before_the_next() {
    let mut rig = Rig::new(
        7,
        Delivery {
            batch_events: 3,
            ..steady()
        },
        None,
    );
    assert_eq!(rig.start(), Send(vec![1, 2, 3]));
    assert_eq!(rig.log.position().cursor, 0);
    assert_eq!(rig.answer(DELIVERED), Send(vec![4, 5, 6]));
    assert_eq!(rig.log.position().cursor, 3);
    assert_eq!(rig.answer(DELIVERED), Send(vec![7]));
    assert_eq!(rig.answer(DELIVERED), Wait(None));
}

#[test]
fn what_is_read_ahead_is_behind_all_of_the_batch_that_is_under_way() {
    let batch_events = 3;
    let delivery = Delivery {
        batch_events,
        ..steady()
    };
    let bytes_max = delivery.batch_bytes;
    let mut rig = Rig::new(8, delivery, None);
    assert_eq!(rig.machine.read_ahead(), None, "nothing is under way");
    assert_eq!(rig.start(), Send(vec![1, 2, 3]));
    let next = Reading {
        from: 4,
        events_max: 3,
        bytes_max,
    };
    assert_eq!(rig.machine.read_ahead(), Some(next));
    // Divided: the rest of this batch comes first.
    assert_eq!(rig.answer(Verdict::Divide), Send(vec![1, 2]));
    assert_eq!(rig.machine.read_ahead(), None);
    assert_eq!(rig.answer(DELIVERED), Send(vec![3]));
    assert_eq!(rig.machine.read_ahead().unwrap().from, 4);
    assert_eq!(rig.answer(DELIVERED), Send(vec![4, 5]));
    assert_eq!(rig.answer(DELIVERED), Send(vec![6, 7]));
    assert_eq!(rig.machine.read_ahead().unwrap().from, 8);
    assert!(!rig.machine.is_held_up());
    rig.answer(RETRY);
    assert_eq!(rig.machine.read_ahead(), None, "it is sent again first");
    assert!(rig.machine.is_held_up());
}

#[test]
fn failures_are_retried_with_the_same_batch_without_a_limit() {
    let mut rig = rig(2);
    rig.start();
    let mut waits = Vec::new();
    for attempt in 1..=5_000 {
        rig.answer(RETRY);
        assert_backing_off(&rig, attempt);
        let (wait, next) = rig.elapse();
        assert_eq!(next, Send(vec![1, 2]));
        waits.push(wait.as_millis());
    }
    assert_eq!(
        waits[..9],
        [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
    );
    assert!(waits[9..].iter().all(|wait| *wait == 60_000));
    assert!(rig.now.mono > secs(3 * 24 * 3600), "three days have passed");
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert!(rig.letters().is_empty());
    // After a success the waits begin anew.
    rig.log.stage(&events(1)).unwrap();
    rig.log.commit(true).unwrap();
    rig.step(Input::Tick);
    rig.answer(RETRY);
    assert_eq!(rig.elapse().0.as_millis(), 500);
}

#[test]
fn retry_after_is_a_floor_clamped_and_remembered_if_long() {
    // The wait asked for, the wait kept, whether a restart must know of it.
    for (asked, kept, written) in [
        (0, 500, false),
        (3, 3_000, false),
        (120, 120_000, true),
        (u64::MAX, 3_600_000, true),
    ] {
        let mut rig = rig(1);
        rig.start();
        rig.answer(retry_after(asked));
        assert_eq!(rig.log.memo().unwrap().not_before_ms.is_some(), written);
        assert_eq!(rig.elapse(), (Duration::from_millis(kept), Send(vec![1])));
        rig.answer(DELIVERED);
        assert_eq!(rig.log.memo().unwrap(), Memo::default(), "and forgotten");
    }
}

#[test]
fn backing_off_says_since_when_it_has_failed() {
    let mut rig = rig(2);
    let since = |rig: &Rig| match rig.machine.state() {
        FlusherState::BackingOff { since, .. } => since,
        state => panic!("{state:?}"),
    };
    rig.start();
    for _ in 0..2 {
        rig.pass(secs(100));
        let began = rig.now.wall;
        for _ in 0..5 {
            rig.answer(RETRY);
            assert_eq!(since(&rig), began);
            rig.elapse();
        }
        // A delivery begins it anew.
        rig.answer(DELIVERED);
        rig.log.stage(&events(2)).unwrap();
        rig.log.commit(true).unwrap();
        rig.step(Input::Tick);
    }
}

#[test]
fn retry_after_outlives_a_restart_and_a_jump_of_the_wall_clock() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(retry_after(120));
    rig.pass(secs(20));
    assert_eq!(rig.restart(steady()), wait(100));
    assert_backing_off(&rig, 0);
    // Years back: no longer than the longest wait there is.
    rig.now.wall -= secs(10 * 365 * 24 * 3600);
    assert_eq!(rig.restart(steady()), wait(3600));
    // Years forward: the time has come.
    rig.now.wall += secs(20 * 365 * 24 * 3600);
    assert_eq!(rig.restart(steady()), Send(vec![1]));
}

#[test]
fn a_jump_of_the_wall_clock_changes_no_wait() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(retry_after(60));
    rig.now.wall -= secs(1_000_000);
    assert_eq!(rig.step(Input::Tick), wait(60));
    rig.now.wall += secs(9_000_000);
    assert_eq!(rig.step(Input::Tick), wait(60));
    rig.pass(secs(60));
    assert_eq!(rig.step(Input::Tick), Send(vec![1]));
}

#[test]
fn waking_ends_a_wait_and_counts_for_a_request_under_way() {
    let mut rig = rig(1);
    rig.start();
    assert_eq!(rig.answer(RETRY), Wait(Some(Duration::from_millis(500))));
    assert_eq!(rig.step(Input::Wake), Send(vec![1]));
    rig.step(Input::Wake);
    assert_eq!(
        rig.answer(RETRY),
        Send(vec![1]),
        "the wake came too late for the first"
    );
    assert_eq!(rig.answer(RETRY), wait(2), "and counts once");
}

#[test]
fn one_poison_event_is_buried_and_its_neighbours_are_delivered_in_order() {
    let mut rig = rig(500);
    let next = rig.start();
    rig.pass(secs(1));
    let end = rig.drain(next, refuse(&[137]));
    assert_eq!(end, Wait(None));
    assert!(rig.sent.len() <= 1 + 19, "{} requests", rig.sent.len());
    let ledger = rig.log.position().ledger;
    assert_eq!(
        (ledger.delivered, ledger.dead, ledger.pending()),
        (499, 1, 0)
    );
    let letter = rig.letters().remove(0);
    assert_eq!((letter.seq, letter.cause), (137, Cause::Refused));
    assert_eq!(letter.answer.status, Some(400));
    assert!(letter.attempts >= 2);
    assert_eq!(letter.first_attempt, UNIX_EPOCH + NOON);
    assert_eq!(letter.last_attempt, UNIX_EPOCH + NOON + secs(1));
    assert_eq!(rig.sent.last().unwrap().last(), Some(&500));
    assert!(rig.sent.contains(&vec![137]), "it was refused alone");
}

#[test]
fn a_failure_amid_a_search_keeps_the_plan_and_sends_the_same_part() {
    let mut rig = rig(8);
    rig.start();
    let half = rig.answer(Verdict::Poison);
    assert_eq!(half, Send(vec![1, 2, 3, 4]));
    rig.answer(RETRY);
    assert_eq!(rig.elapse().1, half);
    rig.answer(DENIED);
    assert_paused(&rig, PauseReason::Credentials);
    assert_eq!(rig.step(Input::Resume), half);
    rig.step(Input::Pause);
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert_eq!(rig.log.position().cursor, 4);
    // The second half is known to be refused, so it is split without being sent.
    assert_eq!(rig.step(Input::Resume), Send(vec![5, 6]));
}

#[test]
fn a_request_too_large_is_halved_and_the_size_remembered() {
    let mut rig = rig(16);
    let next = rig.start();
    let end = rig.drain(next, |seqs| {
        if seqs.len() > 5 {
            Verdict::Divide
        } else {
            DELIVERED
        }
    });
    assert_eq!(end, Wait(None));
    let sizes: Vec<usize> = rig.sent.iter().map(Vec::len).collect();
    assert_eq!(
        sizes,
        [16, 8, 4, 4, 4, 4],
        "what is known is not tried again"
    );
    assert_eq!(rig.log.position().ledger.delivered, 16);
    assert_eq!(rig.log.memo().unwrap().batch_events, Some(4));
    rig.log.stage(&events(9)).unwrap();
    rig.log.commit(true).unwrap();
    assert_eq!(rig.restart(steady()), Send(vec![17, 18, 19, 20]));
}

#[test]
fn an_event_too_large_alone_is_buried_and_the_others_keep_their_size() {
    let mut rig = rig(8);
    let next = rig.start();
    rig.drain(next, |seqs| {
        if seqs.contains(&6) {
            Verdict::Divide
        } else {
            DELIVERED
        }
    });
    let ledger = rig.log.position().ledger;
    assert_eq!((ledger.delivered, ledger.dead), (7, 1));
    let letter = rig.letters().remove(0);
    assert_eq!((letter.seq, letter.cause), (6, Cause::TooLarge));
    assert_eq!(rig.log.memo().unwrap().batch_events, None);
}

#[test]
fn expired_events_are_set_aside_before_they_are_sent() {
    let mut rig = Rig::new(3, steady(), Some(secs(60)));
    rig.pass(secs(61));
    rig.log
        .stage(&[events(1).remove(0).with_time(rig.now.wall)])
        .unwrap();
    rig.log.stage(&events(1)).unwrap();
    rig.log
        .stage(&[events(1).remove(0).with_time(rig.now.wall)])
        .unwrap();
    rig.log.commit(true).unwrap();
    assert_eq!(
        rig.start(),
        Send(vec![4]),
        "the old one behind it waits its turn"
    );
    assert_eq!(rig.answer(DELIVERED), Send(vec![6]));
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    let ledger = rig.log.position().ledger;
    assert_eq!((ledger.expired, ledger.delivered, ledger.dead), (4, 2, 0));
    let letter = rig.letters().remove(0);
    assert_eq!((letter.cause, letter.attempts), (Cause::Expired, 0));
    assert_eq!(letter.last_attempt, rig.now.wall);
}

#[test]
fn a_batch_that_expires_while_it_waits_is_not_sent_again() {
    let mut rig = Rig::new(2, steady(), Some(secs(60)));
    rig.start();
    rig.answer(retry_after(120));
    assert_eq!(rig.elapse().1, Wait(None));
    let letter = rig.letters().remove(1);
    assert_eq!((letter.seq, letter.attempts), (2, 1));
    assert_eq!(letter.answer.status, Some(502), "the last word on it");
}

#[test]
fn a_missing_range_is_passed_as_lost() {
    let mut rig = rig(9);
    *rig.log.faults.missing.lock().unwrap() = Some(SeqRange { first: 3, last: 5 });
    assert_eq!(rig.start(), Send(vec![1, 2]));
    assert_eq!(rig.answer(DELIVERED), Send(vec![6, 7, 8, 9]));
    assert_eq!(rig.log.position().ledger.lost, 3);
}

#[test]
fn what_is_no_event_is_set_aside_in_its_turn_without_being_sent() {
    let mut rig = rig(5);
    rig.unfit = Some(3);
    assert_eq!(rig.start(), Send(vec![1, 2]));
    assert_eq!(rig.answer(DELIVERED), Send(vec![4, 5]));
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    let letter = rig.letters().remove(0);
    assert_eq!((letter.seq, letter.attempts), (3, 0));
    let ledger = rig.log.position().ledger;
    assert_eq!((ledger.delivered, ledger.dead), (4, 1));
}

#[test]
fn a_disk_that_refuses_to_settle_or_bury_costs_no_second_request() {
    let mut rig = rig(1);
    rig.log.faults.settles.store(3, Ordering::SeqCst);
    rig.start();
    assert_eq!(
        rig.answer(DELIVERED),
        Wait(Some(Duration::from_millis(500)))
    );
    assert_backing_off(&rig, 1);
    assert_eq!(
        rig.elapse(),
        (
            Duration::from_millis(500),
            Wait(Some(Duration::from_millis(1500)))
        )
    );
    // Nor does a pause stop it.
    rig.step(Input::Pause);
    assert_paused(&rig, PauseReason::Requested);
    assert_eq!(
        rig.step(Input::Wake),
        Wait(Some(Duration::from_millis(2500)))
    );
    rig.elapse();
    assert_eq!(rig.log.position().ledger.delivered, 1);
    assert_eq!(rig.sent.len(), 1);

    let mut rig = self::rig(2);
    rig.log.faults.buries.store(1, Ordering::SeqCst);
    rig.start();
    rig.answer(Verdict::Poison);
    rig.answer(Verdict::Poison);
    assert_backing_off(&rig, 1);
    assert_eq!(rig.elapse().1, Send(vec![2]));
    assert_eq!(rig.letters().len(), 1);
}

#[test]
fn a_disk_that_refuses_to_read_is_asked_again_with_growing_waits() {
    let mut rig = rig(1);
    rig.log.faults.reads.store(3, Ordering::SeqCst);
    rig.start();
    let mut waits = Vec::new();
    while let Wait(_) = {
        let (wait, next) = rig.elapse();
        waits.push(wait.as_millis());
        next
    } {}
    assert_eq!(waits, [500, 1000, 2000]);
    let state = rig.machine.state();
    assert_eq!(state, FlusherState::Sending);
}

#[test]
fn a_memo_that_cannot_be_written_does_not_hold_delivery_up() {
    let mut rig = rig(4);
    rig.log.faults.memos.store(1, Ordering::SeqCst);
    rig.start();
    assert_eq!(rig.answer(Verdict::Divide), Send(vec![1, 2]));
    assert_eq!(rig.answer(DELIVERED), Send(vec![3, 4]));
    assert_eq!(rig.answer(DELIVERED), wait(60));
    assert_eq!(rig.log.memo().unwrap().batch_events, None);
    assert_eq!(rig.elapse().1, Wait(None));
    assert_eq!(rig.log.memo().unwrap().batch_events, Some(2));
}

#[test]
fn what_was_evicted_meanwhile_is_not_sent_again() {
    let mut rig = rig(6);
    rig.start();
    rig.log.settle(4, Settled::Evicted).unwrap();
    rig.answer(RETRY);
    assert_eq!(rig.elapse().1, Send(vec![5, 6]));
    rig.log.settle(6, Settled::Evicted).unwrap();
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    let ledger = rig.log.position().ledger;
    assert_eq!((ledger.evicted, ledger.delivered), (6, 0), "booked once");
}

#[test]
fn a_refused_event_that_was_evicted_meanwhile_is_not_buried() {
    let mut rig = rig(2);
    rig.start();
    assert_eq!(rig.answer(Verdict::Poison), Send(vec![1]));
    rig.log.settle(1, Settled::Evicted).unwrap();
    assert_eq!(rig.answer(Verdict::Poison), Send(vec![2]));
    assert!(rig.letters().is_empty());
}

// Found by the model test: the disk refused the memo, and when its next time came a settle was
// still owed and waiting. The time that had passed was asked for again and again, without a pause.
#[test]
fn a_memo_that_is_due_while_a_settle_waits_does_not_make_it_spin() {
    let mut rig = rig(2);
    rig.log.faults.memos.store(1, Ordering::SeqCst);
    rig.start();
    assert_eq!(rig.answer(Verdict::Divide), Send(vec![1]));
    rig.log.faults.settles.store(1, Ordering::SeqCst);
    rig.pass(secs(60) - Duration::from_millis(100));
    assert_eq!(
        rig.answer(DELIVERED),
        Wait(Some(rig.now.mono + Duration::from_millis(500)))
    );
    assert_eq!(rig.elapse().1, Send(vec![2]));
    assert_eq!(rig.log.memo().unwrap().batch_events, Some(1));
}
