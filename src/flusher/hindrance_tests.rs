//! What the sink says keeps it from delivering, without a runtime.

use super::machine::Machine;
use super::script::*;
use super::step::Input;
use crate::log::Log;
use crate::outcome::{Answer, Hindrance, PauseReason};
use crate::status::FlusherState;

use Next::{Send, Wait};

fn no_key(detail: &str) -> Option<Hindrance> {
    Some(Hindrance {
        reason: PauseReason::Credentials,
        answer: Answer::from_detail(detail),
    })
}

/// A rig as the flusher begins, with a sink that says this when it is asked.
fn hindered(count: u64, hindrance: Option<Hindrance>) -> Rig {
    let mut rig = rig(count);
    rig.machine = Machine::new(&steady(), None).check_first();
    rig.hindrance = hindrance;
    rig
}

#[track_caller]
fn assert_shown(rig: &Rig, detail: &str) {
    let state = rig.machine.state();
    let FlusherState::Paused { last_error, .. } = &state else {
        panic!("{state:?}");
    };
    assert_eq!(last_error.detail.as_deref(), Some(detail));
}

/// A service without a key was idle until an event came, and then showed a pause that began with
/// that event.
#[test]
fn a_sink_that_cannot_deliver_is_paused_from_the_beginning_and_goes_on_by_itself() {
    for count in [0, 2] {
        let mut rig = hindered(count, no_key("no key"));
        assert_eq!(rig.start(), wait(30));
        assert_paused(&rig, PauseReason::Credentials);
        assert_shown(&rig, "no key");
        rig.hindrance = no_key("key is empty");
        assert_eq!(rig.elapse().1, wait(90), "30 s and then 60 s");
        assert_shown(&rig, "key is empty");
        assert_eq!(rig.machine.requests(), 0);
        rig.hindrance = None;
        rig.step(Input::Changed);
        let (_, next) = rig.elapse();
        if count == 0 {
            assert_eq!(next, Wait(None));
            assert_eq!(rig.machine.state(), FlusherState::Idle);
        } else {
            assert_eq!(next, Send(vec![1, 2]));
            assert_eq!(rig.answer(DELIVERED), Wait(None));
        }
        assert_eq!(rig.memo_writes(), 0, "a restart finds out by itself");
    }
}

#[test]
fn without_a_hindrance_nothing_changes() {
    let mut rig = hindered(1, None);
    assert_eq!(rig.start(), Send(vec![1]));
    assert_eq!(rig.answer(DENIED), wait(30));
    assert_eq!(rig.elapse().1, Send(vec![1]), "the probe is a request");
}

#[test]
fn a_pause_of_a_person_or_of_the_receiver_stands() {
    let mut rig = hindered(1, no_key("no key"));
    rig.start();
    assert_eq!(rig.step(Input::Pause), Wait(None));
    assert_paused(&rig, PauseReason::Requested);
    // The end of the pause finds the key still missing, and asks before it sends.
    assert_eq!(rig.step(Input::Resume), wait(30));
    assert_shown(&rig, "no key");

    // An order while the sink is asked.
    let mut rig = hindered(1, None);
    rig.start();
    rig.answer(DENIED);
    rig.machine = Machine::new(&steady(), None).check_first();
    rig.hindrance = no_key("no key");
    rig.now.mono = secs(0);
    assert_eq!(rig.start(), wait(30), "asked, and nothing sent");
    assert_shown(&rig, "no key");
    rig.step(Input::Pause);
    rig.step(Input::Checked(None));
    assert_paused(&rig, PauseReason::Requested);
}

/// The sink of a program may announce changes without end.
#[test]
fn changes_without_end_are_no_storm() {
    let mut rig = hindered(0, no_key("no key"));
    rig.start();
    assert!(rig.machine.listens());
    let backoff_min = steady().backoff_min;
    assert_eq!(rig.step(Input::Changed), Wait(Some(backoff_min)));
    assert!(!rig.machine.listens());
}

#[test]
fn a_close_does_not_wait_for_a_key() {
    let mut rig = hindered(3, no_key("no key"));
    rig.start();
    let by = rig.now.mono + secs(60);
    assert_eq!(rig.step(Input::Close(by)), Next::End);
    assert_eq!(rig.log.position().ledger.pending(), 3);
}
