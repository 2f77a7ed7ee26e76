//! Pauses, probes and the breaker, without a runtime.

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use super::script::*;
use super::step::{Action, Input};
use crate::error::Error;
use crate::log::{Log, Memo, PausedMemo};
use crate::millis::unix_ms;
use crate::outcome::{Answer, PauseReason, Verdict};
use crate::settings::Delivery;
use crate::status::FlusherState;

use Next::{Send, Wait};

#[test]
fn the_breaker_keeps_the_event_that_completes_the_number() {
    let mut rig = Rig::new(
        9,
        Delivery {
            breaker_refusals: 3,
            ..steady()
        },
        None,
    );
    let next = rig.start();
    let end = rig.drain(next, |_| Verdict::Poison);
    assert_eq!(end, wait(30));
    assert_paused(&rig, PauseReason::SystemicRejection);
    assert_eq!(rig.log.position().ledger.dead, 2, "the third stays");
    // Refused again, it is still not buried, and the probes become rare.
    assert_eq!(rig.elapse().1, Send(vec![3]));
    rig.answer(Verdict::Poison);
    assert_eq!(rig.elapse(), (secs(60), Send(vec![3])));
    rig.answer(Verdict::Divide);
    assert_eq!(rig.elapse(), (secs(120), Send(vec![3])));
    assert_eq!(rig.log.position().ledger.dead, 2);
    // Another process does not bury it either.
    assert_eq!(
        rig.restart(Delivery {
            breaker_refusals: 3,
            ..steady()
        }),
        Send(vec![3])
    );
    rig.answer(Verdict::Poison);
    assert_paused(&rig, PauseReason::SystemicRejection);
    assert_eq!(rig.log.position().ledger.dead, 2);
    // A delivery shows that the receiver is well again.
    assert_eq!(rig.elapse().1, Send(vec![3]));
    let next = rig.answer(DELIVERED);
    assert_eq!(rig.machine.state(), FlusherState::Sending);
    let next = rig.drain(next, refuse(&[5]));
    assert_eq!(next, Wait(None));
    assert_eq!(
        rig.log.position().ledger.dead,
        3,
        "one is not the third in a row"
    );
}

#[test]
fn the_breaker_outlives_a_restart_and_another_reason_in_between() {
    let mut rig = Rig::new(9, steady(), None);
    let next = rig.start();
    rig.drain(next, |_| Verdict::Poison);
    assert_eq!(
        rig.log.position().ledger.dead,
        9,
        "nine are fewer than sixteen"
    );
    rig.log.stage(&events(9)).unwrap();
    rig.log.commit(true).unwrap();
    let next = rig.step(Input::Tick);
    rig.drain(next, |_| Verdict::Poison);
    assert_paused(&rig, PauseReason::SystemicRejection);
    assert_eq!(rig.log.position().ledger.dead, 15);
    assert_eq!(rig.restart(steady()), Send(vec![16]));
    rig.answer(DENIED);
    assert_paused(&rig, PauseReason::Credentials);
    assert_eq!(rig.elapse().1, Send(vec![16]));
    rig.answer(Verdict::Poison);
    assert_paused(&rig, PauseReason::SystemicRejection);
    assert_eq!(rig.log.position().ledger.dead, 15);
}

#[test]
fn a_person_who_resumes_after_the_breaker_starts_the_count_anew() {
    let mut rig = Rig::new(
        4,
        Delivery {
            breaker_refusals: 2,
            ..steady()
        },
        None,
    );
    let next = rig.start();
    rig.drain(next, |_| Verdict::Poison);
    assert_eq!(rig.log.position().ledger.dead, 1);
    let next = rig.step(Input::Resume);
    rig.drain(next, |_| Verdict::Poison);
    assert_eq!(rig.log.position().ledger.dead, 2);
    assert_paused(&rig, PauseReason::SystemicRejection);
}

#[test]
fn a_delivery_between_refusals_keeps_the_breaker_shut() {
    let mut rig = Rig::new(
        40,
        Delivery {
            breaker_refusals: 2,
            ..steady()
        },
        None,
    );
    let next = rig.start();
    let odd: Vec<u64> = (1..=40).filter(|seq| seq % 2 == 1).collect();
    assert_eq!(rig.drain(next, refuse(&odd)), Wait(None));
    let ledger = rig.log.position().ledger;
    assert_eq!((ledger.delivered, ledger.dead), (20, 20));
}

#[test]
fn wrong_credentials_keep_everything_and_are_probed_ever_more_slowly() {
    let mut rig = rig(3);
    rig.start();
    assert_eq!(rig.answer(DENIED), wait(30));
    let since = UNIX_EPOCH + NOON;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let state = rig.machine.state();
        let FlusherState::Paused {
            reason,
            last_error,
            since: began,
            next_probe,
        } = state
        else {
            panic!("{state:?}");
        };
        assert_eq!((reason, began), (PauseReason::Credentials, since));
        assert_eq!(last_error.status, Some(401));
        assert_eq!(
            next_probe.map(unix_ms),
            rig.machine
                .wake_at()
                .map(|at| { unix_ms(UNIX_EPOCH + NOON + at) })
        );
        let (wait, next) = rig.elapse();
        assert_eq!(next, Send(vec![1, 2, 3]));
        waits.push(wait.as_secs());
        // A probe that fails in another way says nothing about the key.
        rig.answer(if waits.len() % 2 == 0 { RETRY } else { DENIED });
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
    rig.elapse();
    rig.answer(DELIVERED);
    assert_eq!(rig.machine.state(), FlusherState::Idle);
    assert_eq!(rig.log.position().ledger.delivered, 3);
    assert_eq!(rig.log.memo().unwrap(), Memo::default());
}

#[test]
fn a_change_or_a_wake_probes_at_once_and_a_resume_ends_the_pause() {
    for (input, paused) in [
        (Input::Changed, true),
        (Input::Wake, true),
        (Input::Resume, false),
    ] {
        let mut rig = rig(1);
        rig.start();
        rig.answer(DENIED);
        rig.pass(secs(1));
        assert!(rig.machine.listens());
        let what = format!("{input:?}");
        assert_eq!(rig.step(input), Send(vec![1]), "{what}");
        let is_paused = matches!(rig.machine.state(), FlusherState::Paused { .. });
        assert_eq!(is_paused, paused, "{what}");
        assert_eq!(rig.answer(DELIVERED), Wait(None));
    }
}

#[test]
fn a_sink_that_announces_changes_without_end_makes_no_storm() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    assert!(rig.machine.listens());
    assert_eq!(
        rig.step(Input::Changed),
        Wait(Some(Duration::from_millis(500)))
    );
    assert!(!rig.machine.listens());
    assert_eq!(rig.elapse().1, Send(vec![1]));
}

#[test]
fn a_resume_during_a_probe_with_the_old_key_is_not_lost() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    rig.elapse();
    rig.step(Input::Resume);
    assert_eq!(rig.answer(DENIED), Send(vec![1]));
}

#[test]
fn another_reason_replaces_the_first_and_the_beginning_stays() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    rig.elapse();
    rig.answer(Verdict::Pause(PauseReason::Address));
    let state = rig.machine.state();
    assert!(
        matches!(state, FlusherState::Paused { reason: PauseReason::Address, since, .. }
            if since == UNIX_EPOCH + NOON)
    );
}

#[test]
fn a_probe_that_is_judged_by_its_events_ends_the_pause() {
    for verdict in [Verdict::Poison, Verdict::Divide] {
        let mut rig = rig(4);
        rig.start();
        rig.answer(DENIED);
        rig.elapse();
        assert_eq!(rig.answer(verdict), Send(vec![1, 2]));
        assert_eq!(rig.machine.state(), FlusherState::Sending);
    }
}

#[test]
fn a_pause_on_request_ends_only_by_a_resume() {
    let mut rig = rig(2);
    rig.start();
    assert_eq!(rig.step(Input::Pause), Wait(None));
    assert_eq!(
        rig.machine.state(),
        FlusherState::Sending,
        "the request is let finish"
    );
    assert_eq!(rig.answer(RETRY), Wait(None));
    for input in [Input::Tick, Input::Wake, Input::Changed, Input::Pause] {
        assert_eq!(rig.step(input), Wait(None));
        assert_paused(&rig, PauseReason::Requested);
        assert!(!rig.machine.listens());
    }
    assert_eq!(rig.restart(steady()), Wait(None), "it outlives a restart");
    assert_paused(&rig, PauseReason::Requested);
    assert_eq!(rig.step(Input::Resume), Send(vec![1, 2]));
    assert_eq!(rig.log.memo().unwrap().paused, None);
}

#[test]
fn a_pause_taken_back_before_the_answer_never_begins() {
    let mut rig = rig(2);
    rig.start();
    rig.step(Input::Pause);
    rig.step(Input::Resume);
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert_eq!(rig.machine.state(), FlusherState::Idle);
}

#[test]
fn a_resume_before_the_memo_is_read_counts() {
    let mut rig = rig(1);
    rig.start();
    rig.step(Input::Pause);
    rig.answer(RETRY);
    rig.log.faults.recalls.store(1, Ordering::SeqCst);
    rig.restart(steady());
    assert_backing_off(&rig, 1);
    assert_eq!(rig.step(Input::Resume), Send(vec![1]));
}

#[test]
fn a_pause_for_credentials_is_probed_at_once_after_a_restart() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    assert_eq!(rig.restart(steady()), Send(vec![1]));
    assert_paused(&rig, PauseReason::Credentials);
    // Unless the receiver asked for time.
    let memo = Memo {
        paused: Some(PausedMemo {
            reason: PauseReason::Credentials,
            answer: Answer::from_status(401),
            since_ms: u64::MAX,
        }),
        not_before_ms: Some(unix_ms(rig.now.wall + secs(50))),
        batch_events: None,
    };
    rig.log.remember(&memo).unwrap();
    assert_eq!(rig.restart(steady()), wait(50));
}

/// What `Queue::pause` promises: the answer comes after the write, and not before the request in
/// flight has ended and is settled.
#[test]
fn a_pause_is_answered_when_it_is_kept_and_the_request_has_ended() {
    let mut rig = rig(2);
    rig.start();
    rig.step(Input::Pause);
    assert!(rig.machine.take_answer().is_none());
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert_eq!(rig.log.position().cursor, 2);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert!(rig.log.memo().unwrap().paused.is_some());
    // What is kept already is answered without a write.
    let writes = rig.memo_writes();
    rig.step(Input::Pause);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.memo_writes(), writes);
    rig.step(Input::Resume);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.log.memo().unwrap().paused, None);
    assert!(rig.machine.take_answer().is_none(), "one answer is enough");
}

#[test]
fn a_resume_during_a_probe_is_answered_after_it() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    rig.elapse();
    rig.step(Input::Resume);
    assert!(rig.machine.take_answer().is_none());
    rig.answer(RETRY);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.log.memo().unwrap().paused, None);
}

#[test]
fn a_disk_that_refuses_a_pause_is_named_and_asked_anew_each_time() {
    let mut rig = rig(0);
    rig.start();
    for _ in 0..2 {
        rig.log.faults.memos.store(1, Ordering::SeqCst);
        assert_eq!(
            rig.step(Input::Pause),
            wait(60),
            "a try by itself comes later"
        );
        let answer = rig.machine.take_answer();
        assert!(
            matches!(answer, Some(Err(Error::Storage { .. }))),
            "{answer:?}"
        );
        assert_paused(&rig, PauseReason::Requested);
        assert_eq!(rig.log.memo().unwrap().paused, None);
    }
    assert_eq!(rig.elapse().1, Wait(None));
    assert!(rig.log.memo().unwrap().paused.is_some());
    assert!(rig.machine.take_answer().is_none(), "it was answered");
    // The other way round as well.
    rig.log.faults.memos.store(1, Ordering::SeqCst);
    rig.step(Input::Resume);
    assert!(matches!(rig.machine.take_answer(), Some(Err(_))));
    assert_eq!(rig.machine.state(), FlusherState::Idle);
    rig.step(Input::Resume);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.log.memo().unwrap().paused, None);
}

/// A write that failed may be on disk all the same, so that what was there before is not known to
/// be there still.
#[test]
fn after_a_memo_that_failed_even_the_old_one_is_written_again() {
    let mut rig = rig(0);
    rig.start();
    rig.log.faults.memos.store(1, Ordering::SeqCst);
    rig.step(Input::Pause);
    assert!(matches!(rig.machine.take_answer(), Some(Err(_))));
    let writes = rig.memo_writes();
    rig.step(Input::Resume);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.memo_writes(), writes + 1);
}

/// The settle of what was delivered comes first, and its tries grow far apart: a person who asks
/// for a pause on a disk that is full would wait for minutes.
#[test]
fn a_pause_does_not_wait_for_a_settle_that_the_disk_refuses() {
    let mut rig = rig(2);
    rig.start();
    rig.log.faults.settles.store(u32::MAX, Ordering::SeqCst);
    rig.answer(DELIVERED);
    assert_backing_off(&rig, 1);
    rig.step(Input::Pause);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert!(rig.log.memo().unwrap().paused.is_some());
    rig.log.faults.settles.store(0, Ordering::SeqCst);
    rig.elapse();
    assert_eq!(rig.log.position().cursor, 2, "settled during the pause");
    assert_eq!(rig.sent.len(), 1);
}

#[test]
fn a_pause_on_a_disk_that_cannot_be_read_is_refused_and_holds() {
    let mut rig = rig(1);
    rig.log.faults.recalls.store(3, Ordering::SeqCst);
    rig.start();
    for _ in 0..2 {
        rig.step(Input::Pause);
        let answer = rig.machine.take_answer();
        assert!(
            matches!(answer, Some(Err(Error::Storage { .. }))),
            "{answer:?}"
        );
        assert_paused(&rig, PauseReason::Requested);
    }
    rig.step(Input::Pause);
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert!(rig.sent.is_empty());
}

/// An order that comes while an older memo is being written is not answered for that one.
#[test]
fn the_fate_of_an_older_memo_is_no_answer() {
    let mut rig = rig(0);
    rig.start();
    let action = rig.machine.step(Input::Pause, &rig.now);
    let Some(Action::Remember(older)) = action else {
        panic!("{action:?}");
    };
    assert!(rig.machine.step(Input::Resume, &rig.now).is_none());
    assert!(rig.machine.take_answer().is_none());
    rig.log.remember(&older).unwrap();
    let refused = Error::storage("write", "spool")(std::io::ErrorKind::StorageFull.into());
    assert_eq!(rig.step(Input::Remembered(Err(refused))), Wait(None));
    assert!(matches!(rig.machine.take_answer(), Some(Ok(()))));
    assert_eq!(rig.log.memo().unwrap().paused, None);
}
