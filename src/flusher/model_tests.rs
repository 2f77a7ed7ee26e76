//! Random receivers, disks, people and restarts against one rule: whatever happens, each event
//! is delivered in order, or set aside exactly once, or evicted, and the books balance.
//!
//! proptest prints the failing case and its seed.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::script::*;
use super::step::Input;
use crate::id::Seq;
use crate::ledger::Settled;
use crate::log::Log;
use crate::outcome::Verdict;
use crate::settings::Delivery;

/// What disturbs one request, or the time after it.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    None,
    Retry,
    RetryAfter,
    Denied,
    DiskRefuses(u32),
    Evict(u64),
    Append(u64),
    PauseAndResume,
    Wake,
    Restart,
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    use Disturbance as D;
    prop_oneof![
        6 => Just(D::None),
        2 => Just(D::Retry),
        1 => Just(D::RetryAfter),
        1 => Just(D::Denied),
        1 => (1..4_u32).prop_map(D::DiskRefuses),
        1 => (1..6_u64).prop_map(D::Evict),
        1 => (1..6_u64).prop_map(D::Append),
        1 => Just(D::PauseAndResume),
        1 => Just(D::Wake),
        1 => Just(D::Restart),
    ]
}

/// A receiver that judges by content: what it refuses, and how much it takes at once.
#[derive(Clone, Debug)]
struct Receiver {
    bad: BTreeSet<Seq>,
    giant: BTreeSet<Seq>,
    events_max: usize,
}

impl Receiver {
    fn judge(&self, seqs: &[Seq]) -> Verdict {
        if seqs.len() > self.events_max || seqs.iter().any(|s| self.giant.contains(s)) {
            Verdict::Divide
        } else if seqs.iter().any(|s| self.bad.contains(s)) {
            Verdict::Poison
        } else {
            Verdict::Delivered
        }
    }
}

fn receiver() -> impl Strategy<Value = Receiver> {
    let some = || proptest::collection::btree_set(1..60_u64, 0..12);
    (some(), some(), 1..40_usize).prop_map(|(bad, giant, events_max)| Receiver {
        bad,
        giant,
        events_max,
    })
}

/// What a run came to.
#[derive(Default)]
struct Tally {
    accepted: Vec<Seq>,
    evicted: BTreeSet<Seq>,
}

fn evict(rig: &mut Rig, tally: &mut Tally, count: u64) {
    let at = rig.log.position();
    let through = (at.cursor + count).min(at.last_seq);
    tally.evicted.extend(at.cursor + 1..=through);
    // Straight to the log inside, since a full log evicts without asking for a settle.
    rig.log.log.settle(through, Settled::Evicted).unwrap();
}

/// Answers one request, disturbed or not, and gives what comes next.
fn request(
    rig: &mut Rig,
    tally: &mut Tally,
    receiver: &Receiver,
    seqs: &[Seq],
    disturbance: Disturbance,
) -> Next {
    use Disturbance as D;
    let faults = std::sync::Arc::clone(&rig.log.faults);
    match disturbance {
        D::Retry => return rig.answer(RETRY),
        D::RetryAfter => {
            return rig.answer(Verdict::Retry {
                not_before: Some(secs(99)),
            });
        }
        D::Denied => return rig.answer(DENIED),
        D::DiskRefuses(times) => {
            for calls in [&faults.settles, &faults.buries, &faults.memos] {
                calls.store(times, Ordering::SeqCst);
            }
        }
        D::Evict(count) => evict(rig, tally, count),
        D::Append(count) => {
            rig.log.stage(&events(count)).unwrap();
            rig.log.commit(true).unwrap();
        }
        D::PauseAndResume => drop(rig.step(Input::Pause)),
        D::Wake => drop(rig.step(Input::Wake)),
        D::Restart => return rig.restart(delivery(7)),
        D::None => {}
    }
    let verdict = receiver.judge(seqs);
    if verdict == Verdict::Delivered {
        tally.accepted.extend(seqs);
    }
    let next = rig.answer(verdict);
    if matches!(disturbance, D::PauseAndResume) {
        rig.step(Input::Resume)
    } else {
        next
    }
}

fn delivery(batch_events: u32) -> Delivery {
    Delivery {
        batch_events,
        breaker_refusals: u32::MAX,
        ..Delivery::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn i6_i7_each_event_leaves_the_queue_in_order_and_exactly_once(
        count in 0..50_u64,
        batch_events in 1..40_u32,
        receiver in receiver(),
        disturbances in proptest::collection::vec(disturbance(), 0..60),
    ) {
        let mut rig = Rig::new(count, delivery(batch_events), None);
        let mut tally = Tally::default();
        let mut disturbances = disturbances.into_iter();
        let mut next = rig.start();
        for step in 0.. {
            prop_assert!(step < 20_000, "it comes to no end");
            next = match next {
                Next::Send(seqs) => {
                    prop_assert!(!seqs.is_empty() && seqs[0] > rig.log.position().cursor);
                    prop_assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    let disturbance = disturbances.next().unwrap_or(Disturbance::None);
                    request(&mut rig, &mut tally, &receiver, &seqs, disturbance)
                }
                Next::Wait(Some(_)) => rig.elapse().1,
                Next::Wait(None) => break,
                Next::End => unreachable!("it was not closed"),
            };
            let at = rig.log.position();
            prop_assert_eq!(at.ledger.settled(), at.cursor);
        }
        let ledger = rig.log.position().ledger;
        prop_assert_eq!(ledger.pending(), 0);
        let letters: Vec<Seq> = rig.letters().iter().map(|letter| letter.seq).collect();
        prop_assert_eq!(ledger.dead, letters.len() as u64);
        prop_assert_eq!(ledger.appended, ledger.delivered + ledger.dead + ledger.evicted);
        // In order, and none twice: no restart here comes between an answer and its settle.
        prop_assert!(tally.accepted.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", tally.accepted);
        let accepted: BTreeSet<Seq> = tally.accepted.iter().copied().collect();
        for seq in 1..=ledger.appended {
            let condemned = receiver.bad.contains(&seq) || receiver.giant.contains(&seq);
            let evicted = tally.evicted.contains(&seq);
            let dead = letters.binary_search(&seq).is_ok();
            prop_assert!(!(condemned && accepted.contains(&seq)));
            prop_assert!(!dead || condemned, "{} was condemned without a fault", seq);
            prop_assert!(evicted || dead == condemned, "{}", seq);
            prop_assert!(evicted || accepted.contains(&seq) != condemned, "{}", seq);
        }
    }
}
