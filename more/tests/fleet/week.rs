//! Devices that come back together after a week without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use everpost::Queue;
use everpost::clock::{Clock, SystemClock};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

use crate::ground::{Ground, Stored, close, event, name, settings, until};

const DEVICES: usize = 12;
const DAYS: u64 = 7;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Of a device, each day.
const EVENTS: u64 = 30;
/// Events in a second that a device may send.
const RATE: u32 = 60;

/// A clock that is put on by a day at a time, beside what really passes.
#[derive(Debug, Default)]
struct Calendar(AtomicU64);

impl Calendar {
    fn next_day(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn put_on(&self) -> Duration {
        DAY * u32::try_from(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

impl Clock for Calendar {
    fn wall(&self) -> SystemTime {
        SystemClock.wall() + self.put_on()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.put_on()
    }
}

/// Appends the events of the days one after the other, each day after a try that failed.
async fn live(queue: &Queue, device: &str, calendar: &Calendar) {
    for day in 0..DAYS {
        for n in day * EVENTS + 1..=(day + 1) * EVENTS {
            let event = event(device, n).with_time(calendar.wall());
            queue.append(event).await.unwrap();
        }
        let before = queue.status().requests;
        queue.wake().await.unwrap();
        until(queue, |status| status.requests > before).await;
        calendar.next_day();
    }
}

/// Twelve devices append for a week while no server runs, and come back at the same moment. None of
/// them sends faster than its settings say, nothing has become too old, and the stream holds each
/// event once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_were_alone_for_a_week_come_back_together_at_their_pace() {
    let Some(mut ground) = Ground::with(3, "").await else {
        return;
    };
    block_in_place(|| (0..3).for_each(|n| ground.cluster.node(n).kill()));
    let mut lives = JoinSet::new();
    for n in 0..DEVICES {
        let device = format!("device-{n}");
        let calendar = Arc::new(Calendar::default());
        let mut settings = settings();
        settings.delivery.rate_events = Some(RATE);
        let queue = Queue::builder(ground.spool(&device))
            .settings(settings)
            .clock(Arc::clone(&calendar) as Arc<dyn Clock>)
            .sink(ground.target(&device).build().unwrap());
        let queue = queue.open().await.unwrap();
        lives.spawn(async move {
            live(&queue, &device, &calendar).await;
            let status = queue.status();
            assert_eq!(status.pending, DAYS * EVENTS, "{device}");
            let oldest = status.oldest_pending.unwrap();
            let age = calendar.wall().duration_since(oldest).unwrap();
            assert!(age >= DAY * 6, "{device}: {age:?}");
            // So that all of them come back at the same moment, and not as the servers come up.
            queue.pause().await.unwrap();
            (device, queue)
        });
    }
    let devices = lives.join_all().await;
    block_in_place(|| {
        (0..3).for_each(|n| ground.cluster.node(n).start());
        ground.cluster.wait_ready();
        ground.cluster.wait_leader(ground.names.stream());
    });
    let mut returns = JoinSet::new();
    for (device, queue) in devices {
        returns.spawn(async move {
            let back = Instant::now();
            queue.resume().await.unwrap();
            until(&queue, |status| status.pending == 0).await;
            let ledger = queue.status().ledger;
            assert_eq!(ledger.delivered, DAYS * EVENTS, "{device}: {ledger:?}");
            let took = back.elapsed();
            close(queue).await;
            (device, took)
        });
    }
    let returned = returns.join_all().await;
    let stored = ground.stored().await;
    for (device, took) in returned {
        let subject = ground.names.event_subject(&name(&device));
        let of_device: Vec<&Stored> = stored.iter().filter(|s| s.subject == subject).collect();
        let places: Vec<u64> = of_device.iter().map(|stored| stored.place).collect();
        assert_eq!(places, (1..=DAYS * EVENTS).collect::<Vec<_>>(), "{device}");
        for stored in of_device {
            assert_eq!(&stored.payload, event(&device, stored.place).json_bytes());
        }
        // What may be sent at once is what a second allows; the rest takes its time.
        let rest = DAYS * EVENTS - u64::from(RATE);
        let least = Duration::from_secs(rest / u64::from(RATE));
        assert!(took >= least, "{device} took {took:?}, not {least:?}");
    }
}
