//! How the flusher ends.

use super::*;

#[test]
fn a_log_that_is_gone_ends_the_flusher() {
    let mut rig = rig(1);
    rig.start();
    rig.machine
        .step(Input::Answered(outcome(DELIVERED)), &rig.now);
    assert_eq!(rig.step(Input::Stored(Err(Error::Closed))), End);
    assert_eq!(rig.machine.state(), FlusherState::Closed);

    let mut rig = self::rig(1);
    rig.start();
    rig.machine
        .step(Input::Answered(outcome(DELIVERED)), &rig.now);
    let error = Error::Panicked {
        part: "the log",
        message: "boom".into(),
    };
    assert_eq!(rig.step(Input::Stored(Err(error))), End);
    let state = rig.machine.state();
    assert!(matches!(&state, FlusherState::Failed { message } if message.contains("boom")));
}

#[test]
fn closing_drains_and_ends() {
    let mut rig = Rig::new(
        3,
        Delivery {
            batch_events: 2,
            ..steady()
        },
        None,
    );
    rig.start();
    assert_eq!(rig.step(Input::Close(secs(10))), wait(10));
    assert_eq!(rig.answer(DELIVERED), Send(vec![3]));
    assert_eq!(rig.answer(DELIVERED), End);
    assert!(rig.machine.is_drained());
    assert_eq!(rig.machine.state(), FlusherState::Closed);
}

#[test]
fn closing_ends_at_the_deadline_with_a_request_under_way() {
    let mut rig = rig(1);
    rig.start();
    rig.step(Input::Close(secs(10)));
    rig.step(Input::Close(secs(99)));
    assert_eq!(rig.elapse(), (secs(10), End), "the earlier deadline holds");
    assert!(!rig.machine.is_drained());
}

#[test]
fn closing_tries_once_at_once_and_then_keeps_its_waits() {
    let mut rig = rig(1);
    rig.start();
    for _ in 0..3 {
        rig.answer(RETRY);
        rig.elapse();
    }
    rig.answer(RETRY);
    assert_eq!(
        rig.step(Input::Close(rig.now.mono + secs(10))),
        Send(vec![1])
    );
    rig.answer(RETRY);
    assert_eq!(rig.elapse(), (secs(8), Send(vec![1])));
    assert_eq!(rig.answer(RETRY), End, "the next try would come too late");
}

#[test]
fn closing_ends_a_pause_at_once_and_the_next_process_knows_of_it() {
    let mut rig = rig(1);
    rig.start();
    rig.answer(DENIED);
    assert_eq!(rig.step(Input::Close(secs(10))), End);
    assert!(!rig.machine.is_drained());
    assert!(rig.log.memo().unwrap().paused.is_some());
}

#[test]
fn without_handles_it_ends_in_every_state() {
    for verdict in [None, Some(RETRY), Some(DENIED), Some(DELIVERED)] {
        let mut rig = rig(1);
        rig.start();
        if let Some(verdict) = verdict {
            rig.answer(verdict);
        }
        assert_eq!(rig.step(Input::Abandoned), End, "{verdict:?}");
        assert_eq!(rig.step(Input::Tick), End);
    }
}
