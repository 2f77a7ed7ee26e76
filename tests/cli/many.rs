//! Many commands on one spool at once, and owners that are killed in their midst.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use everpost::exit;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use crate::set_up::{Place, Running};

/// What is pending: how often each event is there, and in which order.
fn pending(place: &Place) -> Vec<(u64, u64, String)> {
    let lines = place.run(&["export"]).expect(exit::DONE).lines();
    let event = |line: &serde_json::Value| {
        let number = |name: &str| line["event"][name].as_u64().unwrap();
        let id = line["id"].as_str().unwrap().to_owned();
        (number("from"), number("n"), id)
    };
    lines.iter().map(event).collect()
}

/// Starts an `append` with these events from the hand of number `from`.
fn start(place: &Place, from: u64, events: u64, args: &[&str]) -> Running {
    let mut running = place.start(args);
    let mut stdin = running.stdin.take().unwrap();
    let lines: String = (0..events)
        .map(|n| format!("{{\"from\":{from},\"n\":{n}}}\n"))
        .collect();
    // It fits into the pipe. A command that was killed does not read it.
    let _ = stdin.write_all(lines.as_bytes());
    running
}

/// Of twelve that were started at once, eleven ended with 3: each had to be the owner.
#[test]
fn many_that_append_at_once_are_all_served_and_each_event_is_there_once() {
    for many in [6, 12, 50] {
        let place = Place::new();
        let all: Vec<Running> = (0..many)
            .map(|from| start(&place, from, 1, &["append", "--wait", "2m"]))
            .collect();
        let mut makers = 0;
        for running in all {
            let ended = running.end().expect(exit::DONE);
            assert!(ended.out.starts_with("appended 1 event, seq "), "{ended:?}");
            if !ended.err.is_empty() {
                makers += 1;
                assert!(ended.err.contains("made a new spool"), "{ended:?}");
                assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
            }
        }
        assert_eq!(makers, 1);
        let pending = pending(&place);
        let hands: BTreeSet<u64> = pending.iter().map(|(from, _, _)| *from).collect();
        assert_eq!((pending.len() as u64, hands.len() as u64), (many, many));
        place.run(&["verify"]).expect(exit::DONE);
    }
}

/// The process that owns the spool is killed, again and again, while the others wait, are served or take its
/// place. What was acknowledged is there; what is there twice has the same id.
#[test]
fn what_was_acknowledged_is_there_whichever_owner_is_killed() {
    const HANDS: u64 = 8;
    const EVENTS: u64 = 60;
    let seed = rand::thread_rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    place.feed(&["append"], "").expect(exit::DONE);
    let args = ["append", "--ack", "--wait", "2m"];
    let mut hands: Vec<Option<Running>> = (0..HANDS)
        .map(|from| Some(start(&place, from, EVENTS, &args)))
        .collect();
    let mut acknowledged = BTreeMap::new();
    for _ in 0..HANDS / 2 {
        // When one of them has got a little further, the owner is killed, if it is one of them.
        let mut living: Vec<&mut Running> = hands.iter_mut().flatten().collect();
        let count = living.len();
        let watched = &mut living[random.gen_range(0..count)];
        for _ in 0..random.gen_range(1..8) {
            watched.try_read_line();
        }
        let pid = std::fs::read_to_string(place.spool().join("lock")).unwrap_or_default();
        let is_it = |hand: &Option<Running>| {
            let running = hand.as_ref();
            running.is_some_and(|running| running.child.id().to_string() == pid)
        };
        if let Some(at) = hands.iter().position(is_it) {
            let mut killed = hands[at].take().unwrap();
            killed.child.kill().unwrap();
            acknowledged.insert(at as u64, killed.end_with_acks().1);
        }
    }
    for (from, hand) in hands.into_iter().enumerate() {
        if let Some(hand) = hand {
            let (ended, acks) = hand.end_with_acks();
            ended.expect(exit::DONE);
            assert_eq!(acks, EVENTS, "hand {from}");
            acknowledged.insert(from as u64, acks);
        }
    }
    place.run(&["verify"]).expect(exit::DONE);
    let mut ids = BTreeMap::new();
    let mut last = BTreeMap::new();
    for (from, n, id) in pending(&place) {
        let first = ids.entry((from, n)).or_insert_with(|| id.clone());
        assert_eq!(
            *first, id,
            "seed {seed}: event {n} of hand {from} has two ids"
        );
        let before = last.insert(from, n).unwrap_or(0);
        assert!(
            before <= n,
            "seed {seed}: {n} of hand {from} comes after {before}"
        );
    }
    for (from, acks) in acknowledged {
        for n in 0..acks {
            assert!(
                ids.contains_key(&(from, n)),
                "seed {seed}: {n} of hand {from}"
            );
        }
    }
}

/// Each look took the lock once, and three starts of a service in twenty failed for it.
#[test]
fn looks_keep_no_owner_out() {
    let place = Place::new();
    place.append(1, 1);
    let mut looks = place.command(&["status"]);
    let mut looking = place.command(&["peek"]);
    for _ in 0..20 {
        let looks = looks.stdout(Stdio::null()).spawn().unwrap();
        let looking = looking.stdout(Stdio::null()).spawn().unwrap();
        place
            .feed(&["append", "--wait", "0"], "1\n")
            .expect(exit::DONE);
        for look in [looks, looking] {
            assert!(look.wait_with_output().unwrap().status.success());
        }
    }
}
