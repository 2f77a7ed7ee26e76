//! A way that is slower than a batch is large, or longer.

use std::sync::Mutex;
use std::time::Duration;

use super::script::*;
use crate::dead::DeadLetter;
use crate::id::Seq;
use crate::log::Log;
use crate::outcome::Verdict;
use crate::settings::Delivery;

fn limited(events: u32) -> Delivery {
    Delivery {
        batch_events: events,
        ..steady()
    }
}

/// A receiver that reads so many bytes a second of events of 2 KB, and is given 30 seconds a
/// request: what does not get through in that time stalls.
fn reads(bytes_a_second: u64) -> impl Fn(&[Seq]) -> Verdict {
    move |seqs: &[Seq]| {
        if seqs.len() as u64 * 2_000 > bytes_a_second * 30 {
            Verdict::Stalled
        } else {
            Verdict::Delivered
        }
    }
}

/// Drains through every wait; gives how much time went by in waiting.
fn drain(rig: &mut Rig, mut next: Next, judge: impl Fn(&[Seq]) -> Verdict) -> Duration {
    let mut waited = Duration::ZERO;
    for _ in 0..10_000 {
        next = rig.drain(next, &judge);
        match next {
            Next::Wait(Some(_)) => {
                let (wait, then) = rig.elapse();
                waited += wait;
                next = then;
            }
            _ => return waited,
        }
    }
    panic!("no end: {:?}", rig.sent.last());
}

/// 600 events of 2 KB on a link of 20 KB a second with a limit of 30 seconds: no request of 500
/// was ever through in time, so the same 500 were sent again and again, and nothing arrived.
#[test]
fn a_link_slower_than_a_batch_gets_smaller_batches_and_everything_in_order() {
    let mut rig = Rig::new(600, limited(500), None);
    let next = rig.start();
    let taken = Mutex::new(Vec::new());
    drain(&mut rig, next, |seqs| {
        let verdict = reads(20_000)(seqs);
        if verdict == Verdict::Delivered {
            taken.lock().unwrap().extend_from_slice(seqs);
        }
        verdict
    });
    assert!(taken.into_inner().unwrap().into_iter().eq(1..=600));
    let sizes: Vec<usize> = rig.sent.iter().map(Vec::len).collect();
    assert_eq!(sizes, [500, 500, 250, 250, 100], "once may be chance");
    assert_eq!(rig.letters(), Vec::<DeadLetter>::new());
}

#[test]
fn one_stall_sends_the_same_batch_again() {
    let mut rig = Rig::new(4, limited(4), None);
    rig.start();
    assert!(matches!(rig.answer(Verdict::Stalled), Next::Wait(Some(_))));
    assert_backing_off(&rig, 1);
    assert_eq!(rig.elapse().1, Next::Send(vec![1, 2, 3, 4]));
    // An answer of any kind begins the count anew.
    rig.answer(Verdict::Poison);
    rig.answer(Verdict::Stalled);
    assert_eq!(rig.elapse().1, Next::Send(vec![1, 2]));
}

/// However long the way is shut, an event alone is tried for ever and never set aside.
#[test]
fn stalls_go_down_to_one_event_and_condemn_none() {
    let mut rig = Rig::new(9, limited(8), None);
    let mut next = rig.start();
    for _ in 0..1_000 {
        assert!(matches!(next, Next::Send(_)), "{next:?}");
        rig.answer(Verdict::Stalled);
        next = rig.elapse().1;
    }
    let sizes: Vec<usize> = rig.sent.iter().take(6).map(Vec::len).collect();
    assert_eq!(sizes, [8, 8, 4, 2, 1, 1]);
    assert_eq!(next, Next::Send(vec![1]));
    assert_eq!(rig.letters(), Vec::<DeadLetter>::new());
    rig.drain(next, |_| DELIVERED);
    assert!(rig.machine.is_drained());
}

#[test]
fn the_smaller_size_outlives_a_restart_and_grows_back() {
    let delivery = limited(4);
    let mut rig = Rig::new(400, delivery.clone(), None);
    let next = rig.start();
    let half = |seqs: &[Seq]| match seqs.len() {
        0..=2 => Verdict::Delivered,
        _ => Verdict::Stalled,
    };
    for _ in 0..2 {
        assert!(matches!(rig.answer(Verdict::Stalled), Next::Wait(_)));
        rig.elapse();
    }
    drop(next);
    let next = rig.restart(delivery);
    assert_eq!(next, Next::Send(vec![1, 2]), "known from before");
    drain(&mut rig, next, half);
    assert_eq!(rig.log.log.position().cursor, 400);
    let tried = rig.sent.iter().filter(|seqs| seqs.len() == 4).count();
    assert!(tried > 2, "the larger size is tried now and then");
    assert!(tried < 12, "and not often: {tried}");
}

/// A batch that was too large and then slow: the size from before the giant came back when it
/// was blamed, although the way was slow for another reason.
#[test]
fn a_giant_is_not_blamed_for_a_slow_way() {
    let mut rig = Rig::new(8, limited(8), None);
    rig.start();
    rig.answer(Verdict::Divide);
    rig.answer(Verdict::Stalled);
    rig.elapse();
    rig.answer(Verdict::Stalled);
    assert_eq!(rig.elapse().1, Next::Send(vec![1, 2]));
    rig.answer(Verdict::Divide);
    let next = rig.answer(Verdict::Divide);
    assert_eq!(next, Next::Send(vec![2]));
    assert_eq!(rig.letters().len(), 1);
    rig.answer(DELIVERED);
    let sizes = rig.sent.iter().map(Vec::len).max();
    assert_eq!(sizes, Some(8));
}

/// One request under way at a time, over a way of 100 ms: at four events in each, 40 events a second
/// were all there ever were.
#[test]
fn on_a_long_way_batches_grow_and_everything_leaves_in_order() {
    let delivery = Delivery {
        batch_events: 4,
        batch_events_max: 60,
        ..steady()
    };
    let mut rig = Rig::new(240, delivery, None);
    let mut next = rig.start();
    while let Next::Send(_) = next {
        rig.pass(Duration::from_millis(100));
        next = rig.answer(DELIVERED);
    }
    let sizes: Vec<usize> = rig.sent.iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 4, 8, 16, 32, 60, 60, 52]);
    assert!(rig.sent.iter().flatten().copied().eq(1..=240));
    assert_eq!(rig.memo_writes(), 0, "nothing of that is remembered");
}

/// A receiver that takes 20 events and answers 413 to more says so seldom, and nothing is lost.
#[test]
fn what_has_grown_too_large_is_halved_and_no_event_is_blamed() {
    let delivery = Delivery {
        batch_events: 8,
        batch_events_max: 64,
        ..steady()
    };
    let mut rig = Rig::new(2_000, delivery, None);
    let mut next = rig.start();
    while let Next::Send(seqs) = next {
        rig.pass(Duration::from_millis(100));
        next = rig.answer(if seqs.len() > 20 {
            Verdict::Divide
        } else {
            DELIVERED
        });
    }
    assert_eq!(rig.log.position().ledger.delivered, 2_000);
    assert_eq!(rig.letters(), Vec::<DeadLetter>::new());
    let refused = rig.sent.iter().filter(|seqs| seqs.len() > 20).count();
    assert!((1..=3).contains(&refused), "{refused}");
    let last = rig.sent.iter().rev().nth(1).map(Vec::len);
    assert_eq!(
        last,
        Some(16),
        "the size that was halved is still twice the set one"
    );
}
