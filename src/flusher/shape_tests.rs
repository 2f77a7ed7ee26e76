//! Requests that could follow each other at once and do not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::script::*;
use super::step::Input;
use crate::id::Seq;
use crate::log::Log;
use crate::outcome::{Answer, Outcome, Verdict};
use crate::settings::Delivery;
use crate::status::{FlusherState, Pace, PaceStatus};

use Next::{End, Send, Wait};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at_most(events: u32) -> Pace {
    Pace {
        rate_events: Some(events),
        rate_bytes: None,
    }
}

fn paced(events: u32) -> Delivery {
    Delivery {
        rate_events: Some(events),
        ..steady()
    }
}

#[test]
fn a_rate_spaces_requests_and_no_person_hurries_it() {
    let mut rig = Rig::new(7, paced(2), None);
    assert_eq!(rig.start(), Send(vec![1, 2]));
    assert_eq!(rig.answer(DELIVERED), wait(1));
    assert_eq!(rig.machine.state(), FlusherState::Sending);
    assert_eq!(rig.machine.pace().next, Some(at(1).wall));
    assert_eq!(rig.step(Input::Wake), wait(1));
    assert_eq!(rig.elapse().1, Send(vec![3, 4]));
    assert_eq!(rig.machine.pace().next, None);
    // What is sent again counts too. The wait after the failure is over sooner.
    rig.answer(RETRY);
    assert_eq!(rig.elapse(), (ms(500), wait(2)));
    assert_eq!(rig.elapse().1, Send(vec![3, 4]));
    rig.answer(DELIVERED);
    // A close goes on at the rate, and ends at once where that takes longer than it may.
    assert_eq!(rig.step(Input::Close(secs(9))), wait(3));
    assert_eq!(rig.elapse().1, Send(vec![5, 6]));
    assert_eq!(rig.answer(DELIVERED), wait(4));
    assert_eq!(rig.step(Input::Close(secs(3))), End);
    assert_eq!(rig.log.position().cursor, 6);
}

#[test]
fn a_pace_is_set_while_the_queue_runs_and_seen() {
    let mut rig = rig(9);
    assert_eq!(rig.machine.pace(), PaceStatus::default());
    assert_eq!(rig.start(), Send((1..=9).collect()));
    rig.step(Input::SetPace(at_most(3)));
    rig.answer(RETRY);
    let pace = rig.machine.pace();
    assert_eq!(pace.pace(), at_most(3));
    // What was read before is divided all the same.
    assert_eq!(rig.elapse().1, Send(vec![1, 2, 3]));
    assert!(matches!(rig.answer(DELIVERED), Wait(Some(_))));
    assert_eq!(
        rig.step(Input::SetPace(Pace::default())),
        Send(vec![4, 5, 6])
    );
    assert_eq!(rig.answer(DELIVERED), Send(vec![7, 8, 9]));
    assert_eq!(rig.answer(DELIVERED), Wait(None));
    assert_eq!(rig.machine.pace(), PaceStatus::default());
}

#[test]
fn a_rate_is_paused_and_resumed_as_anything_else() {
    let mut rig = Rig::new(4, paced(1), None);
    rig.start();
    assert!(matches!(rig.answer(DELIVERED), Wait(Some(_))));
    assert_eq!(rig.step(Input::Pause), Wait(None));
    rig.pass(secs(60));
    assert_eq!(rig.step(Input::Tick), Wait(None));
    assert_eq!(rig.step(Input::Resume), Send(vec![2]));
    assert!(matches!(rig.answer(DELIVERED), Wait(Some(_))));
    // Its turn stands.
    assert!(matches!(rig.step(Input::Resume), Wait(Some(_))));
}

#[test]
fn a_receiver_that_asks_for_less_gets_less_until_it_takes_it() {
    let delivery = Delivery {
        batch_events: 1,
        ..steady()
    };
    let mut rig = Rig::new(400, delivery, None);
    let busy = || Input::Answered(Outcome::new(RETRY, Answer::from_status(429)));
    rig.start();
    rig.pass(ms(100));
    rig.step(busy());
    assert_eq!(rig.machine.pace().request_gap, Some(ms(500)));
    let (wait, mut next) = rig.elapse();
    assert_eq!(wait, ms(500), "backoff");
    let mut gaps = Vec::new();
    while let Send(_) = next {
        let sent = rig.now.mono;
        rig.pass(ms(20));
        next = rig.answer(DELIVERED);
        if let Wait(Some(_)) = next {
            next = rig.elapse().1;
            gaps.push((rig.now.mono - sent).as_millis());
        }
    }
    assert!(gaps.is_sorted_by(|a, b| a >= b), "{gaps:?}");
    assert_eq!((gaps[0], gaps[15]), (470, 250));
    assert_eq!(rig.machine.pace().request_gap, None);
    assert!((370..399).contains(&gaps.len()), "{}", gaps.len());
}

#[test]
fn after_an_outage_the_second_request_waits_no_longer_than_it_lasted() {
    let mut waits = Vec::new();
    for _ in 0..50 {
        let delivery = Delivery {
            batch_events: 1,
            return_delay_max: secs(30),
            ..steady()
        };
        let mut rig = Rig::new(3, delivery, None);
        rig.start();
        for _ in 0..4 {
            rig.answer(RETRY);
            rig.elapse();
        }
        // 0.5, 1, 2 and 4 seconds have gone by.
        let Wait(Some(until)) = rig.answer(DELIVERED) else {
            panic!("it goes on at once");
        };
        let wait = until - rig.now.mono;
        assert!(wait <= ms(7_500), "{wait:?}");
        waits.push(wait);
        assert_eq!(rig.step(Input::Wake), Send(vec![2]), "a person may");
        assert_eq!(rig.answer(DELIVERED), Send(vec![3]));
    }
    assert!(waits.iter().any(|wait| *wait > ms(4_000)));
    assert!(waits.iter().any(|wait| *wait < ms(3_500)));
}

/// Devices, and the one receiver they all know.
struct Herd {
    devices: Vec<Device>,
    /// Requests the receiver takes in a second.
    capacity: u32,
    /// Until when it answers 503 to everything.
    down: Duration,
    /// Requests in each second.
    came: BTreeMap<u64, u32>,
    /// Of those, the ones that were taken.
    taken: BTreeMap<u64, u32>,
}

struct Device {
    rig: Rig,
    next: Next,
    /// When it goes on.
    at: Duration,
    /// What was taken, in order.
    taken: Vec<Seq>,
}

impl Herd {
    const ROUND_TRIP: Duration = ms(20);

    fn new(devices: usize, events: u64, delivery: &Delivery) -> Self {
        let device = |_| {
            let mut rig = Rig::new(events, delivery.clone(), None);
            let next = rig.start();
            Device {
                rig,
                next,
                at: Self::ROUND_TRIP,
                taken: Vec::new(),
            }
        };
        Self {
            devices: (0..devices).map(device).collect(),
            capacity: 10,
            down: secs(60),
            came: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// What the receiver says at this time.
    fn judge(&mut self, at: Duration) -> Outcome {
        let second = at.as_secs();
        *self.came.entry(second).or_default() += 1;
        let taken = self.taken.entry(second).or_default();
        let status = match () {
            () if at < self.down => 503,
            () if *taken >= self.capacity => 429,
            () => 200,
        };
        if status == 200 {
            *taken += 1;
            return Outcome::new(DELIVERED, Answer::from_status(200));
        }
        Outcome::new(RETRY, Answer::from_status(status))
    }

    /// Lets all of them deliver all they have.
    fn run(&mut self) {
        for _ in 0..1_000_000 {
            let ready = (0..self.devices.len())
                .filter(|device| self.devices[*device].next != Wait(None))
                .min_by_key(|device| self.devices[*device].at);
            let Some(ready) = ready else {
                return;
            };
            let at = self.devices[ready].at;
            let outcome = match self.devices[ready].next {
                Send(_) => Some(self.judge(at)),
                _ => None,
            };
            let device = &mut self.devices[ready];
            device.rig.pass(at - device.rig.now.mono);
            if let (Send(seqs), Some(outcome)) = (&device.next, &outcome)
                && outcome.verdict == Verdict::Delivered
            {
                device.taken.extend(seqs);
            }
            let input = outcome.map_or(Input::Tick, Input::Answered);
            device.next = device.rig.step(input);
            device.at = match device.next {
                Wait(Some(until)) => until,
                _ => at + Self::ROUND_TRIP,
            };
        }
        panic!("no end");
    }
}

/// A hundred devices come back from an outage of a minute with a hundred requests each, to a receiver
/// that takes ten a second. Backoff alone would have it refuse as many as it takes.
#[test]
fn devices_that_come_back_together_do_not_swamp_the_receiver_and_lose_no_place() {
    let delivery = Delivery {
        batch_events: 1,
        ..Delivery::default()
    };
    let (devices, events) = (100, 100);
    let mut herd = Herd::new(devices, events, &delivery);
    herd.run();
    for device in &herd.devices {
        assert!(device.taken.iter().copied().eq(1..=events));
    }
    let total: u32 = herd.taken.values().sum();
    assert_eq!(total, 10_000);
    // The first tries, all at the same moment, are before it is back.
    let after = herd.came.range(herd.down.as_secs()..);
    let most = after.clone().map(|(_, came)| *came).max().unwrap();
    let came: u32 = after.map(|(_, came)| *came).sum();
    assert!(most <= 60, "{most} in a second");
    assert!(came <= total * 27 / 20, "{came} for {total}");
    // It would take 900 s for nine tenths of them if not a moment were left unused.
    let mut taken = 0;
    let most_taken_at = herd.taken.iter().find_map(|(second, now)| {
        taken += now;
        (taken >= total * 9 / 10).then_some(*second)
    });
    assert!(most_taken_at <= Some(60 + 3 * 900), "{most_taken_at:?}");
}
